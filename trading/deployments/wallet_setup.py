"""Lead an owner from a draft to a Safe that trades: plan, note what the wallet sent, look at the chain, activate.

Nothing here signs or sends. Each function may be called again at any time: what counts is what the chain shows.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

import structlog
from eth_utils.address import is_address, to_checksum_address

from agents.models import Deployment
from agents.states import AgentState, DeploymentState
from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.core.money import USDC, ZERO
from maxxit.core.terms import BPS
from maxxit.events.record import record
from maxxit.evm import facts
from maxxit.evm.rpc import Chain, Fault
from maxxit.market.venues import venues
from trading.chain.models import SafePlan
from trading.deployments import activation
from trading.passes import ends_the_pass
from trading.reasons import Reason
from trading.venues.safe import plans, safes, snapshot, verify

log = structlog.get_logger(__name__)

HASH = re.compile(r"0x[0-9a-fA-F]{64}")
RECEIPT = "eth_getTransactionReceipt"


class Step(StrEnum):
    """How far the owner has come."""

    CHOOSE = "choose"
    """No Safe is planned."""
    SIGN = "sign"
    """A plan waits for the owner's wallet, or for the wallets of several owners."""
    SENT = "sent"
    """The owner's wallet has sent the transaction; no block has it yet."""
    FAILED = "failed"
    """The transaction is in a block and was reverted."""
    DIFFERS = "differs"
    """The Safe is there and shows something else than the plan."""
    READY = "ready"
    """The chain shows the plan: it is in force."""
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Status:
    """Where the setup of a deployment's Safe stands."""

    step: Step
    plan: SafePlan | None = None
    """The newest plan: a proposal, or the one in force."""
    problems: tuple[str, ...] = ()
    """What is wrong, in sentences."""
    usdc: Decimal | None = None
    """USDC in the Safe; None where it was not read."""
    waits: bool = False
    """Whether the plan is signed and waits for its delay, while the stricter of it and the one before holds."""

    @property
    def onboarding(self) -> dict[str, Any]:
        return self.plan.onboarding if self.plan else {}

    @property
    def several(self) -> bool:
        """Whether several owners have to sign."""
        return bool(self.onboarding) and self.onboarding.get("send") is None


def newest_plan(deployment: Deployment) -> SafePlan | None:
    """Return the proposal for the deployment's Safe, else its plan in force, else None."""
    if not deployment.safe_wallet or deployment.chain_id is None:
        return None
    chain_id, safe = deployment.chain_id, deployment.safe_wallet
    return verify.proposal(chain_id, safe) or verify.plan_in_force(chain_id, safe)


def stored_status(deployment: Deployment) -> Status:
    """Return what is known without a look at the chain."""
    plan = newest_plan(deployment)
    if deployment.state == DeploymentState.REVOKED:
        return Status(Step.REVOKED, plan)
    if plan is None:
        return Status(Step.CHOOSE)
    if plan.verified_at is not None and deployment.verified_at is not None:
        return Status(Step.READY, plan)
    return Status(Step.SENT if plan.sent_hash else Step.SIGN, plan)


def plan_new(deployment: Deployment, owner: str) -> plans.ToSign:
    """Plan a new Safe of the wallet `owner`. Raises Rejected, or Retryable where the chain does not answer."""
    _must_be_open(deployment)
    snapshot.require_answer(safes.safe_access(deployment))
    return plans.plan_new(
        deployment, checksummed(owner, "your wallet gave no address: choose an account in it")
    )


def plan_existing(
    deployment: Deployment, safe: str, *, signature: str = "", proven: Collection[str] = ()
) -> plans.ToSign:
    """Plan the policy of a Safe that exists, for which one of its owners must have agreed (`plans.require_owner`)."""
    _must_be_open(deployment)
    snapshot.require_answer(safes.safe_access(deployment))
    address = checksummed(safe, f"{safe or 'nothing'} is no address of a Safe: copy it from your Safe's page")
    plans.require_owner(deployment, address, signature, proven=proven)
    return plans.plan(deployment, address)


def checksummed(address: str, problem: str) -> str:
    """Return the address with its checksum; one in small letters has none to be wrong. Raises Rejected."""
    text = address.strip()
    if not is_address(text):
        raise Rejected(problem, code="wrong_address")
    return to_checksum_address(text)


def _must_be_open(deployment: Deployment) -> None:
    if deployment.state == DeploymentState.REVOKED:
        raise Rejected(
            f"deployment {deployment.pk} is revoked for good: start another agent", code="not_allowed_now"
        )
    if problem := activation.venue_problem(deployment.agent.venue):
        raise Rejected(problem, code="venue_not_set_up")


