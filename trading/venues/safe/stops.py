"""What stops the entries of a Safe beside its policy, kept with its plan in force. Exits are never stopped here."""

from typing import Any

from django.db import transaction
from django.db.models import Q

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.events.record import record
from trading.chain.models import ChainTransaction, SafePlan
from trading.chain.states import TxState
from trading.venues.safe import verify

EVERYTHING = "*"
REVERTS, CHANGED, SHALLOW = "safe_reverts", "safe_changed", "pool_too_shallow"
UNNAMED = "rpc_fault"
"""The code of a call that failed in trial without a reason."""


def reason(plan: SafePlan, token: str) -> str:
    """Why no position in the token is opened: a code, or empty."""
    found: str = plan.stops.get(EVERYTHING) or plan.stops.get(token, "")
    return found


@transaction.atomic
def stop(plan: SafePlan, token: str, code: str, **facts: Any) -> None:
    """Stop entries in a token, or in EVERYTHING; staff and the Safe's owner are told once."""
    kept = SafePlan.objects.select_for_update().get(pk=plan.pk)
    if token in kept.stops:
        return
    kept.stops[token] = code
    kept.save(update_fields=["stops"])
    _record("safe.entries_stopped", kept, token, code, facts)


@transaction.atomic
def resume(plan: SafePlan, token: str) -> None:
    """Let entries in a token, or in EVERYTHING, go on."""
    kept = SafePlan.objects.select_for_update().get(pk=plan.pk)
    code = kept.stops.pop(token, "")
    if code:
        kept.save(update_fields=["stops"])
        _record("safe.entries_resumed", kept, token, code, {})


def clear(plan: SafePlan) -> None:
    """A person checked the Safe: what stopped it is over, and failures are counted anew."""
    resume(plan, EVERYTHING)
    SafePlan.objects.filter(pk=plan.pk).update(failures_since=clock.now())


def note_failure(chain_id: int, safe: str, limit: int) -> None:
    """Stop a Safe whose last `limit` orders all reverted, in a block or when they were tried, without the module
    having named a reason for the latter."""
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
    whose = Deployment.objects.filter(safe_wallet=plan.safe).exclude(state=DeploymentState.REVOKED).first()
    owner = {"owner_id": whose.owner_id} if whose and whose.owner_id else {}
    record(name, whose or plan, safe=plan.safe, token=token, code=code, **facts, **owner)
