"""Settle orders in flight: ask the venue for their status, book new fills, move the order to its state.

An order leaves the state `unknown` only on evidence. If the venue does not know it, the stored bytes are sent again
where the venue deduplicates; elsewhere the order expires after its deadline plus the venue's `find_lag`. A batch of
orders of one venue is booked in one transaction of a handful of statements.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import ZERO, exactly, plain
from maxxit.core.terms import Purpose
from maxxit.events.record import NewEvent, Transition, advance, advance_each, subject, write
from maxxit.postgres import bulk
from signals_app.models import CtPost
from signals_app.outcome import raise_to
from trading import gate, ledger, quarantine
from trading.billing.terms import read_terms
from trading.models import Fill, Order
from trading.passes import TimeBudget
from trading.reasons import Reason
from trading.risk import checks
from trading.risk.limits_in_force import protective_limits
from trading.shards import ALL, Shard
from trading.states import IN_FLIGHT, ORDER, OrderState
from trading.venues.base import Prepared, Report, Venue, VenueFill
from trading.wiring import batch_size, venue

log = structlog.get_logger(__name__)


LEFT_OUT = Retryable("the venue's answer leaves it out")

_resume_after: dict[str, int] = {}
"""Purpose -> the last order that this process asked about before its time budget was used up."""


def settle_due(purpose: str = "", budget: TimeBudget | None = None, shard: Shard = ALL) -> int:
    """Settle every order in flight, of one purpose and of one shard if given; return how many changed.

    Oldest first, or from where the previous pass ran out of time.
    """
    in_flight = shard.of(Order.objects.filter(state__in=IN_FLIGHT))
    if purpose:
        in_flight = in_flight.filter(purpose=purpose)
    changed = last_asked = 0
    waiting = quarantine.due(in_flight, after=_resume_after.pop(purpose, 0))
    for batch in quarantine.batches(in_flight, waiting, batch_size, budget):
        last_asked = batch[-1].pk
        with quarantine.counted_for_each(batch):
            changed += settle_orders(batch, venue(batch[0].venue))
    if budget is not None and budget.cut:
        _resume_after[purpose] = last_asked
    return changed


def settle_orders(orders: Sequence[Order], at_venue: Venue) -> int:
    """Ask one venue for the status of orders in flight and book the answers; return how many changed."""
    if not orders:
        return 0
    asked_at = clock.now()  # a slow answer describes the moment of the request, not of its arrival
    return book_answers(orders, at_venue, at_venue.find_many([order.venue_ref for order in orders]), asked_at)


def book_answers(
    orders: Sequence[Order],
    at_venue: Venue,
    answers: Mapping[str, Report | Exception | None],
    asked_at: datetime,
) -> int:
    """Book what a venue answered about orders in flight (`find_many`); return how many changed.

    `asked_at`: when the venue was asked. The state and totals of `orders` are those in the database afterwards.
    """
    reported: list[Reported] = []
    changed = 0
    for order in orders:
        report = answers.get(order.venue_ref, LEFT_OUT)
        if isinstance(report, Report):
            reported.append(Reported(order, report))
        elif report is None:
            with quarantine.quarantine_on_error(order):
                changed += _handle_not_found(order, at_venue, asked_at)
        elif isinstance(report, Retryable | Unknown):  # a failed read changes nothing
            log.warning("order_not_read", order=order.pk, error=str(report))
        else:
            quarantine.count_failure(order, report)
    collects_fees = at_venue.capabilities.collects_fees

    def book(part: Sequence[Reported]) -> list[Reported]:
        return apply_reports(part, collects_fees=collects_fees)

    booked = quarantine.by_halves(
        reported, book, lambda one, error: quarantine.count_failure(one.order, error)
    )
    quarantine.redrive_working(one.order for one in booked)
    return changed + sum(one.changed for one in booked)


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
    if not allowed_by_gate([order]):
        return False
    try:
        at_venue.send(Prepared(order.venue_ref, order.prepared))
    except Rejected as rejection:
        since = order.reserved_at or asked_at
        if (
            clock.now() < since + at_venue.capabilities.find_lag
        ):  # the first may have arrived and not be found yet
            log.warning("resend_refused", order=order.pk, error=str(rejection))
            return False
        advance(order, OrderState.REJECTED, why=str(rejection), reason=rejection.code)
        return True
    except (Retryable, Unknown) as error:
        log.warning("order_not_resent", order=order.pk, error=str(error))
    return False


def allowed_by_gate(orders: Sequence[Order]) -> set[int]:
    """Return the ids of those reserved orders of one venue that the gate lets leave now.

    Call it right before anything is sent.
    """
    gates = gate.read_many(orders[0].venue, [order.account for order in orders])
    allowed = set()
    for order in orders:
        verdict = checks.gate_verdict(gates[order.account], reduces=order.purpose == Purpose.CLOSE)
        if verdict.allowed:
            allowed.add(order.pk)
        else:
            log.warning("order_held_back", order=order.pk, error=verdict.reason)
    return allowed


def note_send_errors(failed: Sequence[tuple[Order, Exception]]) -> None:
    """Move orders whose sending raised: rejected, or unknown where they may have arrived; others stay as they are."""
    transitions = []
    for order, error in failed:
        if isinstance(error, Rejected):
            transitions.append(
                Transition(order, OrderState.REJECTED, str(error), fields={"reason": error.code})
            )
        elif isinstance(error, Unknown):
            transitions.append(Transition(order, OrderState.UNKNOWN, str(error)))
        elif isinstance(error, Retryable):  # it did not arrive: the settle sweep sends the same bytes again
            log.warning("order_not_sent", order=order.pk, error=str(error))
        else:
            quarantine.count_failure(order, error)
    moved = quarantine.by_halves(
        transitions, advance_each, lambda one, error: quarantine.count_failure(one.row, error)
    )
    for transition in moved:
        transition.apply()


@dataclass(slots=True)
class Reported:
    """An order and what its venue reports of it."""

    order: Order
    report: Report
    changed: bool = False
    """Set by `apply_reports`: whether a fill was new or the state moved."""


@dataclass(slots=True)
class _Booking:
    """One order's fills while its report is booked."""

    order: Order
    report: Report
    new: list[VenueFill]
    first: bool
    """Whether the order had no fill before."""
    quantity: Decimal
    """Tokens of all fills, old and new."""
    value: Decimal
    """USD: price × quantity of all fills."""
    cash: Decimal
    """USDC of all fills."""
    ids: list[int] = field(default_factory=list)
    """Ids of the new fills."""

    @property
    def totals(self) -> dict[str, Decimal]:
        """The order's columns that follow from the fills."""
        return {"filled_quantity": self.quantity, "average_price": self.value / self.quantity}


