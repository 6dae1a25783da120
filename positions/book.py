"""Book fills into positions: open them with their exit levels, close them with PnL, fees and profit share."""

from collections import Counter
from decimal import Decimal

import structlog
from django.db import connection, transaction
from django.db.models import F, Q, Sum

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import ZERO, usdc
from maxxit.events.record import advance, record
from maxxit.market.instruments import instrument
from positions import pnl
from positions.exits.levels import FORGET_REFUSALS_AFTER, levels, retry_after
from positions.models import Position, ProfitMark
from positions.states import PositionState
from trading import ledger, quarantine
from trading.fees import share_profit
from trading.limits_in_force import protective_limits
from trading.models import Fill, Order
from trading.reasons import Reason
from trading.states import IN_FLIGHT
from trading.wiring import venue

log = structlog.get_logger(__name__)

DUE = """
SELECT 'open', o.id, o.id FROM orders o
WHERE o.purpose = 'open' AND o.filled_quantity > o.booked_quantity
  AND (o.attempts < %(tries)s OR o.retry_at <= %(now)s)
UNION ALL
SELECT 'end', p.id, o.id FROM positions p JOIN orders o ON o.id = p.exit_order_id
WHERE p.state = 'closing' AND o.state NOT IN ('planned', 'sending', 'unknown', 'accepted', 'partially_filled')
  AND (o.attempts < %(tries)s OR o.retry_at <= %(now)s)
ORDER BY 1 DESC, 2
"""
"""Entries with fills that no position includes yet, then positions whose closing order has ended."""
GATE_REASONS = frozenset({Reason.DRY_RUN, Reason.NOT_APPROVED, Reason.GATE_UNREADABLE})
"""A closing order blocked by the gate does not count as a refusal: the exit is retried as soon as the gate opens."""


def book() -> tuple[int, int]:
    """Open positions for new fills and end those whose closing order has ended; return (opened, closed)."""
    with connection.cursor() as cursor:
        cursor.execute(DUE, {"tries": quarantine.TRIES, "now": clock.now()})
        due = cursor.fetchall()
    done = Counter[str]()
    for what, pk, order_id in due:
        with quarantine.quarantine_on_error(Order.objects.get(pk=order_id)):
            if what == "open":
                done[what] += bool(_open_position(pk))
            elif _entry_has_ended(pk):
                done[what] += _end_exit(pk)
    return done["open"], done["end"]


@transaction.atomic
def _open_position(order_id: int) -> Position:
    """Open the position of a filled entry, or enlarge it by the entry's new fills."""
    order = (
        Order.objects.select_for_update(of=("self",), no_key=True)
        .select_related("deployment__agent", "signal")
        .get(pk=order_id)
    )
    Order.objects.filter(pk=order_id).update(booked_quantity=order.filled_quantity)
    totals = _totals(order)
    position = Position.objects.filter(entry_order=order).first()
    if position:
        position.quantity, position.entry_price = order.filled_quantity, order.average_price or ZERO
        position.fees = _fees(position)
        position.save(update_fields=["quantity", "entry_price", "fees"])
        record("position.grown", position, quantity=f"{position.quantity.normalize():f}")
        return position
    if order.signal is None or order.average_price is None:
        raise ValueError(f"entry order {order.pk} was filled without a signal or a price")
    rules = protective_limits().exits[order.deployment.agent.exit_preset]  # type: ignore[index]  # the column's choices
    exits = levels(
        rules,
        side=order.position_side,
        entry=order.average_price,
        opened_at=clock.now(),
        stop_loss_pct=order.signal.stop_loss_pct,
        take_profit_pct=order.signal.take_profit_pct,
    )
    opened = Position.objects.create(
        deployment=order.deployment,
        signal=order.signal,
        entry_order=order,
        symbol=order.symbol,
        side=order.position_side,
        quantity=order.filled_quantity,
        entry_price=order.average_price,
        **exits.columns(instrument(order.symbol).round_price),
        opened_at=clock.now(),
        fees=totals["fee"] + ledger.platform_fees(Order.objects.filter(pk=order_id)),
        correlation_id=order.correlation_id,
    )
    record("position.open", opened, side=opened.side, symbol=opened.symbol, entry=f"{opened.entry_price:.8f}")
    return opened


def _totals(order: Order) -> dict[str, Decimal]:
    totals = Fill.objects.filter(order=order).aggregate(
        quantity=Sum("quantity"), cash=Sum("cash"), fee=Sum("fee")
    )
    return {name: value or ZERO for name, value in totals.items()}


