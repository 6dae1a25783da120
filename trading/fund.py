"""Fund paper deployments: credit their starting balance (play money) at the paper exchange and in the ledger."""

from django.db import transaction
from django.db.models import Exists, OuterRef

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.errors import Misconfigured
from maxxit.market.venues import venues
from trading import ledger
from trading.models import LedgerEntry
from trading.wiring import venue


def fund_due() -> int:
    """Fund every active paper deployment that was not funded yet; return how many.

    Deployments become active in the admin, which does not fund them.
    """
    names = [name for name, stanza in venues().items() if stanza.adapter == "paper"]
    unfunded = Deployment.objects.filter(
        ~Exists(LedgerEntry.objects.filter(deployment=OuterRef("pk"), kind="deposit")),
        state=DeploymentState.ACTIVE, agent__venue__in=names, starting_balance__gt=0,
    )  # fmt: skip
    return sum(fund(deployment) for deployment in unfunded.select_related("agent").order_by("pk"))


@transaction.atomic
def fund(deployment: Deployment) -> bool:
    """Credit a paper deployment's `starting_balance` (USDC) once; return whether it was credited now.

    Raises Misconfigured for a deployment that does not trade on a paper venue.
    """
    paper_venue = venue(deployment.agent.venue)
    if not paper_venue.capabilities.play_money:
        raise Misconfigured(
            f"{deployment} trades on {deployment.agent.venue}: only paper accounts get play money"
        )
    # The second of two workers finds it funded.
    Deployment.objects.select_for_update(no_key=True).get(pk=deployment.pk)
    new = ledger.deposit(deployment, deployment.starting_balance)
    if new:
        paper_venue.deposit(deployment.account, deployment.starting_balance)
    return new
