import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import maxxit.core.clock
import maxxit.notify.models
import maxxit.notify.states
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('notify', '0001_endpoints'),
        ('notify', '0002_alerts'),
        ('notify', '0003_endpoint_breaker'),
        ('notify', '0004_history_indexes'),
        ('notify', '0005_rules_from_market'),
        ('notify', '0006_plural_names'),
        ('notify', '0007_settings_and_paused_rules'),
        ('notify', '0008_accounts_kind'),
        ('notify', '0009_sealed_addresses'),
        ('notify', '0010_choices_by_channel'),
        ('notify', '0011_liquidations_kind'),
        ('notify', '0012_more_conditions'),
        ('notify', '0013_alerted_events'),
        ('notify', '0014_kinds_of_trades'),
        ('notify', '0015_digest_slots'),
        ('notify', '0016_endpoint_lookup'),
        ('notify', '0017_funding_rules'),
        ('notify', '0018_twins_kind'),
    ]

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('events', '0001_squashed'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AlertedEvent',
            fields=[
                ('event', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='events.event')),
                ('at', models.DateTimeField()),
            ],
            options={
                'db_table': 'alerted_events',
                'indexes': [models.Index(fields=['at'], name='alerted_events_at')],
            },
        ),
        migrations.CreateModel(
            name='NotificationSettings',
            fields=[
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='notification_settings', serialize=False, to=settings.AUTH_USER_MODEL)),
                ('kinds', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), default=list, help_text='kinds sent to channels; the inbox holds all', size=None)),
                ('by_channel', models.JSONField(db_default={}, default=dict, help_text='channel -> kinds that it gets in place of `kinds`, and the lowest severity')),
                ('fallback', models.CharField(blank=True, db_default='', default='', help_text='where a message goes that a channel gave up', max_length=20)),
                ('snoozed_until', models.DateTimeField(help_text='until then only critical messages are sent', null=True)),
                ('quiet_from', models.TimeField(help_text='in `time_zone`; empty: no quiet hours', null=True)),
                ('quiet_to', models.TimeField(null=True)),
                ('time_zone', models.CharField(default='UTC', max_length=60)),
            ],
            options={
                'verbose_name_plural': 'notification settings',
                'db_table': 'notification_settings',
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('quiet_from', None), ('quiet_to', None)), models.Q(('quiet_from__isnull', False), ('quiet_to__isnull', False)), _connector='OR'), name='quiet_hours_have_both_ends')],
            },
        ),
        migrations.CreateModel(
            name='PriceRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rule_id', models.CharField(default=maxxit.notify.models.new_rule_id, editable=False, max_length=10, unique=True)),
                ('symbols', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), help_text='instruments, or * for every one', size=None)),
                ('condition', models.CharField(choices=[('gt', 'price above'), ('lt', 'price below'), ('change_pct', 'price changes by percent, up or down, within a time'), ('volume_usd', 'volume of the last 24 hours above'), ('spread_bps', 'spread between price sources above'), ('funding', 'funding rate of eight hours, paid by either side, from'), ('any', 'any new price'), ('all', 'all of several conditions'), ('any_of', 'any of several conditions')], max_length=10)),
                ('threshold', models.DecimalField(blank=True, decimal_places=18, help_text='USD; percent for change_pct and funding, basis points for spread_bps', max_digits=38, null=True)),
                ('window_seconds', models.PositiveIntegerField(blank=True, help_text='for change_pct: since how long ago', null=True)),
                ('parts', models.JSONField(blank=True, db_default=[], default=list, help_text='for all and any_of: condition, threshold and window_seconds of each')),
                ('channel', models.CharField(default='inbox', help_text='how to tell the user', max_length=20)),
                ('metadata', models.JSONField(blank=True, default=dict)),
                ('active', models.BooleanField(default=True, help_text='off: paused or deleted, it matches nothing')),
                ('removed_at', models.DateTimeField(editable=False, help_text='when it was deleted', null=True)),
                ('created_at', models.DateTimeField(default=maxxit.core.clock.now, editable=False)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='price_rules', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'price_rules',
                'ordering': ('pk',),
            },
        ),
        migrations.CreateModel(
            name='RuleMatch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('price', models.DecimalField(decimal_places=18, help_text='USD', max_digits=38)),
                ('value', models.DecimalField(decimal_places=18, help_text='what was compared: USD, percent or basis points; of combined conditions the price', max_digits=38)),
                ('at', models.DateTimeField(help_text='when the price was true')),
                ('bucket', models.DateTimeField(help_text='start of the minute')),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='matches', to='notify.pricerule')),
            ],
            options={
                'verbose_name_plural': 'rule matches',
                'db_table': 'rule_matches',
                'ordering': ('-at',),
            },
        ),
        migrations.CreateModel(
            name='RuleDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('channel', models.CharField(max_length=20)),
                ('at', models.DateTimeField()),
                ('state', models.CharField(choices=[(maxxit.notify.states.DeliveryState['PENDING'], maxxit.notify.states.DeliveryState['PENDING']), (maxxit.notify.states.DeliveryState['SENT'], maxxit.notify.states.DeliveryState['SENT']), (maxxit.notify.states.DeliveryState['DEAD'], maxxit.notify.states.DeliveryState['DEAD'])], db_default=maxxit.notify.states.DeliveryState['PENDING'], default=maxxit.notify.states.DeliveryState['PENDING'], editable=False, max_length=8)),
                ('attempts', models.PositiveIntegerField(db_default=0, default=0)),
                ('due_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='the next try; while one is under way, when another worker may take it over')),
                ('sent_at', models.DateTimeField(null=True)),
                ('last_error', models.TextField(blank=True, db_default='', default='')),
                ('symbol', models.CharField(max_length=20)),
                ('bucket', models.DateTimeField(help_text='start of the five minutes')),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='notify.pricerule')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('match', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='delivery', to='notify.rulematch')),
            ],
            options={
                'verbose_name_plural': 'rule deliveries',
                'db_table': 'rule_deliveries',
                'ordering': ('-at',),
            },
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('channel', models.CharField(max_length=20)),
                ('at', models.DateTimeField()),
                ('state', models.CharField(choices=[(maxxit.notify.states.DeliveryState['PENDING'], maxxit.notify.states.DeliveryState['PENDING']), (maxxit.notify.states.DeliveryState['SENT'], maxxit.notify.states.DeliveryState['SENT']), (maxxit.notify.states.DeliveryState['DEAD'], maxxit.notify.states.DeliveryState['DEAD'])], db_default=maxxit.notify.states.DeliveryState['PENDING'], default=maxxit.notify.states.DeliveryState['PENDING'], editable=False, max_length=8)),
                ('attempts', models.PositiveIntegerField(db_default=0, default=0)),
                ('due_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='the next try; while one is under way, when another worker may take it over')),
                ('sent_at', models.DateTimeField(null=True)),
                ('last_error', models.TextField(blank=True, db_default='', default='')),
                ('event', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='events.event')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'alerts',
                'ordering': ('-id',),
                'indexes': [models.Index(condition=models.Q(('state', 'pending')), fields=['due_at'], name='alerts_due'), models.Index(condition=models.Q(('state', 'sent')), fields=['sent_at'], name='alerts_sent'), models.Index(condition=models.Q(('state', 'dead')), fields=['id'], name='alerts_dead'), models.Index(fields=['user', 'at'], name='alerts_user_at')],
                'constraints': [models.UniqueConstraint(fields=('event', 'user', 'channel'), name='one_alert_per_channel')],
            },
        ),
        migrations.CreateModel(
            name='DigestSlot',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=20)),
                ('due_at', models.DateTimeField()),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'digest_slots',
                'constraints': [models.UniqueConstraint(fields=('due_at', 'user', 'kind'), name='one_digest_a_slot')],
            },
        ),
        migrations.CreateModel(
            name='Endpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('channel', models.CharField(max_length=20)),
                ('content', models.BinaryField()),
                ('key_id', models.CharField(editable=False, help_text='of the key that encrypted it', max_length=16)),
                ('hint', models.CharField(help_text='what people see of the address', max_length=320)),
                ('lookup', models.CharField(blank=True, db_default='', default='', editable=False, help_text='keyed hash by which a message from the address finds its user; empty where the channel only sends', max_length=64)),
                ('salt', models.CharField(default=maxxit.notify.models.new_salt, editable=False, max_length=32)),
                ('active', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField()),
                ('verified_at', models.DateTimeField(editable=False, help_text='empty: nothing but the code that confirms it is sent there', null=True)),
                ('code_tries', models.PositiveSmallIntegerField(db_default=0, default=0, editable=False, help_text='wrong codes')),
                ('failures', models.PositiveIntegerField(db_default=0, default=0, editable=False, help_text='in a row')),
                ('rests_until', models.DateTimeField(editable=False, help_text='nothing is sent there until then; its deliveries wait', null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='endpoints', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'notify_endpoints',
                'ordering': ('-id',),
                'indexes': [models.Index(condition=models.Q(models.Q(('lookup', ''), _negated=True), ('active', True)), fields=['lookup'], name='endpoints_lookup')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('active', True)), fields=('user', 'channel'), name='one_endpoint_per_channel')],
            },
        ),
        migrations.AddIndex(
            model_name='pricerule',
            index=models.Index(condition=models.Q(('active', True), ('condition__in', ['volume_usd', 'spread_bps', 'funding', 'all', 'any_of'])), fields=['condition'], name='price_rules_with_facts'),
        ),
        migrations.AddConstraint(
            model_name='pricerule',
            constraint=models.CheckConstraint(condition=models.Q(('condition', 'any'), models.Q(('condition__in', ['gt', 'lt', 'volume_usd', 'spread_bps', 'funding']), ('threshold__gt', 0), ('threshold__isnull', False)), models.Q(('condition__in', ['all', 'any_of']), ('parts__1__isnull', False)), models.Q(('condition', 'change_pct'), ('threshold__gt', 0), ('threshold__isnull', False), ('window_seconds__gte', 60), ('window_seconds__isnull', False)), _connector='OR'), name='rule_is_whole'),
        ),
        migrations.AddIndex(
            model_name='rulematch',
            index=models.Index(fields=['at'], name='rule_matches_at'),
        ),
        migrations.AddConstraint(
            model_name='rulematch',
            constraint=models.UniqueConstraint(fields=('rule', 'symbol', 'bucket'), name='one_match_a_minute'),
        ),
        migrations.AddIndex(
            model_name='ruledelivery',
            index=models.Index(fields=['user', 'at'], name='rule_deliveries_user_at'),
        ),
        migrations.AddIndex(
            model_name='ruledelivery',
            index=models.Index(condition=models.Q(('state', 'pending')), fields=['due_at'], name='rule_deliveries_due'),
        ),
        migrations.AddIndex(
            model_name='ruledelivery',
            index=models.Index(condition=models.Q(('state', 'sent')), fields=['sent_at'], name='rule_deliveries_sent'),
        ),
        migrations.AddIndex(
            model_name='ruledelivery',
            index=models.Index(condition=models.Q(('state', 'dead')), fields=['id'], name='rule_deliveries_dead'),
        ),
        migrations.AddConstraint(
            model_name='ruledelivery',
            constraint=models.UniqueConstraint(fields=('rule', 'symbol', 'bucket'), name='one_delivery_in_five_minutes'),
        ),
    ]
