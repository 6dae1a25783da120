"""Read the fees of deployments, set-wise."""

from collections.abc import Iterable

from agents.fee_terms import FIELDS, SHARE, Terms, terms
from agents.models import Deployment
from maxxit.core.money import plain
from trading.risk.policy import Fees

COLUMNS = tuple(f"agent__{name}" for name in (SHARE, *FIELDS.values()))


def read_terms(deployment_ids: Iterable[int], platform: Fees) -> dict[int, Terms]:
    """Return the terms of many deployments, in one statement.

    Args:
        platform: the rules in force for agents without their own.
    """
    rows = Deployment.objects.filter(pk__in=set(deployment_ids)).order_by()
    known: dict[str, Terms] = {}  # the deployments of an agent mostly have the same
    found = {}
    for pk, agreed, share, *texts in rows.values_list("pk", "agreed_fees", *COLUMNS):
        own = dict(zip(FIELDS.values(), texts, strict=True)) | {SHARE: plain(share)}
        key = repr((own, agreed))
        if key not in known:
            known[key] = terms(own, agreed, trade=platform.trade, profit=platform.profit)
        found[pk] = known[key]
    return found
