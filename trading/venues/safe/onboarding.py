"""Build the Safe transactions of onboarding: create a Safe, enable the module with a policy, revoke it. Pure functions.

The owners sign one Safe transaction, a MultiSend that enables the module and sets the policy. Each function returns
bytes, addresses or JSON for the owners' wallet; there is no network access and no key here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.evm.codec import ZERO_ADDRESS, decode, encode_call
from trading.venues.safe.contract.module import (
    Policy,
    TokenRule,
    decode_headroom,
    decode_pending,
    decode_policy,
    headroom_data,
    listed_data,
    pending_data,
    policies_data,
    revoke_data,
    rule_data,
    set_policy_data,
)

# Safe 1.4.1: canonical addresses, the same on every chain.
SAFE_SINGLETON_FACTORY = "0x914d7Fec6aaC8cd542e72Bca78B30650d45643d7"
SAFE_L2 = "0x29fcB43b46531BcA003ddC8FCB67FFE91900C762"
PROXY_FACTORY = "0x4e1DCf7AD4e460CfD30791CCC4F9c8a4f820ec67"
FALLBACK_HANDLER = "0xfd0732Dc9E303f09fCEf3a7388Ad10A83459Ec99"
MULTI_SEND = "0x38869bf66a61cF6bDB996A6aE40D5853Fd43B526"
MULTI_SEND_CALL_ONLY = "0x9641d764fc13c8B624c04430C7356C1C7C8102e2"

SENTINEL = "0x0000000000000000000000000000000000000001"
CALL, DELEGATE_CALL = 0, 1
_SETUP = "setup(address[],uint256,address,bytes,address,address,uint256,address)"
_EXEC = "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)"
_DOMAIN = keccak(text="EIP712Domain(uint256 chainId,address verifyingContract)")
_SAFE_TX_FIELDS = (
    ("to", "address"), ("value", "uint256"), ("data", "bytes"), ("operation", "uint8"), ("safeTxGas", "uint256"),
    ("baseGas", "uint256"), ("gasPrice", "uint256"), ("gasToken", "address"), ("refundReceiver", "address"),
    ("nonce", "uint256"),
)  # fmt: skip
_SAFE_TX = keccak(text="SafeTx(" + ",".join(f"{kind} {name}" for name, kind in _SAFE_TX_FIELDS) + ")")


@dataclass(frozen=True, slots=True)
class SafeTx:
    """A Safe transaction without gas refund. `operation` is CALL or DELEGATE_CALL; `value` in wei."""

    safe: str
    to: str
    data: bytes
    operation: int
    nonce: int
    value: int = 0


def safe_setup_data(owners: Sequence[str], threshold: int) -> bytes:
    """Return the initializer of a Safe: owners, threshold, the standard fallback handler, no payment."""
    return encode_call(
        _SETUP, list(owners), threshold, ZERO_ADDRESS, b"", FALLBACK_HANDLER, ZERO_ADDRESS, 0, ZERO_ADDRESS
    )


def create_safe_data(owners: Sequence[str], threshold: int, salt_nonce: int) -> bytes:
    """Return calldata for PROXY_FACTORY that creates the Safe at the address `predict_safe`."""
    signature = "createProxyWithNonce(address,bytes,uint256)"
    return encode_call(signature, SAFE_L2, safe_setup_data(owners, threshold), salt_nonce)


def predict_safe(owners: Sequence[str], threshold: int, salt_nonce: int, proxy_code: bytes) -> str:
    """Return the address of the Safe that `create_safe_data` creates (CREATE2).

    `proxy_code`: the 1.4.1 proxy's creation code.
    """
    salt = keccak(keccak(safe_setup_data(owners, threshold)) + salt_nonce.to_bytes(32, "big"))
    code = keccak(proxy_code + bytes(12) + bytes.fromhex(SAFE_L2[2:]))
    return to_checksum_address(keccak(b"\xff" + bytes.fromhex(PROXY_FACTORY[2:]) + salt + code)[12:])


def multi_send_data(calls: Sequence[tuple[str, bytes]]) -> bytes:
    """Return calldata of a MultiSend of calls (target, data) without value."""
    packed = b"".join(
        bytes([CALL]) + bytes.fromhex(to[2:]) + bytes(32) + len(data).to_bytes(32, "big") + data
        for to, data in calls
    )
    return encode_call("multiSend(bytes)", packed)


def enable_tx(
    safe: str, module: str, policy: Policy, rules: Sequence[TokenRule], nonce: int, *, enabled: bool = False
) -> SafeTx:
    """Return the transaction that enables the module (unless `enabled`) and sets the policy."""
    calls = [] if enabled else [(safe, encode_call("enableModule(address)", module))]
    calls.append((module, set_policy_data(policy, rules)))
    return SafeTx(safe, MULTI_SEND_CALL_ONLY, multi_send_data(calls), DELEGATE_CALL, nonce)


def revoke_tx(safe: str, module: str, nonce: int, previous_module: str = SENTINEL) -> SafeTx:
    """Return the transaction that ends the policy and disables the module.

    `previous_module` precedes the module in the Safe's linked list.
    """
    calls = [
        (module, revoke_data()),
        (safe, encode_call("disableModule(address,address)", previous_module, module)),
    ]
    return SafeTx(safe, MULTI_SEND_CALL_ONLY, multi_send_data(calls), DELEGATE_CALL, nonce)


def safe_tx_hash(tx: SafeTx, chain_id: int) -> bytes:
    """Return the EIP-712 hash that the owners sign."""
    domain = keccak(_DOMAIN + encode(["uint256", "address"], [chain_id, tx.safe]))
    fields = [
        tx.to, tx.value, keccak(tx.data), tx.operation, 0, 0, 0, ZERO_ADDRESS, ZERO_ADDRESS, tx.nonce
    ]  # fmt: skip
    kinds = [("bytes32" if kind == "bytes" else kind) for _, kind in _SAFE_TX_FIELDS]
    return keccak(b"\x19\x01" + domain + keccak(_SAFE_TX + encode(kinds, fields)))


def exec_data(tx: SafeTx, signatures: bytes) -> bytes:
    """Return calldata of `execTransaction`; `signatures` in ascending order of the signers' addresses."""
    return encode_call(
        _EXEC, tx.to, tx.value, tx.data, tx.operation, 0, 0, 0, ZERO_ADDRESS, ZERO_ADDRESS, signatures
    )