def note_sent(deployment: Deployment, sent_hash: str) -> None:
    """Keep the hash of the transaction that the owner's wallet sent; only its failure is read from it."""
    if not HASH.fullmatch(sent_hash):
        raise Rejected("your wallet gave no transaction hash", code="wrong_hash")
    plan = newest_plan(deployment)
    if plan is None:
        raise Rejected(f"{deployment} has no plan yet", code=Reason.SAFE_NOT_PLANNED)
    SafePlan.objects.filter(pk=plan.pk).update(sent_hash=sent_hash.lower(), sent_at=clock.now())
    record("safe.sent", deployment, safe=plan.safe, hash=sent_hash.lower())


def forget(deployment: Deployment) -> None:
    """Withdraw a proposal that the chain does not show, and leave its Safe, so that the owner may choose another.

    A proposal that another draft of the same Safe shares stays. Raises Rejected for a plan in force: its owner revokes
    it.
    """
    plan = newest_plan(deployment)
    if plan is None:
        return
    if plan.verified_at is not None:
        raise Rejected(f"the plan of {plan.safe} is in force: revoke it instead", code="not_allowed_now")
    if not _drafts_beside(deployment):  # another draft of the Safe may wait for the same proposal
        plan.delete()
    if deployment.verified_at is None and deployment.state == DeploymentState.DRAFT:
        deployment.account = f"{deployment.agent.venue}:{deployment.pk}"
        deployment.safe_wallet = deployment.user_wallet = deployment.module_address = ""
        deployment.chain_id = None
        deployment.save(update_fields=["account", "safe_wallet", "user_wallet", "module_address", "chain_id"])
    record("safe.proposal_withdrawn", deployment, safe=plan.safe)


def _drafts_beside(deployment: Deployment) -> bool:
    beside = Deployment.objects.filter(safe_wallet=deployment.safe_wallet, chain_id=deployment.chain_id)
    return beside.filter(state=DeploymentState.DRAFT).exclude(pk=deployment.pk).exists()


def sharing(deployment: Deployment) -> list[str]:
    """Return the names of the owner's other agents that trade from the same Safe: they share its limits."""
    if not deployment.safe_wallet:
        return []
    others = Deployment.objects.filter(
        safe_wallet=deployment.safe_wallet, chain_id=deployment.chain_id, owner_id=deployment.owner_id
    )
    others = others.exclude(pk=deployment.pk).exclude(state=DeploymentState.REVOKED)
    return list(others.order_by("pk").values_list("agent__name", flat=True))


