"""Liquidations: positions, or parts of them, that a venue closed because their margin was used up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import QuerySet

from agents.models import Deployment
from maxxit.core.money import plain
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from maxxit.market.venues import venue_policy
from trading import ledger
from trading.models import Order

REASON = "liquidated"
"""The exit reason of a closing order that the venue made by liquidating."""
NOT_ADOPTED = "liquidation.not_adopted"


@dataclass(frozen=True, slots=True)
class Liquidation:
    """One liquidation order of a venue."""

    ref: str
    """`Venue.find` takes it: its report has the fills."""
    number: str
    """Of the order at the venue, unique in an account."""
    symbol: str
    quantity: Decimal
    """Tokens that were sold, or bought back for a short; positive."""
    sells: bool
    """A long was liquidated."""
    cash: Decimal
    """What it changes in the account's cash, fees included; signed."""
    at: datetime


def is_adopted(venue: str, account: str, ref: str) -> bool:
    """Return whether a closing order of ours stands for a liquidation already."""
    return Order.objects.filter(venue=venue, account=account, exit_reason=REASON, venue_ref=ref).exists()


def awaits_adoption(venue: str, account: str, ref: str) -> bool:
    """Return whether a liquidation is still to become a closing order of ours: until then it explains a difference."""
    if is_adopted(venue, account, ref):
        return False
    deployment = ledger.booking_deployment(account, venue)
    return deployment is None or not _failures(deployment, ref).exists()


def explain(
    venue: str, account: str, differences: Mapping[str, Decimal], found: Iterable[Liquidation]
) -> dict[str, Decimal]:
    """Return the differences (venue minus ledger, whole units) without those of liquidations that await adoption."""
    left, cash = dict(differences), venue_policy(venue).cash
    for one in found:
        if one.symbol in left and awaits_adoption(venue, account, one.ref):
            left[one.symbol] -= -one.quantity if one.sells else one.quantity
            if cash in left:  # else an order in flight changes it, and it is not compared
                left[cash] -= one.cash
    return {asset: amount for asset, amount in left.items() if amount}


def note_not_adopted(venue: str, account: str, one: Liquidation, why: str) -> None:
    """Tell staff, once, that a liquidation could not be adopted; from now on it explains no difference."""
    deployment = ledger.booking_deployment(account, venue)
    if deployment is not None and not _failures(deployment, one.ref).exists():
        record(
            NOT_ADOPTED, deployment, account=account, symbol=one.symbol, quantity=plain(one.quantity),
            ref=one.ref, reason=why[:300],
        )  # fmt: skip


def _failures(deployment: Deployment, ref: str) -> QuerySet[Event]:
    return Event.objects.filter(name=NOT_ADOPTED, subject=subject(deployment), data__ref=ref)


def key_of(entry_id: int, number: str) -> str:
    """Return the idempotency key of the closing order that a liquidation becomes."""
    return f"{REASON}:{entry_id}:{number}"
