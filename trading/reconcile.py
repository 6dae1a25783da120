"""The ledger held against what the venues say: to the unit, and a failed read changes nothing."""

from collections import defaultdict
from decimal import Decimal

from agents.models import Deployment
from maxxit.core.money import ZERO
from trading import ledger
from trading.wiring import venue


def drifts() -> dict[str, Decimal]:
    """Venue minus ledger wherever they differ, keyed `account asset`; empty when all agree.

    Raises Retryable or Unknown when a venue cannot be read.
    """
    booked: dict[tuple[str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for deployment in Deployment.objects.exclude(state="draft").select_related("agent").order_by("pk"):
        for asset, amount in ledger.balances(deployment.pk).items():
            booked[deployment.agent.venue, deployment.account][asset] += amount
    found = {}
    for (name, account), ours in booked.items():
        theirs = venue(name).balances(account)
        for asset in sorted(set(ours) | set(theirs)):
            difference = theirs.get(asset, ZERO) - ours.get(asset, ZERO)
            if difference:
                found[f"{account} {asset}"] = difference
    return found
