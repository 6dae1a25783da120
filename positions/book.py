"""Book fills into positions: open them with their exit levels, and close those whose closing order has ended.

A batch is booked in one transaction of a handful of statements.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.money import ZERO, plain
from maxxit.events import wake
from maxxit.events.record import NewEvent, subject, write
from maxxit.market.instruments import instrument
from maxxit.pipeline.runs import Counts
from maxxit.postgres import bulk
from positions.closing import end_exits, with_ended_entry
from positions.costs import Costs, read_costs
from positions.exits.levels import levels
from positions.models import Position
from trading import passes, quarantine
from trading.models import Order
from trading.risk.limits_in_force import protective_limits
from trading.risk.policy import RiskPolicy
from trading.rows import load_orders
from trading.shards import ALL, Shard, others

MINE = "(hashtext(o.account) & 2147483647) %% %(shards)s = %(shard)s"
"""The accounts of a shard, as `Shard.of` has them."""
ENDED = f"""
SELECT p.id, o.id
FROM positions p JOIN orders o ON o.id = p.exit_order_id JOIN orders e ON e.id = p.entry_order_id
WHERE p.state = 'closing' AND e.filled_quantity = e.booked_quantity AND {MINE}
  AND o.state NOT IN ('planned', 'sending', 'unknown', 'accepted', 'partially_filled')
  AND (o.attempts < %(tries)s OR o.retry_at <= %(now)s)
ORDER BY p.id LIMIT %(limit)s
"""  # noqa: S608 (constants only)
"""(position, closing order) of positions whose closing order has ended.

A position ends after all fills of its entry are booked: it is due again once they are.
"""
FILLED = f"""
SELECT o.id, o.id FROM orders o
WHERE o.purpose = 'open' AND o.filled_quantity > o.booked_quantity AND {MINE}
  AND (o.attempts < %(tries)s OR o.retry_at <= %(now)s)
ORDER BY o.id LIMIT %(limit)s
"""  # noqa: S608 (constants only)
"""(entry, entry) of entries with fills that no position includes yet."""


DUE = f"""
(SELECT true, ended.* FROM ({ENDED.replace("%(limit)s", "%(ended)s")}) AS ended)
UNION ALL
(SELECT false, filled.* FROM ({FILLED.replace("%(limit)s", "%(filled)s")}) AS filled)
"""  # noqa: S608 (constants only)
"""Both in one statement, `ENDED` marked true: most passes find neither."""


def book(shard: Shard = ALL) -> tuple[int, int]:
    """End positions whose closing order has ended and open them for new fills; return (opened, closed).

    Exits come first, also those that end while a crowd of entries is booked: what is due is read again before each
    batch.
    """
    params: dict[str, Any] = {
        "tries": quarantine.TRIES,
        "now": clock.now(),
        "shards": shard.count,
        "shard": shard.index,
    }
    closed, opened = _Queue(_end), _Queue(open_positions)
    while True:
        with connection.cursor() as cursor:
            cursor.execute(DUE, params | {"ended": closed.limit, "filled": opened.limit})
            rows = cursor.fetchall()
        if not closed.book_batch({pk: order for ended, pk, order in rows if ended}) and not opened.book_batch(
            {pk: order for ended, pk, order in rows if not ended}
        ):
            return opened.done, closed.done


def book_pass(shard: Shard = ALL) -> Counts:
    """Run one pass of the monitor stage: book fills into positions and close those that have ended.

    The first shard wakes the others.
    """
    if shard.index == 0:
        for other in others(shard.count):
            wake.wake_task("positions.tasks.monitor", shard=other.index)
    opened, closed = book(shard)
    return Counts(opened + closed, opened + closed, {"opened": opened, "closed": closed})


class _Queue:
    """The rows of one kind. A row that was tried in this pass and is still due waits for the next one."""

    def __init__(self, step: Callable[[Sequence[int]], list[int]]) -> None:
        self._step = step
        self._tried: set[int] = set()
        self.done = 0

    @property
    def limit(self) -> int:
        """How many due rows must be read to find a batch among those tried before."""
        return passes.policy().batch + len(self._tried) - self.done

    def book_batch(self, order_of: Mapping[int, int]) -> bool:
        """Book the next batch of due rows (row -> order); return False where none was due."""
        batch = sorted(pk for pk in order_of if pk not in self._tried)[: passes.policy().batch]
        self._tried.update(batch)
        self.done += len(_by_halves(batch, self._step, order_of))
        return bool(batch)


def _end(position_ids: Sequence[int]) -> list[int]:
    return end_exits(with_ended_entry(position_ids))


def _by_halves(batch: Sequence[int], step: Any, order_of: Mapping[int, int]) -> list[int]:
    """Run `step(batch)`; count the error of a row that fails against its order."""

    def failed(pk: int, error: Exception) -> None:
        quarantine.count_failure(Order.objects.get(pk=order_of[pk]), error)

    done: list[int] = quarantine.by_halves(batch, step, failed)
    return done


@transaction.atomic
def open_positions(order_ids: Sequence[int]) -> list[int]:
    """Open the positions of filled entries, or enlarge them by the entries' new fills; return their ids."""
    rows = Order.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=order_ids)
    orders = load_orders(rows, count=len(order_ids))
    bulk.update(
        Order,
        [order.pk for order in orders],
        {"booked_quantity": [order.filled_quantity for order in orders]},
    )
    costs = read_costs([order.pk for order in orders])
    known = {one.entry_order_id: one for one in Position.objects.filter(entry_order__in=orders)}
    _enlarge([(known[order.pk], order) for order in orders if order.pk in known], costs)
    new = [order for order in orders if order.pk not in known]
    opened = _insert_positions(new, costs) if new else []
    quarantine.redrive_working(orders)
    return [one.pk for one in known.values()] + opened


