"""Stop trading from a chat or an assistant: the same functions as the pages call, and only in the safe direction.

Nothing here releases, approves, enlarges or withdraws.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.access.permissions import allowed
from maxxit.core.errors import MaxxitError, Rejected
from maxxit.core.terms import KillLevel
from trading import gate
from trading.deployments import stops

PERMISSION = "trading.change_killswitch"
PLATFORM = "platform"
REASON = "stopped by a message of its owner"


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of one deployment."""

    deployment: int
    agent: str
    account: str
    problem: str
    """Why it is not stopped; empty where it is."""

    def as_json(self) -> dict[str, Any]:
        return {
            "deployment": self.deployment, "agent": self.agent, "account": self.account,
            "stopped": not self.problem, "problem": self.problem,
        }  # fmt: skip


def deployments_to_stop(person: Any, number: int | None = None) -> list[Deployment]:
    """Return the deployments of `person`, or the one numbered so, that can trade.

    Raises Rejected where there is none, or `person` may not stop anything.
    """
    if not allowed(person, PERMISSION):
        raise Rejected(f"this needs the permission {PERMISSION}: a superuser can grant it", code="forbidden")
    rows = Deployment.objects.filter(owner=person).exclude(state=DeploymentState.REVOKED)
    rows = rows if number is None else rows.filter(pk=number)
    found = list(rows.select_related("agent").order_by("pk"))
    if not found:
        what = "you have no deployment" if number is None else f"you have no deployment {number}"
        raise Rejected(f"{what} that can trade", code="not_found")
    return found


def stop_own(person: Any, *, by: str, number: int | None = None) -> list[Stopped]:
    """Pull the kill switch of the accounts of `person`'s deployments: no position is opened until they release it.

    One that cannot be stopped does not keep the others from it. Raises Rejected as `deployments_to_stop` does.
    """
    done = []
    for row in deployments_to_stop(person, number):
        problem = ""
        try:
            with transaction.atomic():
                stops.stop(row, KillLevel.NO_ENTRIES, by=by, reason=REASON)
        except MaxxitError as error:
            problem = str(error)
        done.append(Stopped(row.pk, row.agent.name, row.account, problem))
    return done


def check_platform(person: Any) -> None:
    """Raise Rejected unless `person` is staff who may pull the kill switch."""
    if not allowed(person, PERMISSION, operators_only=True):
        raise Rejected(
            f"the platform is stopped by staff with the permission {PERMISSION} alone", code="forbidden"
        )


def stop_platform(person: Any, *, by: str) -> str:
    """Pull the kill switch of the platform, unless it is latched; return its level. Raises Rejected for others."""
    check_platform(person)
    level = gate.kill_level()
    if level:
        return level
    return gate.kill(KillLevel.NO_ENTRIES, by=by, reason="stopped by a message of a member of staff").level
