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

from django.contrib.auth import get_user_model
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
COMPOSITE = (Condition.ALL, Condition.ANY_OF)
MAX_PARTS = 5
LARGEST = THRESHOLD_LIMIT - 1
"""A larger change in percent is stored as this."""
DELIVERY_INTERVAL = timedelta(minutes=5)
MAX_MOVES_PER_PASS = 20_000
"""A pass that leaves some wakes the next."""
FUNDING_AGE = timedelta(hours=1)
"""A funding rate that was read longer ago is not known."""
WINDOW_TOLERANCE = timedelta(minutes=5)
"""How much older than its window the price may be that a change is measured from; with a larger gap no rule matches."""

CAPPED = "CASE WHEN {value} > {largest} THEN {largest} ELSE {value} END"
"""Null where the value is null, which `least` would take for the limit."""
VALUE = """CASE {kind} WHEN 'change_pct' THEN {change} WHEN 'volume_usd' THEN {volume}
                       WHEN 'spread_bps' THEN {spread} WHEN 'funding' THEN {funding} ELSE new.price END"""
HOLDS = """CASE {kind} WHEN 'any' THEN true WHEN 'lt' THEN {value} < {threshold}
                       WHEN 'change_pct' THEN abs({value}) >= {threshold}
                       WHEN 'funding' THEN abs({value}) >= {threshold} ELSE {value} > {threshold} END"""
PAST = """
    LEFT JOIN LATERAL (
        SELECT close FROM candles_1m c
        WHERE {kind} = 'change_pct' AND c.symbol = new.symbol
          AND c.open_time <= new.at - make_interval(secs => {window} + 60)
          AND c.open_time > new.at - make_interval(secs => {window} + 60) - %(tolerance)s
        ORDER BY c.open_time DESC LIMIT 1
    ) AS past ON true
"""
IN_USE = """(SELECT EXISTS (
    SELECT FROM price_rules u WHERE {only} AND (u.condition = '{kind}'
        OR u.condition IN ('all', 'any_of') AND u.parts @> jsonb_build_array(jsonb_build_object('condition', '{kind}')))
))"""
"""Whether any rule compares this: what none compares is not read."""
HITS = """
facts AS MATERIALIZED (
    SELECT moved.symbol, volume.usd AS volume_usd, spread.bps AS spread_bps, funding.pct AS funding_pct
    FROM (SELECT symbol, max(at) AS at FROM new GROUP BY symbol) AS moved
    LEFT JOIN LATERAL (
        SELECT nullif(sum(c.volume * c.close), 0) AS usd FROM candles c
        WHERE {volume_in_use} AND c.symbol = moved.symbol
          AND c.open_time > moved.at - interval '24 hours' AND c.open_time <= moved.at
    ) AS volume ON true
    LEFT JOIN LATERAL (
        SELECT round((max(q.price) / min(q.price) - 1) * 10000, 4) AS bps FROM source_quotes q
        WHERE {spread_in_use} AND q.symbol = moved.symbol AND q.price > 0
          AND q.at > moved.at - %(compared)s AND q.at <= moved.at + %(compared)s
        HAVING count(*) > 1
    ) AS spread ON true
    LEFT JOIN LATERAL (
        SELECT f.rate_pct AS pct FROM funding_rates f
        WHERE {funding_in_use} AND f.symbol = moved.symbol
          AND f.at > moved.at - %(funding_age)s AND f.at <= moved.at + %(funding_age)s
        ORDER BY abs(f.rate_pct) DESC, f.source LIMIT 1
    ) AS funding ON true
), simple AS (
    SELECT r.id AS rule_id, r.user_id, r.channel, new.symbol, new.price, new.at, r.condition, r.threshold,
           {value} AS value
    FROM new
    JOIN facts ON facts.symbol = new.symbol
    JOIN price_rules r ON r.symbols && ARRAY[new.symbol, '*']::varchar[] AND r.{only}
                      AND r.condition NOT IN ('all', 'any_of')
    {past}
), hits AS (
    SELECT rule_id, user_id, channel, symbol, price, at, value FROM simple WHERE {holds}
    UNION ALL
    SELECT r.id, r.user_id, r.channel, new.symbol, new.price, new.at, new.price
    FROM new
    JOIN facts ON facts.symbol = new.symbol
    JOIN price_rules r ON r.symbols && ARRAY[new.symbol, '*']::varchar[] AND r.{only}
                      AND r.condition IN ('all', 'any_of')
    CROSS JOIN LATERAL (
        SELECT bool_and(coalesce(part.holds, false)) AS every, bool_or(coalesce(part.holds, false)) AS one
        FROM (
            SELECT {part_holds} AS holds
            FROM jsonb_to_recordset(r.parts) AS p(condition text, threshold numeric, window_seconds int)
            {part_past}
        ) AS part
    ) AS parts
    WHERE CASE r.condition WHEN 'all' THEN parts.every ELSE parts.one END
)
"""