LOCK = """
SELECT id, state, filled_quantity, average_price FROM orders WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE
"""


class _Current(NamedTuple):
    """What another worker may have changed of an order."""

    state: str
    filled_quantity: Decimal
    average_price: Decimal | None


@transaction.atomic
def apply_reports(reports: Sequence[Reported], *, collects_fees: bool) -> list[Reported]:
    """Book the new fills of orders of one venue and move each order to its state; return `reports`, marked."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [[one.order.pk for one in reports]])
        current = {pk: _Current(*values) for pk, *values in cursor.fetchall()}
    bookings = _new_fills(reports, current)
    _book_fills(list(bookings.values()), collects_fees=collects_fees)
    transitions: list[Transition] = []
    grown: list[_Booking] = []
    for one in reports:
        order, row, booking = one.order, current[one.order.pk], bookings.get(one.order.pk)
        order.state, order.filled_quantity, order.average_price = (
            row.state,
            row.filled_quantity,
            row.average_price,
        )
        one.changed = booking is not None or _moves(order, one.report)
        if _moves(order, one.report):
            transitions.append(_ended_or_moved(order, one.report, booking))
        elif booking:
            grown.append(booking)
    for transition in advance_each(transitions, locked=True):
        transition.apply()
    _store_totals(grown)
    return list(reports)


def _moves(order: Order, report: Report) -> bool:
    """Return whether the report moves the order on. A report that is older than the order's state does not."""
    if report.state == order.state or order.state not in IN_FLIGHT:
        return False
    return report.state not in IN_FLIGHT or report.state in ORDER[OrderState(order.state)]


def _ended_or_moved(order: Order, report: Report, booking: _Booking | None) -> Transition:
    """Return the move to the reported state, with the totals and the events of the new fills."""
    columns = booking.totals if booking else {}
    price = columns.get("average_price", order.average_price) or ZERO
    totals = {
        "filled": plain(columns.get("filled_quantity", order.filled_quantity)),
        "price": plain(price),
    }
    fills = _fill_events(booking) if booking else ()
    return Transition(order, report.state, report.reason, totals, {"reason": report.reason, **columns}, fills)


def _fill_events(booking: _Booking) -> tuple[tuple[str, dict[str, str]], ...]:
    return tuple(
        ("order.fill", {"quantity": plain(fill.quantity), "price": plain(fill.price)}) for fill in booking.new
    )


def _store_totals(grown: Sequence[_Booking]) -> None:
    """Store new totals and fill events of orders whose state stays."""
    if not grown:
        return
    columns: dict[str, list[Any]] = {
        name: [one.totals[name] for one in grown] for name in ("filled_quantity", "average_price")
    }
    columns["updated_at"] = [clock.now()] * len(grown)
    bulk.update(Order, [one.order.pk for one in grown], columns)
    events = ((one.order, event) for one in grown for event in _fill_events(one))
    write([NewEvent(name, subject(order), order.correlation_id, data) for order, (name, data) in events])
    for one in grown:
        for name, value in one.totals.items():
            setattr(one.order, name, value)