def _insert_positions(orders: Sequence[Order], costs: Mapping[int, Costs]) -> list[int]:
    policy, now = protective_limits(), clock.now()
    rows = [_columns(order, policy, now) | {"fees": costs[order.pk].fees} for order in orders]
    ids = bulk.insert(Position, {name: [row[name] for row in rows] for name in rows[0]})
    write(
        [
            NewEvent(
                "position.open",
                f"positions.position/{pk}",
                order.correlation_id,
                {
                    "side": order.position_side,
                    "symbol": order.symbol,
                    "entry": f"{row['entry_price']:.8f}",
                    "owner_id": order.deployment.owner_id,
                },
            )
            for pk, order, row in zip(ids, orders, rows, strict=True)
        ]
    )
    return ids


def _columns(order: Order, policy: RiskPolicy, now: datetime) -> dict[str, Any]:
    """Return the columns of a new position, its exit levels in whole ticks; fees are not among them."""
    if order.signal is None or order.average_price is None:
        raise ValueError(f"entry order {order.pk} was filled without a signal or a price")
    exits = levels(
        policy.exits[order.deployment.agent.exit_preset],  # type: ignore[index]  # the column's choices
        side=order.position_side,
        entry=order.average_price,
        opened_at=now,
        stop_loss_pct=order.signal.stop_loss_pct,
        take_profit_pct=order.signal.take_profit_pct,
    )
    return {
        "deployment_id": order.deployment_id,
        "signal_id": order.signal_id,
        "entry_order_id": order.pk,
        "symbol": order.symbol,
        "side": order.position_side,
        "quantity": order.filled_quantity,
        "entry_price": order.average_price,
        **exits.columns(instrument(order.symbol).round_price),
        "opened_at": now,
        "correlation_id": order.correlation_id,
    }


def _enlarge(grown: Sequence[tuple[Position, Order]], costs: Mapping[int, Costs]) -> None:
    """Set quantity, entry price and fees of positions whose entries have new fills."""
    if not grown:
        return
    bulk.update(
        Position,
        [position.pk for position, _ in grown],
        {
            "quantity": [order.filled_quantity for _, order in grown],
            "entry_price": [order.average_price or ZERO for _, order in grown],
            "fees": [costs[order.pk].fees for _, order in grown],
        },
    )
    write(
        [
            NewEvent(
                "position.grown",
                subject(position),
                position.correlation_id,
                {"quantity": plain(order.filled_quantity)},
            )
            for position, order in grown
        ]
    )
