import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('backtest', '0001_runs'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='StoredTape',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(help_text="SHA-256 of the tape's contents", max_length=64, unique=True)),
                ('start', models.DateTimeField()),
                ('end', models.DateTimeField()),
                ('inputs', models.JSONField(help_text='file name -> SHA-256 of what was replayed')),
                ('release', models.CharField(help_text='fingerprint of the code that wrote the tape', max_length=64)),
                ('agents', models.JSONField(help_text='the settings of each agent on the tape')),
                ('bars', models.BinaryField(help_text="candles of the tape's quotes, compressed JSON")),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'backtest_tapes',
            },
        ),
        migrations.CreateModel(
            name='BacktestRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('run', 'run'), ('sweep', 'sweep'), ('optimise', 'optimise'), ('walk-forward', 'walk-forward')], max_length=12)),
                ('changes', models.JSONField(default=dict, help_text='key -> value, where it differs from the tape')),
                ('varied', models.JSONField(default=dict, help_text='key -> values that were tried, as they were given')),
                ('options', models.JSONField(default=dict, help_text='days of a walk-forward, number of tries')),
                ('seed', models.PositiveBigIntegerField(help_text='of what was drawn at random', null=True)),
                ('commit', models.CharField(blank=True, help_text='of the code; empty without a repository', max_length=64)),
                ('release', models.CharField(help_text='fingerprint of code and configuration', max_length=64)),
                ('figures', models.JSONField(default=dict, help_text='of the run, or of the best setting; USDC as text')),
                ('net', models.DecimalField(decimal_places=18, help_text='USDC after all costs', max_digits=38, null=True)),
                ('details', models.BinaryField(default=bytes, help_text='equity, trades, settings, windows: compressed JSON')),
                ('note', models.CharField(blank=True, max_length=200)),
                ('by', models.CharField(max_length=150)),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField()),
                ('error', models.TextField(blank=True, help_text='why there is no result')),
                ('tape', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='backtest.storedtape')),
            ],
            options={
                'db_table': 'backtest_runs',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['kind', '-id'], name='backtest_runs_kind'), models.Index(fields=['tape', '-id'], name='backtest_runs_tape'), models.Index(fields=['started_at'], name='backtest_runs_started')],
            },
        ),
    ]
