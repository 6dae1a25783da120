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


def safe_setup_data(owners: Sequence[str], threshold: int) -> bytes:
    """Return the initializer of a Safe: owners, threshold, the standard fallback handler, no payment."""
    return calldata(
        get_safe_V1_4_1_contract(library.offline(0).w3), "setup", list(owners), threshold, NULL_ADDRESS, b"",
        library.deployed("CompatibilityFallbackHandler"), NULL_ADDRESS, 0, NULL_ADDRESS,
    )  # fmt: skip


def create_safe_data(owners: Sequence[str], threshold: int, salt_nonce: int) -> bytes:
    """Return calldata for Safe's proxy factory that creates the Safe at the address `predict_safe`."""
    factory = get_proxy_factory_V1_4_1_contract(library.offline(0).w3)
    setup = safe_setup_data(owners, threshold)
    return calldata(factory, "createProxyWithNonce", library.deployed("SafeL2"), setup, salt_nonce)


def predict_safe(client: library.QuorumClient, owners: Sequence[str], threshold: int, salt_nonce: int) -> str:
    """Return the address of the Safe that `create_safe_data` creates; reads the proxy's code from the factory."""
    address: str = library.proxy_factory(client).calculate_proxy_address(
        library.deployed("SafeL2"), safe_setup_data(owners, threshold), salt_nonce
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
    calls = [] if enabled else [(safe, safe_call("enableModule", module))]
    calls.append((module, m.set_policy_data(policy, rules)))
    return _multi_send(chain_id, safe, calls, nonce)


def revoke_tx(chain_id: int, safe: str, module: str, nonce: int, previous_module: str = SENTINEL) -> SafeTx:
    """Return the transaction that ends the policy and disables the module.

    `previous_module` precedes the module in the Safe's linked list.
    """
    calls = [
        (module, m.call_data("revoke")),
        (safe, safe_call("disableModule", previous_module, module)),
    ]
    return _multi_send(chain_id, safe, calls, nonce)


def safe_call(function: str, *args: Any) -> bytes:
    """Return the calldata of a Safe's function."""
    return calldata(get_safe_V1_4_1_contract(library.offline(0).w3), function, *args)


def _multi_send(chain_id: int, safe: str, calls: Sequence[tuple[str, bytes]], nonce: int) -> SafeTx:
    """Return the transaction that makes the calls (target, data), without value, in one delegate call."""
    contract = library.deployed("MultiSendCallOnly")
    parts = [MultiSendTx(MultiSendOperation.CALL, to_checksum_address(to), 0, data) for to, data in calls]
    data = MultiSend(library.offline(chain_id), address=contract).build_tx_data(parts)
    return safe_tx(chain_id, safe, contract, bytes(data), SafeOperationEnum.DELEGATE_CALL, nonce)


def safe_tx_hash(tx: SafeTx) -> bytes:
    """Return the EIP-712 hash that the owners sign."""
    return bytes(tx.safe_tx_hash)


def exec_data(tx: SafeTx) -> bytes:
    """Return calldata of `execTransaction` with the transaction's signatures."""
    return bytes(HexBytes(tx.w3_tx.build_transaction(get_empty_tx_params())["data"]))


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
