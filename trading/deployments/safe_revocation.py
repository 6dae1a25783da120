"""End the deployments of a Safe once the chain shows that its owners revoked the module."""

from dataclasses import dataclass

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.errors import Retryable
from maxxit.events.record import record
from maxxit.evm.codec import decode, encode_call
from maxxit.evm.rpc import Fault
from trading.deployments import activation
from trading.deployments.wallet_setup import HASH, receipt_of
from trading.venues.safe import safes, snapshot
from trading.venues.safe.access import SafeAccess


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a revocation."""

    done: bool
    """Whether the chain shows it; then the deployments have ended."""
    failed: bool
    """Whether the transaction was reverted."""
    text: str
    """In words."""


def settle(deployment: Deployment, sent_hash: str, *, by: str) -> Outcome:
    """Return whether the module is off, and end the Safe's deployments of this owner then.

    Args:
        sent_hash: of the transaction that the wallet sent; empty where none is known.

    Raises Retryable where the chain does not answer.
    """
    at, safe = safes.safe_access(deployment), deployment.safe_wallet
    asked = snapshot.Asked(safe, deployment.module_address)
    seen = snapshot.look(at, [asked], fresh=True)[safe]
    if seen.state is None or seen.problem:
        raise Retryable(seen.problem or "the chain was not read")
    if seen.state.created and not seen.state.enabled and _is_off(at, deployment):
        ended = _end(deployment, by)
        names = " and ".join(ended)
        return Outcome(True, False, f"The module is off. {names} ended." if ended else "The module is off.")
    if HASH.fullmatch(sent_hash):
        receipt = receipt_of(at.chain, sent_hash)
        if receipt is not None and not receipt.succeeded:
            return Outcome(False, True, "The transaction was reverted: the module is still on. Try again.")
        if receipt is None:
            return Outcome(False, False, "Your transaction is on its way. No block has it yet.")
    return Outcome(False, False, "The module is still on.")


def _is_off(at: SafeAccess, deployment: Deployment) -> bool:
    """Return whether the endpoints agree that the module is not enabled: what follows cannot be undone.

    Raises Retryable where they do not agree, or the address does not answer as a Safe.
    """
    call = encode_call("isModuleEnabled(address)", deployment.module_address)
    try:
        [answer] = at.chain.many(
            [(deployment.safe_wallet, call)], block=hex(at.chain.head().number), agreed=True
        )
        enabled: bool = decode(["bool"], answer)[0]
    except Fault as error:
        raise Retryable(f"{deployment.safe_wallet} does not answer as a Safe: {error}") from error
    return not enabled


def _end(deployment: Deployment, by: str) -> list[str]:
    """Revoke every deployment of the owner at the Safe, for good; return the names of their agents."""
    rows = Deployment.objects.filter(
        safe_wallet=deployment.safe_wallet, chain_id=deployment.chain_id, owner_id=deployment.owner_id
    ).exclude(state=DeploymentState.REVOKED)
    ended = []
    for row in rows.select_related("agent").order_by("pk"):
        Deployment.objects.filter(pk=row.pk).update(module_enabled=False, verified_at=None)
        if activation.revoke(row, by=by, why="the module was revoked on chain"):
            ended.append(row.agent.name)
    if ended:
        record("safe.revoked", deployment, safe=deployment.safe_wallet, by=by)
    return ended