def _value(kind: str) -> str:
    """Return the expression of what a condition compares; null where it is not known."""
    change = "round((new.price / past.close - 1) * 100, 6)"
    terms = {
        "change": change,
        "volume": "facts.volume_usd",
        "spread": "facts.spread_bps",
        "funding": "facts.funding_pct",
    }
    capped = {name: CAPPED.format(value=term, largest=LARGEST) for name, term in terms.items()}
    return VALUE.format(kind=kind, **capped)


def _hits(only: str) -> str:
    """Return the tables that find every rule whose condition holds for a price of `new`."""
    part_value = _value("p.condition")
    used = only.partition(" AND ")[0]
    return HITS.format(
        only=only,
        value=_value("r.condition"),
        holds=HOLDS.format(kind="condition", value="value", threshold="threshold"),
        past=PAST.format(kind="r.condition", window="r.window_seconds"),
        part_holds=HOLDS.format(kind="p.condition", value=f"({part_value})", threshold="p.threshold"),
        part_past=PAST.format(kind="p.condition", window="p.window_seconds"),
        volume_in_use=IN_USE.format(only=f"u.{used}", kind=Condition.VOLUME_USD),
        spread_in_use=IN_USE.format(only=f"u.{used}", kind=Condition.SPREAD_BPS),
        funding_in_use=IN_USE.format(only=f"u.{used}", kind=Condition.FUNDING),
    )


MATCH = f"""
WITH new AS MATERIALIZED (
    DELETE FROM quote_moves WHERE id IN (
        SELECT id FROM quote_moves ORDER BY id LIMIT %(max_moves)s FOR UPDATE SKIP LOCKED
    )
    RETURNING symbol, price, at, accepted_at
), {_hits("active AND r.created_at <= new.accepted_at")}, matched AS (
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
), {_hits("id = %(id)s")}
SELECT symbol, price, value FROM hits ORDER BY symbol
"""  # noqa: S608 (constants)


@dataclass(frozen=True)
class Part:
    """One condition of a rule that combines several."""

    condition: str
    threshold: Decimal | None = None
    window: timedelta | None = None
    """Of change_pct."""

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        seconds = (
            int(self.window.total_seconds())
            if self.window and self.condition == Condition.CHANGE_PCT
            else None
        )
        return {
            "condition": self.condition,
            "threshold": None if self.threshold is None else f"{self.threshold:f}",
            "window_seconds": seconds,
        }


@dataclass(frozen=True)
class Hit:
    """A rule's condition holds for a symbol."""

    symbol: str
    price: Decimal
    """USD."""
    value: Decimal
    """What was compared: USD, percent or basis points; of combined conditions the price."""


@transaction.atomic
def match() -> int:
    """Match the prices accepted since the last pass against every active rule; return how many deliveries it created.

    One statement deletes the queued prices and matches them: a pass that fails leaves them for the next one, and two
    concurrent passes never match the same price.
    """
    values: dict[str, Any] = {
        "max_moves": MAX_MOVES_PER_PASS,
        "tolerance": WINDOW_TOLERANCE,
        "compared": timedelta(seconds=quotes.policy().compare_seconds),
        "funding_age": FUNDING_AGE,
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
        "compared": timedelta(seconds=quotes.policy().compare_seconds),
        "funding_age": FUNDING_AGE,
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
    parts: Sequence[Part] = (),
) -> PriceRule:
    """Create a rule of `user`. Raises Rejected with the reason when it could never match or the user has too many.

    Args:
        condition: of `Condition`; `all` and `any_of` combine `parts`, without a threshold of their own.
        threshold: USD for gt, lt and volume_usd, percent for change_pct and funding, basis points for spread_bps.
        window: for change_pct.
    """
    unknown = sorted(set(symbols) - {*all_instruments(), ALL_SYMBOLS})
    if unknown or not symbols:
        raise Rejected(f"no such symbol: {', '.join(unknown) or 'none given'}", code="unknown_symbol")
    if condition in COMPOSITE and not 2 <= len(parts) <= MAX_PARTS:
        raise Rejected(
            f"{condition} combines 2 to {MAX_PARTS} conditions, not {len(parts)}", code="bad_condition"
        )
    if condition not in COMPOSITE and parts:
        raise Rejected(f"only {' and '.join(COMPOSITE)} combine conditions", code="bad_condition")
    for part in parts if condition in COMPOSITE else [Part(condition, threshold, window)]:
        _check_part(part, within=condition)
    _check_room(user.pk)
    rule = PriceRule.objects.create(
        user_id=user.pk,
        symbols=[ALL_SYMBOLS] if ALL_SYMBOLS in symbols else sorted(set(symbols)),
        condition=condition,
        threshold=None if condition in (Condition.ANY, *COMPOSITE) else threshold,
        window_seconds=int(window.total_seconds()) if window and condition == Condition.CHANGE_PCT else None,
        parts=[part.as_json() for part in parts],
        channel=channel,
    )
    record("rule.added", rule, rule=rule.rule_id)
    return rule


