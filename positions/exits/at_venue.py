"""Adopt the fills of exits that a venue keeps itself, and end those exits before a closing order of ours is sent.

A venue may keep an entry's stop and target (`Capabilities.resting_exits`), so that they fire while we are down. Our
sweep goes on as for any position. Whichever fills first closes it:

* An exit of the venue that has fills becomes a closing order of ours (`adopt`), once: its idempotency key names it. The
  position goes open -> closing with that order, which is settled and booked as any other. A closing order of ours that
  waits is blocked (`exits_at_venue`) in the same transaction.
* A closing order of ours is held by `trading.execute` until the venue keeps no exit of the position (`release`). A
  cancellation that is not answered proves nothing: the order waits, and the next pass asks again.

The venue's exits stay where they were put. A trailing stop, and any level that is tightened later, is our sweep's.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q

from maxxit.core import clock, correlation
from maxxit.core.money import ZERO
from maxxit.core.terms import Purpose
from maxxit.events.record import advance, record
from positions.models import Position
from positions.states import PositionState
from trading import passes
from trading.entries import resting_exits
from trading.models import ExitsAtVenue, Order
from trading.passes import ends_the_pass
from trading.reasons import Reason
from trading.states import IN_FLIGHT, OrderState
from trading.venues import background
from trading.venues.base import Leg
from trading.wiring import batch_size, venue

log = structlog.get_logger(__name__)

PAUSES = (0.0, 0.25, 0.75)
"""Seconds before each question whether the cancellation took effect; then the next pass asks."""
ASK_AGAIN_AFTER = timedelta(seconds=2)
"""An entry whose exits could not be ended is asked about no sooner, however often the exits pass runs."""
STALLED_AFTER = timedelta(seconds=30)
"""An exit of the venue that has fills and is not over by then is canceled: a position that closes is not swept, so that
what is left of it would have no stop. Ours follows for the rest."""
_read_at: dict[int, datetime] = {}
"""Entry -> when `watch` last read its exits in this process."""
NEVER = datetime.min.replace(tzinfo=UTC)


def watch(budget: passes.TimeBudget | None = None) -> int:
    """Ask the venues about the exits that rest there, those longest not read first; return how many entries changed.

    Fills are adopted. An entry without fills that has ended keeps no exits. Those of a position that was closed
    otherwise are canceled, and those that filled in part and stand still. It reads in the background: those for which
    a venue's rate limit leaves nothing are the first of the next pass.
    """
    never_filled = Order.objects.filter(
        Q(filled_quantity=ZERO), exits_at_venue=ExitsAtVenue.RESTING, purpose=Purpose.OPEN
    ).exclude(state__in=(OrderState.PLANNED, *IN_FLIGHT))
    changed = never_filled.update(exits_at_venue=ExitsAtVenue.ENDED)
    for batch in _longest_not_read():
        if budget is not None and not budget.left():
            break
        rows = Order.objects.filter(exits_at_venue=ExitsAtVenue.RESTING).in_bulk(batch)
        entries = [rows[pk] for pk in batch if pk in rows]
        closed = set(
            Position.objects.filter(entry_order__in=entries, state=PositionState.CLOSED)
            .order_by()
            .values_list("entry_order_id", flat=True)
        )
        over = closed | _stalled(entries)
        _cancel([entry for entry in entries if entry.pk in over])
        now = clock.now()
        with background.reads():
            exits = resting_exits.read(entries)
        changed += _apply(entries, exits)
        _read_at.update({pk: now for pk, answer in exits.items() if not getattr(answer, "limited", False)})
    return changed


def _longest_not_read() -> Iterator[list[int]]:
    """Yield all entries whose exits rest at their venue, in batches of one venue, those longest not read first."""
    resting = Order.objects.filter(exits_at_venue=ExitsAtVenue.RESTING).exclude(state=OrderState.SENDING)
    venues = dict(resting.order_by("pk").values_list("pk", "venue"))
    for gone in _read_at.keys() - venues.keys():
        _read_at.pop(gone, None)
    of_venue: dict[str, list[int]] = {}
    for pk in sorted(venues, key=lambda pk: (_read_at.get(pk, NEVER), pk)):
        of_venue.setdefault(venues[pk], []).append(pk)
    for name, ids in of_venue.items():
        size = batch_size(name)
        for start in range(0, len(ids), size):
            yield ids[start : start + size]


def _stalled(entries: Sequence[Order]) -> set[int]:
    """Return the ids of the entries of which an exit was adopted some time ago and is not over."""
    adopted = Order.objects.filter(
        closes__in=entries,
        state__in=IN_FLIGHT,
        idempotency_key__startswith=resting_exits.KEY,
        created_at__lte=clock.now() - STALLED_AFTER,
    )
    return {pk for pk in adopted.order_by().values_list("closes_id", flat=True) if pk is not None}


def release(held: Sequence[Order]) -> Iterator[list[Order]]:
    """End the exits that the venue keeps for positions whose closing orders are held; yield those now free, in rounds.

    In each round the venue is asked to cancel them, and then what became of them. An order whose exits filled is
    blocked and never free, nor is one of which nothing certain is known.
    """
    now = clock.now()
    waiting = {
        entry.pk: entry
        for entry in Order.objects.filter(
            pk__in=[order.closes_id for order in held], exits_at_venue=ExitsAtVenue.RESTING
        )
        if entry.exits_canceled_at is None or now - entry.exits_canceled_at >= ASK_AGAIN_AFTER
    }
    left = {order.pk: order for order in held}
    for pause in PAUSES:
        if waiting:
            time.sleep(pause)
            _cancel(list(waiting.values()))
            _apply(list(waiting.values()), resting_exits.read(list(waiting.values())))
            still = resting_exits.of_entries(list(left.values()))
            waiting = {pk: entry for pk, entry in waiting.items() if pk in still}
        orders = Order.objects.filter(pk__in=left, state=OrderState.PLANNED).order_by("pk")
        free = orders.exclude(closes__exits_at_venue=ExitsAtVenue.RESTING).values_list("pk", flat=True)
        if ended := [left.pop(pk) for pk in list(free)]:
            yield ended
        if not waiting:
            return
    for pk in waiting:
        log.warning("exits_not_ended", order=pk)


def _cancel(entries: Sequence[Order]) -> None:
    """Ask the venues to cancel the exits of these entries, and what is not filled of the entries."""
    refs: dict[str, list[str]] = {}
    for entry in entries:
        refs.setdefault(entry.venue, []).append(entry.venue_ref)
    Order.objects.filter(pk__in=[entry.pk for entry in entries]).update(exits_canceled_at=clock.now())
    for name, of_venue in refs.items():
        try:
            venue(name).release(of_venue)
        except Exception as error:  # what it did is read next; the next pass cancels again
            if ends_the_pass(error):
                raise
            log.warning("exits_not_canceled", venue=name, error=str(error))


def _apply(entries: Sequence[Order], exits: Mapping[int, resting_exits.Exits]) -> int:
    """Store what the venues said of the exits of entries; return how many entries changed."""
    changed = 0
    for entry in entries:
        legs = exits[entry.pk]
        if isinstance(legs, tuple) and (all(leg.ended for leg in legs) or any(leg.filled for leg in legs)):
            try:
                changed += adopt(entry.pk, legs)
            except Exception as error:  # one position must not keep the others from being read
                if ends_the_pass(error):
                    raise
                log.exception("exits_not_adopted", order=entry.pk, error=str(error))
    return changed


@transaction.atomic
def adopt(entry_id: int, legs: Sequence[Leg]) -> bool:
    """Make closing orders of the exits that have fills; mark the entry ended once none can fill; return if it changed.

    A position takes one closing order at a time: a second exit with fills waits until the first is booked.
    """
    entry = Order.objects.select_for_update(no_key=True).get(pk=entry_id)
    if entry.exits_at_venue != ExitsAtVenue.RESTING:
        return False
    keys = {resting_exits.key_of(entry_id, leg): leg for leg in legs if leg.filled}
    known = set(Order.objects.filter(idempotency_key__in=keys).values_list("idempotency_key", flat=True))
    new = [(key, leg) for key, leg in keys.items() if key not in known]
    position = Position.objects.select_for_update(of=("self",)).filter(entry_order=entry).first()
    adopted = 0
    for key, leg in new:
        if position is None or not is_free(position):
            break
        close_by(position, entry, key, leg)
        adopted += 1
    if adopted < len(new) or not all(leg.ended for leg in legs):
        return adopted > 0
    entry.exits_at_venue = ExitsAtVenue.ENDED
    entry.save(update_fields=["exits_at_venue", "updated_at"])
    record("order.exits_ended", entry, filled=len(keys))
    return True


def is_free(position: Position) -> bool:
    """Return whether a position can take an exit of the venue as its closing order now.

    Not while an order is at the venue or waits to be booked. A closed position takes it too: see `close_by`.
    """
    waiting = position.exit_order is not None and position.exit_order.state == OrderState.PLANNED
    return position.state != PositionState.CLOSING or waiting


def close_by(position: Position, entry: Order, key: str, leg: Leg) -> None:
    """Write the closing order of an exit that the venue keeps, and make it that of the position."""
    order = _order_of(entry, position, key, leg)
    if position.state == PositionState.OPEN:
        advance(
            position, PositionState.CLOSING, why=leg.reason, exit_reason=leg.reason, exit_order=order,
            exits=position.exits + 1,
        )  # fmt: skip
    elif position.state == PositionState.CLOSING and position.exit_order is not None:
        ours = Order.objects.select_for_update(no_key=True).get(pk=position.exit_order.pk)
        advance(ours, OrderState.BLOCKED, why=Reason.EXITS_AT_VENUE, reason=Reason.EXITS_AT_VENUE)
        position.exit_order, position.exit_reason = order, leg.reason
        position.save(update_fields=["exit_order", "exit_reason"])
    else:  # more was sold than the position held: the fills are booked, and staff is alerted
        record("position.exit_after_close", position, order=order.pk, quantity=f"{leg.filled.normalize():f}")
        log.error("exit_after_close", position=position.pk, order=order.pk)


def _order_of(entry: Order, position: Position, key: str, leg: Leg) -> Order:
    """Store an exit that the venue keeps as a closing order of ours, which `trading.settle` settles."""
    order = Order.objects.create(
        deployment_id=entry.deployment_id,
        signal_id=entry.signal_id,
        idempotency_key=key,
        purpose=Purpose.CLOSE,
        exit_reason=leg.reason,
        closes=entry,
        symbol=entry.symbol,
        venue=entry.venue,
        account=entry.account,
        position_side=entry.position_side,
        side="sell" if entry.side == "buy" else "buy",
        quantity=leg.quantity,
        leverage=entry.leverage,
        state=OrderState.ACCEPTED,
        client_order_id=f"mx-{correlation.derive_id(key, entry.correlation_id).hex[:24]}",
        venue_ref=leg.ref,
        correlation_id=entry.correlation_id,
        created_at=clock.now(),
    )
    record("order.adopted", order, closes=f"positions.position/{position.pk}", why=leg.reason)
    return order
