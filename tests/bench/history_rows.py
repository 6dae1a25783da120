"""A year of history in set-based SQL: 3 M orders, 1.5 M closed positions, 10 M events and what belongs to them.

The rows are as the application would have written them, except that the ledger keeps the cash line of each fill only
and correlation ids are derived from the position's number. Deployment 1 is one customer with every fifteenth position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.auth.models import User
from django.core.management.color import no_style
from django.db import connection, transaction

from agents.models import Agent, CtAccount, Deployment, Subscription
from maxxit.core import clock
from maxxit.market.instruments import all_instruments
from maxxit.market.models import Quote, SourceQuote
from positions.performance import roll_up


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    closed: int = 1_500_000
    open: int = 5_000
    posts: int = 1_000_000
    deployments: int = 2_000
    messages: int = 500_000
    """Of each kind: matches, deliveries, transactions, stage runs."""
    days: int = 365
    """Of candles and daily snapshots."""

    @property
    def positions(self) -> int:
        """Closed and open together."""
        return self.closed + self.open


WHALE = "whale"
STAFF = "staff"
TABLES = (
    "orders",
    "positions",
    "fills",
    "ledger_entries",
    "ledger_balances",
    "events",
    "ct_posts",
    "signals",
    "signal_posts",
    "candles",
    "pnl_snapshots",
    "chain_transactions",
    "chain_attempts",
    "rule_matches",
    "rule_deliveries",
    "alerts",
    "paper_orders",
    "paper_fills",
    "llm_traces",
    "stage_runs",
    "refused_quotes",
)
"""Their secondary indexes are dropped while they are filled."""

AT = "(%(now)s - make_interval(secs => (%(positions)s - i) * 31536000.0 / %(positions)s))"
"""When position `i` opened: evenly over the last year."""
DEPLOYMENT = "(CASE WHEN i %% 15 = 0 THEN 1 ELSE 2 + i %% (%(deployments)s - 1) END)"
SYMBOL = "((%(symbols)s::text[])[1 + i %% cardinality(%(symbols)s::text[])])"
PRICE = "(100 + i %% 100)"
CORRELATION = "(lpad(to_hex(1 + (i - 1) / 15), 32, '0')::uuid)"
SIGNAL = "(1 + (i - 1) / 15)"

POSTS = (
    """
INSERT INTO ct_posts (post_id, account_id, source, text, posted_at, ingested_at, correlation_id, state,
                      is_signal_candidate, tokens, sides, sentiment, reasoning, outcome, processed_for_signals,
                      attempts, last_error)
SELECT i::text, 1 + i %% 200, 'x', 'Post number ' || i || ' about ' || s.symbol || ' going up from here', s.at, s.at,
       ('a' || lpad(to_hex(i), 31, '0'))::uuid, CASE i %% 19 WHEN 0 THEN 'classified' ELSE 'prefiltered' END,
       i %% 19 = 0, CASE i %% 19 WHEN 0 THEN ARRAY[s.symbol] ELSE '{}' END,
       CASE i %% 19 WHEN 0 THEN jsonb_build_object(s.symbol, 'long') ELSE '{}' END, '', '',
       CASE WHEN i %% 38 = 0 THEN 'traded' WHEN i %% 19 = 0 THEN 'candidate:below_threshold'
            ELSE 'prefiltered:chatter' END, true, 0, ''
