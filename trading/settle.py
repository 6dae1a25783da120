"""orders in flight -> what the venue says of them, and each fill into the ledger

Unknown is left only on evidence. An order that the venue does not know is sent again, byte for byte, where the
venue recognises a repeat; elsewhere its deadline is waited out, and the time that the venue may deny it besides.
"""

from collections.abc import Sequence
from datetime import datetime

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
from trading.models import Fill, Order
from trading.passes import TimeBudget
from trading.policy import policy
from trading.states import IN_FLIGHT, ORDER, OrderState
from trading.venues.base import Prepared, Report, Venue, VenueFill
from trading.wiring import venue

log = structlog.get_logger(__name__)


_cut_at: dict[str, int] = {}
"""Purpose -> the order that a pass of this process asked about last before its time was over."""


def settle_due(purpose: str = "", budget: TimeBudget | None = None) -> int:
    """Ask the venues about every order in flight (of one purpose where given), the oldest first, or on from where the
    last pass was cut off; returns how many moved."""
    in_flight = Order.objects.filter(state__in=IN_FLIGHT)
    if purpose:
        in_flight = in_flight.filter(purpose=purpose)
    moved = asked = 0
    for order in quarantine.oldest_first(
        in_flight, "deployment", after=_cut_at.pop(purpose, 0), budget=budget
    ):
        asked = order.pk
        with quarantine.quarantine_on_error(order):
            moved += settle(order, venue(order.venue))
    if budget is not None and budget.cut:
        _cut_at[purpose] = asked
    return moved


def settle(order: Order, at_venue: Venue) -> bool:
    """Ask the venue where the order stands and book it; True when anything changed."""
    asked = clock.now()  # an answer that was long on its way tells of the moment when we asked, at best
    try:
        report = at_venue.find(order.venue_ref)
    except (Retryable, Unknown) as error:  # a failed read changes nothing
        log.warning("order_not_read", order=order.pk, error=str(error))
        return False
    if report is None:
        return _missing(order, at_venue, asked)
    return apply(order, report, collects_fees=at_venue.capabilities.collects_fees)


def _missing(order: Order, at_venue: Venue, asked: datetime) -> bool:
    """The venue did not know the order (yet) when it was asked."""
    if order.state not in (OrderState.SENDING, OrderState.UNKNOWN) or order.deadline is None:
        log.error("venue_forgot_an_order", order=order.pk, state=order.state)
        return False
    if asked >= order.deadline + at_venue.capabilities.find_lag:
        advance(order, OrderState.EXPIRED, why="never_arrived", reason="never_arrived")
        return True
    if not at_venue.capabilities.dedup or clock.now() >= order.deadline:
        return False
    if not may_leave(order):
        return False
    try:
        at_venue.send(Prepared(order.venue_ref, order.prepared))
    except Rejected as no:
        advance(order, OrderState.REJECTED, why=str(no), reason=no.code)
        return True
    except (Retryable, Unknown) as error:
        log.warning("order_not_resent", order=order.pk, error=str(error))
    return False


def may_leave(order: Order) -> bool:
    """Whether the gate is open for a reserved order at this moment: asked right before anything is sent."""
    verdict = risk.gate_verdict(gate.read(order.venue, order.account), reduces=order.purpose == Purpose.CLOSE)
    if not verdict.allowed:
        log.warning("order_held_back", order=order.pk, error=verdict.reason)
    return verdict.allowed


@transaction.atomic
def apply(order: Order, report: Report, *, collects_fees: bool) -> bool:
    """Book new fills and move the order to where the venue says it stands; True when anything changed."""
    locked = Order.objects.select_for_update().get(pk=order.pk)
    new = _new_fills(locked, report.fills)
    if new:
        _book(locked, new, report.fills, collects_fees=collects_fees)
    order.filled_quantity, order.average_price = locked.filled_quantity, locked.average_price
    if report.state == locked.state:
        order.state = locked.state
        return bool(new)
    order.state = locked.state
    behind = report.state in IN_FLIGHT and report.state not in ORDER[OrderState(locked.state)]
    if locked.state not in IN_FLIGHT or behind:
        return bool(new)
    advance(order, report.state, why=report.reason, reason=report.reason, data=_told(order))
    return True


def _told(order: Order) -> dict[str, str]:
    return {
        "filled": f"{order.filled_quantity.normalize():f}",
        "price": f"{(order.average_price or ZERO).normalize():f}",
    }


def _new_fills(order: Order, reported: Sequence[VenueFill]) -> list[Fill]:
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
        for one in {one.fill_id: one for one in reported}.values()  # a venue may say a thing twice
        if one.fill_id not in known
    ]


def _book(order: Order, new: Sequence[Fill], told: Sequence[VenueFill], *, collects_fees: bool) -> None:
    """Ledger lines for each new fill, the platform fee with the first of an entry, and the order's totals."""
    first = order.filled_quantity == ZERO
    taken = {one.fill_id: one for one in told}
    for fill in new:
        ledger.book_fill(order, fill)
        one = taken[fill.venue_fill_id]
        ledger.book_collected_fees(order, fill, one.platform_fee, one.profit_share, one.share_receiver)
        record(
            "order.fill",
            order,
            quantity=f"{fill.quantity.normalize():f}",
            price=f"{fill.price.normalize():f}",
        )
    if order.purpose == Purpose.OPEN and first:
        if all(one.platform_fee is None for one in told):
            ledger.book_platform_fee(order, policy().fees.platform_fee_usdc, collected=collects_fees)
        raise_to(CtPost.objects.filter(signals=order.signal_id), "traded")
    totals = order.fills.aggregate(filled=Sum("quantity"), value=Sum(F("quantity") * F("price")))
    order.filled_quantity = totals["filled"]
    order.average_price = totals["value"] / totals["filled"]
    order.save(update_fields=["filled_quantity", "average_price", "updated_at"])
