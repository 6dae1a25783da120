"""Settle orders in flight: ask the venue for their status, book new fills, move the order to its state.

An order leaves the state `unknown` only on evidence. If the venue does not know it, the stored bytes are sent again
where the venue deduplicates; elsewhere the order expires after its deadline plus the venue's `find_lag`.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import structlog
from django.db import transaction
from django.db.models import F, Sum

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import ZERO
from maxxit.core.terms import Purpose
from maxxit.events.record import advance, record
from signals_app.models import CtPost
from signals_app.outcome import raise_to
from trading import gate, ledger, quarantine, risk
from trading.limits_in_force import protective_limits
from trading.models import Fill, Order
from trading.passes import TimeBudget
from trading.reasons import Reason
from trading.states import IN_FLIGHT, ORDER, OrderState
from trading.venues.base import Prepared, Report, Venue, VenueFill
from trading.wiring import venue

log = structlog.get_logger(__name__)


_resume_after: dict[str, int] = {}
"""Purpose -> the last order that this process asked about before its time budget was used up."""


def settle_due(purpose: str = "", budget: TimeBudget | None = None) -> int:
    """Settle every order in flight, of one purpose if given; return how many changed.

    Oldest first, or from where the previous pass ran out of time.
    """
    in_flight = Order.objects.filter(state__in=IN_FLIGHT)
    if purpose:
        in_flight = in_flight.filter(purpose=purpose)
    moved = last_asked = 0
    for order in quarantine.oldest_first(
        in_flight, "deployment", after=_resume_after.pop(purpose, 0), budget=budget
    ):
        last_asked = order.pk
        with quarantine.quarantine_on_error(order):
            moved += settle(order, venue(order.venue))
    if budget is not None and budget.cut:
        _resume_after[purpose] = last_asked
    return moved


def settle(order: Order, at_venue: Venue) -> bool:
    """Ask the venue for the order's status and book the answer; return whether anything changed."""
    asked_at = clock.now()  # a slow answer describes the moment of the request, not of its arrival
    try:
        report = at_venue.find(order.venue_ref)
    except (Retryable, Unknown) as error:  # a failed read changes nothing
        log.warning("order_not_read", order=order.pk, error=str(error))
        return False
    if report is None:
        return _handle_not_found(order, at_venue, asked_at)
    return apply_report(order, report, collects_fees=at_venue.capabilities.collects_fees)


def _handle_not_found(order: Order, at_venue: Venue, asked_at: datetime) -> bool:
    """Expire an order that the venue does not know, send it again, or wait; return whether its state changed.

    `asked_at`: when the venue was asked.
    """
    if order.state not in (OrderState.SENDING, OrderState.UNKNOWN) or order.deadline is None:
        log.error("venue_forgot_an_order", order=order.pk, state=order.state)
        return False
    if asked_at >= order.deadline + at_venue.capabilities.find_lag:
        advance(order, OrderState.EXPIRED, why=Reason.NEVER_ARRIVED, reason=Reason.NEVER_ARRIVED)
        return True
    if not at_venue.capabilities.dedup or clock.now() >= order.deadline:
        return False
    if not gate_allows(order):
        return False
    try:
        at_venue.send(Prepared(order.venue_ref, order.prepared))
    except Rejected as rejection:
        advance(order, OrderState.REJECTED, why=str(rejection), reason=rejection.code)
        return True
    except (Retryable, Unknown) as error:
        log.warning("order_not_resent", order=order.pk, error=str(error))
    return False


def gate_allows(order: Order) -> bool:
    """Return whether the gate lets a reserved order leave now. Call it right before anything is sent."""
    verdict = risk.gate_verdict(gate.read(order.venue, order.account), reduces=order.purpose == Purpose.CLOSE)
    if not verdict.allowed:
        log.warning("order_held_back", order=order.pk, error=verdict.reason)
    return verdict.allowed


@transaction.atomic
def apply_report(order: Order, report: Report, *, collects_fees: bool) -> bool:
    """Book the report's new fills and move the order to its state; return whether anything changed."""
    locked = Order.objects.select_for_update(no_key=True).get(pk=order.pk)
    new = _store_new_fills(locked, report.fills)
    if new:
        _book_fills(locked, new, report.fills, collects_fees=collects_fees)
    order.filled_quantity, order.average_price = locked.filled_quantity, locked.average_price
    if report.state == locked.state:
        order.state = locked.state
        return bool(new)
    order.state = locked.state
    behind = report.state in IN_FLIGHT and report.state not in ORDER[OrderState(locked.state)]
    if locked.state not in IN_FLIGHT or behind:
        return bool(new)
    advance(order, report.state, why=report.reason, reason=report.reason, data=_fill_totals(order))
    return True


def _fill_totals(order: Order) -> dict[str, str]:
    return {
        "filled": f"{order.filled_quantity.normalize():f}",
        "price": f"{(order.average_price or ZERO).normalize():f}",
    }


def _store_new_fills(order: Order, reported: Sequence[VenueFill]) -> list[Fill]:
    known = set(order.fills.values_list("venue_fill_id", flat=True))
    return [
        Fill.objects.create(
            order=order,
            venue_fill_id=one.fill_id,
            quantity=one.quantity,
            price=one.price,
            cash=one.cash,
            fee=one.fee,
            at=one.at,
        )
        for one in {one.fill_id: one for one in reported}.values()  # a venue may report a fill twice
        if one.fill_id not in known
    ]


def _book_fills(
    order: Order, new: Sequence[Fill], reported: Sequence[VenueFill], *, collects_fees: bool
) -> None:
    """Book each new fill in the ledger and update the order's totals.

    The platform fee (USDC) is booked once, with the first fill of an entry; where the venue reports the fee itself,
    its figure is used.
    """
    first = order.filled_quantity == ZERO
    by_id = {fill.fill_id: fill for fill in reported}
    for fill in new:
        ledger.book_fill(order, fill)
        venue_fill = by_id[fill.venue_fill_id]
        ledger.book_collected_fees(
            order, fill, venue_fill.platform_fee, venue_fill.profit_share, venue_fill.share_receiver
        )
        record(
            "order.fill",
            order,
            quantity=f"{fill.quantity.normalize():f}",
            price=f"{fill.price.normalize():f}",
        )
    totals = order.fills.aggregate(
        filled=Sum("quantity"), value=Sum(F("quantity") * F("price")), cash=Sum("cash")
    )
    if order.purpose == Purpose.OPEN and all(fill.platform_fee is None for fill in reported):
        _book_trade_fee(order, new[-1], totals["cash"], first=first, collected=collects_fees)
    if order.purpose == Purpose.OPEN and first:
        raise_to(CtPost.objects.filter(signals=order.signal_id), "traded")
    order.filled_quantity = totals["filled"]
    order.average_price = totals["value"] / totals["filled"]
    order.save(update_fields=["filled_quantity", "average_price", "updated_at"])


def _book_trade_fee(order: Order, fill: Fill, traded: Decimal, *, first: bool, collected: bool) -> None:
    """Book the platform fee of an entry: once, or what `traded` (USDC so far) adds to it where it depends on that."""
    rule = protective_limits().fees.trade
    if first:
        ledger.book_platform_fee(order, rule.charge(traded), collected=collected)
    elif rule.by_size:
        more = rule.charge(traded) - ledger.platform_fees(Order.objects.filter(pk=order.pk))
        if more > 0:
            ledger.book_platform_fee(order, more, collected=collected, with_fill=fill)
