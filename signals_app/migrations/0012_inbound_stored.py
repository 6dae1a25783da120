from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('signals_app', '0011_sources_and_engagement'),
    ]

    operations = [
        migrations.AddField(
            model_name='inboundpost',
            name='stored',
            field=models.BooleanField(db_default=False, default=False, help_text='whether the ingest stage is known to have stored its post'),
        ),
        migrations.AddIndex(
            model_name='inboundpost',
            index=models.Index(condition=models.Q(('stored', False)), fields=['source', 'username', 'received_at'], name='inbound_posts_not_stored'),
        ),
    ]
