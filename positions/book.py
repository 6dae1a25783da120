"""fills -> positions: opened with their exits, and closed with their PnL, fees and profit share"""

from collections import Counter
from decimal import Decimal

import structlog
from django.db import connection, transaction
from django.db.models import F, Q, Sum

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import ZERO, usdc
from maxxit.core.terms import Purpose
from maxxit.events.record import advance, record
from maxxit.market.instruments import instrument
from positions import pnl
from positions.exits.levels import FORGET_REFUSALS_AFTER, levels, retry_after
from positions.models import Position, ProfitMark
from positions.states import PositionState
from trading import ledger, quarantine
from trading.limits_in_force import protective_limits
from trading.models import Fill, Order
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
"""Entries with fills that no position has taken up, then positions whose closing order is over."""
GATE_REASONS = frozenset({"dry_run", "not_approved", "gate_unreadable"})
"""A closing order that the gate stopped is no refusal of the market: its position leaves as soon as the gate opens."""


def book() -> tuple[int, int]:
    """Open what was filled and close what is over; returns how many of each."""
    with connection.cursor() as cursor:
        cursor.execute(DUE, {"tries": quarantine.TRIES, "now": clock.now()})
        due = cursor.fetchall()
    done = Counter[str]()
    for what, pk, order_id in due:
        with quarantine.quarantine_on_error(Order.objects.get(pk=order_id)):
            if what == "open":
                done[what] += bool(_open(pk))
            elif _entry_is_over(pk):
                done[what] += _end(pk)
    return done["open"], done["end"]


@transaction.atomic
def _open(order_id: int) -> Position:
    """The position of an entry; more of its fills make it larger."""
    order = (
        Order.objects.select_for_update(of=("self",))
        .select_related("deployment__agent", "signal")
        .get(pk=order_id)
    )
    Order.objects.filter(pk=order_id).update(booked_quantity=order.filled_quantity)
    totals = _totals(order)
    grown = Position.objects.filter(entry_order=order).first()
    if grown:
        grown.quantity, grown.entry_price = order.filled_quantity, order.average_price or ZERO
        grown.fees = _fees(grown)
        grown.save(update_fields=["quantity", "entry_price", "fees"])
        record("position.grown", grown, quantity=f"{grown.quantity.normalize():f}")
        return grown
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
    token = instrument(order.symbol)
    opened = Position.objects.create(
        deployment=order.deployment,
        signal=order.signal,
        entry_order=order,
        symbol=order.symbol,
        side=order.position_side,
        quantity=order.filled_quantity,
        entry_price=order.average_price,
        stop_loss=token.round_price(exits.stop_loss),
        take_profit=token.round_price(exits.take_profit),
        trailing_activation=exits.trailing_activation and token.round_price(exits.trailing_activation),
        trailing_pct=exits.trailing_pct,
        time_exit_at=exits.time_exit_at,
        opened_at=clock.now(),
        fees=totals["fee"] + ledger.platform_fees(Order.objects.filter(pk=order_id)),
        correlation_id=order.correlation_id,
    )
    record("position.open", opened, side=opened.side, symbol=opened.symbol, entry=f"{opened.entry_price:.8f}")
    return opened


def _totals(order: Order) -> dict[str, Decimal]:
    found = Fill.objects.filter(order=order).aggregate(
        quantity=Sum("quantity"), cash=Sum("cash"), fee=Sum("fee")
    )
    return {name: value or ZERO for name, value in found.items()}


def _entry_is_over(position_id: int) -> bool:
    """Whether the entry can grow no more. What is left of it is withdrawn first: a fill that came after its position
    closed would be held by nobody. The position stays in closing until the venue has said how the entry ended."""
    entry = Position.objects.select_related("entry_order").get(pk=position_id).entry_order
    if entry.state not in IN_FLIGHT:
        return True
    try:
        venue(entry.venue).cancel(entry.venue_ref)
    except (Retryable, Unknown, Rejected) as error:  # asked again at the next pass
        log.warning("entry_not_withdrawn", order=entry.pk, error=str(error))
    return False


@transaction.atomic
def _end(position_id: int) -> bool:
    """Book what the exit order did; True when the position is closed, False when some or all of it is open again."""
    related = ("exit_order", "entry_order", "deployment__agent")
    position = Position.objects.select_for_update(of=("self",)).select_related(*related).get(pk=position_id)
    if position.state != PositionState.CLOSING:
        return False
    out = position.exit_order
    if out is None:
        raise ValueError(f"position {position.pk} is closing without an exit order")
    sold = _totals(out)["quantity"]
    gone = position.closed_quantity + sold
    if gone < position.quantity:
        refusals = 0 if sold else _refusals(position, out)
        advance(
            position,
            PositionState.OPEN,
            why=out.reason or str(out.state),
            closed_quantity=gone,
            fees=_fees(position),
            exit_reason="",
            exit_refusals=refusals,
            exit_retry_at=None if out.reason in GATE_REASONS else clock.now() + retry_after(refusals),
        )
        return False
    close_out(position, gone)
    return True


def _refusals(position: Position, out: Order) -> int:
    """How many closing orders in a row sold nothing, with `out`. Neither a shut gate counts, nor what was refused long
    before this one."""
    if out.reason in GATE_REASONS:
        return position.exit_refusals
    before = position.exit_retry_at
    forgotten = before is None or clock.now() - before > FORGET_REFUSALS_AFTER
    return 1 if forgotten else position.exit_refusals + 1


def close_out(position: Position, gone: Decimal) -> None:
    """Closing -> closed: PnL, fees and profit share of all that went in and out, `gone` tokens in whole.

    The caller holds the position's row.
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
    shared = pnl.profit_share(earned, mark.carried_loss, agent.profit_share)
    share = ledger.taken_share(f"close:{position.pk}:") if collected else shared.share
    mark.carried_loss = shared.carried_loss
    mark.save(update_fields=["carried_loss"])
    advance(
        position,
        PositionState.CLOSED,
        why=position.exit_reason,
        data={"realised_pnl": f"{earned:f}", "profit_share": f"{share:f}"},
        closed_quantity=gone,
        exit_price=(outs["value"] + position.taken_value) / gone,
        closed_at=clock.now(),
        fees=fees,
        realised_pnl=usdc(earned),
        profit_share=share,
    )
    if share and not collected:  # where the venue took it, the ledger has it from the fill
        ledger.book_profit_share(f"share:{position.pk}", last, share, agent.profit_receiver, collected=False)


def _all_exits(position: Position) -> dict[str, Decimal]:
    """What every closing order of the position brought: cash in USDC and price × quantity in USD."""
    fills = Fill.objects.filter(
        order__purpose=Purpose.CLOSE, order__idempotency_key__startswith=f"close:{position.pk}:"
    )
    found = fills.aggregate(cash=Sum("cash"), value=Sum(F("quantity") * F("price")), fee=Sum("fee"))
    return {name: value or ZERO for name, value in found.items()}


def _fees(position: Position) -> Decimal:
    """What the venue kept of its fills, in and out, and the platform fee as booked: on a chain, as its log says."""
    entry = _totals(position.entry_order)["fee"]
    orders = Q(pk=position.entry_order_id) | Q(idempotency_key__startswith=f"close:{position.pk}:")
    return entry + ledger.platform_fees(Order.objects.filter(orders)) + _all_exits(position)["fee"]
