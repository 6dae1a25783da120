"""Play money: what a paper deployment starts with, at the paper exchange and in the ledger alike."""

from django.db import transaction

from agents.models import Deployment
from maxxit.core.errors import Misconfigured
from trading import ledger
from trading.venues.paper import PaperVenue
from trading.wiring import venue


@transaction.atomic
def fund(deployment: Deployment) -> bool:
    """Give a paper deployment its starting balance, once; True the first time."""
    at = venue(deployment.agent.venue)
    if not isinstance(at, PaperVenue):
        raise Misconfigured(
            f"{deployment} trades on {deployment.agent.venue}: only paper accounts get play money"
        )
    new = ledger.deposit(deployment, deployment.starting_balance)
    if new:
        at.deposit(deployment.account, deployment.starting_balance)
    return new
