"""Plan what the owners of a Safe sign: a new Safe with its policy, a policy for an existing Safe, a revocation.

Nothing here signs or sends: the owners do, in their own wallet. A plan is a proposal until the chain shows it
(`trading.venues.safe.safes`).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import transaction
from eth_utils.crypto import keccak

from agents.fee_terms import fees_of, terms
from agents.fees import not_collected
from agents.models import Agent, Deployment
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO
from maxxit.core.terms import BPS
from maxxit.events.record import record
from trading import ledger
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.models import LedgerBalance
from trading.reasons import Reason
from trading.risk.policy import policy as risk_policy
from trading.venues.safe import limits, safe_contract, verify
from trading.venues.safe.access import SafeAccess
from trading.venues.safe.card import PermissionCard
from trading.venues.safe.safes import safe_access
from trading.venues.safe.units import USDC_DECIMALS, base

if TYPE_CHECKING:
    from safe_eth.safe import SafeTx

SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a contract without value."""

    to: str
    data: str
    """0x hex."""

    def as_json(self) -> dict[str, str]:
        return {"to": self.to, "value": "0", "data": self.data}


@dataclass(frozen=True, slots=True)
class ToSign:
    """What the owners of a Safe sign in their wallet."""

    safe: str
    transaction: dict[str, Any]
    """Safe transaction JSON with the EIP-712 message and its hash; empty for a Safe that is created by `send`."""
    card: PermissionCard | None = None
    notes: tuple[str, ...] = ()
    """What else the owners should know about their Safe."""
    owners: tuple[str, ...] = ()
    threshold: int = 0
    send: Call | None = None
    """What the only owner sends from their wallet, signing nothing else; None where several owners sign."""
    calls: tuple[Call, ...] = ()
    """The calls that the Safe makes, for Safe's Transaction Builder."""


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

    setup = onboarding.safe_setup_data(owners, threshold)
    data = onboarding.create_safe_data(setup, salt)
    return {
        "safe": onboarding.predict_safe(library.reading(at.chain), setup, salt),
        "chain_id": at.stanza.chain_id,
        "transaction": {"to": library.deployed("SafeProxyFactory"), "value": "0", "data": "0x" + data.hex()},
    }


def consent(deployment: Deployment, safe: str) -> str:
    """Return the text that an owner of the Safe signs (EIP-191, `personal_sign`) to let a deployment plan for it."""
    at = safe_access(deployment)
    return at.kind.consent(deployment.pk, safe, at.stanza.chain_id)


def require_owner(deployment: Deployment, safe: str, signature: str, *, proven: Collection[str] = ()) -> None:
    """Raise Rejected, with the text to sign, unless one of the Safe's owners signed the consent.

    Args:
        proven: addresses that the customer has shown to hold the keys of; one of them being an owner is enough.
    """
    at, text = safe_access(deployment), consent(deployment, safe)
    _must_be_address(safe)
    from trading.venues.safe.library import read_safe  # loads safe-eth-py

    with read_safe(at.chain, safe) as contract:
        contract.retrieve_nonce()
        owners = contract.retrieve_owners()
    if not {signer_of(text, signature), *proven} & set(owners):
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


def plan(
    deployment: Deployment,
    safe: str = "",
    loosen_delay: int | None = None,
    chosen: Mapping[str, int] | None = None,
) -> ToSign:
    """Store a plan for an existing Safe and return what the owners sign.

    Args:
        loosen_delay: the owners' choice in seconds; None: the configured one.
        chosen: the owner's choice of limits (names of `Choice`); None: as in the newest plan of the Safe.

    Raises Rejected where the Safe cannot be traded or belongs to another deployment.
    """
    at, safe = safe_access(deployment), safe or deployment.safe_wallet
    _must_be_free(at, deployment, safe)
    from trading.venues.safe import library, onboarding  # load safe-eth-py

    with library.read_safe(at.chain, safe) as on_chain:
        nonce = on_chain.retrieve_nonce()
    contract = safe_contract.read(at.chain, safe)
    if contract.objections:
        raise Rejected(
            f"{safe} cannot be traded: {'; '.join(contract.objections)}", code=Reason.SAFE_UNSUPPORTED
        )
    with library.read_safe(at.chain, safe) as on_chain:
        enabled = bool(on_chain.contract.functions.isModuleEnabled(at.module).call())
        owners, threshold = on_chain.retrieve_owners(), on_chain.retrieve_threshold()
    if chosen is None:
        chosen = chosen_limits(at.stanza.chain_id, safe)
    proposal = _proposal(deployment, at, loosen_delay, chosen)
    tx = onboarding.policy_tx(
        at.stanza.chain_id, safe, at.module, proposal.set_policy, nonce, enabled=enabled
    )
    made = to_sign(safe, tx, owners, threshold, proposal.card, contract.notes)
    _store_plan(deployment, at, made, proposal, chosen)
    return made


