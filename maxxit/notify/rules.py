"""Users' price rules: matched in one statement against the prices accepted since the last pass.

The transaction that stores a price also queues it in `quote_moves`; matching runs later, in another transaction, so
prices never wait for rules and a lost wake or a killed worker only delays matching. The statement reads the rules each
time: a rule counts from the first price accepted after it was created. A rule matches at most once a minute per symbol
and creates at most one delivery in five minutes, by unique time buckets, however many processes match.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from maxxit.events import wake
from maxxit.events.record import record
from maxxit.market import quotes
from maxxit.market.instruments import all_instruments
from maxxit.market.models import QuoteMove
from maxxit.notify import endpoints
from maxxit.notify.models import Condition, PriceRule, RuleDelivery, RuleMatch

MATCH_TASK = "maxxit.notify.tasks.match"
ALL_SYMBOLS = "*"
MATCH_INTERVAL = timedelta(minutes=1)
LONGEST_WINDOW = timedelta(days=7)
THRESHOLD_LIMIT = Decimal(10) ** 20
"""What the column holds: 38 digits, 18 of them after the point."""
LARGEST = THRESHOLD_LIMIT - 1
"""A larger change in percent is stored as this."""
DELIVERY_INTERVAL = timedelta(minutes=5)
MAX_MOVES_PER_PASS = 20_000
"""A pass that leaves some wakes the next."""
WINDOW_TOLERANCE = timedelta(minutes=5)
"""How much older than its window the price may be that a change is measured from; with a larger gap no rule matches."""

HITS = """
hits AS (
    SELECT r.id AS rule_id, r.user_id, r.channel, new.symbol, new.price, new.at,
           CASE r.condition WHEN 'change_pct' THEN least(round((new.price / past.close - 1) * 100, 6), {largest})
                            ELSE new.price END AS value
    FROM new
    JOIN price_rules r ON r.symbols && ARRAY[new.symbol, '*']::varchar[] AND r.{only}
    LEFT JOIN LATERAL (
        SELECT close FROM candles_1m c
        WHERE r.condition = 'change_pct' AND c.symbol = new.symbol
          AND c.open_time <= new.at - make_interval(secs => r.window_seconds + 60)
          AND c.open_time > new.at - make_interval(secs => r.window_seconds + 60) - %(tolerance)s
        ORDER BY c.open_time DESC LIMIT 1
    ) AS past ON true
    WHERE CASE r.condition
        WHEN 'any' THEN true
        WHEN 'gt' THEN new.price > r.threshold
        WHEN 'lt' THEN new.price < r.threshold
        ELSE abs(new.price / past.close - 1) * 100 >= r.threshold
    END
)
"""
MATCH = f"""
WITH new AS MATERIALIZED (
    DELETE FROM quote_moves WHERE id IN (
        SELECT id FROM quote_moves ORDER BY id LIMIT %(max_moves)s FOR UPDATE SKIP LOCKED
    )
    RETURNING symbol, price, at, accepted_at
), {HITS.format(only="active AND r.created_at <= new.accepted_at", largest=LARGEST)}, matched AS (
    INSERT INTO rule_matches (rule_id, symbol, price, value, at, bucket)
    SELECT rule_id, symbol, price, value, at, date_bin(%(match_interval)s, at, '1970-01-01Z') FROM hits
    ORDER BY at, rule_id
    ON CONFLICT (rule_id, symbol, bucket) DO NOTHING
    RETURNING id, rule_id, symbol, price, value, at
), due AS (
    SELECT DISTINCT ON (m.rule_id, m.symbol, b.bucket) m.*, b.bucket, r.user_id, r.channel
    FROM matched m
    JOIN price_rules r ON r.id = m.rule_id
    CROSS JOIN LATERAL (SELECT date_bin(%(delivery_interval)s, m.at, '1970-01-01Z') AS bucket) b
    WHERE NOT EXISTS (SELECT FROM rule_deliveries d
                      WHERE d.rule_id = m.rule_id AND d.symbol = m.symbol AND d.bucket = b.bucket)
    ORDER BY m.rule_id, m.symbol, b.bucket, m.id
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY id) AS place FROM due
), delivery AS (
    INSERT INTO rule_deliveries (match_id, rule_id, user_id, symbol, channel, bucket, at, due_at)
    SELECT id, rule_id, user_id, symbol, channel, bucket, %(now)s, %(now)s
    FROM ranked
    WHERE place + (SELECT count(*) FROM rule_deliveries d
                   WHERE d.user_id = ranked.user_id AND d.at > %(now)s - interval '1 hour') <= %(most)s
    ORDER BY id
    ON CONFLICT (rule_id, symbol, bucket) DO NOTHING
    RETURNING id, match_id, user_id, channel
)
INSERT INTO events (at, name, subject, correlation_id, data)
SELECT %(now)s, 'rule.matched', 'notify.ruledelivery/' || d.id, NULL, jsonb_build_object(
    'rule', r.rule_id, 'user', d.user_id, 'channel', d.channel, 'symbol', m.symbol, 'price', trim_scale(m.price)::text,
    'condition', r.condition, 'threshold', trim_scale(r.threshold)::text, 'value', trim_scale(m.value)::text)
