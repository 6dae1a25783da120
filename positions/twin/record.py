"""Compare live orders with their paper twins, test each deployment for drift, and alarm.

A pass reads orders that have ended and writes rows of its own: it locks no order, position or account, and no step of
the money path waits for it. The lock on the mark's row orders two passes; an order is compared, and its values enter
the tests, in one transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import connection, transaction
from django.db.models import Q

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.money import ZERO
from maxxit.core.terms import Purpose
from maxxit.events.record import NewEvent, subject, write
from maxxit.market.venues import venues
from positions.models import Position
from positions.twin import compare, drift
from positions.twin.models import TwinDrift, TwinFill, TwinMark
from positions.twin.policy import Measure, TwinPolicy, policy
from trading import quarantine
from trading.models import Order
from trading.passes import TimeBudget
from trading.states import IN_FLIGHT, IN_FLIGHT_SQL

log = structlog.get_logger(__name__)

DRIFTED, RECOVERED = "twin.drifted", "twin.recovered"
BATCH = 500
"""Orders per transaction."""
BEHIND = timedelta(minutes=15)
"""How far the mark stays behind the clock: an order with a lower id may be committed later than one with a higher."""
WAITS = timedelta(days=2)
"""How long the mark waits for an order to be sent, and to end."""

DUE = f"""
SELECT o.id, o.deployment_id, o.venue, o.symbol, o.purpose, o.side, o.state, o.quantity, o.filled_quantity,
       o.average_price, o.reference_price, coalesce(o.reserved_at, o.created_at), o.reserved_at IS NULL,
       CASE o.exit_reason WHEN 'take_profit' THEN p.take_profit WHEN 'stop_loss' THEN p.stop_loss
                          WHEN 'trailing_stop' THEN coalesce(p.trailing_stop, p.stop_loss) END,
       coalesce(f.fee, 0), f.last_at
FROM orders o
LEFT JOIN twin_fills t ON t.order_id = o.id
LEFT JOIN positions p ON p.entry_order_id = o.closes_id
LEFT JOIN LATERAL (SELECT sum(fee) AS fee, max(at) AS last_at FROM fills WHERE order_id = o.id) AS f ON true
WHERE {{which}} AND o.venue = ANY(%(venues)s)
  AND (t.id IS NULL AND (o.state = 'unknown' AND o.reserved_at < %(unknown_since)s
                         OR o.state IN {IN_FLIGHT_SQL} AND coalesce(o.reserved_at, o.created_at) < %(passed)s)
       OR o.state <> 'planned' AND o.state <> 'blocked' AND o.state NOT IN {IN_FLIGHT_SQL}
          AND (t.id IS NULL OR t.outcome = 'unknown'))
  AND (o.reserved_at IS NOT NULL OR o.purpose = 'close' AND o.filled_quantity > 0)
ORDER BY o.id LIMIT %(limit)s
"""  # noqa: S608 (constants only)
"""Orders at live venues that were sent, or filled by the venue's own exits, and are not compared yet."""
ABOVE, NAMED = "o.id > %(after)s", "o.id = ANY(%(ids)s)"
MARK = f"""
SELECT coalesce(
    (SELECT min(id) - 1 FROM orders WHERE id > %(mark)s AND (
        created_at > %(settled)s OR venue = ANY(%(venues)s) AND (state = 'planned' OR state IN {IN_FLIGHT_SQL})
        AND coalesce(reserved_at, created_at) > %(passed)s)),
    (SELECT max(id) FROM orders), 0)
"""  # noqa: S608 (constants only)
LATE = """
SELECT order_id FROM twin_fills WHERE outcome = 'unknown' AND order_id <= %(mark)s
UNION
SELECT o.id FROM orders o LEFT JOIN twin_fills t ON t.order_id = o.id
WHERE o.purpose = 'open' AND o.reserved_at > %(lately)s AND o.reserved_at > o.created_at + %(waits)s
  AND o.id <= %(mark)s AND t.id IS NULL
UNION
SELECT o.id FROM positions p CROSS JOIN LATERAL (
    SELECT id FROM orders
    WHERE closes_id = p.entry_order_id AND created_at < p.closed_at - %(waits)s AND id <= %(mark)s
    OFFSET 0
) AS o LEFT JOIN twin_fills t ON t.order_id = o.id
WHERE p.state = 'closed' AND p.closed_at > %(lately)s AND t.id IS NULL
ORDER BY 1
"""
"""Orders that the mark has passed before they ended: shown as unknown, or sent after the mark had passed them.

`OFFSET 0` keeps the orders of each position to a look into the index: as a join, Postgres reads all closing orders of
all times beside the few positions.
"""


