"""Kinds and lowest severity by channel, a fallback channel and a snooze."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notify', '0009_sealed_addresses'),
    ]

    operations = [
        migrations.AddField(
            model_name='notificationsettings',
            name='by_channel',
            field=models.JSONField(db_default={}, default=dict, help_text='channel -> kinds that it gets in place of `kinds`, and the lowest severity'),
        ),
        migrations.AddField(
            model_name='notificationsettings',
            name='fallback',
            field=models.CharField(blank=True, db_default='', default='', help_text='where a message goes that a channel gave up', max_length=20),
        ),
        migrations.AddField(
            model_name='notificationsettings',
            name='snoozed_until',
            field=models.DateTimeField(help_text='until then only critical messages are sent', null=True),
        ),
    ]
