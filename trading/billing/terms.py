"""Read the fees of deployments, set-wise."""

from collections.abc import Iterable

from agents.fee_terms import FIELDS, SHARE, Terms
from agents.models import Deployment
from trading.policy import Fees

COLUMNS = ("agreed_fees", "agent", *(f"agent__{name}" for name in (*FIELDS.values(), SHARE)))


def read_terms(deployment_ids: Iterable[int], platform: Fees) -> dict[int, Terms]:
    """Return the terms of many deployments, in one statement.

    Args:
        platform: the rules in force for agents without their own.
    """
    rows = Deployment.objects.filter(pk__in=set(deployment_ids)).select_related("agent").order_by()
    return {row.pk: row.terms(trade=platform.trade, profit=platform.profit) for row in rows.only(*COLUMNS)}
