import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('chat', '0001_chat'),
    ]

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ChatCode',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('purpose', models.CharField(choices=[('connect', 'connect a chat'), ('stop', 'confirm a stop')], max_length=10)),
                ('sha256', models.CharField(db_index=True, editable=False, max_length=64)),
                ('target', models.CharField(blank=True, help_text='what to stop', max_length=40)),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(help_text='UTC')),
                ('used_at', models.DateTimeField(null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chat_codes', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'chat_codes',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='ChatUpdate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('update_id', models.BigIntegerField(help_text="Telegram's", unique=True)),
                ('command', models.CharField(help_text='without its argument; empty for other text', max_length=20)),
                ('at', models.DateTimeField(db_index=True, help_text='UTC; when it was received')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chat_updates', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'chat_updates',
                'ordering': ('-id',),
            },
        ),
    ]