def look(deployment: Deployment, *, by: str) -> Status:
    """Compare the chain with the newest plan; put it into force and activate where they agree.

    Raises Retryable where the chain does not answer.
    """
    status = stored_status(deployment)
    if status.plan is None or status.step == Step.REVOKED:
        return status
    at, plan = safes.safe_access(deployment), status.plan
    seen = snapshot.look(at, [snapshot.Asked(plan.safe, plan.module, plan)], fresh=True)[plan.safe]
    if seen.state is None or seen.problem:
        raise Retryable(seen.problem or "the chain was not read")
    usdc = (seen.state.balances or {}).get(USDC, ZERO)
    if seen.state.differences or not seen.state.created:
        return _unfinished(at.chain, plan, seen.state, usdc)
    if plan.verified_at is None or deployment.verified_at is None:
        if problems := safes.check(deployment):
            return Status(Step.DIFFERS, plan, tuple(problems), usdc)
        plan.refresh_from_db()
    return Status(Step.READY, plan, _activate(deployment, by), usdc)


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify_and_activate` found, in sentences."""

    differences: list[str]
    """How the chain differs from the plan; empty: the plan is in force."""
    problems: tuple[str, ...] = ()
    """Why the deployment still does not trade."""


def verify_and_activate(deployment: Deployment, *, by: str) -> Verified:
    """Verify the newest plan on the chain, and activate the deployment where it is in force now.

    Raises Rejected without a plan, Retryable where the chain does not answer.
    """
    differences = safes.check(deployment)
    return Verified(differences, () if differences else _activate(deployment, by))


CHUNK = 200
"""Drafts that are read from the chain together."""


def finish_due() -> int:
    """Activate the drafts whose owners signed while their page was closed; return how many.

    The newest first, `CHUNK` in one read of their chain; a chain that does not answer is looked at the next time.
    """
    finished, before = 0, None
    drafts = Deployment.objects.filter(state=DeploymentState.DRAFT, safe_capital__isnull=False)
    drafts = drafts.exclude(safe_wallet="").select_related("agent").order_by("-pk")
    while rows := list((drafts if before is None else drafts.filter(pk__lt=before))[:CHUNK]):
        finished += _finish(rows)
        before = rows[-1].pk
    return finished


def _finish(rows: Sequence[Deployment]) -> int:
    finished = 0
    for venue_name in {row.agent.venue for row in rows}:
        own = [(row, plan) for row in rows if row.agent.venue == venue_name and (plan := newest_plan(row))]
        asked = [snapshot.Asked(plan.safe, plan.module, plan) for _, plan in own]
        try:
            states = snapshot.read(safes.safe_access(own[0][0]), asked) if own else {}
        except (Rejected, Retryable, Misconfigured) as error:
            log.warning("setups_not_finished", venue=venue_name, error=str(error))
            continue
        signed = [row for row, plan in own if states[plan.safe].created and not states[plan.safe].differences]
        for row in signed:
            try:
                finished += look(row, by="the owner's signature").step == Step.READY
            except Exception as error:  # one draft stops no other
                if ends_the_pass(error):
                    raise
                log.warning("setup_not_finished", deployment=row.pk, error=str(error))
    return finished


def _activate(deployment: Deployment, by: str) -> tuple[str, ...]:
    """Activate the deployment with its draft agent; return why it could not be, in sentences."""
    deployment.refresh_from_db()
    if deployment.state == DeploymentState.ACTIVE and deployment.agent.state != AgentState.DRAFT:
        return ()
    if deployment.state == DeploymentState.PAUSED:
        return ()  # its owner paused it
    try:
        activation.activate(deployment, by=by, why="the Safe's policy is verified")
    except Rejected as error:
        return (str(error),)
    return ()


def _unfinished(chain: Chain, plan: SafePlan, state: snapshot.SafeState, usdc: Decimal) -> Status:
    """Return where a plan stands that the chain does not show."""
    if state.waits:
        return Status(Step.DIFFERS, plan, state.differences, usdc, waits=True)
    receipt: facts.Receipt | None = None
    if plan.sent_hash:
        receipt = receipt_of(chain, plan.sent_hash)
    if receipt is not None and not receipt.succeeded:
        return Status(Step.FAILED, plan, (_why_reverted(chain, plan, receipt),), usdc)
    if receipt is None and plan.sent_hash:
        return Status(Step.SENT, plan, (), usdc)
    if receipt is not None and state.created:
        return Status(Step.DIFFERS, plan, state.differences, usdc)
    return Status(Step.SIGN, plan, (), usdc)


def receipt_of(chain: Chain, sent_hash: str) -> facts.Receipt | None:
    """Return the receipt that the endpoints agree on; None while no block has the transaction."""
    receipt: facts.Receipt | None = chain.agreed(f"the receipt of {sent_hash}", RECEIPT, sent_hash)
    return receipt


REVERTS = {
    "GS000": "setting up the module failed inside your Safe",
    "GS013": "a call inside your Safe failed",
    "GS020": "the signatures are not complete",
    "GS025": "the account that sent it is not the owner of the Safe",
    "GS026": "the account that sent it is not the owner of the Safe",
    "Create2 call failed": "this Safe exists already",
}
"""Reasons of Safe's contracts (docs/error_codes.md of safe-smart-account), in words."""


def _why_reverted(chain: Chain, plan: SafePlan, receipt: facts.Receipt) -> str:
    """Return why the owner's transaction was reverted, by replaying it in the block before it."""
    send, reason = plan.onboarding.get("send") or {}, ""
    owner = next(iter(plan.onboarding.get("owners", [])), "")
    if send:
        try:
            data = bytes.fromhex(send["data"].removeprefix("0x"))
            chain.call(send["to"], data, sender=owner, block=hex(max(receipt.block_number - 1, 0)))
        except Fault as error:
            reason = error.reason
        except Retryable:
            reason = ""
    known = REVERTS.get(reason, reason)
    return (
        f"the transaction was reverted: {known}"
        if known
        else "the transaction was reverted, or ran out of gas"
    )


# -- the venues that a customer may choose


@dataclass(frozen=True, slots=True)
class SafeVenueChoice:
    """A venue that trades from customers' Safes."""

    name: str
    chain: str
    chain_id: int
    problem: str
    """Why it cannot be used now; empty where it can, and where its chain was not asked."""
    leverage: Decimal = Decimal(1)
    """The highest that a plan proposes: above 1 for perpetual futures."""


def venue_choices(*, local: bool, ask: str = "") -> list[SafeVenueChoice]:
    """Return the venues that trade from Safes and are configured.

    Args:
        local: whether the local development chain is offered.
        ask: the venue whose chain is asked whether it answers; the others are not asked, because a silent one takes as
            long as `pages.read_seconds`.
    """
    from trading.chain import chains
    from trading.wiring import venue

    choices = []
    for name, stanza in venues().items():
        if not stanza.uses_safes:
            continue
        try:
            at = venue(name).safe_access()
        except Misconfigured as error:  # paper and other chains stay open
            log.error("venue_not_opened", venue=name, error=str(error))
            continue
        if at is None or (at.stanza.chain_id == chains.LOCAL_CHAIN_ID and not local):
            continue
        if not at.configured:
            continue
        chain_id = at.stanza.chain_id
        problem = snapshot.answers(at) if name == ask else ""
        perps = at.kind.name == "perps"
        signed = Decimal(chains.perps_terms().max_leverage_bps) / BPS
        leverage = min(stanza.max_leverage, signed) if perps else Decimal(1)
        choices.append(SafeVenueChoice(name, chains.title(chain_id), chain_id, problem, leverage))
    return choices
