import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('pipeline', '0001_initial'),
        ('pipeline', '0002_releases'),
        ('pipeline', '0003_failed_stage_runs'),
        ('pipeline', '0004_metric_totals'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='CanaryMark',
            fields=[
                ('queue', models.CharField(max_length=20, primary_key=True, serialize=False)),
                ('worker', models.CharField(max_length=100)),
                ('signed_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'canary_marks',
                'ordering': ('queue',),
            },
        ),
        migrations.CreateModel(
            name='MetricCursor',
            fields=[
                ('table', models.CharField(max_length=60, primary_key=True, serialize=False)),
                ('last_id', models.BigIntegerField()),
            ],
            options={
                'db_table': 'metric_cursors',
            },
        ),
        migrations.CreateModel(
            name='PipelineRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.DateTimeField(help_text='the scheduled moment; a slot runs once', null=True, unique=True)),
                ('cause', models.CharField(choices=[('schedule', 'Schedule'), ('command', 'Command'), ('api', 'API'), ('admin', 'Admin')], max_length=10)),
                ('asked_by', models.CharField(blank=True, max_length=80)),
                ('root_task_id', models.CharField(blank=True, max_length=50)),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(null=True)),
                ('error', models.TextField(blank=True)),
            ],
            options={
                'db_table': 'pipeline_runs',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='Release',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('fingerprint', models.CharField(help_text='of every file that decides', max_length=12)),
                ('declared_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'releases',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='MetricTotal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60)),
                ('labels', models.JSONField(default=dict)),
                ('value', models.DecimalField(decimal_places=9, default=0, max_digits=30)),
            ],
            options={
                'db_table': 'metric_totals',
                'constraints': [models.UniqueConstraint(fields=('name', 'labels'), name='one_total_per_labels')],
            },
        ),
        migrations.CreateModel(
            name='StageRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('stage', models.CharField(max_length=20)),
                ('task_id', models.CharField(blank=True, help_text="Celery's id; Flower knows it", max_length=50)),
                ('worker', models.CharField(blank=True, max_length=100)),
                ('started_at', models.DateTimeField()),
                ('duration_ms', models.PositiveIntegerField(null=True)),
                ('counted_in', models.PositiveIntegerField(default=0, help_text='rows that were due')),
                ('counted_out', models.PositiveIntegerField(default=0, help_text='rows that went further')),
                ('detail', models.JSONField(default=dict)),
                ('error', models.TextField(blank=True)),
                ('idle', models.BooleanField(default=False, help_text='found nothing to do; only the newest idle pass is kept')),
                ('run', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='stages', to='pipeline.pipelinerun')),
            ],
            options={
                'db_table': 'stage_runs',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['stage', '-started_at'], name='stage_runs_newest'), models.Index(condition=models.Q(('error', ''), _negated=True), fields=['started_at'], name='stage_runs_failed')],
            },
        ),
    ]
