"""Hyperliquid's wire format: the bytes that are signed, numbers as text, order ids.

An action is signed over its msgpack encoding, so the order of its keys counts. It is kept as JSON text, which Python
reads in the same order; a jsonb column would not.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

import msgpack
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from maxxit.core.money import plain

Action = Mapping[str, Any]
SIGNIFICANT_DIGITS = 5
PERP_DECIMALS = 6
"""A price has at most so many decimals, less those of the market's sizes."""
TYPES = {
    "EIP712Domain": [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ],
    "Agent": [{"name": "source", "type": "string"}, {"name": "connectionId", "type": "bytes32"}],
}
DOMAIN = {
    "name": "Exchange",
    "version": "1",
    "chainId": 1337,
    "verifyingContract": "0x0000000000000000000000000000000000000000",
}


@dataclass(frozen=True, slots=True)
class Builder:
    """Who receives a fee with each order, set by us and approved by the account's owner."""

    address: str
    """Lower case."""
    tenths_of_bp: int
    """Tenths of a basis point of what is traded; at most 100 (10 bp)."""

    def wire(self) -> dict[str, Any]:
        """Return it as an order action has it."""
        return {"b": self.address, "f": self.tenths_of_bp}


def action_hash(action: Action, nonce: int, expires_after: int | None, vault: str | None = None) -> bytes:
    """Return the connection id: keccak of msgpack(action), nonce, vault and expiry (milliseconds since 1970)."""
    data: bytes = msgpack.packb(action)
    data += nonce.to_bytes(8, "big")
    data += b"\x00" if vault is None else b"\x01" + bytes.fromhex(vault.removeprefix("0x"))
    if expires_after is not None:
        data += b"\x00" + expires_after.to_bytes(8, "big")
    return bytes(keccak(data))


def agent_message(connection_id: bytes, *, mainnet: bool) -> Any:
    """Return the EIP-712 message that an action's signature covers."""
    message = {"source": "a" if mainnet else "b", "connectionId": connection_id}
    return encode_typed_data(
        full_message={"domain": DOMAIN, "types": TYPES, "primaryType": "Agent", "message": message}
    )


def sign(key: str, connection_id: bytes, *, mainnet: bool) -> dict[str, Any]:
    """Return the signature {r, s, v}; the same each time for the same bytes (RFC 6979)."""
    signed = Account.from_key(key).sign_message(agent_message(connection_id, mainnet=mainnet))
    return {"r": hex(signed.r), "s": hex(signed.s), "v": signed.v}


def request_body(action: str, nonce: int, signature: Mapping[str, Any], expires_after: int | None) -> str:
    """Return the body of POST /exchange around an action's text."""
    expiry = "null" if expires_after is None else str(expires_after)
    return (
        f'{{"action":{action},"nonce":{nonce},"signature":{compact(signature)},'
        f'"vaultAddress":null,"expiresAfter":{expiry}}}'
    )


def compact(value: Any) -> str:
    """Return JSON without spaces, keys in the order of `value`."""
    return json.dumps(value, separators=(",", ":"))


def cloid_of(client_order_id: str) -> str:
    """Return the 128-bit client order id that stands for ours at Hyperliquid: the start of its SHA-256."""
    return "0x" + hashlib.sha256(client_order_id.encode()).hexdigest()[:32]


def number(value: Decimal) -> str:
    """Return a number as Hyperliquid wants it: text without exponent and trailing zeros."""
    return plain(value)


def round_size(size: Decimal, sz_decimals: int) -> Decimal:
    """Return a size (tokens) rounded down to the market's decimals."""
    return size.quantize(Decimal(1).scaleb(-sz_decimals), rounding=ROUND_DOWN)


def round_price(price: Decimal, sz_decimals: int, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """Return a price (USD) of 5 significant figures and at most 6 - `sz_decimals` decimals; integers are allowed."""
    decimals = min(SIGNIFICANT_DIGITS - 1 - price.adjusted(), PERP_DECIMALS - sz_decimals)
    return price.quantize(Decimal(1).scaleb(-max(decimals, 0)), rounding=rounding)


def is_valid_price(price: Decimal, sz_decimals: int) -> bool:
    """Return whether Hyperliquid takes this price (USD)."""
    if price == price.quantize(Decimal(1), rounding=ROUND_FLOOR):
        return price > 0
    parts = price.normalize().as_tuple()
    decimals = -int(parts.exponent)
    return price > 0 and len(parts.digits) <= SIGNIFICANT_DIGITS and decimals <= PERP_DECIMALS - sz_decimals
