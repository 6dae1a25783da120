import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('console', '0001_api_keys'),
        ('console', '0002_scope_rules'),
        ('console', '0003_scope_safes'),
        ('console', '0004_login_attempts'),
        ('console', '0005_accounts'),
        ('console', '0006_idempotency'),
        ('console', '0007_scope_stop'),
    ]

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='LoginAttempts',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(max_length=170, unique=True)),
                ('failures', models.PositiveIntegerField(default=0)),
                ('last_at', models.DateTimeField(db_index=True)),
                ('blocked_until', models.DateTimeField(help_text='UTC; ends by itself', null=True)),
            ],
            options={
                'verbose_name': 'login attempts',
                'verbose_name_plural': 'login attempts',
                'db_table': 'login_attempts',
                'ordering': ('-last_at',),
            },
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='what it is for', max_length=60)),
                ('prefix', models.CharField(help_text='the first characters, to tell keys apart', max_length=12)),
                ('sha256', models.CharField(editable=False, max_length=64, unique=True)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('read', 'read'), ('rules', 'rules'), ('safes', 'safes'), ('stop', 'stop'), ('trade', 'trade'), ('keys', 'keys'), ('admin', 'admin')], max_length=10), default=list, help_text="read: GET; rules: make and remove the owner's price rules; safes: plan, verify and revoke their Safes; stop: stop their deployments through an assistant; trade: set up, start and stop their agents and deployments, and close their positions; keys: make and revoke their keys; admin: /api/admin too", size=None)),
                ('created_at', models.DateTimeField()),
                ('last_used', models.DateTimeField(help_text='UTC, to the minute', null=True)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(null=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='api_keys', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'API key',
                'db_table': 'api_keys',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='BrowserSession',
            fields=[
                ('session_key', models.CharField(max_length=40, primary_key=True, serialize=False, verbose_name='session key')),
                ('session_data', models.TextField(verbose_name='session data')),
                ('expire_date', models.DateTimeField(db_index=True, verbose_name='expire date')),
                ('opened_at', models.DateTimeField(help_text='UTC; when its user logged in', null=True)),
                ('last_seen', models.DateTimeField(help_text='UTC, to the minute')),
                ('address', models.CharField(blank=True, help_text='IP address at the login', max_length=45)),
                ('browser', models.CharField(blank=True, help_text='User-Agent at the login', max_length=300)),
                ('user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='browser_sessions', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'session',
                'db_table': 'browser_sessions',
            },
        ),
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email', models.CharField(blank=True, help_text='whom it is for; nothing is sent there', max_length=254)),
                ('sha256', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField(editable=False)),
                ('created_by', models.CharField(editable=False, max_length=200)),
                ('expires_at', models.DateTimeField(editable=False, help_text='UTC')),
                ('used_at', models.DateTimeField(editable=False, null=True)),
                ('withdrawn_at', models.DateTimeField(editable=False, null=True)),
                ('used_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'invitations',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='UserSettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('time_zone', models.CharField(blank=True, help_text='IANA name; empty: UTC', max_length=60)),
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='user_settings', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'user settings',
                'verbose_name_plural': 'user settings',
                'db_table': 'user_settings',
            },
        ),
        migrations.CreateModel(
            name='WalletLogin',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.CharField(help_text='with its EIP-55 checksum', max_length=42, unique=True)),
                ('linked_at', models.DateTimeField()),
                ('last_used', models.DateTimeField(help_text='UTC; the newest login with it', null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='wallets', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'wallet',
                'db_table': 'wallet_logins',
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='IdempotentRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=200)),
                ('fingerprint', models.CharField(editable=False, help_text='SHA-256 of method, path, query and body', max_length=64)),
                ('status', models.PositiveSmallIntegerField(help_text='of the answer; empty while it runs', null=True)),
                ('body', models.TextField(blank=True, editable=False, help_text='the answer without secrets')),
                ('created_at', models.DateTimeField(db_index=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'idempotent_requests',
                'ordering': ('-id',),
                'constraints': [models.UniqueConstraint(fields=('owner', 'key'), name='one_request_per_idempotency_key')],
            },
        ),
    ]
