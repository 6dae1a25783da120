"""Price rules, their matches and deliveries come from `maxxit.market`: their tables stay as they are."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import maxxit.core.clock
import maxxit.notify.models
import maxxit.notify.states
from django.conf import settings
from django.db import migrations, models

TYPES = """
UPDATE django_content_type t SET app_label = '{to}'
WHERE app_label = '{of}' AND model IN ('pricerule', 'rulematch', 'ruledelivery')
  AND NOT EXISTS (SELECT FROM django_content_type o WHERE o.app_label = '{to}' AND o.model = t.model)
"""
"""Permissions of groups and users and the log of the admin point at the content types, so they follow them."""


class Migration(migrations.Migration):

    dependencies = [
        ('contenttypes', '0002_remove_content_type_name'),
        ('market', '0008_rules_to_notify'),
        ('notify', '0004_history_indexes'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(TYPES.format(of='market', to='notify'), TYPES.format(of='notify', to='market')),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name='PriceRule',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('rule_id', models.CharField(default=maxxit.notify.models.new_rule_id, editable=False, max_length=10, unique=True)),
                        ('symbols', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), help_text='instruments, or * for every one', size=None)),
                        ('condition', models.CharField(choices=[('gt', 'price above'), ('lt', 'price below'), ('change_pct', 'price changes by percent, up or down, within a time'), ('any', 'any new price')], max_length=10)),
                        ('threshold', models.DecimalField(blank=True, decimal_places=18, help_text='USD; for change_pct percent', max_digits=38, null=True)),
                        ('window_seconds', models.PositiveIntegerField(blank=True, help_text='for change_pct: since how long ago', null=True)),
                        ('channel', models.CharField(default='inbox', help_text='how to tell the user', max_length=20)),
                        ('metadata', models.JSONField(blank=True, default=dict)),
                        ('active', models.BooleanField(default=True)),
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
                        ('value', models.DecimalField(decimal_places=18, help_text='what was compared: USD, or percent for change_pct', max_digits=38)),
                        ('at', models.DateTimeField(help_text='when the price was true')),
                        ('bucket', models.DateTimeField(help_text='start of the minute')),
                        ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='matches', to='notify.pricerule')),
                    ],
                    options={
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
                        'db_table': 'rule_deliveries',
                        'ordering': ('-at',),
                    },
                ),
                migrations.AddConstraint(
                    model_name='pricerule',
                    constraint=models.CheckConstraint(condition=models.Q(('condition', 'any'), models.Q(('condition__in', ['gt', 'lt']), ('threshold__gt', 0), ('threshold__isnull', False)), models.Q(('condition', 'change_pct'), ('threshold__gt', 0), ('threshold__isnull', False), ('window_seconds__gte', 60), ('window_seconds__isnull', False)), _connector='OR'), name='rule_is_whole'),
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
            ],
        ),
    ]
