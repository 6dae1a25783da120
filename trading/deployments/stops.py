"""Stop the account of a deployment, for its owner: a kill switch that the owner alone pulled they may release too."""

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.core.terms import KILL_LEVELS, KillLevel
from maxxit.events.record import record
from trading import gate
from trading.models import KillSwitch

OWNER = "owner"
"""The cause of switches that owners pulled. They count for no trigger of the platform (`positions.health`)."""


def stop(deployment: Deployment, level: str, *, by: str, reason: str) -> KillSwitch:
    """Pull the kill switch of the deployment's account; return it. One of this level that the owner pulled stays.

    Raises Rejected where deployments of another owner trade from the same account, or without a reason.
    """
    if not reason.strip():
        raise Rejected("stopping an account needs a reason", code="reason_missing")
    shared = Deployment.objects.filter(account=deployment.account).exclude(owner_id=deployment.owner_id)
    if shared.exists():
        raise Rejected(
            f"another owner's deployment trades from {deployment.account} too: pause yours, or ask an operator",
            code="shared_account",
        )
    standing = of_owner(deployment)
    strictest = max((switch.level for switch in standing), key=KILL_LEVELS.index, default="")
    if (
        level in KILL_LEVELS
        and strictest
        and KILL_LEVELS.index(strictest) >= KILL_LEVELS.index(KillLevel(level))
    ):
        return next(switch for switch in standing if switch.level == strictest)
    return gate.kill(level, by=by, reason=reason, cause=OWNER, account=deployment.account)


def release(deployment: Deployment, *, by: str, reason: str) -> list[KillSwitch]:
    """Release what the owner pulled; return the switches that still stop the account, which an operator releases.

    Raises Rejected where the owner pulled none, or without a reason.
    """
    others = [switch for switch in latched(deployment) if switch.cause != OWNER]
    if not of_owner(deployment):
        if others:
            causes = ", ".join(f"{switch.level} ({switch.cause})" for switch in others)
            raise Rejected(
                f"{deployment.account} was stopped by {causes}, not by its owner: an operator releases it",
                code="not_yours_to_release",
            )
        raise Rejected(f"{deployment.account} is not stopped", code="not_stopped")
    gate.release(by=by, reason=reason, account=deployment.account, cause=OWNER)
    record("deployment.released", deployment, by=by, still_stopped=[switch.level for switch in others])
    return others


def latched(deployment: Deployment) -> list[KillSwitch]:
    """Return the kill switches that stop this account or the whole platform, the strictest first."""
    switches = KillSwitch.objects.filter(released_at=None, account__in=("", deployment.account))
    return sorted(switches, key=lambda switch: (-KILL_LEVELS.index(KillLevel(switch.level)), -switch.pk))


def of_owner(deployment: Deployment) -> list[KillSwitch]:
    """Return the switches that its owner pulled and that are latched."""
    return [switch for switch in latched(deployment) if switch.cause == OWNER and switch.account]
