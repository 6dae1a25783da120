"""The ledger held against what the venues say: to the unit, and a failed read changes nothing."""

from collections import defaultdict
from decimal import Decimal

from agents.models import Deployment
from maxxit.core.money import ZERO
from trading import ledger
from trading.venues.base import Venue
from trading.wiring import venue


def drifts(*, book_owners: bool = False) -> dict[str, Decimal]:
    """Venue minus ledger wherever they differ, keyed `account asset`; empty when all agree.

    With `book_owners` a Safe that differs is read through first: what its owners moved themselves is booked, and is
    no drift. Raises Retryable or Unknown when a venue cannot be read.
    """
    booked: dict[tuple[str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for deployment in Deployment.objects.exclude(state="draft").select_related("agent").order_by("pk"):
        for asset, amount in ledger.balances(deployment.pk).items():
            booked[deployment.agent.venue, deployment.account][asset] += amount
    found: dict[str, Decimal] = {}
    for (name, account), ours in booked.items():
        at = venue(name)
        theirs = at.balances(account)
        apart = {asset: theirs.get(asset, ZERO) - ours.get(asset, ZERO) for asset in {*ours, *theirs}}
        apart = {asset: amount for asset, amount in sorted(apart.items()) if amount}
        if apart and book_owners:
            apart = _left(at, account, apart)
        found |= {f"{account} {asset}": amount for asset, amount in apart.items()}
    return found


def _left(at: Venue, account: str, apart: dict[str, Decimal]) -> dict[str, Decimal]:
    """What is left of a difference once the chain was asked who made it; all of it where nobody can be asked."""
    from trading.chain import reconcile  # the chain's libraries: for processes that look after a Safe
    from trading.venues.safe import SafeVenue

    if not isinstance(at, SafeVenue):
        return apart
    done = reconcile.reconcile(at, account)
    return apart if done.in_flight or done.unbooked else done.unexplained
