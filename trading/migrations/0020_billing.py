"""Billing events, and the journals of subscriptions and payments.

The new check of journal kinds allows more than the old one, so all rows satisfy it: it is added without reading the
ledger, and validated by the next migration without a lock that stops bookings.
"""

import django.db.models.deletion
from django.contrib.postgres.operations import AddConstraintNotValid
import trading.billing.states
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0008_fees'),
        ('trading', '0019_balance_by_statement'),
    ]

    operations = [
        migrations.CreateModel(
            name='BillingEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('subscription', 'a month of use'), ('infra_fee', 'platform fee of a trade'), ('profit_share', 'share of a profit')], db_default='subscription', default='subscription', max_length=12)),
                ('reference', models.CharField(help_text='what is charged: of a subscription the day on which its month begins', max_length=40)),
                ('period_start', models.DateTimeField(help_text='UTC; begin of the month that is charged')),
                ('period_end', models.DateTimeField(help_text='UTC; begin of the next month')),
                ('amount', models.DecimalField(decimal_places=18, help_text='USDC', max_digits=38)),
                ('state', models.CharField(choices=[(trading.billing.states.BillingState['DUE'], trading.billing.states.BillingState['DUE']), (trading.billing.states.BillingState['CHARGED'], trading.billing.states.BillingState['CHARGED']), (trading.billing.states.BillingState['FAILED'], trading.billing.states.BillingState['FAILED']), (trading.billing.states.BillingState['WAIVED'], trading.billing.states.BillingState['WAIVED'])], db_default=trading.billing.states.BillingState['DUE'], default=trading.billing.states.BillingState['DUE'], editable=False, max_length=8)),
                ('reason', models.CharField(blank=True, db_default='', default='', help_text='why it failed or was waived', max_length=300)),
                ('journal', models.CharField(blank=True, db_default='', default='', help_text='the ledger journal that books it', max_length=80)),
                ('created_at', models.DateTimeField()),
                ('charged_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'db_table': 'billing_events',
                'ordering': ('-id',),
            },
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='a_journal_has_a_known_kind',
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='journal_kind',
            field=models.CharField(choices=[('deposit', 'starting balance of a paper deployment'), ('fill', 'fill of an order'), ('fee', 'platform fee of an order'), ('taken', 'platform fee and profit share that the venue collected with a fill'), ('share', 'profit share of a closed position, where the venue collects none'), ('external', 'transfer by an owner, or to an executor'), ('unexplained', 'difference that no transfer on the chain explains'), ('taken_out', 'tokens of a position that the owner withdrew'), ('handover', 'cash of a revoked deployment, to the one that now trades from its Safe'), ('gas', 'gas of a transaction'), ('subscription', 'month of a subscription, a debt until it is paid'), ('payment', 'payment of what a deployment owes the platform')], help_text='what the journal books', max_length=12),
        ),
        AddConstraintNotValid(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('journal_kind__in', ['deposit', 'fill', 'fee', 'taken', 'share', 'external', 'unexplained', 'taken_out', 'handover', 'gas', 'subscription', 'payment'])), name='a_journal_has_a_known_kind'),
        ),
        migrations.AddField(
            model_name='billingevent',
            name='deployment',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='billing_events', to='agents.deployment'),
        ),
        migrations.AddIndex(
            model_name='billingevent',
            index=models.Index(condition=models.Q(('state__in', (trading.billing.states.BillingState['DUE'], trading.billing.states.BillingState['FAILED']))), fields=['id'], name='billing_uncharged'),
        ),
        migrations.AddConstraint(
            model_name='billingevent',
            constraint=models.UniqueConstraint(fields=('deployment', 'kind', 'reference'), name='charged_once'),
        ),
        migrations.AddConstraint(
            model_name='billingevent',
            constraint=models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='a_charge_is_positive'),
        ),
    ]
