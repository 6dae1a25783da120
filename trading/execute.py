"""Place orders in batches: check each, then reserve and send it, or block it with a reason.

Reserve, then send: one transaction takes the locks, reads the gate, checks every limit against what is already
reserved, and moves planned -> sending with the exact bytes to send stored. Nothing is sent before it commits. A batch
has orders of one venue and purpose and takes a handful of statements; a single order is a batch of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import QuerySet

from agents.models import Deployment
from maxxit.core import clock, correlation
from maxxit.core.terms import Purpose
from maxxit.events.record import Transition, advance_each, lock_unmoved
from maxxit.postgres import bulk
from trading import passes, quarantine, settle
from trading.deployments import confirmation
from trading.entries import crowd, pace, resting_exits
from trading.models import ExitsAtVenue, Order
from trading.reasons import Reason
from trading.risk import checks, limits
from trading.risk.checks import Facts, Verdict
from trading.risk.facts import Entries, Exits
from trading.risk.policy import RiskPolicy
from trading.states import OrderState
from trading.venues.base import Prepared, Question, Request, Venue, VenueAnswer
from trading.wiring import batch_size, venue

log = structlog.get_logger(__name__)

WAITS = Verdict(False, Reason.PLATFORM_PACE)
"""The verdict of an entry that the platform's pace holds back: it stays planned."""
HELD = Verdict(False, Reason.EXITS_AT_VENUE)
"""The verdict of a closing order that passes every check while its venue still keeps exits of the position: it stays
planned until they have ended (`trading.entries.resting_exits`)."""
NO_ANSWER = VenueAnswer()
NO_SHARES: crowd.Shares = {}


@dataclass(frozen=True, slots=True)
class Placed:
    """One order of a batch and what became of it."""

    order: Order
    verdict: Verdict
    """Not allowed: the order was blocked, or is planned as before (`WAITS`, `HELD`)."""
    prepared: Prepared | None = None
    """What is sent, where it was reserved."""


@dataclass
class PlacementCounts:
    """Counts of orders that were sent, blocked or held back."""

    due: int = 0
    sent: int = 0
    blocked: dict[str, int] = field(default_factory=dict)
    """Reason code -> count."""
    waiting: int = 0
    """Entries that the platform's pace held back."""
    unconfirmed: int = 0
    """Entries that wait for their owner's confirmation."""
    held: int = 0
    """Closing orders that wait until the venue keeps no exit of their position."""

    def count(self, verdict: Verdict) -> None:
        """Add one order's verdict."""
        if verdict.allowed:
            self.sent += 1
        elif verdict is WAITS:
            self.waiting += 1
        elif verdict is HELD:
            self.held += 1
        elif verdict.reason in confirmation.ASKS:
            self.unconfirmed += 1
        else:
            self.blocked[verdict.reason] = self.blocked.get(verdict.reason, 0) + 1


def place_due_orders(
    orders: QuerySet[Order],
    policy: RiskPolicy,
    budget: passes.TimeBudget | None = None,
    *,
    shares: crowd.Shares = NO_SHARES,
) -> PlacementCounts:
    """Place the planned ones of `orders`, all of one purpose, oldest first.

    It stops when the time budget or the platform's pace is exhausted. Where more than one entry is due, each batch
    first waits for closing orders that are not sent yet.

    Args:
        shares: the fraction of its size that an entry gets where the crowd of all exceeds a limit.
    """
    counts = PlacementCounts()
    planned = orders.filter(state=OrderState.PLANNED).exclude(reason=Reason.AWAITING_CONFIRMATION)
    waiting = quarantine.due(planned)
    for batch in quarantine.batches(planned, waiting, batch_size, budget):
        if batch[0].purpose == Purpose.OPEN and len(waiting) > 1:
            give_way()
        counts.due += len(batch)
        with quarantine.counted_for_each(batch):
            for placed in place(batch, venue(batch[0].venue), policy, shares):
                counts.count(placed.verdict)
        if counts.waiting:
            break
    return counts


