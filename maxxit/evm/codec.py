"""Encode calls and decode answers by signature with eth_abi, the layer below web3, for what each order and check reads.

Encoding a call takes 10 to 30 µs here and 650 to 1,270 µs by web3's contract objects, and web3 takes 12 MB in each
process that loads it (`python -m tests.bench.chain_libraries`). What runs once in a while uses web3's contracts
(`maxxit.evm.provider`).
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError
from eth_abi.grammar import parse
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.core.errors import Retryable

ZERO_ADDRESS = "0x" + "0" * 40


@lru_cache(maxsize=512)
def _signature(text: str) -> tuple[bytes, tuple[str, ...]]:
    """Return selector and argument types of a signature such as "transfer(address,uint256)"."""
    selector, arguments = keccak(text=text)[:4], text[text.index("(") :]
    if arguments == "()":  # eth_abi does not parse an empty tuple
        return selector, ()
    inner: Any = parse(arguments)
    return selector, tuple(part.to_type_str() for part in inner.components)


def encode_call(signature: str, *args: Any) -> bytes:
    """Return the calldata of a function by its canonical signature, for example "transfer(address,uint256)"."""
    selector, types = _signature(signature)
    return selector + abi_encode(types, args)


def decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Decode the values of `types`; addresses at any depth are checksummed.

    Raises Retryable for data of another shape: a lagging node, where the contract does not exist yet, returns none.
    """
    try:
        values = abi_decode(types, data)
    except (DecodingError, OverflowError, ValueError) as error:  # ValueError: a string that is not UTF-8
        raise Retryable(
            f"{len(data)} bytes from the chain do not decode as ({', '.join(types)}): check that the node is synced "
            f"and the contract's address in config/chains.yaml is right: {error}"
        ) from error
    return tuple(_checksummed(kind, value) for kind, value in zip(types, values, strict=True))


def _checksummed(kind: str, value: Any) -> Any:
    if "address" not in kind:
        return value
    if kind == "address":
        return to_checksum_address(value)
    if kind.endswith("]"):
        return [_checksummed(kind[: kind.rindex("[")], item) for item in value]
    if kind.startswith("("):
        inner: Any = parse(kind)
        return tuple(
            _checksummed(part.to_type_str(), item) for part, item in zip(inner.components, value, strict=True)
        )
    return value


def revert_reason(data: str) -> str:
    """Return the reason of a revert: Error(string) decoded, Panic(uint256) as PANIC_n, other data as hex, else ""."""
    with suppress(DecodingError, OverflowError, ValueError):  # ValueError: not hex, or not UTF-8
        raw = bytes.fromhex(data.removeprefix("0x"))
        if raw[:4] == keccak(text="Error(string)")[:4]:
            return str(abi_decode(["string"], raw[4:])[0])
        if raw[:4] == keccak(text="Panic(uint256)")[:4]:
            return f"PANIC_{abi_decode(['uint256'], raw[4:])[0]}"
    return "" if data == "0x" else data
