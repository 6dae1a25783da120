import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('llm', '0001_initial'),
        ('llm', '0002_budgets_by_account_and_exports'),
        ('llm', '0003_agent_id'),
        ('llm', '0004_prompt_versions'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='LlmCircuit',
            fields=[
                ('provider', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('failures', models.PositiveIntegerField(default=0, help_text='in a row')),
                ('retry_at', models.DateTimeField(help_text='open until then; then one probe passes', null=True)),
                ('last_error', models.TextField(blank=True)),
            ],
            options={
                'db_table': 'llm_circuits',
                'ordering': ('provider',),
            },
        ),
        migrations.CreateModel(
            name='LlmExport',
            fields=[
                ('name', models.CharField(help_text='of llm.yaml: exports', max_length=40, primary_key=True, serialize=False)),
                ('last_id', models.PositiveBigIntegerField(default=0, help_text='of the last trace that went or was refused')),
                ('sent', models.PositiveBigIntegerField(default=0)),
                ('refused', models.PositiveBigIntegerField(default=0, help_text='traces that the other side would not take')),
                ('last_error', models.TextField(blank=True)),
            ],
            options={
                'db_table': 'llm_exports',
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='LlmSpend',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(help_text='UTC')),
                ('purpose', models.CharField(blank=True, help_text='empty: all that a provider bills', max_length=40)),
                ('account', models.CharField(blank=True, help_text='whose posts, which agent, or which provider; empty: all', max_length=120)),
                ('calls', models.PositiveIntegerField(default=0)),
                ('usd', models.DecimalField(decimal_places=9, default=0, max_digits=18)),
            ],
            options={
                'db_table': 'llm_spend',
                'ordering': ('-day', 'purpose', 'account'),
                'constraints': [models.UniqueConstraint(fields=('day', 'purpose', 'account'), name='one_spend_a_day')],
            },
        ),
        migrations.CreateModel(
            name='LlmTrace',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ts', models.DateTimeField(help_text='when it was asked, UTC')),
                ('correlation_id', models.UUIDField(help_text='the first of correlation_ids', null=True)),
                ('correlation_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, help_text='all that one call was about', size=None)),
                ('agent_name', models.CharField(blank=True, max_length=80)),
                ('agent_id', models.BigIntegerField(help_text='the agent that it was asked for; empty: for all', null=True)),
                ('purpose', models.CharField(max_length=40)),
                ('provider', models.CharField(max_length=40)),
                ('model', models.CharField(max_length=120)),
                ('base_url', models.CharField(blank=True, max_length=200)),
                ('parameters', models.JSONField(default=dict)),
                ('latency_ms', models.PositiveIntegerField(help_text='milliseconds from question to answer')),
                ('status', models.CharField(choices=[('ok', 'ok'), ('error', 'error')], max_length=5)),
                ('error_message', models.TextField(blank=True)),
                ('request', models.JSONField(default=dict)),
                ('response', models.JSONField(null=True)),
                ('prompt_tokens', models.PositiveIntegerField(null=True)),
                ('completion_tokens', models.PositiveIntegerField(null=True)),
                ('cost_usd', models.DecimalField(decimal_places=9, default=0, max_digits=18)),
                ('prompt_sha256', models.CharField(help_text="of the prompt's text", max_length=64)),
                ('prompt_version', models.CharField(blank=True, db_default='', default='', help_text="name of the prompt's version; empty for a reader that needs no prompt", max_length=60)),
                ('schema_sha256', models.CharField(help_text="of the answer's JSON schema", max_length=64)),
                ('request_sha256', models.CharField(help_text='names the recording of this call', max_length=64)),
                ('repaired', models.BooleanField(default=False, help_text='asked again with the error of the first answer')),
            ],
            options={
                'db_table': 'llm_traces',
                'ordering': ('-id',),
                'indexes': [django.contrib.postgres.indexes.GinIndex(fields=['correlation_ids'], name='llm_traces_correlations'), models.Index(fields=['correlation_id'], name='llm_traces_correlation'), models.Index(fields=['ts'], name='llm_traces_ts'), models.Index(fields=['agent_name', 'ts'], name='llm_traces_agent_ts')],
            },
        ),
        migrations.CreateModel(
            name='PromptVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('purpose', models.CharField(max_length=40)),
                ('name', models.CharField(help_text="`file-` and a hash: the configuration's file of a release", max_length=60)),
                ('text', models.TextField()),
                ('sha256', models.CharField(help_text='of the text', max_length=64)),
                ('note', models.CharField(blank=True, max_length=300)),
                ('created_by', models.CharField(max_length=150)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'prompt_versions',
                'ordering': ('purpose', '-id'),
                'constraints': [models.UniqueConstraint(fields=('purpose', 'name'), name='one_prompt_of_a_name'), models.UniqueConstraint(fields=('purpose', 'sha256'), name='one_name_of_a_prompt')],
            },
        ),
        migrations.CreateModel(
            name='PromptActivation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('purpose', models.CharField(max_length=40)),
                ('rollback', models.BooleanField(default=False)),
                ('by', models.CharField(max_length=150)),
                ('reason', models.CharField(max_length=300)),
                ('at', models.DateTimeField()),
                ('restores', models.ForeignKey(help_text='of a rollback: the change that it repeats; empty: the time before all changes', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='llm.promptactivation')),
                ('version', models.ForeignKey(help_text="empty: the configuration's file, also that of later releases", null=True, on_delete=django.db.models.deletion.PROTECT, related_name='activations', to='llm.promptversion')),
            ],
            options={
                'db_table': 'prompt_activations',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['purpose', '-id'], name='prompt_activations_newest')],
            },
        ),
    ]
