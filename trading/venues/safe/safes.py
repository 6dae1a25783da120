"""Onboard Safes: create, plan, verify, recheck and revoke.

Nothing here signs or sends Safe transactions: the owners do, in their own wallet. Results are read from the chain.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from agents.fee_terms import fees_of, terms
from agents.fees import not_collected
from agents.models import Agent, Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import ZERO
from maxxit.core.terms import BPS
from maxxit.events.record import advance, record
from maxxit.evm.rpc import Fault
from trading import ledger
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.models import LedgerBalance
from trading.policy import policy as risk_policy
from trading.reasons import Reason
from trading.venues.safe import entry_stops, pools, reconcile, safe_contract, verify
from trading.venues.safe.access import SafeAccess
from trading.venues.safe.card import PermissionCard, permission_card
from trading.venues.safe.contract import module as m
from trading.venues.safe.units import USDC_DECIMALS, base
from trading.wiring import venue

log = structlog.get_logger(__name__)

SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")


@dataclass(frozen=True, slots=True)
class ToSign:
    """A Safe transaction for the owners to sign in their wallet."""

    safe: str
    transaction: dict[str, Any]
    """Safe transaction JSON with the EIP-712 message and its hash."""
    card: PermissionCard | None = None
    notes: tuple[str, ...] = ()
    """What else the owners should know about their Safe."""


def safe_access(deployment: Deployment) -> SafeAccess:
    """Return access to the Safes of the agent's venue. Raises Rejected where it does not trade from Safes."""
    at = venue(deployment.agent.venue).safe_access()
    if at is None:
        raise Rejected(
            f"{deployment} trades on {deployment.agent.venue}, not from a Safe", code="not_a_safe_venue"
        )
    return at


def create(at: SafeAccess, owners: Sequence[str], threshold: int, salt: int) -> dict[str, Any]:
    """Return the address of a new Safe and the transaction, which anyone may send, that creates it.

    Raises Rejected for invalid owners or threshold.
    """
    invalid = [owner for owner in owners if not chains.is_address(owner)]
    if invalid or not owners:
        raise Rejected(
            f"not an address with its checksum: {', '.join(invalid) or 'no owner'}", code="wrong_owner"
        )
    if not 1 <= threshold <= len(owners):
        raise Rejected(
            f"the threshold is {threshold}: it must be from 1 to the number of owners, {len(owners)}",
            code="wrong_threshold",
        )
    from trading.venues.safe import library, onboarding  # load safe-eth-py

    data = onboarding.create_safe_data(owners, threshold, salt)
    return {
        "safe": onboarding.predict_safe(library.reading(at.chain), owners, threshold, salt),
        "chain_id": at.stanza.chain_id,
        "transaction": {"to": library.deployed("SafeProxyFactory"), "value": "0", "data": "0x" + data.hex()},
    }


def consent(deployment: Deployment, safe: str) -> str:
    """Return the text that an owner of the Safe signs (EIP-191, `personal_sign`) to let a deployment plan for it."""
    chain_id = safe_access(deployment).stanza.chain_id
    return f"Maxxit deployment {deployment.pk} may plan for the Safe {safe} on chain {chain_id}."


def require_owner(deployment: Deployment, safe: str, signature: str) -> None:
    """Raise Rejected, with the text to sign, unless one of the Safe's owners signed the consent."""
    at, text = safe_access(deployment), consent(deployment, safe)
    _must_be_address(safe)
    from trading.venues.safe.library import read_safe  # loads safe-eth-py

    with read_safe(at.chain, safe) as contract:
        contract.retrieve_nonce()
        owners = contract.retrieve_owners()
    if signer_of(text, signature) not in owners:
        raise Rejected(
            f"sign this text with the key of an owner of {safe}, and send the signature: {text}",
            code="owner_signature",
        )


def signer_of(text: str, signature: str) -> str:
    """Return the address that signed the text; empty for an invalid signature."""
    from eth_account import Account  # as in `trading.chain.signer`
    from eth_account.messages import encode_defunct
    from eth_keys.exceptions import BadSignature

    if not SIGNATURE.fullmatch(signature):
        return ""
    try:
        signer: str = Account.recover_message(encode_defunct(text=text), signature=signature)
    except (ValueError, BadSignature):
        return ""
    return signer


def _must_be_address(safe: str) -> None:
    if not chains.is_address(safe):
        raise Rejected(
            f"{safe or 'no Safe given'}: give the Safe's address with its checksum", code="wrong_safe"
        )


def plan(deployment: Deployment, safe: str = "", loosen_delay: int | None = None) -> ToSign:
    """Store a plan for the Safe and return what the owners sign.

    `loosen_delay`: the owners' choice in seconds; None: the configured one. Raises Rejected where the Safe cannot be
    traded or belongs to another deployment.
    """
    at, safe = safe_access(deployment), safe or deployment.safe_wallet
    _must_be_address(safe)
    others = Deployment.objects.filter(account=safe).exclude(pk=deployment.pk)
    if any(other.owner_id != deployment.owner_id for other in others):
        raise Rejected(
            f"{safe} is used by another customer's deployment; a Safe can trade for one customer only",
            code="safe_taken",
        )
    if duplicate := others.filter(agent=deployment.agent_id).first():
        raise Rejected(
            f"deployment {duplicate.pk} already uses {safe} with this agent: use that deployment",
            code="safe_taken",
        )
    if deployment.safe_wallet not in ("", safe) and _has_traded(deployment):
        raise Rejected(
            f"{deployment} has ledger entries or orders with {deployment.safe_wallet}: create another deployment for "
            f"{safe}",
            code="safe_fixed",
        )
    from trading.venues.safe import library, onboarding  # load safe-eth-py

    with library.read_safe(at.chain, safe) as on_chain:
        nonce = on_chain.retrieve_nonce()
    contract = safe_contract.read(at.chain, safe)
    if contract.objections:
        raise Rejected(
            f"{safe} cannot be traded: {'; '.join(contract.objections)}", code=Reason.SAFE_UNSUPPORTED
        )
    with library.read_safe(at.chain, safe) as on_chain:
        enabled = bool(on_chain.contract.functions.isModuleEnabled(at.places.module).call())
    terms, rules = _policy(deployment, at, loosen_delay), _rules(deployment, at)
    tx = onboarding.enable_tx(
        at.stanza.chain_id, safe, at.places.module, terms, rules, nonce, enabled=enabled
    )
    _store_plan(deployment, at, safe, terms, rules, onboarding.safe_tx_hash(tx))
    return ToSign(
        safe,
        onboarding.safe_tx_json(tx),
        permission_card(terms, rules, at.places.tokens),
        contract.notes,
    )


