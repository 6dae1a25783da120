"""Encode calls and decode logs by signature, with eth_abi directly: web3's contract objects are 20 times slower."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Log:
    """A decoded event. `args`: indexed and other values by name; structs are tuples."""

    name: str
    address: str
    args: dict[str, Any]
    block: int
    transaction: str
    index: int


@dataclass(frozen=True, slots=True)
class _EventType:
    name: str
    indexed: tuple[tuple[str, str], ...]
    plain: tuple[tuple[str, str], ...]


def _type_of(entry: Mapping[str, Any]) -> str:
    """Return the canonical type of an ABI entry, with tuples expanded."""
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    return "(" + ",".join(_type_of(part) for part in entry["components"]) + ")" + kind.removeprefix("tuple")


class EventDecoder:
    """Decodes the logs of one contract by its ABI; other logs are skipped."""

    def __init__(self, abi: Iterable[Mapping[str, Any]]) -> None:
        self._by_topic: dict[bytes, _EventType] = {}
        for entry in abi:
            if entry["type"] == "event":
                text = f"{entry['name']}({','.join(_type_of(part) for part in entry['inputs'])})"
                named = [
                    (str(part["name"]), _type_of(part), bool(part["indexed"])) for part in entry["inputs"]
                ]
                self._by_topic[keccak(text=text)] = _EventType(
                    str(entry["name"]),
                    tuple((name, kind) for name, kind, indexed in named if indexed),
                    tuple((name, kind) for name, kind, indexed in named if not indexed),
                )

    def topic(self, name: str) -> str:
        """Return topic0 of an event, for a log filter."""
        return next("0x" + topic.hex() for topic, event in self._by_topic.items() if event.name == name)

    def decode(self, raw: Mapping[str, Any]) -> Log | None:
        """Decode a JSON-RPC log (hex strings); None when the event is not in the ABI."""
        topics = [bytes.fromhex(topic.removeprefix("0x")) for topic in raw["topics"]]
        event = self._by_topic.get(topics[0]) if topics else None
        if event is None:
            return None
        if len(topics) - 1 != len(event.indexed):
            raise Retryable(
                f"a log of {event.name} has {len(topics)} topics instead of {len(event.indexed) + 1}: "
                "the node returned a malformed log"
            )
        args: dict[str, Any] = {}
        for (name, kind), topic in zip(event.indexed, topics[1:], strict=True):
            args[name] = decode([kind], topic)[0]
        data = bytes.fromhex(raw["data"].removeprefix("0x"))
        values = decode([kind for _, kind in event.plain], data)
        args.update(zip((name for name, _ in event.plain), values, strict=True))
        return Log(
            event.name, to_checksum_address(raw["address"]), args, int(raw.get("blockNumber") or "0x0", 16),
            str(raw.get("transactionHash")), int(raw.get("logIndex") or "0x0", 16),
        )  # fmt: skip
