from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('trading', '0039_lean_orders'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='watchedaddress',
            options={'ordering': ('chain_id', 'address', 'pk'), 'verbose_name_plural': 'watched addresses'},
        ),
        migrations.RemoveConstraint(
            model_name='watchedaddress',
            name='watched_once_per_chain',
        ),
        migrations.AddField(
            model_name='watchedaddress',
            name='day',
            field=models.DateField(editable=False, help_text='the UTC day that `reported` is of', null=True),
        ),
        migrations.AddField(
            model_name='watchedaddress',
            name='private',
            field=models.BooleanField(db_default=False, default=False, help_text='added by its user, who alone is notified; staff is not'),
        ),
        migrations.AddField(
            model_name='watchedaddress',
            name='reported',
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False, help_text='transfers of that day that were reported'),
        ),
        migrations.AddConstraint(
            model_name='watchedaddress',
            constraint=models.UniqueConstraint(fields=('chain_id', 'address', 'user'), name='watched_once_per_user', nulls_distinct=False, violation_error_message='this address is watched for that user already'),
        ),
        migrations.AddConstraint(
            model_name='watchedaddress',
            constraint=models.CheckConstraint(condition=models.Q(('private', False), ('user__isnull', False), _connector='OR'), name='private_has_a_user'),
        ),
    ]