class _Due(NamedTuple):
    """A row of `DUE`."""

    pk: int
    deployment: int
    venue: str
    symbol: str
    purpose: str
    side: str
    state: str
    ordered: Decimal
    filled: Decimal
    average_price: Decimal | None
    reference_price: Decimal | None
    decided_at: datetime
    by_venue: bool
    """Whether the venue's own stop or target sent it."""
    level: Decimal | None
    fee: Decimal
    filled_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Value:
    """One value for one test."""

    deployment: int
    measure: Measure
    value: float


def live_venues() -> list[str]:
    """Return the configured venues other than the paper exchange itself."""
    return [name for name, stanza in venues().items() if stanza.adapter != "paper"]


def compare_orders(budget: TimeBudget | None = None) -> int:
    """Compare the orders that have ended since the last pass, and the positions that have closed.

    Return how many orders. Ends when nothing is left or the time budget is used up; the next pass continues.
    """
    names = live_venues()
    if not names:
        return 0
    done = _compare_above_mark(names, budget) + _compare_late(names, budget)
    _compare_trades(budget)
    return done


def _compare_above_mark(names: Sequence[str], budget: TimeBudget | None) -> int:
    """Compare the orders above the mark and move it, within the time budget; return how many."""
    done, after = 0, None
    while budget is None or budget.left():
        with transaction.atomic():
            mark = _locked_mark()
            due = _due(names, ABOVE, after=mark.order if after is None else after)
            done += _compare(due)
        if len(due) < BATCH:
            _move_mark(names)
            break
        after = due[-1].pk
    return done


def _compare_late(names: Sequence[str], budget: TimeBudget | None) -> int:
    """Compare the orders that have ended after the mark had passed them, within the time budget; return how many."""
    mark = TwinMark.objects.values_list("order", flat=True).first() or 0
    params: dict[str, Any] = {"mark": mark, "lately": clock.now() - 2 * WAITS, "waits": WAITS}
    with connection.cursor() as cursor:
        cursor.execute(LATE, params)
        late = [pk for [pk] in cursor.fetchall()]
    done = 0
    for start in range(0, len(late), BATCH):
        if budget is not None and not budget.left():
            break
        with transaction.atomic():
            _locked_mark()
            done += _compare(_due(names, NAMED, ids=late[start : start + BATCH]))
    return done


def _due(names: Sequence[str], which: str, **given: Any) -> list[_Due]:
    """Return the next orders to be compared, in the transaction that holds the mark."""
    now = clock.now()
    params = given | {
        "venues": list(names),
        "unknown_since": now - timedelta(minutes=policy().unknown_minutes),
        "passed": now - WAITS,
        "limit": BATCH,
    }
    with connection.cursor() as cursor:
        cursor.execute(DUE.format(which=which), params)
        return [_Due(*row) for row in cursor.fetchall()]


def _compare(due: Sequence[_Due]) -> int:
    """Compare these orders; return how many. One that cannot be compared or stored stops no other."""
    rules = policy()
    rows: list[TwinFill] = []
    for one in due:
        try:
            if (row := _row(one, rules)) is not None:
                rows.append(row)
        except Exception as error:
            log.exception("order_not_compared", order=one.pk, error=str(error))

    def failed(row: TwinFill, error: Exception) -> None:
        log.error("order_not_compared", order=row.order_id, error=str(error))

    return sum(quarantine.by_halves(rows, lambda part: [_store(part)], failed))


@transaction.atomic
def _store(rows: Sequence[TwinFill]) -> int:
    """Store these comparisons and give their values to the tests; return how many."""
    fields = [field.name for field in TwinFill._meta.concrete_fields if field.name not in ("id", "order")]
    TwinFill.objects.bulk_create(rows, update_conflicts=True, unique_fields=["order"], update_fields=fields)
    feed([value for row in rows if row.outcome != "unknown" for value in _values(row)])
    return len(rows)


def _row(one: _Due, rules: TwinPolicy) -> TwinFill | None:
    """Return the comparison of an order; None without a quote: nobody knows what the twin would have got."""
    quote = one.level if one.by_venue else one.reference_price
    if quote is None or quote <= ZERO or one.ordered is None or one.ordered <= ZERO:
        return None
    costs = rules.costs(one.venue)
    twin = compare.twin_fill(quote, one.symbol, one.side, one.filled, costs)
    row = TwinFill(
        order_id=one.pk, deployment_id=one.deployment, at=one.decided_at, venue=one.venue, symbol=one.symbol,
        purpose=one.purpose, side=one.side, outcome=_outcome(one), ordered=one.ordered, filled=one.filled,
        quote=quote, quote_from="level" if one.by_venue else "checks", slippage_bps=costs.slippage_bps,
        fee_bps=costs.fee_bps, live_price=one.average_price if one.filled else None, twin_price=twin.price,
        live_fee=one.fee, twin_fee=twin.fee, awaits_close=one.purpose == Purpose.CLOSE,
    )  # fmt: skip
    if row.live_price is not None:
        row.price_bps = compare.price_drift(quote, one.side, row.live_price, twin.price)
        row.excess_fee_bps = compare.fee_drift(quote * one.filled, one.fee, twin.fee)
        if one.filled_at is not None and not one.by_venue:
            row.live_seconds = (one.filled_at - one.decided_at).total_seconds()
    return row