def _entry_has_ended(position_id: int) -> bool:
    """Return whether the entry order has ended; otherwise cancel it.

    A fill that arrived after its position closed would belong to no position. So the position stays in `closing` until
    the venue has reported how the entry ended.
    """
    entry = Position.objects.select_related("entry_order").get(pk=position_id).entry_order
    if entry.state not in IN_FLIGHT:
        return True
    try:
        venue(entry.venue).cancel(entry.venue_ref)
    except (Retryable, Unknown, Rejected) as error:  # the next pass tries again
        log.warning("entry_not_withdrawn", order=entry.pk, error=str(error))
    return False


@transaction.atomic
def _end_exit(position_id: int) -> bool:
    """Book an ended exit order: close the position, or reopen it where tokens are left; return whether it closed."""
    related = ("exit_order", "entry_order", "deployment__agent")
    position = Position.objects.select_for_update(of=("self",)).select_related(*related).get(pk=position_id)
    if position.state != PositionState.CLOSING:
        return False
    out = position.exit_order
    if out is None:
        raise ValueError(f"position {position.pk} is closing without an exit order")
    sold = _totals(out)["quantity"]
    closed_quantity = position.closed_quantity + sold
    if closed_quantity < position.quantity:
        refusals = 0 if sold else _refusals(position, out)
        advance(
            position,
            PositionState.OPEN,
            why=out.reason or str(out.state),
            closed_quantity=closed_quantity,
            fees=_fees(position),
            exit_reason="",
            exit_refusals=refusals,
            exit_retry_at=None if out.reason in GATE_REASONS else clock.now() + retry_after(refusals),
        )
        return False
    entry = position.entry_order
    if entry.booked_quantity != entry.filled_quantity:
        return False  # fills that were settled meanwhile: the next pass first adds them to the position
    close_out(position, closed_quantity)
    return True


def _refusals(position: Position, out: Order) -> int:
    """Return the number of refused closing orders in a row, including this one.

    Orders blocked by the gate do not count, and old refusals are forgotten (`FORGET_REFUSALS_AFTER`).
    """
    if out.reason in GATE_REASONS:
        return position.exit_refusals
    before = position.exit_retry_at
    forgotten = before is None or clock.now() - before > FORGET_REFUSALS_AFTER
    return 1 if forgotten else position.exit_refusals + 1


def close_out(position: Position, closed_quantity: Decimal) -> None:
    """Move closing -> closed and book realised PnL, fees and profit share, all in USDC.

    Realised PnL = cash out - cash in (reversed for a short) - fees. `closed_quantity`: all tokens that left the
    position, sold or withdrawn. The caller has locked the position's row.
    """
    last = position.exit_order or position.entry_order
    mark, _ = ProfitMark.objects.get_or_create(deployment=position.deployment)
    mark = ProfitMark.objects.select_for_update().get(pk=mark.pk)
    outs = _all_exits(position)
    cash_in = _totals(position.entry_order)["cash"]
    fees = _fees(position)
    earned = pnl.gross(position.side, cash_in, outs["cash"] + position.taken_value) - fees
    agent = position.deployment.agent
    collected = venue(last.venue).capabilities.collects_fees
    rule = protective_limits().fees.profit.with_rate(agent.profit_share)
    shared = share_profit(rule, earned, mark.carried_loss)
    share = ledger.taken_share(position.entry_order_id) if collected else shared.share
    mark.carried_loss = shared.carried_loss
    mark.save(update_fields=["carried_loss"])
    advance(
        position,
        PositionState.CLOSED,
        why=position.exit_reason,
        data={"realised_pnl": f"{earned:f}", "profit_share": f"{share:f}"},
        closed_quantity=closed_quantity,
        exit_price=(outs["value"] + position.taken_value) / closed_quantity,
        closed_at=clock.now(),
        fees=fees,
        realised_pnl=usdc(earned),
        profit_share=share,
    )
    if share and not collected:  # a share collected by the venue was booked with the fill
        ledger.book_profit_share(position.pk, last, share, agent.profit_receiver, collected=False)


def _all_exits(position: Position) -> dict[str, Decimal]:
    """Return the totals of all closing orders' fills: cash and fees in USDC, value (price × quantity) in USD."""
    fills = Fill.objects.filter(order__closes=position.entry_order_id)
    found = fills.aggregate(cash=Sum("cash"), value=Sum(F("quantity") * F("price")), fee=Sum("fee"))
    return {name: value or ZERO for name, value in found.items()}


def _fees(position: Position) -> Decimal:
    """Return the position's fees in USDC: venue fees of all fills, and the platform fee as booked in the ledger."""
    entry = _totals(position.entry_order)["fee"]
    orders = Q(pk=position.entry_order_id) | Q(closes=position.entry_order_id)
    return entry + ledger.platform_fees(Order.objects.filter(orders)) + _all_exits(position)["fee"]
