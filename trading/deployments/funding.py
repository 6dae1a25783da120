"""Fund paper deployments: credit their starting balance (play money) at the paper exchange and in the ledger."""

from django.db import connection, transaction

from agents.models import Deployment
from maxxit.core.errors import Misconfigured
from maxxit.market.venues import venues
from trading import ledger
from trading.wiring import venue

UNFUNDED = """
SELECT d.id FROM agent_deployments d JOIN agents a ON a.id = d.agent_id
WHERE d.state = 'active' AND d.starting_balance > 0 AND a.venue = ANY(%s)
  AND NOT EXISTS (SELECT FROM ledger_entries e WHERE e.deployment_id = d.id AND e.kind = 'deposit')
"""


def fund_due() -> int:
    """Fund every active paper deployment that was not funded yet; return how many.

    Deployments become active in the admin, which does not fund them.
    """
    names = [name for name, stanza in venues().items() if stanza.adapter == "paper"]
    with connection.cursor() as cursor:
        cursor.execute(UNFUNDED, [names])
        unfunded = [pk for (pk,) in cursor.fetchall()]
    if not unfunded:
        return 0
    rows = Deployment.objects.filter(pk__in=unfunded).select_related("agent").order_by("pk")
    return sum(fund(deployment) for deployment in rows)


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