def _outcome(one: _Due) -> str:
    if one.state in IN_FLIGHT:
        return "unknown"
    return "filled" if one.filled >= one.ordered else "partial" if one.filled > ZERO else "missed"


def _values(row: TwinFill) -> Iterable[_Value]:
    """Yield what the tests learn of an order that has ended."""
    measured: tuple[tuple[Measure, float | None], ...] = (
        ("price", row.price_bps),
        ("fee", row.excess_fee_bps),
        ("latency", row.live_seconds),
        ("missed", float(max(1 - row.filled / row.ordered, ZERO))),
    )
    for measure, value in measured:
        if value is not None:
            yield _Value(row.deployment_id, measure, value)


@dataclass(frozen=True, slots=True)
class _Trade:
    """A closed position: the rows of its closing orders, oldest first, and its value for the test, if it has one."""

    position: int
    exits: list[TwinFill]
    value: _Value | None


def _compare_trades(budget: TimeBudget | None) -> None:
    """Compare the positions that have closed since with those of their twins, within the time budget."""
    last: Position | None = None
    while budget is None or budget.left():
        with transaction.atomic():
            _locked_mark()
            closed = _closed_positions(last)
            quarantine.by_halves(_trades(closed), _store_trades, _trade_failed)
        if len(closed) < BATCH:
            break
        last = closed[-1]


def _closed_positions(last: Position | None) -> list[Position]:
    """Return the next positions after `last`, in the order of their closing, with rows that wait for it."""
    waiting = TwinFill.objects.filter(awaits_close=True).values("order__closes")
    rows = Position.objects.filter(entry_order__in=waiting, state="closed").order_by("closed_at", "pk")
    if last is not None:
        rows = rows.filter(Q(closed_at__gt=last.closed_at) | Q(closed_at=last.closed_at, pk__gt=last.pk))
    return list(rows[:BATCH])


def _trades(closed: Sequence[Position]) -> list[_Trade]:
    """Compare these positions: each enters the test once, and only with all that was sold.

    One whose closing orders are not all compared yet waits for them, up to `WAITS`, and has no value after that.
    """
    ids = [position.entry_order_id for position in closed]
    exits: dict[int, list[TwinFill]] = {pk: [] for pk in ids}
    for row in TwinFill.objects.filter(order__closes__in=ids).select_related("order").order_by("order_id"):
        exits[row.order.closes_id or 0].append(row)
    entries = {row.order_id: row for row in TwinFill.objects.filter(order__in=ids)}
    known = {row.order_id for rows in exits.values() for row in rows if row.outcome != "unknown"}
    sold = Order.objects.filter(closes__in=ids, filled_quantity__gt=ZERO)
    partial = {entry for pk, entry in sold.values_list("pk", "closes") if pk not in known}
    waits_since = clock.now() - WAITS
    trades = []
    for position in closed:
        pk = position.entry_order_id
        if pk in partial and position.closed_at is not None and position.closed_at > waits_since:
            continue
        value = None
        # If a row no longer waits, the trade was compared before or given up.
        if pk in entries and pk not in partial and all(row.awaits_close for row in exits[pk]):
            try:
                value = _trade_value(entries[pk], exits[pk])
            except Exception as error:
                log.exception("position_not_compared", position=position.pk, error=str(error))
        for row in exits[pk]:
            row.awaits_close = False
        trades.append(_Trade(position.pk, exits[pk], value))
    return trades


def _trade_value(entry: TwinFill, exits: Sequence[TwinFill]) -> _Value | None:
    """Write the PnL of a position into the row of the last order that sold; None where nothing was sold."""
    result = compare.trade_drift(
        entry.symbol, entry.side, _leg(entry), [_leg(row) for row in exits], policy().costs(entry.venue)
    )
    if result is None:
        return None
    last = [row for row in exits if row.filled > ZERO][-1]
    last.live_pnl, last.twin_pnl, last.pnl_bps = result.live, result.twin, result.bps
    return _Value(last.deployment_id, "pnl", result.bps)


@transaction.atomic
def _store_trades(trades: Sequence[_Trade]) -> list[int]:
    """Store these comparisons and give their values to the tests; return how many."""
    rows = [row for trade in trades for row in trade.exits]
    TwinFill.objects.bulk_update(rows, ["awaits_close", "live_pnl", "twin_pnl", "pnl_bps"], batch_size=BATCH)
    feed([trade.value for trade in trades if trade.value is not None])
    return [len(trades)]


