import django.db.models.deletion
import maxxit.replay.states
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('replay', '0001_previews'),
    ]

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Preview',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[(maxxit.replay.states.PreviewState['QUEUED'], maxxit.replay.states.PreviewState['QUEUED']), (maxxit.replay.states.PreviewState['RUNNING'], maxxit.replay.states.PreviewState['RUNNING']), (maxxit.replay.states.PreviewState['DONE'], maxxit.replay.states.PreviewState['DONE']), (maxxit.replay.states.PreviewState['FAILED'], maxxit.replay.states.PreviewState['FAILED']), (maxxit.replay.states.PreviewState['CANCELED'], maxxit.replay.states.PreviewState['CANCELED'])], default=maxxit.replay.states.PreviewState['QUEUED'], editable=False, max_length=8)),
                ('inputs', models.JSONField(help_text='accounts, capital in USDC, sizing_preset, exit_preset, start, end (UTC)')),
                ('digest', models.CharField(help_text='SHA-256 of inputs, stored posts, configuration and code: equal ones share a result', max_length=64)),
                ('form', models.JSONField(blank=True, default=dict, help_text='what its owner typed on the page Start')),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('progress', models.FloatField(default=0, help_text='fraction of the span that was played')),
                ('played_until', models.DateTimeField(help_text='UTC; of the recorded span', null=True)),
                ('seen_at', models.DateTimeField(help_text='UTC; last sign of life of the process that computes it', null=True)),
                ('created_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('copied', models.BooleanField(default=False, help_text='the result of the same inputs was there')),
                ('result', models.JSONField(null=True)),
                ('error', models.TextField(blank=True, default='')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='previews', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'previews',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['digest'], name='previews_digest'), models.Index(fields=['created_at'], name='previews_created'), models.Index(fields=['owner', '-id'], name='previews_owner'), models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['id'], name='previews_under_way')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state__in', ['queued', 'running'])), fields=('owner',), name='one_preview_at_a_time')],
            },
        ),
    ]
