"""Check a deployment's plan with the configuration in force, and activate, pause or revoke it."""

from decimal import Decimal

from django.db import transaction

from agents import fee_terms
from agents.deploying import starting_balance
from agents.evidence import POSTS
from agents.fees import FeeRule
from agents.lifecycle import change_state
from agents.models import Agent, Deployment
from agents.states import AgentState, DeploymentState
from maxxit.core.errors import InvalidInput, Misconfigured, Rejected
from maxxit.core.money import ZERO
from maxxit.core.terms import ExitPreset, Preset
from maxxit.market.venues import VenuePolicy, venue_policy
from trading.chain import chains
from trading.credentials.store import is_stored
from trading.deployments.funding import fund
from trading.deployments.plan_check import Costs, PlanCheck, check_plan
from trading.risk.limits_in_force import protective_limits
from trading.risk.policy import RiskPolicy
from trading.wiring import venue

PERCENT_PER_BPS = Decimal("0.01")


def check(
    capital: Decimal,
    preset: str = Preset.MODERATE,
    venue_name: str = "paper",
    exit_preset: str = ExitPreset.SIGNAL,
    *,
    agent: Agent | None = None,
) -> PlanCheck:
    """Return what `capital` USDC would trade, by the limits and fees in force. Changes nothing.

    Args:
        agent: whose own fee for a trade is charged; None: the platform's.

    Raises InvalidInput naming each wrong value.
    """
    problems: dict[str, str] = {}
    try:
        starting_balance(capital)
    except InvalidInput as error:
        problems |= error.problems
    for name, value, known in (("preset", preset, Preset), ("exit_preset", exit_preset, ExitPreset)):
        if value not in set(known):
            problems[name] = f"no preset {value!r}; known: {', '.join(known)}"
    try:
        stanza = venue_policy(venue_name)
    except Misconfigured as error:
        problems["venue"] = str(error)
    if problems:
        raise InvalidInput(problems)
    rules = protective_limits()
    return check_plan(capital, preset, exit_preset, rules, costs_of(stanza, rules, agent))


def costs_of(stanza: VenuePolicy, rules: RiskPolicy, agent: Agent | None = None) -> Costs:
    """Return what a trade at a venue costs, and the smallest order that it takes."""
    trade: FeeRule = rules.fees.trade
    if agent is not None:
        trade = fee_terms.terms(
            fee_terms.fees_of(agent), {}, trade=rules.fees.trade, profit=rules.fees.profit
        ).trade
    bps = sum((Decimal(stanza.options.get(name, 0)) for name in ("fee_bps", "slippage_bps")), ZERO)
    smallest = ZERO
    if stanza.adapter == "safe":
        smallest = Decimal(chains.terms().min_trade).scaleb(-6)
    elif stanza.adapter == "gmx":
        smallest = Decimal(chains.perps_terms().min_collateral).scaleb(-6)
    return Costs(trade, 2 * bps * PERCENT_PER_BPS if stanza.paper else ZERO, smallest)


def activate(deployment: Deployment, *, by: str, why: str = "") -> bool:
    """Let a deployment trade; return whether it did not before. A draft agent of the same owner is activated with it.

    A paper account gets its starting balance at once. Raises Rejected (`cannot_work`) with every reason why it could
    not trade: its agent follows nobody, its orders would not reach the minimum, or the keys of its account are missing.
    """
    agent = deployment.agent
    own_draft = agent.state == AgentState.DRAFT and agent.owner_id == deployment.owner_id
    if deployment.state == DeploymentState.ACTIVE and not own_draft:
        return False
    if deployment.state != DeploymentState.REVOKED and (problems := obstacles(deployment)):
        raise Rejected("; ".join(problems), code="cannot_work")
    with transaction.atomic():
        if agent.state == AgentState.DRAFT and deployment.state != DeploymentState.REVOKED:
            change_state(agent, AgentState.ACTIVE, by=by, why=why)
        moved = change_state(deployment, DeploymentState.ACTIVE, by=by, why=why)
    if venue(agent.venue).capabilities.play_money and deployment.starting_balance > 0:
        fund(deployment)
    return moved


def obstacles(deployment: Deployment) -> list[str]:
    """Return every reason why the deployment could not trade if it were activated now; empty for none."""
    agent = deployment.agent
    problem = venue_problem(agent.venue)
    problems = [problem] if problem else []
    if agent.state == AgentState.PAUSED:
        problems.append(f"agent {agent.pk} ({agent}) is paused: activate it first")
    if agent.state == AgentState.DRAFT and agent.owner_id != deployment.owner_id:
        problems.append(f"agent {agent.pk} ({agent}) is a draft of another owner, who has to activate it")
    if agent.weights.get(POSTS, 0) and not agent.subscriptions.exists():
        problems.append(f"agent {agent.pk} ({agent}) follows no account and weighs posts: follow one first")
    if deployment.state == DeploymentState.DRAFT:
        if capital_of(deployment) > 0:
            problems += plan_of(deployment).problems
        if deployment.safe_capital is not None and deployment.verified_at is None:
            problems.append(
                f"the policy of the Safe of deployment {deployment.pk} is not verified on the chain: connect your "
                "wallet and sign it"
            )
    if venue(agent.venue).credential_fields and not is_stored(agent.venue, deployment.account):
        problems.append(f"no keys of its account at {agent.venue} are stored: store them first")
    return problems


def venue_problem(name: str) -> str:
    """Return why nothing can be traded at the venue yet, for its customers; empty where it is set up.

    Its chain may lack addresses of the platform. `doctor` names them and the next step to operators.
    """
    stanza = venue_policy(name)
    chain = stanza.options.get("chain")
    if chain is None:
        return ""
    try:
        known = chains.addresses(chains.stanza(str(chain)))
        missing = known.missing
        if stanza.adapter == "gmx":
            missing = [*missing, *(["gmx"] if known.gmx is None else [])]
            missing += ["gmx.module"] if known.gmx is not None and known.gmx.module is None else []
        lacking = f"has no address of {', '.join(f'`{key}`' for key in missing)}" if missing else ""
    except Misconfigured:
        lacking = "is not there"
    if not lacking:
        return ""
    return (
        f"the venue {name} is not set up yet, because its chain {chain} {lacking}: ask an operator, whom "
        f"`manage.py doctor`, line chain:{chain}, tells what to do"
    )


def capital_of(deployment: Deployment) -> Decimal:
    """Return the USDC that the deployment was planned with: play money, or what its owner means to keep in the Safe."""
    return deployment.starting_balance if deployment.safe_capital is None else deployment.safe_capital


def plan_of(deployment: Deployment) -> PlanCheck:
    """Return the plan check of the deployment's capital."""
    agent, rules = deployment.agent, protective_limits()
    return check_plan(
        capital_of(deployment),
        agent.sizing_preset,
        agent.exit_preset,
        rules,
        costs_of(venue_policy(agent.venue), rules, agent),
        max_position=deployment.max_position_usd,
        max_daily=deployment.max_daily_usd,
    )


def pause(deployment: Deployment, *, by: str, why: str = "") -> bool:
    """Open no more positions; return whether it was active. Open positions keep their exits."""
    return change_state(deployment, DeploymentState.PAUSED, by=by, why=why)


def revoke(deployment: Deployment, *, by: str, why: str = "") -> bool:
    """End a deployment for good; return whether it was not before. Open positions keep their exits."""
    return change_state(deployment, DeploymentState.REVOKED, by=by, why=why)
