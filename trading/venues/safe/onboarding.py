"""Build the Safe transactions of onboarding with safe-eth-py: create a Safe, enable the module with a policy, revoke.

The owners sign one Safe transaction, a MultiSend that enables the module and sets the policy. Each function returns
bytes, addresses or JSON for the owners' wallet; nothing is sent and there is no key here. This module loads safe-eth-py
(`trading.venues.safe.library`), so it is imported inside the functions that need it.
"""

from collections.abc import Sequence
from typing import Any

from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from safe_eth.eth.constants import NULL_ADDRESS, SENTINEL_ADDRESS
from safe_eth.eth.contracts import get_proxy_factory_V1_4_1_contract, get_safe_V1_4_1_contract
from safe_eth.eth.utils import get_empty_tx_params
from safe_eth.safe import SafeOperationEnum, SafeTx
from safe_eth.safe.multi_send import MultiSend, MultiSendOperation, MultiSendTx

from maxxit.evm.provider import calldata
from trading.venues.safe import library
from trading.venues.safe.contract import module as m

SENTINEL: str = SENTINEL_ADDRESS
"""Stands before the first module in a Safe's linked list."""


def safe_setup_data(owners: Sequence[str], threshold: int, calls: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """Return the initializer of a Safe: owners, threshold, the standard fallback handler, no payment.

    Args:
        calls: (target, data) that the Safe makes when it is created; the zero address is the Safe itself.
    """
    to, data = NULL_ADDRESS, b""
    if calls:
        to = library.deployed("MultiSendCallOnly", library.SETUP_LIBRARY)
        data = _multi_send_data(0, to, calls)
    return calldata(
        get_safe_V1_4_1_contract(library.offline(0).w3), "setup", list(owners), threshold, to, data,
        library.deployed("CompatibilityFallbackHandler"), NULL_ADDRESS, 0, NULL_ADDRESS,
    )  # fmt: skip


def trading_setup_data(owner: str, module: str, policy: m.Policy, rules: Sequence[m.TokenRule]) -> bytes:
    """Return the initializer of a Safe of one owner that is created with the module enabled and the policy set.

    The Safe's address depends on this initializer, so nobody can create it at that address with another policy.
    """
    return setup_with_policy(owner, module, m.set_policy_data(policy, rules))


def setup_with_policy(owner: str, module: str, set_policy: bytes) -> bytes:
    """Return the same by the calldata with which the Safe sets its policy."""
    return safe_setup_data(
        [owner], 1, [(NULL_ADDRESS, safe_call("enableModule", module)), (module, set_policy)]
    )


def create_safe_data(setup: bytes, salt_nonce: int) -> bytes:
    """Return calldata for Safe's proxy factory that creates a Safe by its initializer, at `predict_safe`."""
    factory = get_proxy_factory_V1_4_1_contract(library.offline(0).w3)
    return calldata(factory, "createProxyWithNonce", library.deployed("SafeL2"), setup, salt_nonce)


def predict_safe(client: library.QuorumClient, setup: bytes, salt_nonce: int) -> str:
    """Return the address of the Safe that `create_safe_data` creates; reads the proxy's code from the factory."""
    address: str = library.proxy_factory(client).calculate_proxy_address(
        library.deployed("SafeL2"), setup, salt_nonce
    )
    return address


def safe_tx(chain_id: int, safe: str, to: str, data: bytes, operation: int, nonce: int) -> SafeTx:
    """Return a Safe transaction without value and gas refund. `operation` is 0, a call, or 1, a delegate call."""
    return SafeTx(
        library.offline(chain_id), to_checksum_address(safe), to_checksum_address(to), 0, data, operation, 0, 0, 0,
        NULL_ADDRESS, NULL_ADDRESS, safe_nonce=nonce, safe_version=library.NEW_SAFES, chain_id=chain_id,
    )  # fmt: skip


def enable_tx(
    chain_id: int,
    safe: str,
    module: str,
    policy: m.Policy,
    rules: Sequence[m.TokenRule],
    nonce: int,
    *,
    enabled: bool = False,
) -> SafeTx:
    """Return the transaction that enables the module (unless `enabled`) and sets the policy."""
    return policy_tx(chain_id, safe, module, m.set_policy_data(policy, rules), nonce, enabled=enabled)


def policy_tx(
    chain_id: int, safe: str, module: str, set_policy: bytes, nonce: int, *, enabled: bool
) -> SafeTx:
    """Return the transaction that enables a module (unless `enabled`) and makes the call `set_policy` of it."""
    calls = [] if enabled else [(safe, safe_call("enableModule", module))]
    return multi_send_tx(chain_id, safe, [*calls, (module, set_policy)], nonce)


def revoke_tx(chain_id: int, safe: str, module: str, nonce: int, previous_module: str = SENTINEL) -> SafeTx:
    """Return the transaction that ends the policy and disables the module.

    `previous_module` precedes the module in the Safe's linked list.
    """
    calls = [
        (module, m.call_data("revoke")),
        (safe, safe_call("disableModule", previous_module, module)),
    ]
    return multi_send_tx(chain_id, safe, calls, nonce)


def safe_call(function: str, *args: Any) -> bytes:
    """Return the calldata of a Safe's function."""
    return calldata(get_safe_V1_4_1_contract(library.offline(0).w3), function, *args)


def multi_send_tx(chain_id: int, safe: str, calls: Sequence[tuple[str, bytes]], nonce: int) -> SafeTx:
    """Return the transaction that makes the calls (target, data), without value, in one delegate call."""
    contract = library.deployed("MultiSendCallOnly")
    data = _multi_send_data(chain_id, contract, calls)
    return safe_tx(chain_id, safe, contract, data, SafeOperationEnum.DELEGATE_CALL, nonce)


def _multi_send_data(chain_id: int, contract: str, calls: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the calldata of `contract`, a MultiSend, for the calls (target, data), without value."""
    parts = [MultiSendTx(MultiSendOperation.CALL, to_checksum_address(to), 0, data) for to, data in calls]
    library_contract = MultiSend(library.offline(chain_id), address=to_checksum_address(contract))
    return bytes(library_contract.build_tx_data(parts))


def calls_of(tx: SafeTx) -> list[tuple[str, bytes]]:
    """Return the calls (target, data) of a transaction of `enable_tx` or `revoke_tx`, in their order."""
    return [(str(part.to), bytes(part.data)) for part in MultiSend.from_transaction_data(tx.data)]


def safe_tx_hash(tx: SafeTx) -> bytes:
    """Return the EIP-712 hash that the owners sign."""
    return bytes(tx.safe_tx_hash)


def exec_data(tx: SafeTx) -> bytes:
    """Return calldata of `execTransaction` with the transaction's signatures."""
    return bytes(HexBytes(tx.w3_tx.build_transaction(get_empty_tx_params())["data"]))


def owner_exec_data(tx: SafeTx, owner: str) -> bytes:
    """Return calldata of `execTransaction` for a Safe of one owner, who sends it from `owner` and signs nothing else.

    Safe accepts the sender's own approval: r is the owner, v is 1 (docs.safe.global, signatures, pre-validated).
    """
    approved = bytes(12) + HexBytes(owner) + bytes(32) + b"\x01"
    return calldata(
        get_safe_V1_4_1_contract(library.offline(0).w3), "execTransaction", tx.to, tx.value, tx.data, tx.operation,
        tx.safe_tx_gas, tx.base_gas, tx.gas_price, tx.gas_token, tx.refund_receiver, approved,
    )  # fmt: skip


def safe_tx_json(tx: SafeTx) -> dict[str, Any]:
    """Return the JSON for Safe wallets and the transaction service, with the EIP-712 message and its hash."""
    typed = tx.eip712_structured_data
    message = {
        "to": tx.to, "value": str(tx.value), "data": "0x" + tx.data.hex(), "operation": tx.operation,
        "safeTxGas": str(tx.safe_tx_gas), "baseGas": str(tx.base_gas), "gasPrice": str(tx.gas_price),
        "gasToken": tx.gas_token, "refundReceiver": tx.refund_receiver, "nonce": tx.safe_nonce,
    }  # fmt: skip
    domain = {"chainId": tx.chain_id, "verifyingContract": tx.safe_address}
    signed = {
        "types": typed["types"],
        "primaryType": typed["primaryType"],
        "domain": domain,
        "message": message,
    }
    digest = "0x" + safe_tx_hash(tx).hex()
    return {"safe": tx.safe_address, **message, "contractTransactionHash": digest, "eip712": signed}
