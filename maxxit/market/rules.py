"""Users' price rules: matched against each batch of accepted prices in one statement.

Postgres is the truth: the statement reads the table each time, so a rule that is made while no stream runs counts
from the first price after. A rule matches at most once a minute per symbol and its user is told at most once in five
minutes, by unique buckets of time, however many processes match.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events import wake
from maxxit.events.record import record
from maxxit.market import quotes
from maxxit.market.feeds.base import Tick
from maxxit.market.instruments import all_instruments
from maxxit.market.models import Condition, PriceRule, RuleDelivery, RuleMatch

EVERY = "*"
MATCH_EVERY = timedelta(minutes=1)
LONGEST_WINDOW = timedelta(days=7)
THRESHOLD_LIMIT = Decimal(10) ** 20
"""What the column holds: 38 digits, 18 of them after the point."""
TELL_EVERY = timedelta(minutes=5)
SLACK = timedelta(minutes=5)
"""How much older than its window the price may be that a change is measured from; with a larger hole nobody knows."""

HITS = """
WITH new AS MATERIALIZED (
    SELECT * FROM unnest(%(symbols)s::text[], %(prices)s::numeric[], %(times)s::timestamptz[]) AS n(symbol, price, at)
), hits AS (
    SELECT r.id AS rule_id, r.user_id, r.channel, new.symbol, new.price, new.at,
           CASE r.condition WHEN 'change_pct' THEN round((new.price / past.close - 1) * 100, 6)
                            ELSE new.price END AS value
    FROM new
    JOIN price_rules r ON r.symbols && ARRAY[new.symbol, '*']::varchar[] AND r.{only}
    LEFT JOIN LATERAL (
        SELECT close FROM candles_1m c
        WHERE r.condition = 'change_pct' AND c.symbol = new.symbol
          AND c.open_time <= new.at - make_interval(secs => r.window_seconds + 60)
          AND c.open_time > new.at - make_interval(secs => r.window_seconds + 60) - %(slack)s
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
{HITS.format(only="active")}, matched AS (
    INSERT INTO rule_matches (rule_id, symbol, price, value, at, bucket)
    SELECT rule_id, symbol, price, value, at, date_bin(%(match_every)s, at, '1970-01-01Z') FROM hits
    ON CONFLICT (rule_id, symbol, bucket) DO NOTHING
    RETURNING id, rule_id, symbol, price, value, at
), ranked AS (
    SELECT m.*, h.user_id, h.channel, row_number() OVER (PARTITION BY h.user_id ORDER BY m.id) AS place
    FROM matched m JOIN hits h USING (rule_id, symbol)
    WHERE NOT EXISTS (SELECT FROM rule_deliveries d WHERE d.rule_id = m.rule_id AND d.symbol = m.symbol
                      AND d.bucket = date_bin(%(tell_every)s, m.at, '1970-01-01Z'))
), told AS (
    INSERT INTO rule_deliveries (match_id, rule_id, user_id, symbol, channel, bucket, at, due_at)
    SELECT id, rule_id, user_id, symbol, channel, date_bin(%(tell_every)s, at, '1970-01-01Z'), %(now)s, %(now)s
    FROM ranked
    WHERE place + (SELECT count(*) FROM rule_deliveries d
                   WHERE d.user_id = ranked.user_id AND d.at > %(now)s - interval '1 hour') <= %(most)s
    ON CONFLICT (rule_id, symbol, bucket) DO NOTHING
    RETURNING id, match_id, user_id, channel
)
INSERT INTO events (at, name, subject, correlation_id, data)
SELECT %(now)s, 'rule.matched', 'market.ruledelivery/' || t.id, NULL, jsonb_build_object(
    'rule', r.rule_id, 'user', t.user_id, 'channel', t.channel, 'symbol', m.symbol, 'price', trim_scale(m.price)::text,
    'condition', r.condition, 'threshold', trim_scale(r.threshold)::text, 'value', trim_scale(m.value)::text)
FROM told t JOIN matched m ON m.id = t.match_id JOIN price_rules r ON r.id = m.rule_id
ORDER BY t.id
"""  # noqa: S608 (constants)
ONE = f"""
{HITS.format(only="id = %(id)s")}
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


def match(moved: Sequence[Tick]) -> int:
    """Match the prices that moved against every active rule; returns how many users are to be told."""
    if not moved:
        return 0
    values = _batch([(tick.symbol, tick.price, tick.at) for tick in moved]) | {
        "match_every": MATCH_EVERY,
        "tell_every": TELL_EVERY,
        "now": clock.now(),
        "most": quotes.policy().rule_deliveries_per_hour,
    }
    with connection.cursor() as cursor:
        cursor.execute(MATCH, values)
        told: int = cursor.rowcount
    if told:
        wake.after_commit("rule.matched")
    return told


def holds_now(rule: PriceRule) -> list[Hit]:
    """For which symbols the rule would match at the present quotes; nothing is written."""
    names = list(all_instruments()) if EVERY in rule.symbols else rule.symbols
    now = [(quote.symbol, quote.price, quote.at) for quote in quotes.latest(names, closing=True).values()]
    with connection.cursor() as cursor:
        cursor.execute(ONE, _batch(now) | {"id": rule.pk})
        return [Hit(*row) for row in cursor]


def _batch(prices: Sequence[tuple[str, Any, Any]]) -> dict[str, Any]:
    return {
        "symbols": [symbol for symbol, _, _ in prices],
        "prices": [price for _, price, _ in prices],
        "times": [at for _, _, at in prices],
        "slack": SLACK,
    }


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
    """A new rule of `user`. Raises Rejected with the reason when it could never match or the user has too many."""
    unknown = sorted(set(symbols) - {*all_instruments(), EVERY})
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
    if condition == Condition.CHANGE_PCT and not (window and MATCH_EVERY <= window <= LONGEST_WINDOW):
        raise Rejected(
            f"change_pct needs a window from 1 minute to {LONGEST_WINDOW.days} days", code="bad_window"
        )
    if PriceRule.objects.filter(user_id=user.pk, active=True).count() >= quotes.policy().rules_per_user:
        raise Rejected(
            f"at most {quotes.policy().rules_per_user} active rules per user", code="too_many_rules"
        )
    rule = PriceRule.objects.create(
        user_id=user.pk,
        symbols=[EVERY] if EVERY in symbols else sorted(set(symbols)),
        condition=condition,
        threshold=None if condition == Condition.ANY else threshold,
        window_seconds=int(window.total_seconds()) if window and condition == Condition.CHANGE_PCT else None,
        channel=channel,
    )
    record("rule.added", rule, rule=rule.rule_id)
    return rule


@transaction.atomic
def remove(rule: PriceRule) -> bool:
    """The rule matches no more; what it did stays. False when that was so already."""
    if not PriceRule.objects.filter(pk=rule.pk, active=True).update(active=False):
        return False
    record("rule.removed", rule, rule=rule.rule_id)
    return True


def prune(before: datetime) -> int:
    """Drop matches and deliveries from before that moment; returns how many rows went."""
    deliveries, _ = RuleDelivery.objects.filter(at__lt=before).delete()
    matches, _ = RuleMatch.objects.filter(at__lt=before, delivery=None).delete()
    return deliveries + matches