def _trade_failed(trade: _Trade, error: Exception) -> None:
    """Give up one that the database refuses."""
    log.error("position_not_compared", position=trade.position, error=str(error))
    TwinFill.objects.filter(pk__in=[row.pk for row in trade.exits]).update(awaits_close=False)


def _leg(row: TwinFill) -> compare.Leg:
    return compare.Leg(
        row.ordered, row.filled, row.filled * (row.live_price or ZERO), row.live_fee, row.quote
    )


def feed(values: Sequence[_Value]) -> None:
    """Give values to the tests of their deployments, in this order; record each alarm that is raised or over.

    In the caller's transaction, which holds the mark.
    """
    if not values:
        return
    rules, now = policy(), clock.now()
    ids = {value.deployment for value in values}
    rows = {(row.deployment_id, row.measure): row for row in TwinDrift.objects.filter(deployment__in=ids)}
    before = {key: row.alarm for key, row in rows.items()}
    for value in values:
        key = (value.deployment, value.measure)
        row = rows.setdefault(key, TwinDrift(deployment_id=value.deployment, measure=value.measure))
        state = drift.advance(_state(row), value.value, rules.rule(value.measure))
        for name in STORED:
            setattr(row, name, getattr(state, name))
    changed = [(row, row.alarm) for key, row in rows.items() if row.alarm != before.get(key, False)]
    for row, alarm in changed:
        if alarm:
            row.alarm_at, row.alarms = now, row.alarms + 1
    TwinDrift.objects.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["deployment", "measure"],
        update_fields=[*STORED, "alarm_at", "alarms"],
    )
    deployments = Deployment.objects.select_related("agent").in_bulk(
        [row.deployment_id for row, _ in changed]
    )
    write([_event(row, deployments[row.deployment_id]) for row, _ in changed])


STORED = ("count", "noise", "last", "score", "run", "run_sum", "alarm")
"""The fields of `drift.State`."""


def _state(row: TwinDrift) -> drift.State:
    return drift.State(**{name: getattr(row, name) for name in STORED})


WORDS: dict[Measure, str] = {
    "price": "were filled {mean:.1f} bp worse than those of its paper twin",
    "fee": "paid {mean:.1f} bp more in fees than those of its paper twin",
    "latency": "took {mean:.0f} s from the decision to the last fill",
    "pnl": "earned {mean:.1f} bp less than those of its paper twin",
    "missed": "were filled in part or not at all: the paper twin got {percent:.0f} % more",
}
"""Measure -> what the latest orders did."""


def _event(row: TwinDrift, deployment: Deployment) -> NewEvent:
    measure: Any = row.measure
    mean = row.run_mean
    what = "positions" if measure == "pnl" else "orders"
    who = f"{deployment.agent.name} on {deployment.account}"
    if row.alarm:
        words = WORDS[measure].format(mean=mean, percent=mean * 100)
        text = f'The last {row.run} {what} of {who} {words}. "Live against paper" on "My agents" shows each.'
    else:
        text = f"The {what} of {who} no longer differ from those of its paper twin ({measure})."
    data = {"owner_id": deployment.owner_id, "measure": measure, "mean": f"{mean:.4g}", "text": text}
    return NewEvent(DRIFTED if row.alarm else RECOVERED, subject(deployment), None, data)


def _locked_mark() -> TwinMark:
    """Return the mark's row, locked until the transaction ends; the first pass creates it."""
    TwinMark.objects.bulk_create([TwinMark(pk=1, order=0)], ignore_conflicts=True)
    return TwinMark.objects.select_for_update().get(pk=1)


@transaction.atomic
def _move_mark(names: Sequence[str]) -> None:
    """Move the mark past the orders that need not be read again, and past those that wait for longer than `WAITS`.

    What is in flight for so long has its row, as unknown: `BEHIND` is more than the time since it was looked for.
    """
    mark, now = _locked_mark(), clock.now()
    params: dict[str, Any] = {
        "mark": mark.order,
        "settled": now - BEHIND,
        "passed": now - WAITS - BEHIND,
        "venues": list(names),
    }
    with connection.cursor() as cursor:
        cursor.execute(MARK, params)
        [order] = cursor.fetchone()
    if order > mark.order:
        mark.order = order
        mark.save(update_fields=["order"])


def tidy() -> int:
    """Delete comparisons that are older than `keep_days`; return how many.

    Those of orders above the mark stay: a pass would write them again.
    """
    before = clock.now() - timedelta(days=policy().keep_days)
    mark = TwinMark.objects.values_list("order", flat=True).first() or 0
    old = TwinFill.objects.filter(at__lt=before, order__lte=mark, awaits_close=False)
    deleted, _ = old.delete()
    return deleted
