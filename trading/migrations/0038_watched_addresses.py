import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('trading', '0037_gmx'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='TransferScan',
            fields=[
                ('chain_id', models.PositiveBigIntegerField(primary_key=True, serialize=False)),
                ('scanned_to', models.PositiveBigIntegerField(help_text='the newest final block that was read')),
            ],
            options={
                'db_table': 'transfer_scans',
            },
        ),
        migrations.CreateModel(
            name='WatchedAddress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chain_id', models.PositiveBigIntegerField()),
                ('address', models.CharField(max_length=42)),
                ('label', models.CharField(blank=True, default='', max_length=60)),
                ('min_usd', models.DecimalField(decimal_places=2, default=0, help_text='smaller transfers are not reported', max_digits=20)),
                ('created_at', models.DateTimeField()),
                ('user', models.ForeignKey(help_text='who is notified beside staff', null=True, on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name_plural': 'watched addresses',
                'db_table': 'watched_addresses',
                'ordering': ('chain_id', 'address'),
                'constraints': [models.UniqueConstraint(fields=('chain_id', 'address'), name='watched_once_per_chain')],
            },
        ),
    ]
