"""Stop and resume the entries of a Safe, per token or altogether; exits are never stopped here.

Reasons: its orders keep reverting, its contract changed, or a token's pool is too shallow. Stops are stored with the
plan in force.
"""

from typing import Any

from django.db import transaction
from django.db.models import Q

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.events.record import record
from trading.chain.models import ChainTransaction, SafePlan
from trading.chain.states import TxState
from trading.reasons import Reason
from trading.venues.safe import verify

EVERYTHING = "*"
REVERTS, CHANGED, SHALLOW = Reason.SAFE_REVERTS, Reason.SAFE_CHANGED, Reason.POOL_TOO_SHALLOW
UNNAMED = "rpc_fault"
"""The code of a trial call that failed without a reason."""


def reason(plan: SafePlan, token: str) -> str:
    """Return the reason code why no position in the token is opened; empty for none."""
    code: str = plan.stops.get(EVERYTHING) or plan.stops.get(token, "")
    return code


@transaction.atomic
def stop(plan: SafePlan, token: str, code: str, **facts: Any) -> None:
    """Stop entries in a token (its address), or in EVERYTHING; alert staff and the Safe's owner once."""
    row = SafePlan.objects.select_for_update().get(pk=plan.pk)
    if token in row.stops:
        return
    row.stops[token] = code
    row.save(update_fields=["stops"])
    _record("safe.entries_stopped", row, token, code, facts)


@transaction.atomic
def resume(plan: SafePlan, token: str) -> None:
    """Resume entries in a token, or in EVERYTHING."""
    row = SafePlan.objects.select_for_update().get(pk=plan.pk)
    code = row.stops.pop(token, "")
    if code:
        row.save(update_fields=["stops"])
        _record("safe.entries_resumed", row, token, code, {})


def clear(plan: SafePlan) -> None:
    """Remove the stop of the whole Safe after a person checked it, and restart the count of failures."""
    resume(plan, EVERYTHING)
    SafePlan.objects.filter(pk=plan.pk).update(failures_since=clock.now())


def note_failure(chain_id: int, safe: str, limit: int) -> None:
    """Stop a Safe whose last `limit` orders all failed: reverted in a block, or in a trial call without a reason."""
    plan = verify.plan_in_force(chain_id, safe)
    if plan is None:
        return
    failed = Q(state=TxState.REVERTED) | Q(state=TxState.DROPPED, reason=UNNAMED)
    ended = ChainTransaction.objects.filter(chain_id=chain_id, terms__safe=safe).filter(
        failed | Q(state=TxState.FINAL)
    )
    if plan.failures_since:
        ended = ended.filter(created_at__gt=plan.failures_since)
    newest = list(ended.order_by("-pk").values_list("state", "reason")[:limit])
    if len(newest) == limit and all(state != TxState.FINAL for state, _ in newest):
        stop(plan, EVERYTHING, REVERTS, reverts=limit, last=newest[0][1])


def _record(name: str, plan: SafePlan, token: str, code: str, facts: dict[str, Any]) -> None:
    deployment = (
        Deployment.objects.filter(safe_wallet=plan.safe).exclude(state=DeploymentState.REVOKED).first()
    )
    owner = {"owner_id": deployment.owner_id} if deployment and deployment.owner_id else {}
    record(name, deployment or plan, safe=plan.safe, token=token, code=code, **facts, **owner)