FROM delivery d JOIN matched m ON m.id = d.match_id JOIN price_rules r ON r.id = m.rule_id
ORDER BY d.id
"""  # noqa: S608 (constants)
ONE = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM unnest(%(symbols)s::text[], %(prices)s::numeric[], %(times)s::timestamptz[]) AS n(symbol, price, at)
), {HITS.format(only="id = %(id)s", largest=LARGEST)}
SELECT symbol, price, value FROM hits ORDER BY symbol
"""  # noqa: S608 (constants)


@dataclass(frozen=True)
class Hit:
    """A rule's condition holds for a symbol."""

    symbol: str
    price: Decimal
    """USD."""
    value: Decimal
    """What was compared: USD, or percent."""


@transaction.atomic
def match() -> int:
    """Match the prices accepted since the last pass against every active rule; return how many deliveries it created.

    One statement deletes the queued prices and matches them: a pass that fails leaves them for the next one, and two
    concurrent passes never match the same price.
    """
    values: dict[str, Any] = {
        "max_moves": MAX_MOVES_PER_PASS,
        "tolerance": WINDOW_TOLERANCE,
        "match_interval": MATCH_INTERVAL,
        "delivery_interval": DELIVERY_INTERVAL,
        "now": clock.now(),
        "most": quotes.policy().rule_deliveries_per_hour,
    }
    with connection.cursor() as cursor:
        cursor.execute(MATCH, values)
        deliveries: int = cursor.rowcount
    if deliveries:
        wake.after_commit("rule.matched")
    if QuoteMove.objects.exists():
        transaction.on_commit(partial(wake.wake_task, MATCH_TASK))
    return deliveries


def holds_now(rule: PriceRule) -> list[Hit]:
    """List the symbols for which the rule would match at the present quotes; writes nothing."""
    names = list(all_instruments()) if ALL_SYMBOLS in rule.symbols else rule.symbols
    present = [(quote.symbol, quote.price, quote.at) for quote in quotes.latest(names, closing=True).values()]
    values: dict[str, Any] = {
        "symbols": [symbol for symbol, _, _ in present],
        "prices": [price for _, price, _ in present],
        "times": [at for _, _, at in present],
        "tolerance": WINDOW_TOLERANCE,
        "id": rule.pk,
    }
    with connection.cursor() as cursor:
        cursor.execute(ONE, values)
        return [Hit(*row) for row in cursor]


