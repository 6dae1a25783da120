"""Which kind of policy a deployment or a plan has: spot trading or perpetual futures (`trading.venues.safe.kinds`)."""

from agents.models import Deployment
from trading.chain.models import SafePlan
from trading.venues.gmx.policies import PERPS
from trading.venues.safe.kinds import SafeKind
from trading.venues.safe.spot import SPOT


def of_deployment(deployment: Deployment) -> SafeKind:
    """Return the kind of a deployment that has a Safe."""
    return PERPS if deployment.trades_perps else SPOT


def of_plan(plan: SafePlan) -> SafeKind:
    """Return the kind of a plan."""
    return PERPS if "max_collateral" in plan.policy else SPOT
