import django.db.models.deletion
import maxxit.learning.states
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('learning', '0001_registry'),
        ('learning', '0002_wording'),
        ('learning', '0003_training_runs'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='TrainedModel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(help_text='forecaster, as in maxxit.learning.forecasters', max_length=20)),
                ('purpose', models.CharField(help_text='volatility, which never decides a side, or direction', max_length=12)),
                ('horizon_hours', models.PositiveSmallIntegerField()),
                ('state', models.CharField(choices=[(maxxit.learning.states.ModelState['CANDIDATE'], maxxit.learning.states.ModelState['CANDIDATE']), (maxxit.learning.states.ModelState['SHADOW'], maxxit.learning.states.ModelState['SHADOW']), (maxxit.learning.states.ModelState['APPROVED'], maxxit.learning.states.ModelState['APPROVED']), (maxxit.learning.states.ModelState['SERVING'], maxxit.learning.states.ModelState['SERVING']), (maxxit.learning.states.ModelState['RETIRED'], maxxit.learning.states.ModelState['RETIRED'])], db_default=maxxit.learning.states.ModelState['CANDIDATE'], default=maxxit.learning.states.ModelState['CANDIDATE'], editable=False, max_length=10)),
                ('symbols', models.JSONField(default=list, help_text='whose data it was fitted to')),
                ('data_from', models.DateTimeField(help_text='UTC; first hour of the data')),
                ('data_to', models.DateTimeField(help_text='UTC; end of the last hour')),
                ('data_sha256', models.CharField(help_text='of the data, to fit it again', max_length=64)),
                ('release', models.CharField(help_text='fingerprint of the code and configuration', max_length=12)),
                ('seed', models.PositiveIntegerField()),
                ('tried', models.PositiveIntegerField(help_text='configurations that were scored in this run')),
                ('parameters', models.JSONField()),
                ('metrics', models.JSONField(help_text='as in maxxit.learning.metrics; the gates read nothing else')),
                ('checks', models.JSONField(default=list, help_text='the last verdict: value and limit of each check')),
                ('created_at', models.DateTimeField()),
                ('shadow_at', models.DateTimeField(help_text='UTC; since when it is in shadow', null=True)),
                ('served_at', models.DateTimeField(help_text='UTC; when it last began to serve', null=True)),
                ('approved_by', models.CharField(blank=True, max_length=150)),
            ],
            options={
                'db_table': 'trained_models',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['purpose', 'data_from', 'data_to'], name='trained_models_overlap')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', maxxit.learning.states.ModelState['SERVING'])), fields=('purpose', 'horizon_hours'), name='one_serving_model'), models.UniqueConstraint(fields=('kind', 'horizon_hours', 'data_sha256', 'release', 'seed'), name='one_model_of_one_fit')],
            },
        ),
        migrations.CreateModel(
            name='Forecast',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('at', models.DateTimeField(help_text='UTC; end of the newest hour used; the horizon begins here')),
                ('sigma', models.FloatField(help_text='standard deviation of the return over the horizon, a fraction')),
                ('mean', models.FloatField(help_text='expected return, a fraction; 0 for a volatility model')),
                ('quantiles', models.JSONField(help_text='of the return, at maxxit.learning.statistics.LEVELS')),
                ('made_at', models.DateTimeField()),
                ('model', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='forecasts', to='learning.trainedmodel')),
            ],
            options={
                'db_table': 'forecasts',
                'ordering': ('-at', 'symbol'),
                'indexes': [models.Index(fields=['made_at'], name='forecasts_made_at')],
                'constraints': [models.UniqueConstraint(fields=('model', 'symbol', 'at'), name='one_forecast_an_hour')],
            },
        ),
        migrations.CreateModel(
            name='TrainingRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('night', models.DateField(help_text='UTC; the data end at its midnight')),
                ('kind', models.CharField(help_text='forecaster, as in maxxit.learning.forecasters', max_length=20)),
                ('horizon_hours', models.PositiveSmallIntegerField()),
                ('outcome', models.CharField(choices=[('running', 'Running'), ('trained', 'Trained'), ('refused', 'Refused'), ('failed', 'Failed')], default='running', max_length=8)),
                ('attempts', models.PositiveSmallIntegerField(default=1)),
                ('reason', models.TextField(blank=True, help_text='why the data were refused, or what failed')),
                ('left_out', models.JSONField(default=dict, help_text='symbol -> why it was not trained on')),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
                ('model', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='learning.trainedmodel')),
            ],
            options={
                'db_table': 'training_runs',
                'ordering': ('-night', 'kind', 'horizon_hours'),
                'constraints': [models.UniqueConstraint(fields=('night', 'kind', 'horizon_hours'), name='one_training_a_night')],
            },
        ),
    ]
