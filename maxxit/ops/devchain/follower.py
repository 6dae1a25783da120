"""The agents of the demo that trade from a Safe on the local chain: each follows every account."""

from datetime import timedelta
from decimal import Decimal

from agents.evidence import EVIDENCE, POSTS, UNMEASURED
from agents.models import Agent, CtAccount, Deployment, Subscription
from agents.states import AgentState, DeploymentState
from maxxit.core import clock
from maxxit.events.record import advance
from maxxit.ops.devchain.world import World
from trading import gate
from trading.chain.chains import SYMBOLS
from trading.models import Gate

WHY = "the demo trades on a local chain"
WEIGHTS = {name: 100 if name == POSTS else 0 if name in UNMEASURED else 10 for name in EVIDENCE}


def follow_all(
    world: World, name: str, *, venue: str, exit_preset: str, account: str, safe: str, module: str
) -> Deployment:
    """Create an active agent that follows every account, and its deployment on a Safe. Safe to repeat."""
    agent, new = Agent.objects.get_or_create(
        name=name,
        owner=None,
        defaults={
            "venue": venue,
            "tokens": list(SYMBOLS.values()),
            "sizing_preset": "moderate",
            "exit_preset": exit_preset,
            "min_confidence": Decimal("0.4"),
            "weights": WEIGHTS,
        },
    )
    if new:
        advance(agent, AgentState.ACTIVE)
    followed = [Subscription(agent=agent, account=account) for account in CtAccount.objects.order_by("pk")]
    Subscription.objects.bulk_create(followed, ignore_conflicts=True)
    deployment, _ = Deployment.objects.get_or_create(
        agent=agent,
        account=account,
        defaults={
            "state": DeploymentState.ACTIVE,
            "user_wallet": world.accounts["owner"],
            "safe_wallet": safe,
            "chain_id": world.chain_id,
            "module_address": module,
        },
    )
    return deployment


def open_gate(venue: str) -> None:
    """Let a venue of the local chain trade, unless its gate was set before."""
    if not Gate.objects.filter(venue=venue).exists():
        gate.set_dry_run(venue, False, by="demo", reason=WHY)
        gate.approve(venue, by="demo", until=clock.now() + timedelta(days=365), reason=WHY)
