import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.text
import trading.billing.states
import trading.chain.states
import trading.credentials.states
import trading.states
from django.conf import settings
from django.db import migrations, models

APPEND_ONLY = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""
NO_TRUNCATE = """
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
BALANCED = """
CREATE FUNCTION refuse_unbalanced_journal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong record;
BEGIN
    SELECT journal, asset, sum(amount) AS total INTO wrong FROM booked
    GROUP BY journal, asset HAVING sum(amount) <> 0 ORDER BY journal, asset LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal % does not balance: % % left over', wrong.journal, wrong.total, wrong.asset
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS booked
FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced_journal();
"""
"""Every journal is booked by one statement (`trading.ledger.post_all`), and sums to zero per asset."""
BALANCES = """
CREATE FUNCTION keep_ledger_balances() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO ledger_balances (account, asset, amount)
    SELECT account, asset, sum(amount) FROM booked WHERE deployment_id IS NOT NULL GROUP BY account, asset
    ORDER BY account, asset
    ON CONFLICT (account, asset) DO UPDATE SET amount = ledger_balances.amount + excluded.amount;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_balances AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS booked
FOR EACH STATEMENT EXECUTE FUNCTION keep_ledger_balances();
"""
"""Balances follow the ledger alone: the function runs as its owner, so that the application's role needs no right to write
`ledger_balances`. Its search path is fixed because it has more rights than its caller."""


class Migration(migrations.Migration):

    replaces = [
        ('trading', '0001_initial'),
        ('trading', '0002_append_only_ledger'),
        ('trading', '0003_chain'),
        ('trading', '0004_owners_tokens'),
        ('trading', '0005_taken_out'),
        ('trading', '0006_kill_switch_account'),
        ('trading', '0007_plan_in_force'),
        ('trading', '0008_no_truncate'),
        ('trading', '0009_guard_indexes'),
        ('trading', '0010_safe_stops'),
        ('trading', '0011_exits'),
        ('trading', '0012_chain_cancel'),
        ('trading', '0013_history_indexes'),
        ('trading', '0014_limits_in_force'),
        ('trading', '0015_help_texts'),
        ('trading', '0016_ledger_columns'),
        ('trading', '0017_closes'),
        ('trading', '0018_database_defaults'),
        ('trading', '0019_balance_by_statement'),
        ('trading', '0020_billing'),
        ('trading', '0021_validate_journal_kinds'),
        ('trading', '0022_owner_terms'),
        ('trading', '0023_cash'),
        ('trading', '0024_credentials'),
        ('trading', '0025_safe_onboarding'),
        ('trading', '0026_limit_overrides'),
        ('trading', '0027_resting_exits'),
        ('trading', '0028_reconciliation'),
        ('trading', '0029_hyperliquid_nonces'),
        ('trading', '0030_funding'),
        ('trading', '0031_validate_journal_kinds'),
        ('trading', '0032_margin_positions'),
        ('trading', '0033_venue_accounts'),
        ('trading', '0034_entries_not_filled'),
        ('trading', '0035_transaction_value'),
        ('trading', '0036_paper_margin'),
        ('trading', '0037_gmx'),
        ('trading', '0038_watched_addresses'),
        ('trading', '0039_lean_orders'),
        ('trading', '0040_own_watched_addresses'),
    ]

    initial = True

    dependencies = [
        ('events', '0001_squashed'),
        ('agents', '0001_squashed'),
        ('signals_app', '0001_squashed'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(help_text='a venue, or * for all', max_length=20)),
                ('approved_by', models.CharField(max_length=80)),
                ('approved_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(null=True)),
                ('reason', models.CharField(max_length=300)),
            ],
            options={
                'db_table': 'execution_approvals',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='Gate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(max_length=20, unique=True)),
                ('dry_run', models.BooleanField(default=True, help_text='true: orders are checked but not sent')),
                ('changed_at', models.DateTimeField()),
                ('changed_by', models.CharField(max_length=80)),
                ('reason', models.CharField(max_length=300)),
            ],
            options={
                'db_table': 'execution_gates',
            },
        ),
        migrations.CreateModel(
            name='LimitsInForce',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('limits', models.JSONField(help_text='limit -> value in force')),
                ('waiting', models.JSONField(default=dict, help_text='limit -> looser value, since when it waits, when it takes effect')),
                ('overrides', models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict, help_text='limit -> value over that of config/risk.yaml, with reason, who and when')),
                ('changed_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'limits in force',
                'db_table': 'risk_limits_in_force',
            },
        ),
        migrations.CreateModel(
            name='TransferScan',
            fields=[
                ('chain_id', models.PositiveBigIntegerField(primary_key=True, serialize=False)),
                ('scanned_to', models.PositiveBigIntegerField(help_text='the newest final block that was read')),
            ],
            options={
                'db_table': 'transfer_scans',
            },
        ),
        migrations.CreateModel(
            name='AccountCheck',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(max_length=20)),
                ('account', models.CharField(max_length=80)),
                ('kind', models.CharField(choices=[('orders', 'Orders'), ('positions', 'Positions')], max_length=9)),
                ('due_at', models.DateTimeField()),
                ('checked_at', models.DateTimeField(help_text='when the venue last answered', null=True)),
                ('result', models.CharField(blank=True, db_default='', default='', help_text='read, failed or skipped_market_closed', max_length=30)),
                ('failures', models.PositiveSmallIntegerField(db_default=0, default=0, help_text='failed reads in a row; each delays the next one further')),
                ('errors', models.PositiveBigIntegerField(db_default=0, default=0, help_text='failed reads ever')),
                ('last_error', models.CharField(blank=True, db_default='', default='', max_length=300)),
                ('took_ms', models.PositiveIntegerField(db_default=0, default=0)),
            ],
            options={
                'db_table': 'account_checks',
                'ordering': ('venue', 'account', 'kind'),
                'indexes': [models.Index(fields=['kind', 'due_at'], name='account_checks_due')],
                'constraints': [models.UniqueConstraint(fields=('venue', 'account', 'kind'), name='one_check_per_account_and_kind')],
            },
        ),
        migrations.CreateModel(
            name='ChainScan',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chain_id', models.PositiveBigIntegerField()),
                ('safe', models.CharField(max_length=42)),
                ('scanned_to', models.PositiveBigIntegerField(default=0, help_text='the newest final block that was read')),
            ],
            options={
                'db_table': 'chain_scans',
                'constraints': [models.UniqueConstraint(fields=('chain_id', 'safe'), name='one_scan_per_safe')],
            },
        ),
        migrations.CreateModel(
            name='CredentialRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(help_text='a name from config/venues.yaml', max_length=40)),
                ('account', models.CharField(max_length=80)),
                ('only_test', models.BooleanField(default=False, help_text='test the stored keys; none are sent with it')),
                ('content', models.BinaryField(default=b'', help_text='the sealed keys; empty once it is answered')),
                ('key_id', models.CharField(blank=True, default='', editable=False, max_length=16)),
                ('hint', models.CharField(blank=True, default='', max_length=8)),
                ('state', models.CharField(choices=[(trading.credentials.states.RequestState['WAITING'], trading.credentials.states.RequestState['WAITING']), (trading.credentials.states.RequestState['ACCEPTED'], trading.credentials.states.RequestState['ACCEPTED']), (trading.credentials.states.RequestState['REFUSED'], trading.credentials.states.RequestState['REFUSED']), (trading.credentials.states.RequestState['REPLACED'], trading.credentials.states.RequestState['REPLACED'])], default=trading.credentials.states.RequestState['WAITING'], editable=False, max_length=8)),
                ('tries', models.PositiveSmallIntegerField(default=0)),
                ('message', models.CharField(blank=True, default='', help_text='why it was refused, or still waits', max_length=300)),
                ('permissions', models.JSONField(default=list, help_text='what the venue says the keys may do')),
                ('asked_by', models.CharField(max_length=150)),
                ('asked_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(null=True)),
            ],
            options={
                'db_table': 'venue_credential_requests',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['venue', 'account'], name='credential_requests_account')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', 'waiting')), fields=('venue', 'account'), name='one_waiting_request_per_account')],
            },
        ),
        migrations.CreateModel(
            name='GmxScan',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chain_id', models.PositiveBigIntegerField()),
                ('safe', models.CharField(max_length=42)),
                ('scanned_to', models.PositiveBigIntegerField(help_text='the newest final block that was read')),
            ],
            options={
                'db_table': 'gmx_scans',
                'constraints': [models.UniqueConstraint(fields=('chain_id', 'safe'), name='one_gmx_scan_per_safe')],
            },
        ),
        migrations.CreateModel(
            name='GmxTransaction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chain_id', models.PositiveBigIntegerField()),
                ('safe', models.CharField(max_length=42)),
                ('hash', models.CharField(max_length=66)),
                ('block_number', models.PositiveBigIntegerField()),
                ('at', models.DateTimeField(help_text='time of its block')),
                ('keys', models.JSONField(help_text="GMX's keys of the Safe's orders that it names, 0x hex")),
                ('forced', models.BooleanField(help_text='GMX liquidated or deleveraged a position in it')),
                ('logs', models.JSONField(help_text='of GMX, the module and USDC, as JSON-RPC gives them')),
            ],
            options={
                'db_table': 'gmx_transactions',
                'ordering': ('block_number', 'id'),
                'indexes': [django.contrib.postgres.indexes.GinIndex(fields=['keys'], name='gmx_transactions_keys'), models.Index(condition=models.Q(('forced', True)), fields=['safe', 'at'], name='gmx_transactions_forced')],
                'constraints': [models.UniqueConstraint(fields=('chain_id', 'safe', 'hash'), name='gmx_transaction_is_kept_once')],
            },
        ),
        migrations.CreateModel(
            name='HyperliquidAction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(max_length=40)),
                ('account', models.CharField(max_length=80)),
                ('name', models.CharField(help_text='what is sent: a client order id, or a part of one', max_length=100)),
                ('nonce', models.BigIntegerField(help_text='milliseconds since 1970, or one more than the newest nonce')),
                ('notional_usd', models.DecimalField(decimal_places=18, help_text='of an entry, at its limit price; zero for others', max_digits=38)),
                ('at', models.DateTimeField()),
            ],
            options={
                'db_table': 'hyperliquid_actions',
                'indexes': [models.Index(fields=['venue', 'account', 'at'], name='hyperliquid_actions_recent')],
                'constraints': [models.UniqueConstraint(fields=('venue', 'account', 'name'), name='hyperliquid_one_nonce_per_name'), models.UniqueConstraint(fields=('venue', 'account', 'nonce'), name='hyperliquid_a_nonce_is_used_once')],
            },
        ),
        migrations.CreateModel(
            name='KillSwitch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('level', models.CharField(choices=[('no_entries', 'No entries'), ('reduce_only', 'Reduce only'), ('flatten', 'Flatten')], max_length=12)),
                ('cause', models.CharField(help_text='manual, or the name of the trigger', max_length=40)),
                ('account', models.CharField(blank=True, help_text='the account it stops; empty: the whole platform', max_length=80)),
                ('reason', models.CharField(max_length=300)),
                ('pulled_at', models.DateTimeField()),
                ('pulled_by', models.CharField(max_length=80)),
                ('released_at', models.DateTimeField(null=True)),
                ('released_by', models.CharField(blank=True, max_length=80)),
                ('release_reason', models.CharField(blank=True, max_length=300)),
            ],
            options={
                'verbose_name_plural': 'kill switches',
                'db_table': 'kill_switches',
                'ordering': ('-id',),
                'indexes': [models.Index(condition=models.Q(('released_at', None)), fields=['id'], name='kill_latched')],
            },
        ),
        migrations.CreateModel(
            name='LedgerBalance',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=80)),
                ('asset', models.CharField(max_length=20)),
                ('amount', models.DecimalField(decimal_places=18, max_digits=38)),
            ],
            options={
                'db_table': 'ledger_balances',
                'indexes': [models.Index(condition=models.Q(models.Q(('amount', 0), _negated=True), models.Q(('asset__in', ('USDC', 'USD')), _negated=True)), fields=['asset'], name='ledger_holdings')],
                'constraints': [models.UniqueConstraint(fields=('account', 'asset'), name='one_ledger_balance')],
            },
        ),
        migrations.CreateModel(
            name='MarginPosition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(max_length=40)),
                ('account', models.CharField(max_length=80)),
                ('symbol', models.CharField(max_length=20)),
                ('leverage', models.DecimalField(decimal_places=2, max_digits=6)),
                ('isolated', models.BooleanField(help_text='it can lose its own margin only, not the whole account')),
                ('margin', models.DecimalField(decimal_places=18, help_text="in the venue's cash", max_digits=38)),
                ('liquidation_price', models.DecimalField(decimal_places=18, help_text="USD; empty where the account's money covers every price", max_digits=38, null=True)),
                ('maintenance', models.DecimalField(decimal_places=8, help_text='maintenance margin as a fraction of the value; empty where the venue does not say', max_digits=9, null=True)),
                ('seen_at', models.DateTimeField(help_text='when the venue said so')),
                ('warned_at', models.DateTimeField(help_text='since when it is near its liquidation; empty while it is not', null=True)),
            ],
            options={
                'db_table': 'margin_positions',
                'constraints': [models.UniqueConstraint(fields=('venue', 'account', 'symbol'), name='one_margin_position')],
            },
        ),
        migrations.CreateModel(
            name='Order',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('idempotency_key', models.CharField(help_text='identifies the intended trade: one order per key', max_length=80)),
                ('purpose', models.CharField(choices=[('open', 'Open'), ('close', 'Close')], max_length=5)),
                ('reason', models.CharField(blank=True, db_default='', default='', help_text='why blocked, rejected or expired', max_length=60)),
                ('verdict', models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict, help_text='the check that decided, its measured value and its limit')),
                ('exit_reason', models.CharField(blank=True, db_default='', default='', help_text='of a closing order', max_length=20)),
                ('symbol', models.CharField(max_length=20)),
                ('venue', models.CharField(max_length=20)),
                ('account', models.CharField(max_length=80)),
                ('position_side', models.CharField(choices=[('long', 'Long'), ('short', 'Short')], max_length=5)),
                ('side', models.CharField(choices=[('buy', 'Buy'), ('sell', 'Sell')], max_length=4)),
                ('quantity', models.DecimalField(decimal_places=18, help_text='of the token; unset until sized', max_digits=38, null=True)),
                ('leverage', models.DecimalField(db_default=1, decimal_places=2, default=1, max_digits=6)),
                ('reference_price', models.DecimalField(decimal_places=18, help_text='USD; the quote that the checks used', max_digits=38, null=True)),
                ('notional_usd', models.DecimalField(decimal_places=18, max_digits=38, null=True)),
                ('state', models.CharField(choices=[(trading.states.OrderState['PLANNED'], trading.states.OrderState['PLANNED']), (trading.states.OrderState['BLOCKED'], trading.states.OrderState['BLOCKED']), (trading.states.OrderState['SENDING'], trading.states.OrderState['SENDING']), (trading.states.OrderState['UNKNOWN'], trading.states.OrderState['UNKNOWN']), (trading.states.OrderState['ACCEPTED'], trading.states.OrderState['ACCEPTED']), (trading.states.OrderState['PARTIALLY_FILLED'], trading.states.OrderState['PARTIALLY_FILLED']), (trading.states.OrderState['FILLED'], trading.states.OrderState['FILLED']), (trading.states.OrderState['CANCELED'], trading.states.OrderState['CANCELED']), (trading.states.OrderState['REJECTED'], trading.states.OrderState['REJECTED']), (trading.states.OrderState['EXPIRED'], trading.states.OrderState['EXPIRED']), (trading.states.OrderState['REPLACED'], trading.states.OrderState['REPLACED'])], db_default=trading.states.OrderState['PLANNED'], default=trading.states.OrderState['PLANNED'], editable=False, max_length=16)),
                ('client_order_id', models.CharField(help_text='derived from the order id', max_length=80, null=True)),
                ('prepared', models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict, help_text='what is sent to the venue, stored before sending')),
                ('venue_ref', models.CharField(blank=True, db_default='', default='', max_length=100)),
                ('reserved_at', models.DateTimeField(help_text='when it moved planned -> sending; order rates count from here', null=True)),
                ('deadline', models.DateTimeField(help_text='after this the venue must not execute it', null=True)),
                ('filled_quantity', models.DecimalField(db_default=0, decimal_places=18, default=0, max_digits=38)),
                ('average_price', models.DecimalField(decimal_places=18, max_digits=38, null=True)),
                ('booked_quantity', models.DecimalField(db_default=0, decimal_places=18, default=0, help_text='part of the filled quantity that its position includes', max_digits=38)),
                ('exits_at_venue', models.CharField(blank=True, choices=[('resting', 'Resting'), ('ended', 'Ended')], db_default='', default='', help_text='of an entry: resting while the venue keeps its stop or target, ended once it keeps none', max_length=7)),
                ('exits_canceled_at', models.DateTimeField(help_text='when the venue was last asked to cancel the exits that it keeps', null=True)),
                ('correlation_id', models.UUIDField(db_index=True)),
                ('confirmed_at', models.DateTimeField(help_text='when the owner of the deployment said yes to this entry', null=True)),
                ('attempts', models.PositiveSmallIntegerField(db_default=0, default=0, help_text='unexpected errors while processing it')),
                ('retry_at', models.DateTimeField(help_text='when a quarantined order is retried', null=True)),
                ('last_error', models.TextField(blank=True, db_default='', default='')),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('closes', models.ForeignKey(db_index=False, help_text='of a closing order: the entry order of the position that it closes', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='closing_orders', to='trading.order')),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='orders', to='agents.deployment')),
                ('signal', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='orders', to='signals_app.signal')),
            ],
            options={
                'db_table': 'orders',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='LedgerEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('journal', models.CharField(help_text='what is booked: fill:17, share:3:1 …; booked once', max_length=80)),
                ('journal_kind', models.CharField(choices=[('deposit', 'starting balance of a paper deployment'), ('fill', 'fill of an order'), ('fee', 'platform fee of an order'), ('taken', 'platform fee and profit share that the venue collected with a fill'), ('share', 'profit share of a closed position, where the venue collects none'), ('external', 'transfer by an owner, or to an executor'), ('unexplained', 'difference that no transfer on the chain explains'), ('taken_out', 'tokens of a position that the owner withdrew'), ('handover', 'cash of a revoked deployment, to the one that now trades from its Safe'), ('gas', 'gas of a transaction'), ('subscription', 'month of a subscription, a debt until it is paid'), ('payment', 'payment of what a deployment owes the platform'), ('funding', 'funding that a position paid or received')], help_text='what the journal books', max_length=12)),
                ('account', models.CharField(help_text='deployment:7, venue:paper, fees:platform, profit:…, external', max_length=80)),
                ('asset', models.CharField(max_length=20)),
                ('amount', models.DecimalField(decimal_places=18, help_text='signed, in whole units of the asset', max_digits=38)),
                ('kind', models.CharField(choices=[('deposit', 'deposit'), ('trade', 'trade'), ('venue_fee', 'venue_fee'), ('platform_fee', 'platform_fee'), ('profit_share', 'profit_share'), ('gas', 'gas'), ('external', 'external'), ('taken_out', 'taken_out'), ('funding', 'funding')], max_length=12)),
                ('correlation_id', models.UUIDField(null=True)),
                ('at', models.DateTimeField()),
                ('deployment', models.ForeignKey(db_index=False, help_text='whose account it is; empty for accounts of venues, the platform, executors and the outside', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='ledger_entries', to='agents.deployment')),
                ('order', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='ledger_entries', to='trading.order')),
            ],
            options={
                'verbose_name_plural': 'ledger entries',
                'db_table': 'ledger_entries',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='Fill',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue_fill_id', models.CharField(max_length=100)),
                ('quantity', models.DecimalField(decimal_places=18, max_digits=38)),
                ('price', models.DecimalField(decimal_places=18, help_text='USD', max_digits=38)),
                ('cash', models.DecimalField(decimal_places=18, help_text='USDC exchanged, positive, before the fee', max_digits=38)),
                ('fee', models.DecimalField(decimal_places=18, help_text='fee of the venue, USDC', max_digits=38)),
                ('at', models.DateTimeField()),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='fills', to='trading.order')),
            ],
            options={
                'db_table': 'fills',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='PaperBalance',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=128)),
                ('asset', models.CharField(max_length=20)),
                ('amount', models.DecimalField(decimal_places=18, default=0, max_digits=38)),
            ],
            options={
                'db_table': 'paper_balances',
                'constraints': [models.UniqueConstraint(fields=('account', 'asset'), name='one_paper_balance')],
            },
        ),
        migrations.CreateModel(
            name='PaperFunding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=128)),
                ('symbol', models.CharField(max_length=20)),
                ('amount', models.DecimalField(decimal_places=18, help_text='USDC; negative: the account paid', max_digits=38)),
                ('at', models.DateTimeField()),
            ],
            options={
                'db_table': 'paper_funding',
                'constraints': [models.UniqueConstraint(fields=('account', 'symbol', 'at'), name='paper_funding_once')],
            },
        ),
        migrations.CreateModel(
            name='PaperOrder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('client_order_id', models.CharField(max_length=80, unique=True)),
                ('account', models.CharField(max_length=128)),
                ('symbol', models.CharField(max_length=20)),
                ('side', models.CharField(choices=[('buy', 'Buy'), ('sell', 'Sell')], max_length=4)),
                ('quantity', models.DecimalField(decimal_places=18, max_digits=38)),
                ('filled', models.DecimalField(decimal_places=18, default=0, max_digits=38)),
                ('canceled', models.BooleanField(default=False)),
                ('last_price', models.DecimalField(decimal_places=18, help_text='USD; an urgent closing order fills at this price where there is no fresh quote', max_digits=38, null=True)),
                ('leverage', models.DecimalField(db_default=1, decimal_places=2, default=1, max_digits=6)),
                ('reduce_only', models.BooleanField(db_default=False, default=False, help_text='it opens nothing')),
                ('is_liquidation', models.BooleanField(db_default=False, default=False, help_text="the exchange's own: a position's margin was used up")),
                ('accepted_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'paper_orders',
                'indexes': [models.Index(condition=models.Q(('is_liquidation', True)), fields=['account'], name='paper_liquidations')],
            },
        ),
        migrations.CreateModel(
            name='PaperFill',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('quantity', models.DecimalField(decimal_places=18, max_digits=38)),
                ('price', models.DecimalField(decimal_places=18, max_digits=38)),
                ('cash', models.DecimalField(decimal_places=18, max_digits=38)),
                ('fee', models.DecimalField(decimal_places=18, max_digits=38)),
                ('quote_age_seconds', models.PositiveIntegerField(help_text='age of the quote at the fill; empty without one', null=True)),
                ('at', models.DateTimeField()),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='fills', to='trading.paperorder')),
            ],
            options={
                'db_table': 'paper_fills',
            },
        ),
        migrations.CreateModel(
            name='PaperPosition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=128)),
                ('symbol', models.CharField(max_length=20)),
                ('tokens', models.DecimalField(decimal_places=18, default=0, help_text='negative for a short', max_digits=38)),
                ('cash', models.DecimalField(decimal_places=18, default=0, help_text='USDC: its margin less what its tokens cost, plus funding (trading.perps.isolated)', max_digits=38)),
                ('leverage', models.DecimalField(decimal_places=2, default=1, help_text='of the newest entry', max_digits=6)),
                ('opened_at', models.DateTimeField(help_text='when it last went from nothing to something')),
                ('checked_until', models.DateTimeField(help_text='bars that opened before were looked at')),
                ('funded_until', models.DateTimeField(help_text='funding up to then was charged')),
            ],
            options={
                'db_table': 'paper_positions',
                'constraints': [models.UniqueConstraint(fields=('account', 'symbol'), name='one_paper_position')],
            },
        ),
        migrations.CreateModel(
            name='SafePlan',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chain_id', models.PositiveBigIntegerField()),
                ('safe', models.CharField(max_length=42)),
                ('module', models.CharField(max_length=42)),
                ('policy', models.JSONField(help_text="the contract's field names; USDC in base units, times in seconds")),
                ('rules', models.JSONField(help_text='tokens with price feed, pool fee tier and maximum feed age')),
                ('safe_tx_hash', models.CharField(blank=True, help_text='EIP-712 hash of the transaction to sign', max_length=66)),
                ('created_at', models.DateTimeField()),
                ('verified_at', models.DateTimeField(help_text='when the chain first showed this policy; empty: not signed yet', null=True)),
                ('stops', models.JSONField(default=dict, help_text="what stops entries: token's address, or * for all -> reason code")),
                ('onboarding', models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict, help_text='how its owner was asked: owners and threshold; of a new Safe also the transaction that creates it')),
                ('sent_hash', models.CharField(blank=True, db_default='', default='', help_text="of the owner's transaction, as the page saw it", max_length=66)),
                ('sent_at', models.DateTimeField(null=True)),
                ('failures_since', models.DateTimeField(help_text='failed orders count from here: a person checked the Safe then', null=True)),
            ],
            options={
                'db_table': 'safe_plans',
                'indexes': [models.Index(fields=['chain_id', 'safe', '-verified_at'], name='safe_plan_in_force')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('verified_at', None)), fields=('chain_id', 'safe'), name='one_proposal_per_safe')],
            },
        ),
        migrations.CreateModel(
            name='Signer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chain_id', models.PositiveBigIntegerField()),
                ('address', models.CharField(max_length=42)),
                ('next_nonce', models.PositiveBigIntegerField(default=0, help_text='the lowest nonce not assigned yet')),
            ],
            options={
                'db_table': 'chain_signers',
                'constraints': [models.UniqueConstraint(fields=('chain_id', 'address'), name='one_signer_per_chain')],
            },
        ),
        migrations.CreateModel(
            name='ChainTransaction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('idempotency_key', models.CharField(help_text='identifies the intent: one transaction per key', max_length=80, unique=True)),
                ('chain_id', models.PositiveBigIntegerField()),
                ('nonce', models.PositiveBigIntegerField(null=True)),
                ('terms', models.JSONField(default=dict, help_text='terms of the trade: Safe, trade id, token, amounts in base units')),
                ('to', models.CharField(blank=True, max_length=42)),
                ('calldata', models.TextField(blank=True, help_text='0x hex; fixed when signed')),
                ('gas_limit', models.PositiveBigIntegerField(default=0)),
                ('value', models.DecimalField(db_default=models.Value(0), decimal_places=0, default=0, help_text='wei that the executor pays with the call', max_digits=30)),
                ('state', models.CharField(choices=[(trading.chain.states.TxState['PLANNED'], trading.chain.states.TxState['PLANNED']), (trading.chain.states.TxState['SIGNED'], trading.chain.states.TxState['SIGNED']), (trading.chain.states.TxState['BROADCAST'], trading.chain.states.TxState['BROADCAST']), (trading.chain.states.TxState['MINED'], trading.chain.states.TxState['MINED']), (trading.chain.states.TxState['FINAL'], trading.chain.states.TxState['FINAL']), (trading.chain.states.TxState['REVERTED'], trading.chain.states.TxState['REVERTED']), (trading.chain.states.TxState['REPLACED'], trading.chain.states.TxState['REPLACED']), (trading.chain.states.TxState['DROPPED'], trading.chain.states.TxState['DROPPED']), (trading.chain.states.TxState['EXPIRED'], trading.chain.states.TxState['EXPIRED']), (trading.chain.states.TxState['CANCELED'], trading.chain.states.TxState['CANCELED'])], default=trading.chain.states.TxState['PLANNED'], editable=False, max_length=9)),
                ('reason', models.CharField(blank=True, help_text='why reverted, dropped or replaced', max_length=60)),
                ('deadline', models.DateTimeField(help_text='after this it is not signed any more and the module rejects it')),
                ('mined_hash', models.CharField(blank=True, help_text='of the attempt that is in a block', max_length=66)),
                ('block_number', models.PositiveBigIntegerField(null=True)),
                ('block_hash', models.CharField(blank=True, max_length=66)),
                ('gas_used', models.PositiveBigIntegerField(null=True)),
                ('gas_price', models.DecimalField(decimal_places=0, help_text='wei per gas, as paid', max_digits=30, null=True)),
                ('logs', models.JSONField(default=list, help_text='of the final receipt, as JSON-RPC gives them')),
                ('refusals', models.PositiveSmallIntegerField(default=0, help_text='broadcasts in a row that no node accepted')),
                ('alerts', models.JSONField(default=list, help_text='alert events recorded for it')),
                ('correlation_id', models.UUIDField(db_index=True, null=True)),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('signer', models.ForeignKey(help_text='set when signed', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='transactions', to='trading.signer')),
            ],
            options={
                'db_table': 'chain_transactions',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='VenueCredential',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(help_text='a name from config/venues.yaml', max_length=40)),
                ('account', models.CharField(max_length=80)),
                ('content', models.BinaryField()),
                ('key_id', models.CharField(editable=False, help_text='of the key that encrypted them', max_length=16)),
                ('hint', models.CharField(blank=True, default='', help_text='the last characters of what names the key at the venue', max_length=8)),
                ('permissions', models.JSONField(default=list, help_text='what the venue says the key may do')),
                ('venue_account', models.CharField(blank=True, db_default='', default='', help_text="the venue's own id of the account that the keys open; empty until the venue was asked", max_length=120)),
                ('stored_by', models.CharField(max_length=150)),
                ('stored_at', models.DateTimeField()),
                ('tested_at', models.DateTimeField(help_text='when the venue last accepted them', null=True)),
            ],
            options={
                'db_table': 'venue_credentials',
                'constraints': [models.UniqueConstraint(fields=('venue', 'account'), name='one_credential_per_account'), models.UniqueConstraint(condition=models.Q(('venue_account', ''), _negated=True), fields=('venue', 'venue_account'), name='one_deployment_per_venue_account')],
            },
        ),
        migrations.CreateModel(
            name='VenueHolding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(max_length=20)),
                ('account', models.CharField(max_length=80)),
                ('asset', models.CharField(max_length=20)),
                ('quantity', models.DecimalField(decimal_places=18, help_text='at the venue, whole units; negative: short; zero once gone', max_digits=38)),
                ('booked', models.DecimalField(decimal_places=18, help_text='in the ledger at the same time', max_digits=38)),
                ('unexplained', models.DecimalField(db_default=0, decimal_places=18, default=0, help_text='venue less ledger; zero while an order may explain it', max_digits=38)),
                ('origin', models.CharField(choices=[('booked', 'as booked'), ('AUTO_DISCOVERED', 'more than booked: opened or moved in elsewhere'), ('ORPHANED', 'less than booked: sold, withdrawn or closed elsewhere'), ('cash_differs', 'other cash than booked')], db_default='booked', default='booked', max_length=15)),
                ('since', models.DateTimeField(help_text='since when it is explained like this')),
                ('seen_at', models.DateTimeField(help_text='when the venue last answered for this account')),
            ],
            options={
                'db_table': 'venue_holdings',
                'ordering': ('venue', 'account', 'asset'),
                'indexes': [models.Index(condition=models.Q(('origin', 'booked'), _negated=True), fields=['origin', 'venue', 'account'], name='venue_holdings_unexplained')],
                'constraints': [models.UniqueConstraint(fields=('venue', 'account', 'asset'), name='one_holding_per_account_and_asset')],
            },
        ),
        migrations.CreateModel(
            name='WatchedAddress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chain_id', models.PositiveBigIntegerField()),
                ('address', models.CharField(max_length=42)),
                ('label', models.CharField(blank=True, default='', max_length=60)),
                ('min_usd', models.DecimalField(decimal_places=2, default=0, help_text='smaller transfers are not reported', max_digits=20)),
                ('private', models.BooleanField(db_default=False, default=False, help_text='added by its user, who alone is notified; staff is not')),
                ('day', models.DateField(editable=False, help_text='the UTC day that `reported` is of', null=True)),
                ('reported', models.PositiveIntegerField(db_default=0, default=0, editable=False, help_text='transfers of that day that were reported')),
                ('created_at', models.DateTimeField()),
                ('user', models.ForeignKey(help_text='who is notified beside staff', null=True, on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name_plural': 'watched addresses',
                'db_table': 'watched_addresses',
                'ordering': ('chain_id', 'address', 'pk'),
            },
        ),
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
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='billing_events', to='agents.deployment')),
            ],
            options={
                'db_table': 'billing_events',
                'ordering': ('-id',),
                'indexes': [models.Index(condition=models.Q(('state__in', (trading.billing.states.BillingState['DUE'], trading.billing.states.BillingState['FAILED']))), fields=['id'], name='billing_uncharged')],
                'constraints': [models.UniqueConstraint(fields=('deployment', 'kind', 'reference'), name='charged_once'), models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='a_charge_is_positive')],
            },
        ),
        migrations.CreateModel(
            name='ChainAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveSmallIntegerField()),
                ('hash', models.CharField(max_length=66, unique=True)),
                ('raw', models.TextField(help_text='signed bytes, 0x hex; broadcasting them twice has no further effect')),
                ('max_fee', models.DecimalField(decimal_places=0, help_text='wei per gas', max_digits=30)),
                ('tip', models.DecimalField(decimal_places=0, help_text='wei per gas', max_digits=30)),
                ('cancels', models.BooleanField(default=False, help_text='an empty transaction to ourselves that only uses the nonce')),
                ('created_at', models.DateTimeField()),
                ('broadcast_at', models.DateTimeField(help_text='when a node first accepted it', null=True)),
                ('transaction', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='attempts', to='trading.chaintransaction')),
            ],
            options={
                'db_table': 'chain_attempts',
                'ordering': ('transaction', 'number'),
                'constraints': [models.UniqueConstraint(fields=('transaction', 'number'), name='attempts_are_numbered')],
            },
        ),
        migrations.CreateModel(
            name='FundingPayment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('amount', models.DecimalField(decimal_places=18, help_text="in the venue's cash; negative: paid", max_digits=38)),
                ('reference', models.CharField(help_text='of the payment at the venue, unique in a deployment', max_length=60)),
                ('at', models.DateTimeField(help_text='when the venue charged it')),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='funding_payments', to='agents.deployment')),
            ],
            options={
                'db_table': 'funding_payments',
                'ordering': ('-at', '-id'),
                'indexes': [models.Index(fields=['deployment', 'symbol', 'at'], name='funding_of_a_position')],
                'constraints': [models.UniqueConstraint(fields=('deployment', 'reference'), name='funding_is_booked_once')],
            },
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state', 'planned')), fields=['id'], name='orders_planned'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state__in', ['sending', 'unknown', 'accepted', 'partially_filled'])), fields=['id'], name='orders_in_flight'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('filled_quantity__gt', models.F('booked_quantity')), ('purpose', 'open')), fields=['id'], name='orders_unbooked'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('purpose', 'open')), fields=['created_at'], name='orders_entries_created'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(fields=['account', 'symbol', 'reserved_at'], name='orders_account_symbol'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('purpose', 'open')), fields=['reserved_at'], name='orders_entries_reserved'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state', 'blocked')), fields=['created_at'], name='orders_blocked'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state__in', ['blocked', 'rejected', 'expired', 'canceled'])), fields=['state', 'id'], name='orders_not_filled'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('reason', ''), _negated=True), fields=['reason', 'id'], name='orders_reason'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('attempts__gt', 0)), fields=['id'], name='orders_failed'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('closes__isnull', False)), fields=['closes'], name='orders_closes'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('exits_at_venue', 'resting')), fields=['id'], name='orders_exits_resting'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('purpose', 'open'), ('state__in', ['blocked', 'rejected', 'expired', 'canceled'])), fields=['signal'], name='orders_entries_not_filled'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(fields=('idempotency_key',), name='orders_idempotency_key_key'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(fields=('client_order_id',), name='orders_client_order_id_key'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(condition=models.Q(('purpose', 'open')), fields=('deployment', 'signal', 'purpose'), name='one_order_per_deployment_signal_and_purpose'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('closes', None), ('purpose', 'open')), models.Q(('closes__isnull', False), ('purpose', 'close')), _connector='OR'), name='a_closing_order_names_the_entry'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(fields=['account', 'at'], name='ledger_account_at'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('deployment__isnull', False), ('kind__in', ['deposit', 'external'])), fields=['deployment', 'asset'], include=('amount',), name='ledger_flows'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('deployment__isnull', False), ('kind', 'external'), models.Q(('asset__in', ('USDC', 'USD')), _negated=True)), fields=['deployment', 'asset'], name='ledger_owners_tokens'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.UniqueConstraint(fields=('journal', 'account', 'asset', 'kind'), name='a_journal_is_booked_once'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('deployment', None), models.Q(('account__startswith', 'deployment:'), _negated=True)), models.Q(('account', django.db.models.functions.text.Concat(models.Value('deployment:'), django.db.models.functions.comparison.Cast('deployment', models.TextField()), output_field=models.TextField())), ('deployment__isnull', False)), models.Q(('account', django.db.models.functions.text.Concat(django.db.models.functions.text.Concat(models.Value('deployment:'), django.db.models.functions.comparison.Cast('deployment', models.TextField()), output_field=models.TextField()), models.Value(':payable'), output_field=models.TextField())), ('deployment__isnull', False)), _connector='OR'), name='an_account_names_its_deployment'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('journal_kind__in', ['deposit', 'fill', 'fee', 'taken', 'share', 'external', 'unexplained', 'taken_out', 'handover', 'gas', 'subscription', 'payment', 'funding'])), name='a_journal_has_a_known_kind'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('journal_kind', models.Func(models.F('journal'), models.Value(':'), models.Value(1), function='split_part', output_field=models.TextField()))), name='a_journal_begins_with_its_kind'),
        ),
        migrations.AddConstraint(
            model_name='fill',
            constraint=models.UniqueConstraint(fields=('order', 'venue_fill_id'), name='a_fill_is_booked_once'),
        ),
        migrations.AddIndex(
            model_name='chaintransaction',
            index=models.Index(condition=models.Q(('state__in', ['planned', 'signed', 'broadcast', 'mined'])), fields=['id'], name='chain_in_flight'),
        ),
        migrations.AddConstraint(
            model_name='chaintransaction',
            constraint=models.UniqueConstraint(fields=('signer', 'nonce'), name='one_intent_per_nonce'),
        ),
        migrations.AddConstraint(
            model_name='chaintransaction',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['planned', 'dropped']), models.Q(('nonce__isnull', False), ('signer__isnull', False)), _connector='OR'), name='signed_means_a_nonce'),
        ),
        migrations.AddConstraint(
            model_name='watchedaddress',
            constraint=models.UniqueConstraint(fields=('chain_id', 'address', 'user'), name='watched_once_per_user', nulls_distinct=False, violation_error_message='this address is watched for that user already'),
        ),
        migrations.AddConstraint(
            model_name='watchedaddress',
            constraint=models.CheckConstraint(condition=models.Q(('private', False), ('user__isnull', False), _connector='OR'), name='private_has_a_user'),
        ),
        *(
            migrations.RunSQL(APPEND_ONLY.format(table=table), f"DROP TRIGGER {table}_append_only ON {table}")
            for table in ("fills", "ledger_entries")
        ),
        *(
            migrations.RunSQL(NO_TRUNCATE.format(table=table), f"DROP TRIGGER {table}_no_truncate ON {table}")
            for table in ("fills", "ledger_entries", "paper_fills", "chain_attempts")
        ),
        migrations.RunSQL(BALANCED, "DROP FUNCTION refuse_unbalanced_journal CASCADE"),
        migrations.RunSQL(BALANCES, "DROP FUNCTION keep_ledger_balances CASCADE"),
    ]
