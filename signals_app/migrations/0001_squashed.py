import django.contrib.postgres.fields
import django.db.models.deletion
import signals_app.states
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('signals_app', '0001_initial'),
        ('signals_app', '0002_impact_factor_history'),
        ('signals_app', '0003_post_revisions'),
        ('signals_app', '0004_signal_snapshot'),
        ('signals_app', '0005_history_indexes'),
        ('signals_app', '0006_database_defaults'),
        ('signals_app', '0007_help_texts'),
        ('signals_app', '0008_plural_names'),
        ('signals_app', '0009_activity_indexes'),
        ('signals_app', '0010_author_records'),
        ('signals_app', '0011_sources_and_engagement'),
        ('signals_app', '0012_inbound_stored'),
        ('signals_app', '0013_labelled_sets'),
        ('signals_app', '0014_comparisons'),
    ]

    initial = True

    dependencies = [
        ('agents', '0001_squashed'),
        ('market', '0001_squashed'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuthorRecord',
            fields=[
                ('account', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='record', serialize=False, to='agents.ctaccount')),
                ('at', models.DateTimeField(help_text='UTC; bars that closed later are not in it')),
                ('figures', models.JSONField(help_text='the whole record: figures by horizon in minutes, with intervals')),
                ('calls', models.PositiveIntegerField(help_text='calls of the window, without repeats')),
                ('hit_rate', models.FloatField(help_text='fraction of calls with a profit after one day', null=True)),
                ('mean_pct', models.FloatField(help_text='mean return after one day and costs, percent', null=True)),
                ('excess_pct', models.FloatField(help_text="that mean less the benchmark's, percent", null=True)),
                ('q_value', models.FloatField(help_text='of the excess, corrected for the number of authors', null=True)),
            ],
            options={
                'db_table': 'author_records',
            },
        ),
        migrations.CreateModel(
            name='Comparison',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60, unique=True)),
                ('provider', models.CharField(help_text='of config/llm.yaml', max_length=40)),
                ('prompt', models.CharField(blank=True, help_text='version of the prompt; empty: the active one', max_length=60)),
                ('share', models.DecimalField(decimal_places=6, help_text='fraction of the posts that it reads', max_digits=7)),
                ('started_by', models.CharField(max_length=150)),
                ('started_at', models.DateTimeField()),
                ('ended_by', models.CharField(blank=True, max_length=150)),
                ('ended_at', models.DateTimeField(help_text='UTC; empty: it reads', null=True)),
                ('last_post', models.BigIntegerField(default=0, help_text='id of the last post that it looked at')),
            ],
            options={
                'db_table': 'comparisons',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='LabelledSet',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60, unique=True)),
                ('note', models.CharField(blank=True, help_text='what is in it, and what it is for', max_length=300)),
                ('created_by', models.CharField(editable=False, max_length=150)),
                ('created_at', models.DateTimeField(editable=False)),
            ],
            options={
                'db_table': 'labelled_sets',
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='CtPost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('post_id', models.CharField(help_text="the provider's id, a string of digits on X", max_length=40, unique=True)),
                ('source', models.CharField(max_length=20)),
                ('text', models.TextField()),
                ('posted_at', models.DateTimeField(help_text='UTC, as stated by the provider')),
                ('ingested_at', models.DateTimeField(help_text='UTC; when the post was stored; nothing uses it earlier')),
                ('link', models.CharField(blank=True, db_default='', default='', help_text='where people read it', max_length=500)),
                ('likes', models.PositiveIntegerField(blank=True, help_text='when the source delivered the post, as the other counts', null=True)),
                ('reposts', models.PositiveIntegerField(blank=True, null=True)),
                ('replies', models.PositiveIntegerField(blank=True, null=True)),
                ('quotes', models.PositiveIntegerField(blank=True, null=True)),
                ('correlation_id', models.UUIDField(unique=True)),
                ('state', models.CharField(choices=[(signals_app.states.PostState['NEW'], signals_app.states.PostState['NEW']), (signals_app.states.PostState['PREFILTERED'], signals_app.states.PostState['PREFILTERED']), (signals_app.states.PostState['CLASSIFIED'], signals_app.states.PostState['CLASSIFIED']), (signals_app.states.PostState['QUARANTINED'], signals_app.states.PostState['QUARANTINED'])], db_default=signals_app.states.PostState['NEW'], default=signals_app.states.PostState['NEW'], editable=False, max_length=12)),
                ('is_signal_candidate', models.BooleanField(null=True)),
                ('tokens', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), blank=True, db_default=models.Value([], django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), size=None)), default=list, size=None)),
                ('sides', models.JSONField(blank=True, db_default=models.Value({}, models.JSONField()), default=dict, help_text='token -> long or short')),
                ('sentiment', models.CharField(blank=True, db_default='', default='', max_length=8)),
                ('confidence', models.DecimalField(decimal_places=6, help_text='fraction', max_digits=7, null=True)),
                ('reasoning', models.TextField(blank=True, db_default='', default='')),
                ('outcome', models.CharField(db_default='pending', db_index=True, default='pending', help_text='furthest stage reached, as stage:reason', max_length=60)),
                ('processed_for_signals', models.BooleanField(db_default=False, default=False)),
                ('attempts', models.PositiveSmallIntegerField(db_default=0, default=0, help_text='failed classifications so far')),
                ('last_error', models.TextField(blank=True, db_default='', default='')),
                ('edited_at', models.DateTimeField(blank=True, help_text='UTC; when an edit was last seen', null=True)),
                ('edited_text', models.TextField(blank=True, help_text="the text after the author's edit; `text` is the text that was classified", null=True)),
                ('deleted_at', models.DateTimeField(blank=True, help_text='UTC; when the deletion was seen', null=True)),
                ('account', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='posts', to='agents.ctaccount')),
            ],
            options={
                'verbose_name': 'post',
                'db_table': 'ct_posts',
                'ordering': ('-posted_at',),
            },
        ),
        migrations.CreateModel(
            name='ImpactFactorHistory',
            fields=[
                ('pk', models.CompositePrimaryKey('account_id', 'day', blank=True, editable=False, primary_key=True, serialize=False)),
                ('day', models.DateField(help_text='UTC')),
                ('at', models.DateTimeField(help_text='UTC; used by decisions from this time')),
                ('impact_factor', models.DecimalField(decimal_places=6, help_text='fraction; 0.5 is unknown', max_digits=7)),
                ('calls', models.PositiveIntegerField(help_text='calls of the window whose seven days had ended')),
                ('mean_score', models.DecimalField(decimal_places=6, help_text='of those calls, -1.5 to 1.5', max_digits=7)),
                ('pump_flag', models.BooleanField(default=False, help_text="more pumps after this author's calls than chance explains")),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='impact_factors', to='agents.ctaccount')),
            ],
            options={
                'verbose_name_plural': 'impact factor history',
                'db_table': 'impact_factor_history',
                'ordering': ('-day', 'account'),
            },
        ),
        migrations.CreateModel(
            name='InboundPost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=20)),
                ('ident', models.CharField(help_text="the sender's id of this item, unique for the source", max_length=100)),
                ('post_id', models.CharField(help_text='of the post that it becomes', max_length=40)),
                ('username', models.CharField(help_text='the account, in lower case', max_length=50)),
                ('item', models.JSONField(help_text='text, time, link, counts and a stated call, secrets masked')),
                ('received_at', models.DateTimeField()),
                ('stored', models.BooleanField(db_default=False, default=False, help_text='whether the ingest stage is known to have stored its post')),
            ],
            options={
                'db_table': 'inbound_posts',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['source', 'username', 'received_at'], name='inbound_posts_account'), models.Index(fields=['received_at'], name='inbound_posts_received'), models.Index(condition=models.Q(('stored', False)), fields=['source', 'username', 'received_at'], name='inbound_posts_not_stored')],
                'constraints': [models.UniqueConstraint(fields=('source', 'ident'), name='inbound_once_per_source')],
            },
        ),
        migrations.CreateModel(
            name='LabelledPost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('post_id', models.CharField(help_text="the provider's id", max_length=40)),
                ('username', models.CharField(max_length=50)),
                ('text', models.TextField()),
                ('posted_at', models.DateTimeField(help_text='UTC, as stated by the provider', null=True)),
                ('added_by', models.CharField(max_length=150)),
                ('added_at', models.DateTimeField()),
                ('decision', models.JSONField(help_text='the label that counts where two differ: token -> long or short, empty for no call', null=True)),
                ('decided_by', models.CharField(blank=True, max_length=150)),
                ('decided_at', models.DateTimeField(help_text='UTC; empty: not decided', null=True)),
                ('labelled_set', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='posts', to='signals_app.labelledset')),
            ],
            options={
                'db_table': 'labelled_posts',
                'ordering': ('labelled_set', 'id'),
            },
        ),
        migrations.CreateModel(
            name='PostLabel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('by', models.CharField(help_text='username, or what an import named', max_length=150)),
                ('sides', models.JSONField(default=dict, help_text='token -> long or short; empty: no call')),
                ('at', models.DateTimeField()),
                ('post', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='labels', to='signals_app.labelledpost')),
            ],
            options={
                'db_table': 'post_labels',
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='RejectedPost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=20)),
                ('place', models.CharField(help_text="file:line, or the provider's id", max_length=300)),
                ('reason', models.CharField(max_length=300)),
                ('raw', models.TextField()),
                ('seen_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'ct_posts_rejected',
                'ordering': ('-id',),
                'constraints': [models.UniqueConstraint(fields=('source', 'place'), name='rejected_once_per_place')],
            },
        ),
        migrations.CreateModel(
            name='ShadowReading',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('model', models.CharField(blank=True, max_length=120)),
                ('prompt_version', models.CharField(blank=True, max_length=60)),
                ('sides', models.JSONField(default=dict, help_text='token -> long or short, after the checks; empty: no call')),
                ('confidence', models.DecimalField(decimal_places=6, help_text='fraction', max_digits=7, null=True)),
                ('error', models.CharField(blank=True, help_text='why there is no reading', max_length=300)),
                ('latency_ms', models.PositiveIntegerField(help_text='milliseconds of the call, which was about `batch` posts')),
                ('cost_usd', models.DecimalField(decimal_places=9, help_text="this post's part of the call", max_digits=18)),
                ('batch', models.PositiveSmallIntegerField(help_text='posts of the call')),
                ('at', models.DateTimeField()),
                ('comparison', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='readings', to='signals_app.comparison')),
                ('post', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='shadow_readings', to='signals_app.ctpost')),
            ],
            options={
                'db_table': 'shadow_readings',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='Signal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('token', models.CharField(max_length=20)),
                ('venue', models.CharField(max_length=20)),
                ('side', models.CharField(choices=[('long', 'Long'), ('short', 'Short')], max_length=5)),
                ('bucket', models.DateTimeField(help_text='start of the 6-hour bucket, UTC')),
                ('state', models.CharField(choices=[(signals_app.states.SignalState['PENDING'], signals_app.states.SignalState['PENDING']), (signals_app.states.SignalState['EXECUTED'], signals_app.states.SignalState['EXECUTED']), (signals_app.states.SignalState['SKIPPED'], signals_app.states.SignalState['SKIPPED']), (signals_app.states.SignalState['EXPIRED'], signals_app.states.SignalState['EXPIRED'])], default=signals_app.states.SignalState['PENDING'], editable=False, max_length=12)),
                ('reason', models.CharField(blank=True, help_text='reason of a skipped or expired signal', max_length=60)),
                ('confidence', models.DecimalField(decimal_places=6, help_text='fraction', max_digits=7)),
                ('entry_price', models.DecimalField(decimal_places=18, help_text='USD at the decision', max_digits=38)),
                ('stop_loss_pct', models.DecimalField(decimal_places=6, help_text='percent below (long) the entry', max_digits=9)),
                ('take_profit_pct', models.DecimalField(decimal_places=6, help_text='percent above (long) the entry', max_digits=9)),
                ('leverage', models.DecimalField(decimal_places=2, default=1, max_digits=6)),
                ('size_model', models.JSONField(default=dict, help_text='tier and size as a fraction of the available balance')),
                ('risk_model', models.JSONField(default=dict, help_text='features, evidence and weights behind the confidence')),
                ('market', models.JSONField(default=dict, help_text='indicators known at the decision')),
                ('correlation_id', models.UUIDField(db_index=True, help_text='that of the strongest post; an own id without posts')),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('agent', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='signals', to='agents.agent')),
                ('posts', models.ManyToManyField(db_table='signal_posts', related_name='signals', to='signals_app.ctpost')),
                ('snapshot', models.ForeignKey(editable=False, help_text='the snapshot with those indicators', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='market.marketsnapshot')),
            ],
            options={
                'db_table': 'signals',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='SocialMetric',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('at', models.DateTimeField(help_text='UTC; when they were read; no decision uses them earlier')),
                ('galaxy_score', models.DecimalField(decimal_places=4, help_text='0 to 100', max_digits=8)),
                ('sentiment_pct', models.DecimalField(decimal_places=4, help_text='percent of the weighted posts that are positive', max_digits=8)),
                ('social_volume', models.PositiveIntegerField(help_text='posts in the 24 hours before')),
                ('price_change_pct', models.DecimalField(decimal_places=4, help_text='percent in the 24 hours before, by the source', max_digits=12)),
                ('alt_rank', models.PositiveIntegerField(help_text='1 is the best')),
            ],
            options={
                'db_table': 'social_metrics',
                'ordering': ('-at', 'symbol'),
                'indexes': [models.Index(fields=['at'], name='social_metrics_at')],
                'constraints': [models.UniqueConstraint(fields=('symbol', 'at'), name='one_social_metric')],
            },
        ),
        migrations.AddIndex(
            model_name='ctpost',
            index=models.Index(fields=['posted_at'], name='ct_posts_posted_at'),
        ),
        migrations.AddIndex(
            model_name='ctpost',
            index=models.Index(condition=models.Q(('state', 'new')), fields=['id'], name='ct_posts_new'),
        ),
        migrations.AddIndex(
            model_name='ctpost',
            index=models.Index(condition=models.Q(('is_signal_candidate', True), ('processed_for_signals', False)), fields=['ingested_at'], name='ct_posts_candidates'),
        ),
        migrations.AddIndex(
            model_name='ctpost',
            index=models.Index(condition=models.Q(('state', 'quarantined')), fields=['id'], name='ct_posts_quarantined'),
        ),
        migrations.AddIndex(
            model_name='ctpost',
            index=models.Index(fields=['account', 'posted_at'], name='ct_posts_account'),
        ),
        migrations.AddIndex(
            model_name='ctpost',
            index=models.Index(condition=models.Q(('is_signal_candidate', True)), fields=['account', 'posted_at'], name='ct_posts_calls'),
        ),
        migrations.AddIndex(
            model_name='ctpost',
            index=models.Index(condition=models.Q(('is_signal_candidate', True)), fields=['posted_at'], name='ct_posts_calls_at'),
        ),
        migrations.AddConstraint(
            model_name='labelledpost',
            constraint=models.UniqueConstraint(fields=('labelled_set', 'post_id'), name='one_post_of_a_set'),
        ),
        migrations.AddConstraint(
            model_name='postlabel',
            constraint=models.UniqueConstraint(fields=('post', 'by'), name='one_label_of_a_person'),
        ),
        migrations.AddConstraint(
            model_name='shadowreading',
            constraint=models.UniqueConstraint(fields=('comparison', 'post'), name='one_shadow_reading_of_a_post'),
        ),
        migrations.AddIndex(
            model_name='signal',
            index=models.Index(condition=models.Q(('state', 'pending')), fields=['id'], name='signals_pending'),
        ),
        migrations.AddIndex(
            model_name='signal',
            index=models.Index(condition=models.Q(('state__in', ['skipped', 'expired'])), fields=['state', 'id'], name='signals_not_executed'),
        ),
        migrations.AddIndex(
            model_name='signal',
            index=models.Index(fields=['agent', 'created_at'], name='signals_agent_created'),
        ),
        migrations.AddIndex(
            model_name='signal',
            index=models.Index(fields=['created_at'], name='signals_created'),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.UniqueConstraint(fields=('agent', 'token', 'bucket'), name='one_signal_per_agent_token_and_bucket'),
        ),
    ]
