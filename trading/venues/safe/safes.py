"""Verify that Safes have the policy that their owners signed, and recheck them.

Nothing here signs or sends Safe transactions: the owners do, in their own wallet, what `trading.venues.safe.plans`
returns. Results are read from the chain.
"""

from collections.abc import Mapping

import structlog
from django.db import transaction

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.events.record import advance, record
from maxxit.evm.rpc import Fault
from trading.chain.models import SafePlan
from trading.reasons import Reason
from trading.venues.safe import entry_stops, pools, reconcile, safe_contract, verify
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

    Until the owners sign a proposal, the previous plan stays in force, and its deployment stays verified as long as the
    chain shows that plan. Without a verified plan entries stop; exits never depend on it.
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
    enabled, differences = _compare_with_plan(at, newest)
    differences += safe_contract.read(at.chain, safe).objections
    shallow = _shallow_pools(at, newest, {})
    stands = not differences
    if differences and proposed and confirmed and deployment.verified_at:
        stands = not _compare_with_plan(at, confirmed)[1]
    _store_result(deployment, newest, differences, enabled=enabled, stands=stands)
    if not differences:
        entry_stops.clear(newest)
        _stop_shallow(newest, shallow)
        reconcile.reconcile(at, safe)
    return differences


def stopped(deployment: Deployment) -> dict[str, str]:
    """Return what stops entries besides the verification: token symbol, or * for all -> reason code."""
    at = safe_access(deployment)
    plan = verify.plan_in_force(at.stanza.chain_id, deployment.safe_wallet)
    symbols = {token.address: symbol for symbol, token in at.places.tokens.items()}
    return {symbols.get(token, token): code for token, code in plan.stops.items()} if plan else {}


def _compare_with_plan(at: SafeAccess, plan: SafePlan) -> tuple[bool, list[str]]:
    """Return whether the module is enabled, and how the chain differs from the plan."""
    try:
        now = verify.standing(at.chain, at.places, plan)
    except Fault as error:
        raise Rejected(
            f"{plan.safe} is not a Safe on chain {plan.chain_id}", code=Reason.NOT_A_SAFE
        ) from error
    illiquid = [rule.token for rule in verify.rules_of(plan) if rule.token not in now.liquid]
    return now.enabled, [*now.differences, *(f"the pool of {token} is empty" for token in illiquid)]


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
    if deployment.state == DeploymentState.DRAFT:
        advance(deployment, DeploymentState.ACTIVE)


Measured = dict[tuple[int, str, int, int, int], pools.Depth | None]
"""(chain, token, fee tier, min trade, max trade) -> depth, None without a quote."""


def _shallow_pools(at: SafeAccess, plan: SafePlan, measured: Measured) -> dict[str, int | None]:
    """Return the plan's tokens with too shallow a pool -> price impact in basis points, None without a quote.

    `measured` caches the pools, because most Safes share pools and limits.
    """
    policy, shallow = verify.policy_of(plan), {}
    for rule in verify.rules_of(plan):
        params = (rule.token, rule.pool_fee, policy.min_trade, policy.max_trade)
        key = (at.stanza.chain_id, *params)
        if key not in measured:
            measured[key] = pools.depth(at.chain, at.places, *params)
        pool = measured[key]
        if pool is None or pool.impact_bps > at.stanza.max_price_impact_bps:
            shallow[rule.token] = pool.impact_bps if pool else None
    return shallow


def _stop_shallow(plan: SafePlan, shallow: Mapping[str, int | None]) -> None:
    """Stop entries in the plan's tokens with too shallow a pool, and resume the others."""
    for rule in verify.rules_of(plan):
        if rule.token in shallow:
            entry_stops.stop(plan, rule.token, entry_stops.SHALLOW, impact_bps=shallow[rule.token])
        else:
            entry_stops.resume(plan, rule.token)


def recheck_all() -> None:
    """Recheck every verified Safe: put signed proposals into force, stop entries where the Safe or a pool changed.

    A Safe that cannot be read does not keep the others from being checked.
    """
    measured: Measured = {}
    for deployment in Deployment.objects.exclude(verified_at=None).exclude(safe_wallet="").order_by("pk"):
        try:
            _recheck(deployment, measured)
        except (Rejected, Retryable, Unknown) as error:
            log.warning("safe_not_rechecked", deployment=deployment.pk, error=str(error))


def _recheck(deployment: Deployment, measured: Measured) -> None:
    at, safe = safe_access(deployment), deployment.safe_wallet
    proposed = verify.proposal(at.stanza.chain_id, safe)
    if proposed and not _compare_with_plan(at, proposed)[1]:
        check(deployment)
    plan = verify.plan_in_force(at.stanza.chain_id, safe)
    if plan is None:
        return
    if objections := safe_contract.read(at.chain, safe).objections:
        entry_stops.stop(plan, entry_stops.EVERYTHING, entry_stops.CHANGED, found="; ".join(objections))
    _stop_shallow(plan, _shallow_pools(at, plan, measured))