def give_way() -> None:
    """Let closing orders that are not sent yet go first."""
    pace.give_way(passes.policy().exits.entries_wait_seconds)


def place(
    orders: Sequence[Order], at_venue: Venue, policy: RiskPolicy, shares: crowd.Shares = NO_SHARES
) -> list[Placed]:
    """Reserve planned orders of one venue and purpose and send them, or block them; return what became of each.

    The venue is asked only about orders that no other check blocks, and outside the lock, because that is network
    I/O. All checks run again under the lock that reserves. Left out are orders that another worker placed meanwhile,
    and orders whose processing fails: that is counted (`trading.quarantine`).

    Args:
        shares: the fraction of its size that an entry gets where the crowd of all exceeds a limit.
    """
    before: dict[int, Verdict] = {}
    answers: dict[int, VenueAnswer] = {}

    def ask(part: Sequence[Order]) -> list[Order]:
        verdicts = dict.fromkeys((order.pk for order in part), checks.PASS)
        if not at_venue.capabilities.local:
            facts = _read_facts(part, policy, shares)
            for order in part:
                of_order = facts.of(order, NO_ANSWER)
                verdicts[order.pk] = checks.check_before_venue(of_order, facts.policy(order))
        passing = [order for order in part if verdicts[order.pk].allowed]
        asked = at_venue.answers([_question(order, policy) for order in passing])
        before.update(verdicts)
        answers.update(zip((order.pk for order in passing), asked, strict=True))
        return list(part)

    def reserve(part: Sequence[Order]) -> list[Placed]:
        return _reserve(part, at_venue, policy, shares, before, answers)

    ready = quarantine.by_halves(orders, ask, quarantine.count_failure)
    placed = quarantine.by_halves(ready, reserve, quarantine.count_failure)
    quarantine.redrive_working(one.order for one in placed)
    reserved = [(one.order, one.prepared) for one in placed if one.prepared is not None]
    size = at_venue.capabilities.batch
    for start in range(0, len(reserved), size):
        send_orders(reserved[start : start + size], at_venue)
    return placed


def _read_facts(orders: Sequence[Order], policy: RiskPolicy, shares: crowd.Shares) -> Entries | Exits:
    at = orders[0].venue
    if orders[0].purpose == Purpose.CLOSE:
        return Exits(orders, at, policy)
    of_venue = {
        (market.symbol, market.side): share.fraction for market, share in shares.items() if market.venue == at
    }
    return Entries.read(orders, at, policy, of_venue)


def _question(order: Order, policy: RiskPolicy) -> Question:
    """Return what the venue is asked: for an entry about the largest order that the sizing allows."""
    preset = policy.sizing[order.deployment.agent.sizing_preset]  # type: ignore[index]  # the column's choices
    cash = preset.max_usd * order.leverage
    return Question(order.deployment_id, order.account, order.symbol, order.side, order.purpose, cash)