def plan_new(deployment: Deployment, owner: str, loosen_delay: int | None = None) -> ToSign:
    """Store a plan for a new Safe of one owner, and return the one transaction that the owner sends.

    It creates the Safe with the module enabled and the policy set. The address depends on the policy and on the
    deployment, so the same plan gives the same Safe, however often it is asked for.

    Raises Rejected for an invalid owner, and where the chain lacks one of Safe's contracts.
    """
    if not chains.is_address(owner):
        raise Rejected(
            f"{owner or 'no owner'}: give the owner's address with its checksum", code="wrong_owner"
        )
    at = safe_access(deployment)
    from trading.venues.safe import library, onboarding  # load safe-eth-py

    library.require_setup_contracts(at.chain)
    proposal = _proposal(deployment, at, loosen_delay)
    setup = onboarding.setup_with_policy(owner, at.module, proposal.set_policy)
    salt = int.from_bytes(keccak(text=f"maxxit/safe/{deployment.pk}"), "big")
    safe = onboarding.predict_safe(library.reading(at.chain), setup, salt)
    _must_be_free(at, deployment, safe)
    data = onboarding.create_safe_data(setup, salt)
    made = ToSign(
        safe,
        {},
        proposal.card,
        owners=(owner,),
        threshold=1,
        send=Call(library.deployed("SafeProxyFactory"), "0x" + data.hex()),
    )
    _store_plan(deployment, at, made, proposal)
    return made


def to_sign(
    safe: str,
    tx: "SafeTx",
    owners: Sequence[str],
    threshold: int,
    card: PermissionCard | None = None,
    notes: tuple[str, ...] = (),
) -> ToSign:
    """Return what the owners of an existing Safe sign."""
    from trading.venues.safe import onboarding

    alone = len(owners) == 1
    return ToSign(
        safe,
        onboarding.safe_tx_json(tx),
        card,
        notes,
        owners=tuple(str(owner) for owner in owners),
        threshold=threshold,
        send=Call(safe, "0x" + onboarding.owner_exec_data(tx, owners[0]).hex()) if alone else None,
        calls=tuple(Call(to, "0x" + data.hex()) for to, data in onboarding.calls_of(tx)),
    )


def _must_be_free(at: SafeAccess, deployment: Deployment, safe: str) -> None:
    """Raise Rejected where the deployment may not trade from the Safe."""
    _must_be_address(safe)
    at.kind.require_free(at, deployment, safe)
    if deployment.safe_wallet not in ("", safe) and _has_traded(deployment):
        raise Rejected(
            f"{deployment} has ledger entries or orders with {deployment.safe_wallet}: create another deployment for "
            f"{safe}",
            code="safe_fixed",
        )


def _has_traded(deployment: Deployment) -> bool:
    """Return whether money was booked or an order reserved: its positions cannot be closed from another Safe."""
    booked = LedgerBalance.objects.filter(account=ledger.account_of(deployment.pk))
    return booked.exists() or deployment.orders.filter(reserved_at__isnull=False).exists()


def limits_for(deployment: Deployment, chosen: Mapping[str, int] | None = None) -> Any:
    """Return the limits that a plan of the deployment proposes, scaled to the capital that its owner named.

    Args:
        chosen: the owner's choice (names of the kind's `Choice`), which replaces the scaled limits.
    """
    kind = safe_access(deployment).kind
    scaled = kind.scaled(deployment.safe_capital, deployment.agent.sizing_preset)
    return limits.with_choice(kind.terms(), scaled, chosen or {}, kind.choice)


def chosen_limits(chain_id: int, safe: str) -> dict[str, int]:
    """Return the limits that the owner of a Safe chose, as its newest plan has them; empty where none were chosen."""
    newest = verify.proposal(chain_id, safe) or verify.plan_in_force(chain_id, safe)
    chosen: dict[str, int] = newest.onboarding.get("limits", {}) if newest else {}
    return chosen


@dataclass(frozen=True, slots=True)
class Proposal:
    """The policy that a plan proposes."""

    policy: Any
    rules: list[Any]
    set_policy: bytes
    """The calldata with which the Safe sets it."""
    card: PermissionCard


