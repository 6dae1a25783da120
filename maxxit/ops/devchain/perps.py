"""The demo's leveraged agent: another Safe of the demo user on the local chain, for perpetual futures at GMX."""

from datetime import timedelta
from decimal import Decimal

import structlog

from agents.evidence import EVIDENCE, POSTS
from agents.models import PERPS_ACCOUNT, Agent, CtAccount, Deployment, Subscription
from agents.states import AgentState, DeploymentState
from maxxit.core import clock
from maxxit.events.record import advance
from maxxit.market.venues import venue_policy, venues
from maxxit.ops.devchain.world import World, transact
from trading import gate, wiring
from trading.chain.chains import SYMBOLS
from trading.models import Gate
from trading.venues.safe import plans, safes
from trading.venues.safe.verify import plan_in_force
from trading.wiring import PLAY_MONEY

log = structlog.get_logger(__name__)

AGENT, VENUE = "Leverage Follower", "gmx"


def enter_demo(world: World) -> list[str] | None:
    """Create the agent and its deployment, sign its plan as the owner, and verify it. Safe to repeat.

    Returns the differences between chain and plan; None where no venue `gmx` on the local chain is configured. The gate
    is opened only there.
    """
    if VENUE not in venues() or wiring.money_at_stake(venue_policy(VENUE)) != PLAY_MONEY:
        return None
    deployment = _deployment(world)
    if plan_in_force(world.chain_id, world.perp_safe) is None:
        made = plans.plan(deployment, world.perp_safe)
        if made.send is not None:
            transact(world.rpc, world.accounts["owner"], made.send.to, bytes.fromhex(made.send.data[2:]))
        deployment.refresh_from_db()
    if not Gate.objects.filter(venue=VENUE).exists():
        why, until = "the demo trades on a local chain", clock.now() + timedelta(days=365)
        gate.set_dry_run(VENUE, False, by="demo", reason=why)
        gate.approve(VENUE, by="demo", until=until, reason=why)
    return safes.check(deployment)


def _deployment(world: World) -> Deployment:
    agent, new = Agent.objects.get_or_create(
        name=AGENT,
        owner=None,
        defaults={
            "venue": VENUE,
            "tokens": list(SYMBOLS.values()),
            "sizing_preset": "moderate",
            "exit_preset": "conservative",
            "min_confidence": Decimal("0.4"),
            "weights": {name: 100 if name == POSTS else 10 for name in EVIDENCE},
        },
    )
    if new:
        advance(agent, AgentState.ACTIVE)
    followed = [Subscription(agent=agent, account=account) for account in CtAccount.objects.order_by("pk")]
    Subscription.objects.bulk_create(followed, ignore_conflicts=True)
    deployment, _ = Deployment.objects.get_or_create(
        agent=agent,
        account=f"{PERPS_ACCOUNT}{world.perp_safe}",
        defaults={
            "state": DeploymentState.ACTIVE,
            "user_wallet": world.accounts["owner"],
            "safe_wallet": world.perp_safe,
            "chain_id": world.chain_id,
            "module_address": world.perp_module,
        },
    )
    return deployment
