"""Change the limits of a Safe that trades: chosen and signed by its owner, in force when the chain shows them.

A change is a new plan (`trading.venues.safe.plans`). Until the chain shows it the limits before it stay in force, and
positions can be closed at any time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.events.record import record
from trading.chain.models import SafePlan
from trading.deployments import activation
from trading.reasons import Reason
from trading.venues import safe_kinds
from trading.venues.safe import limits, plans, safes, snapshot, verify
from trading.venues.safe.limits import Limit, Unit
from trading.venues.safe.units import USDC_DECIMALS, whole

NUMBERS = {
    Unit.USDC: "an amount in USDC with at most six decimals",
    Unit.COUNT: "a whole number",
    Unit.TIMES: "a number with at most four decimals",
}
"""Unit of a limit -> what may be entered."""


@dataclass(frozen=True, slots=True)
class Change:
    """A limit before and after a plan that is not in force yet, in the limit's unit."""

    limit: Limit
    before: Decimal
    after: Decimal

    @property
    def label(self) -> str:
        return self.limit.label

    @property
    def unit(self) -> str:
        """Return USDC, x for leverage, or nothing for a count."""
        return str(self.limit.unit)

    @property
    def before_text(self) -> str:
        return self.limit.text(self.limit.stored(self.before))

    @property
    def after_text(self) -> str:
        return self.limit.text(self.limit.stored(self.after))


def in_force(deployment: Deployment) -> SafePlan:
    """Return the plan of the deployment's Safe whose limits can be changed.

    Raises Rejected for a revoked deployment, and where no plan is in force yet.
    """
    if deployment.state == DeploymentState.REVOKED:
        raise Rejected(
            f"deployment {deployment.pk} is revoked for good: start another agent", code="not_allowed_now"
        )
    plan = None
    if deployment.safe_wallet and deployment.chain_id is not None:
        plan = verify.plan_in_force(deployment.chain_id, deployment.safe_wallet)
    if plan is None:
        raise Rejected(
            f"deployment {deployment.pk} has no limits in force on the chain yet: sign its plan first",
            code=Reason.SAFE_NOT_PLANNED,
        )
    return plan


def values_of(plan: SafePlan) -> dict[str, Decimal]:
    """Return the limits of a plan that an owner may choose, each in its unit."""
    return {
        one.name: one.shown(int(plan.policy[one.field])) for one in safe_kinds.of_plan(plan).choice.limits
    }


def largest(deployment: Deployment) -> dict[Limit, Decimal]:
    """Return the limits that the owner of a deployment's Safe may choose, with the loosest that the platform plans."""
    kind = safe_kinds.of_deployment(deployment)
    terms = kind.terms()
    return {one: one.shown(getattr(terms, one.field)) for one in kind.choice.limits}


def smallest_trade(deployment: Deployment) -> Decimal:
    """Return the smallest order, or the smallest collateral of a trade, that the module takes, USDC."""
    kind = safe_kinds.of_deployment(deployment)
    return whole(getattr(kind.terms(), kind.smallest_field), USDC_DECIMALS)


def propose(
    deployment: Deployment, given: Mapping[str, Decimal | None], *, by: str, loosen_delay: int | None = None
) -> plans.ToSign:
    """Store a plan with the limits given, and return what the owners sign.

    Args:
        given: name of a limit -> a value in its unit; None, or left out: as in force.
        loosen_delay: seconds before a later, looser policy takes effect; None: the configured one.

    Raises InvalidInput naming each wrong limit, Rejected where the Safe has no plan in force or the limits are those in
    force, and Retryable where the chain does not answer.
    """
    plan = in_force(deployment)
    kind = safe_kinds.of_plan(plan)
    choice = kind.choice
    now = {one.field: int(plan.policy[one.field]) for one in choice.limits}
    problems, wanted = {}, dict(now)
    for name, value in given.items():
        if value is None:
            continue
        if name not in choice.names:
            problems[name] = f"no such limit; known: {', '.join(choice.names)}"
        elif not value.is_finite() or not 0 < value < 10**12 or value != round(value, choice[name].places):
            problems[name] = f"enter {NUMBERS[choice[name].unit]} above 0, not {value}"
        else:
            wanted[choice[name].field] = choice[name].stored(value)
    if not problems:
        problems = limits.problems_of(kind.terms(), wanted, choice)
    if problems:
        raise InvalidInput(problems)
    if wanted == now and loosen_delay in (None, plan.policy["loosen_delay"]):
        raise Rejected("these limits are in force already: change one", code="no_change")
    if problem := activation.venue_problem(deployment.agent.venue):
        raise Rejected(problem, code="venue_not_set_up")
    snapshot.require_answer(safes.safe_access(deployment))
    made = plans.plan(deployment, deployment.safe_wallet, loosen_delay, wanted)
    before, after = (
        {one.name: str(one.shown(row[one.field])) for one in choice.limits} for row in (now, wanted)
    )
    record("safe.limits_chosen", deployment, by=by, before=before, after=after)
    return made


def changes(deployment: Deployment, proposal: SafePlan) -> list[Change]:
    """Return what a proposal changes of the limits in force; empty where no plan is in force yet."""
    if proposal.verified_at is not None:
        return []
    plan = verify.plan_in_force(proposal.chain_id, proposal.safe)
    if plan is None:
        return []
    before, after = values_of(plan), values_of(proposal)
    listed = safe_kinds.of_plan(proposal).choice.limits
    return [Change(one, before[one.name], after[one.name]) for one in listed]


def loosens(rows: list[Change]) -> bool:
    """Return whether a change makes a limit looser, which waits for the delay that the owners signed. Pure."""
    return any(row.after > row.before for row in rows)


def warnings_of(deployment: Deployment) -> list[str]:
    """Return which orders of the agent the proposal of its Safe would stop, in sentences."""
    capital = activation.capital_of(deployment)
    proposal = verify.proposal(deployment.chain_id or 0, deployment.safe_wallet)
    if capital <= 0 or proposal is None:
        return []
    kind = safe_kinds.of_plan(proposal)
    most = values_of(proposal)[kind.largest_field]
    orders = sorted({size for size in activation.plan_of(deployment).orders.values() if size > most})
    if not orders:
        return []
    sizes = ", ".join(f"{size:,.2f}" for size in orders)
    return [
        f"with {capital:,.2f} USDC this agent places orders of {sizes} USDC, which a limit of {most:,.2f} USDC "
        f"{kind.size_words} stops"
    ]
