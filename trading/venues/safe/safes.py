"""Verify that Safes have the policy that their owners signed, and recheck them.

Nothing here signs or sends Safe transactions: the owners do, in their own wallet, what `trading.venues.safe.plans`
returns. Results are read from the chain.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog
from django.db import transaction

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.evm.rpc import Fault
from trading.chain.models import SafePlan
from trading.reasons import Reason
from trading.venues.parallel import result_of
from trading.venues.safe import entry_stops, reconcile, safe_contract, verify
from trading.venues.safe.access import SafeAccess
from trading.wiring import venue

log = structlog.get_logger(__name__)


def safe_access(deployment: Deployment) -> SafeAccess:
    """Return access to the Safes of the agent's venue. Raises Rejected where it does not trade from Safes."""
    at = venue(deployment.agent.venue).safe_access()
    if at is None:
        raise Rejected(
            f"{deployment} trades on {deployment.agent.venue}, not from a Safe", code="not_a_safe_venue"
        )
    return at


def check(deployment: Deployment) -> list[str]:
    """Verify the newest plan on the chain; return the differences, empty if the plan is now in force.

    It activates nothing: `trading.deployments.wallet_setup.verify_and_activate` does.
    Until the owners sign a proposal, the previous plan stays in force, and its deployment stays verified as long as the
    chain shows that plan, or the stricter of both while a signed proposal waits for its delay. Without
    a verified plan entries stop; exits never depend on it.
    """
    at, safe = safe_access(deployment), deployment.safe_wallet
    proposed = verify.proposal(at.stanza.chain_id, safe)
    confirmed = verify.plan_in_force(at.stanza.chain_id, safe)
    newest = proposed or confirmed
    if newest is None:
        raise Rejected(
            f"{deployment} has no plan yet: create one with `manage.py safe plan`",
            code=Reason.SAFE_NOT_PLANNED,
        )
    if newest.module != at.module:
        raise Rejected(
            f"{safe} has a plan for another module than {at.module}: plan it anew",
            code=Reason.SAFE_NOT_PLANNED,
        )
    enabled, differences = _compare_with_plan(at, newest)
    differences += safe_contract.read(at.chain, safe).objections
    shallow = at.kind.shallow(at, newest, {})
    stands = not differences
    if differences and proposed and confirmed and deployment.verified_at:
        stands = not _compare_with_plan(at, confirmed, proposed)[1]
    _store_result(deployment, newest, differences, enabled=enabled, stands=stands)
    if not differences:
        entry_stops.clear(newest)
        _stop_shallow(at, newest, shallow)
        at.kind.begin(at, safe)
        reconcile.reconcile(at, safe)
    return differences


def stopped(deployment: Deployment) -> dict[str, str]:
    """Return what stops entries besides the verification: token symbol, or * for all -> reason code."""
    at = safe_access(deployment)
    plan = verify.plan_in_force(at.stanza.chain_id, deployment.safe_wallet)
    if plan is None:
        return {}
    symbols = at.kind.symbols_of(at.places, plan)
    return {symbols.get(address, address): code for address, code in plan.stops.items()}


def _compare_with_plan(
    at: SafeAccess, plan: SafePlan, proposed: SafePlan | None = None
) -> tuple[bool, list[str]]:
    """Return whether the plan's module is enabled, and how the chain differs from it (see `SafeKind.compare`).

    A plan in force may name an earlier module than the one that trades now.
    """
    try:
        return at.kind.compare(at, plan, proposed)
    except Fault as error:
        raise Rejected(
            f"{plan.safe} is not a Safe on chain {plan.chain_id}", code=Reason.NOT_A_SAFE
        ) from error


@transaction.atomic
def _store_result(
    deployment: Deployment, newest: SafePlan, differences: list[str], *, enabled: bool, stands: bool
) -> None:
    """Store the result of a verification; a plan without differences comes into force.

    `stands`: the deployment stays verified, by this plan or the previous one.
    """
    now = clock.now()
    deployment.module_enabled = enabled
    deployment.verified_at = now if stands else None
    deployment.save(update_fields=["module_enabled", "verified_at"])
    if differences:
        record(
            "safe.not_verified", deployment, differences=differences, entries="go on" if stands else "stopped"
        )
        return
    if newest.verified_at is None:
        same = SafePlan.objects.filter(pk=newest.pk, verified_at=None, created_at=newest.created_at)
        if not same.update(verified_at=now):
            raise Rejected(
                f"{newest.safe} got a new plan meanwhile: verify again", code=Reason.SAFE_PLANNED_ANEW
            )
    record("safe.verified", deployment, safe=deployment.safe_wallet)


def _stop_shallow(at: SafeAccess, plan: SafePlan, shallow: Mapping[str, int | None]) -> None:
    """Stop entries in the plan's tokens with too shallow a pool, and resume the others."""
    for address in at.kind.symbols_of(at.places, plan):
        if address in shallow:
            entry_stops.stop(plan, address, entry_stops.SHALLOW, impact_bps=shallow[address])
        else:
            entry_stops.resume(plan, address)


def recheck_all() -> None:
    """Recheck every verified Safe: put signed proposals into force, stop entries where the Safe or a pool changed.

    A Safe that cannot be checked stops no other. A chain that does not answer is not asked for each of its Safes.
    """
    measured: dict[Any, Any] = {}
    silent = set[int]()
    verified = Deployment.objects.exclude(verified_at=None).exclude(safe_wallet="").select_related("agent")
    for deployment in verified.order_by("pk"):
        at = result_of(partial(safe_access, deployment))
        if isinstance(at, Exception):
            reconcile.note_check_failure(deployment, "safe_not_rechecked", at, safe=deployment.safe_wallet)
            continue
        if at.stanza.chain_id in silent:
            continue
        failed = result_of(partial(_recheck, at, deployment, measured))
        if isinstance(failed, Exception):
            reconcile.note_check_failure(
                deployment, "safe_not_rechecked", failed, safe=deployment.safe_wallet
            )
            if why := at.silence():
                silent.add(at.stanza.chain_id)
                log.warning("safes_not_rechecked", chain_id=at.stanza.chain_id, error=why)


def _recheck(at: SafeAccess, deployment: Deployment, measured: dict[Any, Any]) -> None:
    safe = deployment.safe_wallet
    proposed = verify.proposal(at.stanza.chain_id, safe)
    if proposed and proposed.module == at.module and not _compare_with_plan(at, proposed)[1]:
        check(deployment)
    plan = verify.plan_in_force(at.stanza.chain_id, safe)
    if plan is None:
        return
    if objections := safe_contract.read(at.chain, safe).objections:
        entry_stops.stop(plan, entry_stops.EVERYTHING, entry_stops.CHANGED, found="; ".join(objections))
    _stop_shallow(at, plan, at.kind.shallow(at, plan, measured))
