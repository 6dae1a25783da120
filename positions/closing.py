"""Book ended closing orders: close positions with PnL, fees and profit share, or reopen them where tokens are left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import structlog
from django.db import connection, transaction

from agents.fees import share_profit
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import ZERO, usdc
from maxxit.events.record import Transition, advance_each
from maxxit.postgres import bulk
from positions.costs import Costs, read_costs
from positions.exits.levels import FORGET_REFUSALS_AFTER, retry_after
from positions.models import Position, ProfitMark
from positions.performance import pnl
from positions.states import PositionState
from trading import ledger
from trading.models import Order
from trading.reasons import Reason
from trading.risk.limits_in_force import protective_limits
from trading.states import IN_FLIGHT, IN_FLIGHT_SQL
from trading.wiring import venue

log = structlog.get_logger(__name__)

GATE_REASONS = frozenset({Reason.DRY_RUN, Reason.NOT_APPROVED, Reason.GATE_UNREADABLE})
"""A closing order blocked by the gate does not count as a refusal: the exit is retried as soon as the gate opens."""


UNENDED = f"""
SELECT EXISTS (
    SELECT FROM positions p JOIN orders e ON e.id = p.entry_order_id
    WHERE p.id = ANY(%s) AND e.state IN {IN_FLIGHT_SQL}
)
"""  # noqa: S608 (constants only)


def with_ended_entry(position_ids: Sequence[int]) -> list[int]:
    """Return the positions whose entry order has ended; ask the venue to cancel the entries of the others.

    A fill that arrived after its position closed would belong to no position. So the position stays in `closing` until
    the venue has reported how the entry ended.
    """
    with connection.cursor() as cursor:
        cursor.execute(UNENDED, [list(position_ids)])
        [any_unended] = cursor.fetchone()
    if not any_unended:
        return list(position_ids)
    rows = Position.objects.filter(pk__in=position_ids, entry_order__state__in=IN_FLIGHT)
    unended = {row.pk: row.entry_order for row in rows.select_related("entry_order").order_by("pk")}
    for entry in unended.values():
        try:
            venue(entry.venue).cancel(entry.venue_ref)
        except (Retryable, Unknown, Rejected) as error:  # the next pass tries again
            log.warning("entry_not_withdrawn", order=entry.pk, error=str(error))
    return [pk for pk in position_ids if pk not in unended]


@transaction.atomic
def end_exits(position_ids: Sequence[int]) -> list[int]:
    """Book the ended closing orders of positions: close each position, or reopen it; return the ids of those closed."""
    related = ("exit_order", "entry_order", "deployment__agent")
    held = Position.objects.select_for_update(of=("self",)).filter(pk__in=position_ids).order_by("pk")
    positions = [one for one in held.select_related(*related) if one.state == PositionState.CLOSING]
    if not positions:
        return []
    costs = read_costs([position.entry_order_id for position in positions])
    reopened: list[Transition] = []
    ended: list[tuple[Position, Decimal]] = []
    for position in positions:
        closing_order = position.exit_order
        if closing_order is None:
            raise ValueError(f"position {position.pk} is closing without an exit order")
        of_position = costs[position.entry_order_id]
        sold = of_position.of_order(closing_order.pk).quantity
        closed_quantity = position.closed_quantity + sold
        entry = position.entry_order
        if closed_quantity < position.quantity:
            reopened.append(_reopened(position, closing_order, sold, of_position))
        elif entry.booked_quantity == entry.filled_quantity:
            ended.append((position, closed_quantity))
        # Otherwise fills were settled meanwhile: the next pass first adds them to the position.
    advance_each(reopened, locked=True)
    _close(ended, costs)
    return [position.pk for position, _ in ended]


def _reopened(position: Position, closing_order: Order, sold: Decimal, costs: Costs) -> Transition:
    """Return the move closing -> open of a position of which `sold` tokens were sold, and not all."""
    refusals = 0 if sold else _refusals(position, closing_order)
    at_once = closing_order.reason in GATE_REASONS
    delay = retry_after(0 if closing_order.reason == Reason.NEVER_ARRIVED else refusals)
    fields = {
        "closed_quantity": position.closed_quantity + sold,
        "fees": costs.fees,
        "exit_reason": "",
        "exit_refusals": refusals,
        "exit_retry_at": None if at_once else clock.now() + delay,
    }
    why = closing_order.reason or str(closing_order.state)
    return Transition(position, PositionState.OPEN, why, fields=fields)


def _refusals(position: Position, closing_order: Order) -> int:
    """Return the number of refused closing orders in a row, including this one.

    Orders blocked by the gate or that never arrived do not count, and old refusals are forgotten
    (`FORGET_REFUSALS_AFTER`).
    """
    if closing_order.reason in {*GATE_REASONS, Reason.NEVER_ARRIVED}:
        return position.exit_refusals
    before = position.exit_retry_at
    forgotten = before is None or clock.now() - before > FORGET_REFUSALS_AFTER
    return 1 if forgotten else position.exit_refusals + 1


def close_out(position: Position, closed_quantity: Decimal) -> None:
    """Close one position whose row the caller has locked, in the caller's transaction.

    `closed_quantity`: all tokens that left the position, sold or withdrawn.
    """
    _close([(position, closed_quantity)], read_costs([position.entry_order_id]))


@dataclass(frozen=True, slots=True)
class _Result:
    """What a position earned, USDC."""

    position: Position
    closed_quantity: Decimal
    """Tokens."""
    costs: Costs
    earned: Decimal
    """After fees, before the profit share."""
    share: Decimal
    collected: bool
    """The venue has collected the share itself."""


def _close(ended: Sequence[tuple[Position, Decimal]], costs: Mapping[int, Costs]) -> None:
    """Move closing -> closed and book realised PnL, fees and profit share, all in USDC.

    Realised PnL = cash out - cash in (reversed for a short) - fees.
    """
    if not ended:
        return
    results = _results(ended, costs)
    advance_each([_closed(result) for result in results], locked=True)
    ledger.post_all(
        [
            ledger.profit_share_journal(
                result.position.pk,
                result.position.exit_order or result.position.entry_order,
                result.share,
                result.position.deployment.agent.profit_receiver,
                collected=False,
            )
            for result in results
            if result.share
            and not result.collected  # a share collected by the venue was booked with the fill
        ]
    )


def _results(ended: Sequence[tuple[Position, Decimal]], costs: Mapping[int, Costs]) -> list[_Result]:
    """Compute the results in order and carry the losses of each deployment forward."""
    marks = _lock_marks({position.deployment_id for position, _ in ended})
    fees = protective_limits().fees
    taken = ledger.taken_shares([position.entry_order_id for position, _ in ended if _collects(position)])
    results = []
    for position, closed_quantity in ended:
        of_position, mark = costs[position.entry_order_id], marks[position.deployment_id]
        cash_out = of_position.exits.cash + position.taken_value
        earned = pnl.gross(position.side, of_position.entry.cash, cash_out) - of_position.fees
        rule = position.deployment.terms(trade=fees.trade, profit=fees.profit).profit
        shared = share_profit(rule, earned, mark.carried_loss)
        mark.carried_loss = shared.carried_loss
        collected = _collects(position)
        share = taken.get(position.entry_order_id, ZERO) if collected else shared.share
        results.append(_Result(position, closed_quantity, of_position, earned, share, collected))
    bulk.update(
        ProfitMark,
        [mark.pk for mark in marks.values()],
        {"carried_loss": [mark.carried_loss for mark in marks.values()]},
    )
    return results


def _collects(position: Position) -> bool:
    """Return whether the venue collects the profit share itself."""
    return venue((position.exit_order or position.entry_order).venue).capabilities.collects_fees


def _lock_marks(deployment_ids: set[int]) -> dict[int, ProfitMark]:
    """Return the locked loss carry-forwards of deployments; those without one get it."""
    known = _lock_known_marks(deployment_ids)
    if new := [ProfitMark(deployment_id=pk) for pk in sorted(deployment_ids - known.keys())]:
        ProfitMark.objects.bulk_create(new, ignore_conflicts=True)
        known = _lock_known_marks(deployment_ids)
    return known


MARKS = """
SELECT id, deployment_id, carried_loss FROM profit_marks WHERE deployment_id = ANY(%s) ORDER BY deployment_id FOR UPDATE
"""


def _lock_known_marks(deployment_ids: set[int]) -> dict[int, ProfitMark]:
    with connection.cursor() as cursor:
        cursor.execute(MARKS, [list(deployment_ids)])
        return {
            deployment: ProfitMark(pk=pk, deployment_id=deployment, carried_loss=loss)
            for pk, deployment, loss in cursor.fetchall()
        }


def _closed(result: _Result) -> Transition:
    """Return the move closing -> closed."""
    position = result.position
    value = result.costs.exits.value + position.taken_value
    fields = {
        "closed_quantity": result.closed_quantity,
        "exit_price": value / result.closed_quantity,
        "closed_at": clock.now(),
        "fees": result.costs.fees,
        "realised_pnl": usdc(result.earned),
        "profit_share": result.share,
    }
    data = {
        "side": position.side,
        "symbol": position.symbol,
        "realised_pnl": f"{result.earned:f}",
        "profit_share": f"{result.share:f}",
        "owner_id": position.deployment.owner_id,
    }
    return Transition(position, PositionState.CLOSED, position.exit_reason, data, fields)