class Amounts(NamedTuple):
    """A fill's tokens, price in USD and cash in USDC."""

    quantity: Decimal
    price: Decimal
    cash: Decimal


def _new_fills(reports: Sequence[Reported], current: Mapping[int, _Current]) -> dict[int, _Booking]:
    """Return the orders with fills that are not stored yet, with the totals of all their fills."""
    known: dict[int, dict[str, Amounts]] = defaultdict(dict)
    filled = [pk for pk, order in current.items() if order.filled_quantity]
    rows = Fill.objects.filter(order__in=filled).order_by()
    for order_id, fill_id, quantity, price, cash in rows.values_list(
        "order", "venue_fill_id", "quantity", "price", "cash"
    ):
        known[order_id][fill_id] = Amounts(quantity, price, cash)
    bookings = {}
    for one in reports:
        before = known[one.order.pk]
        offered = {fill.fill_id: fill for fill in one.report.fills}  # a venue may report a fill twice
        new = [fill for fill_id, fill in offered.items() if fill_id not in before]
        if new:
            fills = [*before.values(), *(Amounts(fill.quantity, fill.price, fill.cash) for fill in new)]
            with exactly():
                quantity = sum((fill.quantity for fill in fills), ZERO)
                value = sum((fill.quantity * fill.price for fill in fills), ZERO)
                cash = sum((fill.cash for fill in fills), ZERO)
            first = current[one.order.pk].filled_quantity == ZERO
            bookings[one.order.pk] = _Booking(one.order, one.report, new, first, quantity, value, cash)
    return bookings


def _book_fills(bookings: Sequence[_Booking], *, collects_fees: bool) -> None:
    """Store the new fills and book them, and the platform's fees, in the ledger."""
    if not bookings:
        return
    fills = [(booking, fill) for booking in bookings for fill in booking.new]
    ids = bulk.insert(
        Fill,
        {
            "order_id": [booking.order.pk for booking, _ in fills],
            "venue_fill_id": [fill.fill_id for _, fill in fills],
            "quantity": [fill.quantity for _, fill in fills],
            "price": [fill.price for _, fill in fills],
            "cash": [fill.cash for _, fill in fills],
            "fee": [fill.fee for _, fill in fills],
            "at": [fill.at for _, fill in fills],
        },
    )
    for (booking, _), pk in zip(fills, ids, strict=True):
        booking.ids.append(pk)
    fees = _trade_fees(bookings, collects_fees)
    ledger.post_all([journal for booking in bookings for journal in _journals(booking, fees)])
    entries = {one.order.signal_id for one in bookings if one.first and one.order.purpose == Purpose.OPEN}
    if entries:
        raise_to(CtPost.objects.filter(signals__in=entries), "traded")


def _journals(booking: _Booking, fees: Mapping[int, ledger.Journal]) -> Iterator[ledger.Journal]:
    order = booking.order
    for pk, fill in zip(booking.ids, booking.new, strict=True):
        yield ledger.fill_journal(order, pk, fill)
        yield ledger.collected_fees_journal(
            order, pk, fill.platform_fee, fill.profit_share, fill.share_receiver
        )
    if order.pk in fees:
        yield fees[order.pk]


def _trade_fees(bookings: Sequence[_Booking], collected: bool) -> dict[int, ledger.Journal]:
    """Return order -> journal of the platform fee of an entry, where the venue does not report the fee itself.

    It is booked once, with the first fill; later what `cash` adds to it where it depends on what was traded.
    """
    charged = [
        one
        for one in bookings
        if one.order.purpose == Purpose.OPEN and all(fill.platform_fee is None for fill in one.report.fills)
    ]
    if not charged:
        return {}
    terms = read_terms([one.order.deployment_id for one in charged], protective_limits().fees)
    rules = {one.order.pk: terms[one.order.deployment_id].trade for one in charged}
    fees = {
        one.order.pk: ledger.platform_fee_journal(
            one.order, rules[one.order.pk].charge(one.cash), collected=collected
        )
        for one in charged
        if one.first
    }
    later = [one for one in charged if not one.first and rules[one.order.pk].by_size]
    booked = ledger.platform_fees([one.order.pk for one in later]) if later else {}
    for one in later:
        more = rules[one.order.pk].charge(one.cash) - booked.get(one.order.pk, ZERO)
        if more > 0:
            fees[one.order.pk] = ledger.platform_fee_journal(
                one.order, more, collected=collected, with_fill=one.ids[-1]
            )
    return fees