def _has_traded(deployment: Deployment) -> bool:
    """Return whether money was booked or an order reserved: its positions cannot be closed from another Safe."""
    booked = LedgerBalance.objects.filter(account=ledger.account_of(deployment.pk))
    return booked.exists() or deployment.orders.filter(reserved_at__isnull=False).exists()


def _policy(deployment: Deployment, at: SafeAccess, loosen_delay: int | None) -> m.Policy:
    agent, places = deployment.agent, at.places
    chosen = {} if loosen_delay is None else {"loosen_delay": loosen_delay}
    return m.Policy(
        executor=at.executors[0],
        guardian=places.guardian,
        fee_receiver=places.fee_receiver,
        profit_receiver=agent.profit_receiver
        if chains.is_address(agent.profit_receiver)
        else places.profit_receiver,
        profit_share_bps=int(agent.profit_share * BPS),
        trade_fee=base(_module_fee(agent), USDC_DECIMALS),
        **chains.terms().model_dump() | chosen,
    )


def _module_fee(agent: Agent) -> Decimal:
    """Return the fee per trade in USDC for the module's policy. Raises Rejected where it cannot take the agent's fees.

    The owners sign the present fees, whatever they agreed to before.
    """
    fees = risk_policy().fees
    own = terms(fees_of(agent), {}, trade=fees.trade, profit=fees.profit)
    if problem := not_collected(own.trade, own.profit, own.month):
        raise Rejected(
            f"agent {agent.name}: {problem}. Change the agent's fees, or `fees` in config/risk.yaml where it has none.",
            code="fees_not_collected",
        )
    return own.trade.charge(ZERO)


def _rules(deployment: Deployment, at: SafeAccess) -> list[m.TokenRule]:
    """Return rules for the agent's tokens that the chain has, each with the best pool for the largest trade."""
    wanted = deployment.agent.tokens or list(at.places.tokens)
    tokens = {symbol: at.places.tokens[symbol] for symbol in wanted if symbol in at.places.tokens}
    if not tokens:
        raise Rejected(f"none of {', '.join(wanted)} is traded on this chain", code=Reason.TOKEN_NOT_LISTED)
    return [
        m.TokenRule(token.address, token.feed, _best_pool(at, token.address).fee, token.max_age)
        for token in tokens.values()
    ]


def _best_pool(at: SafeAccess, token: str) -> pools.Depth:
    """Return the best pool for the plan's largest trade. Raises Rejected where none is deep enough."""
    limits, stanza = chains.terms(), at.stanza
    return pools.best_pool(
        at.chain, at.places, token, stanza.fee_tiers, limits.min_trade, limits.max_trade,
        stanza.max_price_impact_bps,
    )  # fmt: skip


@transaction.atomic
def _store_plan(
    deployment: Deployment,
    at: SafeAccess,
    safe: str,
    terms: m.Policy,
    rules: list[m.TokenRule],
    digest: bytes,
) -> None:
    row, new = SafePlan.objects.update_or_create(
        chain_id=at.stanza.chain_id,
        safe=safe,
        verified_at=None,
        defaults={
            "module": at.places.module,
            "safe_tx_hash": "0x" + digest.hex(),
            "created_at": clock.now(),
            **verify.as_plan(terms, rules),
        },
    )
    if deployment.safe_wallet != safe:
        deployment.module_enabled, deployment.verified_at = False, None
    deployment.account = deployment.safe_wallet = safe
    deployment.chain_id, deployment.module_address = at.stanza.chain_id, at.places.module
    deployment.save()
    record("safe.planned", deployment, safe=safe, hash=row.safe_tx_hash, new=new)


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


def revoke(deployment: Deployment) -> ToSign:
    """Return the transaction that ends the policy and disables the module. Open positions' tokens stay in the Safe."""
    at, safe = safe_access(deployment), deployment.safe_wallet
    from trading.venues.safe import library, onboarding  # load safe-eth-py

    with library.read_safe(at.chain, safe) as contract:
        nonce, enabled = contract.retrieve_nonce(), [str(module) for module in contract.retrieve_modules()]
    if deployment.module_address not in enabled:
        raise Rejected(
            f"{safe} has not enabled the module, so there is nothing to revoke", code=Reason.MODULE_DISABLED
        )
    before = [onboarding.SENTINEL, *enabled][enabled.index(deployment.module_address)]
    tx = onboarding.revoke_tx(at.stanza.chain_id, safe, deployment.module_address, nonce, before)
    record("safe.revoke_planned", deployment, safe=safe)
    return ToSign(safe, onboarding.safe_tx_json(tx))