@transaction.atomic
def add(
    user: AbstractBaseUser,
    symbols: Sequence[str],
    condition: str,
    *,
    threshold: Decimal | None = None,
    window: timedelta | None = None,
    channel: str = "inbox",
) -> PriceRule:
    """Create a rule of `user`. Raises Rejected with the reason when it could never match or the user has too many."""
    unknown = sorted(set(symbols) - {*all_instruments(), ALL_SYMBOLS})
    if unknown or not symbols:
        raise Rejected(f"no such symbol: {', '.join(unknown) or 'none given'}", code="unknown_symbol")
    if condition not in Condition.values:
        raise Rejected(
            f"no such condition: {condition}; one of {', '.join(Condition.values)}", code="bad_condition"
        )
    if condition != Condition.ANY and not (
        threshold and threshold.is_finite() and 0 < threshold < THRESHOLD_LIMIT
    ):
        raise Rejected(
            f"{condition} needs a threshold above 0 and below {THRESHOLD_LIMIT:g}", code="bad_threshold"
        )
    if condition == Condition.CHANGE_PCT and not (window and MATCH_INTERVAL <= window <= LONGEST_WINDOW):
        raise Rejected(
            f"change_pct needs a window from 1 minute to {LONGEST_WINDOW.days} days", code="bad_window"
        )
    _check_room(user.pk)
    rule = PriceRule.objects.create(
        user_id=user.pk,
        symbols=[ALL_SYMBOLS] if ALL_SYMBOLS in symbols else sorted(set(symbols)),
        condition=condition,
        threshold=None if condition == Condition.ANY else threshold,
        window_seconds=int(window.total_seconds()) if window and condition == Condition.CHANGE_PCT else None,
        channel=channel,
    )
    record("rule.added", rule, rule=rule.rule_id)
    return rule


def _check_room(user_id: int) -> None:
    most = quotes.policy().rules_per_user
    if PriceRule.objects.filter(user_id=user_id, active=True).count() >= most:
        raise Rejected(
            f"at most {most} active rules per user: pause or delete one first", code="too_many_rules"
        )


@transaction.atomic
def pause(rule: PriceRule) -> bool:
    """Stop matching the rule until `resume`; return False when it was not active."""
    if not PriceRule.objects.filter(pk=rule.pk, active=True).update(active=False):
        return False
    record("rule.paused", rule, rule=rule.rule_id)
    return True


@transaction.atomic
def resume(rule: PriceRule) -> bool:
    """Match a paused rule again; return False when it is active already.

    Raises Rejected for a deleted rule, where its channel has no address any more, and for a user with too many rules.
    """
    if rule.removed_at is not None:
        raise Rejected(f"rule {rule.rule_id} is deleted: add another", code="deleted_rule")
    endpoints.require(rule.user, rule.channel)
    if not rule.active:
        _check_room(rule.user_id)
    if not PriceRule.objects.filter(pk=rule.pk, active=False, removed_at=None).update(active=True):
        return False
    record("rule.resumed", rule, rule=rule.rule_id)
    return True


@transaction.atomic
def remove(rule: PriceRule) -> bool:
    """Delete the rule for its user, and keep its matches and deliveries; return False when it was deleted already."""
    kept = PriceRule.objects.filter(pk=rule.pk, removed_at=None)
    if not kept.update(active=False, removed_at=clock.now()):
        return False
    record("rule.removed", rule, rule=rule.rule_id)
    return True


def condition_text(rule: PriceRule) -> str:
    """Return the condition in words: `price above 70000 USD`."""
    unit = " %" if rule.condition == Condition.CHANGE_PCT else " USD"
    return f"{rule.get_condition_display()} {plain(rule.threshold) + unit if rule.threshold else ''}".strip()


def prune(before: datetime) -> int:
    """Delete matches and deliveries older than `before`; return how many rows."""
    deliveries, _ = RuleDelivery.objects.filter(at__lt=before).delete()
    matches, _ = RuleMatch.objects.filter(at__lt=before, delivery=None).delete()
    return deliveries + matches