FROM generate_series(1, %(posts)s) AS i CROSS JOIN LATERAL (
    SELECT %(now)s - make_interval(secs => (%(posts)s - i) * 31536000.0 / %(posts)s) AS at,
"""
    + f"{SYMBOL} AS symbol) AS s"
)
SIGNALS = f"""
INSERT INTO signals (id, agent_id, token, venue, side, bucket, state, reason, confidence, entry_price, stop_loss_pct,
                     take_profit_pct, leverage, size_model, risk_model, market, correlation_id, created_at, expires_at)
SELECT {SIGNAL}, 1 + i %% 100, {SYMBOL}, 'paper', 'long', {AT}, 'executed', '', 0.8, {PRICE}, 5, 10, 1, '{{}}', '{{}}',
       '{{}}', {CORRELATION}, {AT}, {AT} + interval '6 hours'
FROM generate_series(1, %(positions)s, 15) AS i
"""
SIGNAL_POSTS = """
INSERT INTO signal_posts (signal_id, ctpost_id)
SELECT s.id, 38 * (1 + s.id %% (%(posts)s / 38)) FROM signals s
"""
ORDERS = f"""
INSERT INTO orders (id, deployment_id, signal_id, idempotency_key, purpose, symbol, venue, account, position_side,
                    side, quantity, leverage, state, reason, verdict, exit_reason, closes_id, client_order_id, prepared,
                    venue_ref, reserved_at, reference_price, notional_usd, filled_quantity, booked_quantity,
                    average_price, correlation_id, attempts, last_error, created_at, updated_at)
SELECT i * 3 - 3 + o.part, {DEPLOYMENT}, CASE WHEN o.part < 3 THEN {SIGNAL} END, o.key, o.purpose,
       {SYMBOL}, 'paper', 'paper:' || {DEPLOYMENT},
       'long', o.side, 1, 1, o.state, o.reason, o.verdict, '',
       CASE o.part WHEN 2 THEN i * 3 - 2 END, 'mx-' || o.key, '{{}}', 'mx-' || o.key,
       CASE o.state WHEN 'filled' THEN o.at END, {PRICE}, {PRICE}, o.filled, o.filled,
       CASE o.state WHEN 'filled' THEN {PRICE} END, {CORRELATION}, 0, '', o.at, o.at
FROM generate_series(1, %(positions)s) AS i CROSS JOIN LATERAL (
    SELECT 1 AS part, 'open:' || i AS key, 'open' AS purpose, 'buy' AS side, 'filled' AS state, '' AS reason,
           '{{}}'::jsonb AS verdict, 1 AS filled, {AT} AS at
    UNION ALL
    SELECT 2, 'close:' || i || ':1', 'close', 'sell', 'filled', '', '{{}}', 1, {AT} + interval '1 hour'
    WHERE i <= %(closed)s
    UNION ALL
    SELECT 3, 'blocked:' || i, 'open', 'buy', 'blocked', 'cooldown',
           '{{"reason": "cooldown", "measured": "1", "limit": "2"}}', 0, {AT} + interval '1 hour'
    WHERE i %% 10 = 0
) AS o
"""
POSITIONS = f"""
INSERT INTO positions (id, deployment_id, signal_id, entry_order_id, exit_order_id, symbol, side, state, quantity,
                       closed_quantity, entry_price, exit_price, stop_loss, take_profit, time_exit_at, exits,
                       exit_reason, opened_at, closed_at, fees, realised_pnl, profit_share, correlation_id,
                       trailing_activation, trailing_pct)
SELECT i, {DEPLOYMENT}, {SIGNAL}, i * 3 - 2, CASE WHEN p.over THEN i * 3 - 1 END, {SYMBOL}, 'long',
       CASE WHEN p.over THEN 'closed' ELSE 'open' END, 1, CASE WHEN p.over THEN 1 ELSE 0 END, {PRICE},
       CASE WHEN p.over THEN {PRICE} + i %% 21 - 10 END, 50, 500,
       CASE WHEN p.over THEN {AT} ELSE %(now)s END + interval '7 days', CASE WHEN p.over THEN 1 ELSE 0 END,
       CASE WHEN p.over THEN 'take_profit' ELSE '' END, {AT},
       CASE WHEN p.over THEN {AT} + interval '1 hour' END, 0.2, CASE WHEN p.over THEN i %% 21 - 10 ELSE 0 END, 0,
       {CORRELATION}, CASE WHEN i %% 4 = 0 THEN 400 END, CASE WHEN i %% 4 = 0 THEN 1 END
FROM generate_series(1, %(positions)s) AS i CROSS JOIN LATERAL (SELECT i <= %(closed)s AS over) AS p
"""
FILLS = """
INSERT INTO fills (id, order_id, venue_fill_id, quantity, price, cash, fee, at)
SELECT id, id, 'f' || id, 1, average_price, average_price, 0.1, created_at
FROM orders WHERE state = 'filled' ORDER BY id
"""
LEDGER = """
INSERT INTO ledger_entries (journal, journal_kind, account, deployment_id, asset, amount, kind, order_id,
                            correlation_id, at)
SELECT 'fill:' || f.id, 'fill', l.account, l.deployment_id, 'USDC', l.amount, 'trade', f.order_id,
       o.correlation_id, f.at
FROM fills f JOIN orders o ON o.id = f.order_id CROSS JOIN LATERAL (
    SELECT 'deployment:' || o.deployment_id AS account, o.deployment_id,
           CASE o.side WHEN 'buy' THEN -f.cash ELSE f.cash END AS amount
    UNION ALL
    SELECT 'venue:paper', NULL, CASE o.side WHEN 'buy' THEN f.cash ELSE -f.cash END
) AS l ORDER BY f.id
"""
DEPOSITS = """
INSERT INTO ledger_entries (journal, journal_kind, account, deployment_id, asset, amount, kind, at)
SELECT 'deposit:' || d.id, 'deposit', l.account, l.deployment_id, 'USDC', l.amount, 'deposit',
       %(now)s - interval '366 days'
FROM agent_deployments d CROSS JOIN LATERAL (
    SELECT 'deployment:' || d.id AS account, d.id AS deployment_id, 10000 AS amount
    UNION ALL SELECT 'external', NULL, -10000
) AS l
"""
BALANCES = """
INSERT INTO ledger_balances (account, asset, amount)
SELECT account, asset, sum(amount) FROM ledger_entries WHERE deployment_id IS NOT NULL GROUP BY 1, 2
UNION ALL
SELECT 'deployment:' || deployment_id, symbol, sum(quantity) FROM positions WHERE state = 'open' GROUP BY 1, 2
"""
EVENTS = f"""
INSERT INTO events (at, name, subject, correlation_id, data)
SELECT {AT} + e.later, e.name, e.subject, {CORRELATION}, '{{}}'
FROM generate_series(1, %(positions)s) AS i CROSS JOIN LATERAL (VALUES
    ('order.planned', 'trading.order/' || i * 3 - 2, interval '0'),
    ('execution.completed', 'trading.order/' || i * 3 - 2, interval '0'),
    ('position.open', 'positions.position/' || i, interval '0'),
    ('position.closing', 'positions.position/' || i, interval '1 hour'),
    ('order.planned', 'trading.order/' || i * 3 - 1, interval '1 hour'),
    ('execution.completed', 'trading.order/' || i * 3 - 1, interval '1 hour'),
    ('position.closed', 'positions.position/' || i, interval '1 hour')
) AS e (name, subject, later)
"""
CANDLES = """
INSERT INTO candles (symbol, open_time, open, high, low, close, volume)
SELECT symbol, at, 100, 101, 99, 100, 5
FROM unnest(%(symbols)s::text[]) AS symbol
CROSS JOIN generate_series(date_bin('5 minutes', %(now)s - make_interval(days => %(days)s), '2000-01-01'), %(now)s,
                           '5 minutes') AS at
"""
SNAPSHOTS = """
INSERT INTO pnl_snapshots (deployment_id, day, equity, deposits, realised_pnl, unrealised_pnl)
SELECT d.id, day, 10000, 10000, 1, 0
FROM generate_series((%(now)s - make_interval(days => %(days)s))::date, (%(now)s - interval '1 day')::date,
                     '1 day') AS day
CROSS JOIN agent_deployments d
"""
BEST = """
INSERT INTO best_pnls (account, pnl) SELECT account, 0 FROM agent_deployments
"""
CHAIN = """
INSERT INTO chain_signers (id, chain_id, address, next_nonce) VALUES (1, 1, '0x01', 1000000);
INSERT INTO chain_transactions (id, idempotency_key, chain_id, signer_id, nonce, terms, "to", calldata, gas_limit,
                                state, reason, deadline, mined_hash, block_hash, logs, correlation_id, created_at,
                                updated_at, alerts, refusals)
SELECT n, 'mx-open:' || n, 1, 1, n, '{}', '0x02', '0x', 0, 'final', '', %(now)s, '0x' || n, '', '[]',
       lpad(to_hex(n), 32, '0')::uuid, %(now)s - make_interval(secs => (%(messages)s - n) * 100), %(now)s, '{}', 0
FROM generate_series(1, %(messages)s) AS n;
INSERT INTO chain_attempts (transaction_id, number, hash, raw, max_fee, tip, created_at, cancels)
SELECT n, 1, '0x' || n, '0x', 1, 1, %(now)s, false FROM generate_series(1, %(messages)s) AS n
"""
MESSAGES = """
INSERT INTO price_rules (id, rule_id, user_id, symbols, condition, channel, metadata, active, created_at)
SELECT n, 'r_' || n, n, ARRAY['BTC'], 'any', 'inbox', '{}', true, %(now)s
FROM generate_series(1, %(deployments)s) AS n;
INSERT INTO rule_matches (id, rule_id, symbol, price, value, at, bucket)
SELECT n, 1 + n %% %(deployments)s, 'BTC', 1, 1, s.at, s.at
FROM generate_series(1, %(messages)s) AS n
CROSS JOIN LATERAL (SELECT %(now)s - make_interval(mins => %(messages)s - n) AS at) AS s;
INSERT INTO rule_deliveries (match_id, rule_id, user_id, symbol, channel, at, bucket, state, attempts, due_at,
                             last_error)
SELECT n.id, n.rule_id, n.rule_id, 'BTC', 'inbox', n.at, n.at, 'sent', 1, n.at, '' FROM rule_matches n;
INSERT INTO alerts (event_id, user_id, channel, at, state, attempts, due_at, last_error)
SELECT e.id, 0, 'inbox', e.at, 'sent', 1, e.at, '' FROM events e WHERE e.id %% 50 = 0;
INSERT INTO refused_quotes (symbol, source, reason, hour, price, value, "limit", times, first_at, last_at)
SELECT 'BTC', 'source' || n %% 5, 'stale', s.at, '1', '1', '1', 1, s.at, s.at
FROM generate_series(1, %(messages)s) AS n
CROSS JOIN LATERAL (SELECT %(now)s - make_interval(mins => 5 * (%(messages)s - n)) AS at) AS s;
INSERT INTO stage_runs (stage, task_id, worker, started_at, duration_ms, counted_in, counted_out, detail, error, idle)
SELECT (ARRAY['ingest', 'classify', 'generate', 'execute', 'monitor'])[1 + n %% 5], '', '',
       %(now)s - make_interval(secs => 30 * (%(messages)s - n)), 5, 1, 1, '{}', '', false
FROM generate_series(1, %(messages)s) AS n
"""
PAPER = """
INSERT INTO paper_orders (id, client_order_id, account, symbol, side, quantity, filled, canceled, accepted_at)
SELECT id, client_order_id, account, symbol, side, quantity, quantity, false, created_at
FROM orders WHERE state = 'filled' AND deployment_id < 700;
INSERT INTO paper_fills (order_id, quantity, price, cash, fee, at)
SELECT id, quantity, 100, 100, 0.1, accepted_at FROM paper_orders;
INSERT INTO paper_balances (account, asset, amount)
SELECT 'paper:' || n, 'USDC', 10000 FROM generate_series(1, %(deployments)s) AS n
"""
TRACES = """
INSERT INTO llm_traces (ts, correlation_id, correlation_ids, agent_name, purpose, provider, model, base_url, parameters,
                        latency_ms, status, error_message, request, response, cost_usd, prompt_sha256, schema_sha256,
                        request_sha256, repaired)
SELECT p.posted_at, p.correlation_id, ARRAY[p.correlation_id], '', 'classify', 'rules', 'rules', '', '{}', 1, 'ok', '',
       '{}', '{}', 0, '', '', '', false
FROM ct_posts p WHERE p.id %% 3 = 0
"""
STEPS = (
    POSTS, SIGNALS, SIGNAL_POSTS, ORDERS, POSITIONS, FILLS, LEDGER, DEPOSITS, BALANCES, EVENTS,
    CANDLES, SNAPSHOTS, BEST, CHAIN, MESSAGES, PAPER, TRACES,
)  # fmt: skip
SECONDARY = """
SELECT indexdef, format('DROP INDEX %%I', indexname) FROM pg_indexes
WHERE tablename = ANY(%(tables)s) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)
"""


def people(size: Size) -> None:
    """Users, agents, deployments and authors, with the ids that the statements expect; and a quote of each symbol."""
    now = clock.now()
    users = [User(id=0, username=STAFF, is_staff=True, is_superuser=True), User(id=1, username=WHALE)]
    users += [User(id=n, username=f"customer{n}") for n in range(2, size.deployments + 1)]
    User.objects.bulk_create(users)
    Agent.objects.bulk_create(
        Agent(id=n, name=f"agent {n}", owner_id=n, state="active", venue="paper", created_at=now)
        for n in range(1, 101)
    )
    Deployment.objects.bulk_create(
        Deployment(
            id=n, agent_id=1 + n % 100, owner_id=n, state="active", account=f"paper:{n}", created_at=now
        )
        for n in range(1, size.deployments + 1)
    )
    CtAccount.objects.bulk_create(CtAccount(id=n, x_username=f"author{n}") for n in range(1, 201))
    Subscription.objects.bulk_create(Subscription(agent_id=1 + n % 100, account_id=n) for n in range(1, 201))
    for symbol in all_instruments():
        Quote.objects.create(symbol=symbol, price=150, at=now, source="bench")
        SourceQuote.objects.create(symbol=symbol, source="bench", price=150, at=now, received_at=now)


@transaction.atomic
def fill(size: Size, steps: Sequence[str] = STEPS, *, rolled_up: bool = True) -> None:
    """Fill the (migrated, empty) database; without triggers and secondary indexes until the rows are there."""
    told: dict[str, Any] = {
        "now": clock.now(),
        "symbols": list(all_instruments()),
        "positions": size.positions,
        "closed": size.closed,
        "posts": size.posts,
        "deployments": size.deployments,
        "messages": size.messages,
        "days": size.days,
    }
    with connection.cursor() as cursor:
        for setting in (
            "session_replication_role = replica",
            "maintenance_work_mem = '1GB'",
            "work_mem = '256MB'",
        ):
            cursor.execute(f"SET LOCAL {setting}")
        cursor.execute(SECONDARY, {"tables": list(TABLES)})
        indexes = cursor.fetchall()
        for _, drop in indexes:
            cursor.execute(drop)
        people(size)
        for step in steps:
            for statement in step.split(";\n"):
                cursor.execute(statement, told)
        for create, _ in indexes:
            cursor.execute(create)
        analyze()
        if rolled_up:
            roll_up.roll_up()
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")


def analyze() -> None:
    """Let the planner know our tables.

    Not those of the server: its locks are held until the transaction ends, and other databases need the same.
    """
    with connection.cursor() as cursor:
        names = map(connection.ops.quote_name, sorted(connection.introspection.table_names(cursor)))
        cursor.execute(f"ANALYZE {', '.join(names)}")


def finish() -> None:
    """Let sequences go on after the rows, and the planner know them."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), apps.get_models()):
            cursor.execute(statement)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