def _reserve(
    orders: Sequence[Order],
    at_venue: Venue,
    policy: RiskPolicy,
    shares: crowd.Shares,
    before: Mapping[int, Verdict],
    answers: Mapping[int, VenueAnswer],
) -> list[Placed]:
    """Check every order again under the locks; reserve it, block it or leave it planned. One transaction."""
    placed: list[Placed] = []
    transitions: list[Transition] = []
    unconfirmed: list[int] = []
    reviews: dict[int, dict[str, str]] = {}
    with transaction.atomic():
        limits.lock([order.account for order in orders], platform=orders[0].purpose == Purpose.OPEN)
        facts = _read_facts(orders, policy, shares)
        resting = resting_exits.of_entries(orders) if at_venue.capabilities.resting_exits else frozenset()
        for order in lock_unmoved(orders):
            of_order = facts.of(order, answers.get(order.pk, NO_ANSWER))
            verdict = before[order.pk]
            if verdict.allowed:
                verdict = checks.check(of_order, facts.policy(order))
            prepared = None
            if verdict.reason in confirmation.ASKS:
                unconfirmed.append(order.pk)
                if verdict.reason == Reason.PENDING_REVIEW:
                    reviews[order.pk] = verdict.as_json()
            elif not verdict.allowed:
                transitions.append(_blocked(order, verdict, of_order))
            elif order.closes_id in resting:
                verdict = HELD
            elif facts.room <= 0:
                verdict = WAITS
            else:
                facts.reserve(order, of_order)
                share = shares.get(crowd.Market(order.venue, order.symbol, order.side))
                prepared, transition = _reserved(order, at_venue, policy, of_order, share)
                transitions.append(transition)
            placed.append(Placed(order, verdict, prepared))
        moved = advance_each(transitions, locked=True)
        confirmation.mark(unconfirmed, reviews)
        if orders[0].purpose == Purpose.OPEN:
            served = {one.row.deployment_id: one.row.pk for one in moved if one.new == OrderState.SENDING}
            bulk.update(Deployment, list(served), {"last_entry": list(served.values())})
    for transition in transitions:
        transition.apply()
    return placed


def _blocked(order: Order, verdict: Verdict, facts: Facts) -> Transition:
    """Return the move planned -> blocked, with the failed check on the order."""
    stored = verdict.as_json()
    fields = {"reason": verdict.reason, "verdict": stored, "reference_price": facts.price}
    return Transition(order, OrderState.BLOCKED, verdict.reason, stored, fields)


def _reserved(
    order: Order, at_venue: Venue, policy: RiskPolicy, facts: Facts, share: crowd.Share | None
) -> tuple[Prepared, Transition]:
    """Return what will be sent, and the move planned -> sending that stores it. In the caller's transaction."""
    if facts.price is None:
        raise ValueError(f"order {order.pk} passed the checks without a price")
    now = clock.now()
    deadline = now + timedelta(seconds=policy.order_deadline_seconds)
    client_order_id = f"mx-{correlation.derive_id('order', order.pk, order.correlation_id).hex[:24]}"
    stop, target = resting_exits.prices(order, policy, facts.price)
    prepared = at_venue.prepare(
        Request(
            client_order_id=client_order_id,
            account=order.account,
            symbol=order.symbol,
            side=order.side,
            purpose=order.purpose,
            quantity=facts.quantity,
            reference_price=facts.price,
            deadline=deadline,
            trade=f"{order.deployment_id}/{order.signal_id}",
            urgent=order.is_urgent,
            stop=stop,
            target=target,
            leverage=order.leverage,
        )
    )
    fields = {
        "client_order_id": client_order_id,
        "quantity": facts.quantity,
        "reference_price": facts.price,
        "notional_usd": facts.notional_usd,
        "prepared": dict(prepared.payload),
        "venue_ref": prepared.ref,
        "reserved_at": now,
        "deadline": prepared.deadline or deadline,
        "reason": "",
        "exits_at_venue": ExitsAtVenue.RESTING if prepared.rests_exits else "",
    }
    scaled = {"share_pct": f"{share.fraction * 100:.2f}", "scaled_by": share.reason} if share else {}
    return prepared, Transition(order, OrderState.SENDING, data=scaled, fields=fields)


def send_orders(reserved: Sequence[tuple[Order, Prepared]], at_venue: Venue) -> None:
    """Send reserved orders of one batch of the venue and settle them at once.

    The gate is read again first: it may have been closed since the reservation.
    """
    allowed = settle.allowed_by_gate([order for order, _ in reserved])
    sent = [(order, prepared) for order, prepared in reserved if order.pk in allowed]
    if not sent:
        return
    errors = at_venue.send_many([prepared for _, prepared in sent])
    arrived = [order for order, prepared in sent if prepared.ref not in errors]
    failed = [(order, errors[prepared.ref]) for order, prepared in sent if prepared.ref in errors]
    settle.note_send_errors(failed)
    settle.settle_orders(arrived, at_venue)