def _proposal(
    deployment: Deployment,
    at: SafeAccess,
    loosen_delay: int | None,
    chosen: Mapping[str, int] | None = None,
) -> Proposal:
    """Return the policy and the rules that a plan proposes."""
    wanted = limits_for(deployment, chosen)
    if loosen_delay is not None:
        wanted = wanted.model_copy(update={"loosen_delay": loosen_delay})
    policy, rules = _policy(deployment, at, wanted), at.kind.rules(at, deployment, wanted)
    return Proposal(policy, rules, at.kind.set_policy(policy, rules), at.kind.card(at.places, policy, rules))


def _policy(deployment: Deployment, at: SafeAccess, wanted: Any) -> Any:
    """Return the limits `wanted` with our keys and receivers and the agent's fees."""
    agent, places = deployment.agent, at.places
    return at.kind.policy_type(
        executor=at.executors[0],
        guardian=places.guardian,
        fee_receiver=places.fee_receiver,
        profit_receiver=agent.profit_receiver
        if chains.is_address(agent.profit_receiver)
        else places.profit_receiver,
        profit_share_bps=int(agent.profit_share * BPS),
        trade_fee=base(module_fee(agent), USDC_DECIMALS),
        **wanted.model_dump(),
    )


def module_fee(agent: Agent) -> Decimal:
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


@transaction.atomic
def _store_plan(
    deployment: Deployment,
    at: SafeAccess,
    made: ToSign,
    proposal: Proposal,
    chosen: Mapping[str, int] | None = None,
) -> None:
    safe = made.safe
    row, new = SafePlan.objects.update_or_create(
        chain_id=at.stanza.chain_id,
        safe=safe,
        verified_at=None,
        defaults={
            "module": at.module,
            "safe_tx_hash": made.transaction.get("contractTransactionHash", ""),
            "created_at": clock.now(),
            "sent_hash": "",
            "sent_at": None,
            "onboarding": {
                "new": not made.transaction,
                "owners": list(made.owners),
                "threshold": made.threshold,
                "send": made.send.as_json() if made.send else None,
                "calls": [call.as_json() for call in made.calls],
                "notes": list(made.notes),
                "limits": dict(chosen or {}),
            },
            "policy": asdict(proposal.policy),
            "rules": [asdict(rule) for rule in proposal.rules],
        },
    )
    if deployment.safe_wallet != safe:
        deployment.module_enabled, deployment.verified_at = False, None
    deployment.account, deployment.safe_wallet = at.account_of(safe), safe
    deployment.user_wallet = made.owners[0] if len(made.owners) == 1 else ""
    deployment.chain_id, deployment.module_address = at.stanza.chain_id, at.module
    deployment.save()
    record("safe.planned", deployment, safe=safe, hash=row.safe_tx_hash, new=new)


def revoke(deployment: Deployment) -> ToSign:
    """Return what ends the policy and disables the module, and record that it was asked for."""
    made = revocation(deployment)
    record("safe.revoke_planned", deployment, safe=made.safe)
    return made


def revocation(deployment: Deployment) -> ToSign:
    """Return what ends the policy and disables the module.

    The tokens of open spot positions stay in the Safe, and perpetual futures at GMX, for the owners to close.
    """
    at, safe = safe_access(deployment), deployment.safe_wallet
    if not safe:
        raise Rejected(f"{deployment} has no Safe: plan one first", code=Reason.SAFE_NOT_PLANNED)
    from trading.venues.safe import library, onboarding  # load safe-eth-py

    with library.read_safe(at.chain, safe) as contract:
        nonce, enabled = contract.retrieve_nonce(), [str(module) for module in contract.retrieve_modules()]
        owners, threshold = contract.retrieve_owners(), contract.retrieve_threshold()
    if deployment.module_address not in enabled:
        raise Rejected(
            f"{safe} has not enabled the module, so there is nothing to revoke", code=Reason.MODULE_DISABLED
        )
    before = [onboarding.SENTINEL, *enabled][enabled.index(deployment.module_address)]
    tx = onboarding.revoke_tx(at.stanza.chain_id, safe, deployment.module_address, nonce, before)
    return to_sign(safe, tx, owners, threshold)


def card_for(deployment: Deployment) -> PermissionCard:
    """Return the card of the plan that would be proposed now, without a look at the chain."""
    at, wanted = safe_access(deployment), limits_for(deployment)
    rules = at.kind.rules_for_card(at, deployment)
    return at.kind.card(at.places, _policy(deployment, at, wanted), rules)


def card_of(at: SafeAccess, plan: SafePlan) -> PermissionCard:
    """Return the card of a stored plan."""
    return at.kind.card(at.places, at.kind.policy_of(plan), at.kind.rules_of(plan))