def safe_tx_json(tx: SafeTx, chain_id: int) -> dict[str, Any]:
    """Return the JSON for Safe wallets and the transaction service, with the EIP-712 message and its hash."""
    message = {
        "to": tx.to, "value": str(tx.value), "data": "0x" + tx.data.hex(), "operation": tx.operation,
        "safeTxGas": "0", "baseGas": "0", "gasPrice": "0", "gasToken": ZERO_ADDRESS,
        "refundReceiver": ZERO_ADDRESS, "nonce": tx.nonce,
    }  # fmt: skip
    domain_fields = [{"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"}]
    typed = {
        "types": {
            "EIP712Domain": domain_fields,
            "SafeTx": [{"name": name, "type": kind} for name, kind in _SAFE_TX_FIELDS],
        },
        "primaryType": "SafeTx",
        "domain": {"chainId": chain_id, "verifyingContract": tx.safe},
        "message": message,
    }
    digest = "0x" + safe_tx_hash(tx, chain_id).hex()
    return {"safe": tx.safe, **message, "contractTransactionHash": digest, "eip712": typed}


def verify_calls(safe: str, module: str, rules: Sequence[TokenRule]) -> list[tuple[str, bytes]]:
    """Return the reads (target, calldata) whose answers `differences` compares, for one Multicall3."""
    return [
        (safe, encode_call("isModuleEnabled(address)", module)),
        (module, policies_data(safe)),
        (module, listed_data(safe)),
        (module, headroom_data(safe)),
        (module, pending_data(safe)),
        *((module, rule_data(safe, rule.token)) for rule in rules),
    ]


def differences(policy: Policy, rules: Sequence[TokenRule], answers: Sequence[bytes]) -> list[str]:
    """Return how the chain differs from `policy` and `rules`, as sentences; empty means verified.

    `answers` in the order of `verify_calls`.
    """
    enabled, on_chain, listed, headroom, waiting, *rule_answers = answers
    lines = [] if decode(["bool"], enabled)[0] else ["the module is not enabled in the Safe"]
    actual = decode_policy(on_chain)
    for name in Policy.__dataclass_fields__:
        expected, seen = getattr(policy, name), getattr(actual, name)
        if expected != seen:
            lines.append(f"{name} is {seen}, not {expected}")
    tokens = set(decode(["address[]"], listed)[0])
    if tokens != {rule.token for rule in rules}:
        lines.append("the listed tokens differ")
    for rule, answer in zip(rules, rule_answers, strict=True):
        seen_rule = decode(["address", "uint24", "uint256", "uint256", "bool"], answer)[:3]
        if rule.token in tokens and seen_rule != (rule.feed, rule.pool_fee, rule.max_age):
            lines.append(f"feed, pool or age of {rule.token} differ")
    if (pending := decode_pending(waiting)) is not None:
        planned = (pending.policy, pending.rules) == (policy, tuple(rules))
        if lines or not planned:  # otherwise only the total loss budget is pending, and the plan is in force
            name = "the planned policy" if planned else "another policy"
            lines.append(f"{name} is pending: in force from {_moment(pending.effective_at)}")
    level = decode_headroom(headroom).stop_level
    return [*lines, f"stopped at level {level}"] if level else lines


def _moment(unix: int) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
