"""Funding payments, and their journals. The new check of journal kinds is validated by the next migration."""

import django.db.models.deletion
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0013_starting_balance'),
        ('trading', '0029_hyperliquid_nonces'),
    ]

    operations = [
        migrations.CreateModel(
            name='FundingPayment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('amount', models.DecimalField(decimal_places=18, help_text="in the venue's cash; negative: paid", max_digits=38)),
                ('reference', models.CharField(help_text='of the payment at the venue, unique in a deployment', max_length=60)),
                ('at', models.DateTimeField(help_text='when the venue charged it')),
            ],
            options={
                'db_table': 'funding_payments',
                'ordering': ('-at', '-id'),
            },
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='a_journal_has_a_known_kind',
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='journal_kind',
            field=models.CharField(choices=[('deposit', 'starting balance of a paper deployment'), ('fill', 'fill of an order'), ('fee', 'platform fee of an order'), ('taken', 'platform fee and profit share that the venue collected with a fill'), ('share', 'profit share of a closed position, where the venue collects none'), ('external', 'transfer by an owner, or to an executor'), ('unexplained', 'difference that no transfer on the chain explains'), ('taken_out', 'tokens of a position that the owner withdrew'), ('handover', 'cash of a revoked deployment, to the one that now trades from its Safe'), ('gas', 'gas of a transaction'), ('subscription', 'month of a subscription, a debt until it is paid'), ('payment', 'payment of what a deployment owes the platform'), ('funding', 'funding that a position paid or received')], help_text='what the journal books', max_length=12),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('deposit', 'deposit'), ('trade', 'trade'), ('venue_fee', 'venue_fee'), ('platform_fee', 'platform_fee'), ('profit_share', 'profit_share'), ('gas', 'gas'), ('external', 'external'), ('taken_out', 'taken_out'), ('funding', 'funding')], max_length=12),
        ),
        AddConstraintNotValid(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('journal_kind__in', ['deposit', 'fill', 'fee', 'taken', 'share', 'external', 'unexplained', 'taken_out', 'handover', 'gas', 'subscription', 'payment', 'funding'])), name='a_journal_has_a_known_kind'),
        ),
        migrations.AddField(
            model_name='fundingpayment',
            name='deployment',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='funding_payments', to='agents.deployment'),
        ),
        migrations.AddIndex(
            model_name='fundingpayment',
            index=models.Index(fields=['deployment', 'symbol', 'at'], name='funding_of_a_position'),
        ),
        migrations.AddConstraint(
            model_name='fundingpayment',
            constraint=models.UniqueConstraint(fields=('deployment', 'reference'), name='funding_is_booked_once'),
        ),
    ]