def _check_part(part: Part, within: str) -> None:
    """Raise Rejected for a condition that could never match."""
    if part.condition not in Condition.values:
        raise Rejected(
            f"no such condition: {part.condition}; one of {', '.join(Condition.values)}", code="bad_condition"
        )
    if within in COMPOSITE and part.condition in (Condition.ANY, *COMPOSITE):
        raise Rejected(
            f"{Condition(part.condition).label} cannot be combined with others: choose another condition",
            code="bad_condition",
        )
    threshold = part.threshold
    if part.condition != Condition.ANY and not (
        threshold and threshold.is_finite() and 0 < threshold < THRESHOLD_LIMIT
    ):
        raise Rejected(
            f"{part.condition} needs a threshold above 0 and below {THRESHOLD_LIMIT:g}", code="bad_threshold"
        )
    if part.condition == Condition.FUNDING and not quotes.policy().funding_order:
        raise Rejected(
            "funding rates are not read here: ask the operator to set `funding_order` in config/feeds.yaml",
            code="bad_condition",
        )
    fits = part.window and MATCH_INTERVAL <= part.window <= LONGEST_WINDOW
    if part.condition == Condition.CHANGE_PCT and not fits:
        raise Rejected(
            f"change_pct needs a window from 1 minute to {LONGEST_WINDOW.days} days", code="bad_window"
        )


def _check_room(user_id: int) -> None:
    """Raise Rejected where the user has too many active rules. Locks the user, so that parallel calls count in turn."""
    get_user_model()._default_manager.select_for_update(no_key=True).filter(pk=user_id).first()
    most = quotes.policy().rules_per_user
    if PriceRule.objects.filter(user_id=user_id, active=True).count() >= most:
        raise Rejected(
            f"at most {most} active rules per user: pause or delete one first", code="too_many_rules"
        )


def require_kept(rule: PriceRule) -> None:
    """Raise Rejected for a deleted rule."""
    if rule.removed_at is not None:
        raise Rejected(f"rule {rule.rule_id} is deleted: add another", code="deleted_rule")


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
    require_kept(rule)
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


UNITS = {Condition.CHANGE_PCT: "%", Condition.SPREAD_BPS: "bps", Condition.FUNDING: "%"}


def condition_text(rule: PriceRule) -> str:
    """Return the condition in words: `price above 70000 USD`; combined ones with `and` or `or`."""
    if rule.condition not in COMPOSITE:
        return _words(rule.condition, rule.threshold)
    parts = []
    for part in rule.parts:
        within = f" within {part['window_seconds'] // 60} minutes" if part["window_seconds"] else ""
        parts.append(_words(part["condition"], Decimal(part["threshold"])) + within)
    return (" and " if rule.condition == Condition.ALL else " or ").join(parts)


def _words(condition: str, threshold: Decimal | None) -> str:
    kind = Condition(condition)
    return f"{kind.label} {plain(threshold)} {UNITS.get(kind, 'USD')}" if threshold else str(kind.label)


def prune(before: datetime) -> int:
    """Delete matches and deliveries older than `before`; return how many rows."""
    deliveries, _ = RuleDelivery.objects.filter(at__lt=before).delete()
    matches, _ = RuleMatch.objects.filter(at__lt=before, delivery=None).delete()
    return deliveries + matches
