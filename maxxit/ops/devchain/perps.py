"""The demo's leveraged agent: another Safe of the demo user on the local chain, for perpetual futures at GMX."""

from agents.models import PERPS_ACCOUNT
from maxxit.market.venues import venue_policy, venues
from maxxit.ops.devchain.follower import follow_all, open_gate
from maxxit.ops.devchain.world import World, transact
from trading import wiring
from trading.venues.safe import plans, safes
from trading.venues.safe.verify import plan_in_force
from trading.wiring import PLAY_MONEY

AGENT, VENUE = "Leverage Follower", "gmx"


def enter_demo(world: World) -> list[str] | None:
    """Create the agent and its deployment, sign its plan as the owner, and verify it. Safe to repeat.

    Returns the differences between chain and plan; None where no venue `gmx` on the local chain is configured. The gate
    is opened only there.
    """
    if VENUE not in venues() or wiring.money_at_stake(venue_policy(VENUE)) != PLAY_MONEY:
        return None
    deployment = follow_all(
        world,
        AGENT,
        venue=VENUE,
        exit_preset="conservative",
        account=f"{PERPS_ACCOUNT}{world.perp_safe}",
        safe=world.perp_safe,
        module=world.perp_module,
    )
    if plan_in_force(world.chain_id, world.perp_safe) is None:
        made = plans.plan(deployment, world.perp_safe)
        if made.send is not None:
            transact(world.rpc, world.accounts["owner"], made.send.to, bytes.fromhex(made.send.data[2:]))
        deployment.refresh_from_db()
    open_gate(VENUE)
    return safes.check(deployment)
