"""Play money: what a paper deployment starts with, at the paper exchange and in the ledger alike."""

from django.db import transaction
from django.db.models import CharField, Exists, OuterRef, Value
from django.db.models.functions import Cast, Concat

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.errors import Misconfigured
from maxxit.market.venues import venues
from trading import ledger
from trading.models import LedgerEntry
from trading.venues.paper import PaperVenue
from trading.wiring import venue


def fund_due() -> int:
    """Fund every active paper deployment that has not been: one is activated in the admin. Returns how many."""
    names = [name for name, stanza in venues().items() if stanza.adapter == "paper"]
    journal = Concat(Value(ledger.DEPOSIT), Cast(OuterRef("pk"), CharField()))
    waiting = Deployment.objects.filter(
        ~Exists(LedgerEntry.objects.filter(journal=journal)),
        state=DeploymentState.ACTIVE, agent__venue__in=names, starting_balance__gt=0,
    )  # fmt: skip
    return sum(fund(one) for one in waiting.select_related("agent").order_by("pk"))


@transaction.atomic
def fund(deployment: Deployment) -> bool:
    """Give a paper deployment its starting balance, once; True the first time."""
    at = venue(deployment.agent.venue)
    if not isinstance(at, PaperVenue):
        raise Misconfigured(
            f"{deployment} trades on {deployment.agent.venue}: only paper accounts get play money"
        )
    Deployment.objects.select_for_update().get(pk=deployment.pk)  # of two workers the second finds it paid
    new = ledger.deposit(deployment, deployment.starting_balance)
    if new:
        at.deposit(deployment.account, deployment.starting_balance)
    return new
