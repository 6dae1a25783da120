"""JSON-RPC answers as the facts that decisions use, so that clients which write JSON differently agree.

Key order, letter case, leading zeros, extra fields and fields that some clients leave out make no difference. An
answer without a fact that is needed, or of another shape, raises `Malformed`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

F = TypeVar("F")
OPTIONAL = {"optional": True}
"""Marks a fact that some clients do not state: silence about it contradicts nobody."""
ADDRESS_DIGITS = 42
"""Characters of an address with its 0x."""


class Malformed(ValueError):
    """An answer of another shape than the method's."""


class Contradiction(ValueError):
    """No answer has the support that it needs."""


@dataclass(frozen=True, slots=True)
class Log:
    """One event of a contract. Hex in lower case."""

    address: str
    topics: tuple[str, ...]
    data: str
    block_number: int
    transaction_hash: str
    index: int

    def as_json(self) -> dict[str, Any]:
        """As JSON-RPC gives it."""
        return {
            "address": self.address,
            "topics": list(self.topics),
            "data": self.data,
            "blockNumber": hex(self.block_number),
            "transactionHash": self.transaction_hash,
            "logIndex": hex(self.index),
        }


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction in a block."""

    transaction_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    logs: tuple[Log, ...]
    gas_price: int | None = field(default=None, metadata=OPTIONAL)
    """Wei a gas, as paid."""
    l1_fee: int | None = field(default=None, metadata=OPTIONAL)
    """Wei for the data of a rollup of the OP stack, on top of the gas."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block's header."""

    number: int
    hash: str
    timestamp: int
    """Unix time."""
    base_fee: int | None = field(default=None, metadata=OPTIONAL)
    """Wei a gas."""


# -- reading one answer


def count(value: Any) -> int:
    """A quantity: hex with or without leading zeros, or a JSON number; "0x" is zero."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Malformed(f"{value!r} is no quantity")
    if isinstance(value, int):
        found = value
    else:
        text = value.lower()
        if not text.startswith("0x"):
            raise Malformed(f"{value[:80]!r} is no quantity")
        try:
            found = int(text[2:] or "0", 16)
        except ValueError:
            raise Malformed(f"{value[:80]!r} is no quantity") from None
    if found < 0:
        raise Malformed(f"{value!r} is negative")
    return found


def data(value: Any) -> str:
    """Hex in lower case with its prefix. An odd or wrong digit raises."""
    if not isinstance(value, str):
        raise Malformed(f"{str(value)[:80]!r} is no hex")
    text = value.lower().removeprefix("0x")
    try:
        bytes.fromhex(text)
    except ValueError:
        raise Malformed(f"{value[:80]!r} is no hex") from None
    return "0x" + text


def address(value: Any) -> str:
    """Twenty bytes as hex in lower case with its prefix."""
    text = data(value)
    if len(text) != ADDRESS_DIGITS:
        raise Malformed(f"{text[:80]!r} is no address")
    return text


def receipt(answer: Any) -> Receipt | None:
    """Of a transaction in a block; None where it is in none."""
    if answer is None:
        return None
    told = _object(answer)
    if told.get("blockHash") is None:  # a client that describes pending transactions too
        return None
    made = _read(
        lambda: Receipt(
            transaction_hash=data(told["transactionHash"]),
            block_number=count(told["blockNumber"]),
            block_hash=data(told["blockHash"]),
            succeeded=count(told["status"]) == 1,
            gas_used=count(told["gasUsed"]),
            logs=logs(told["logs"], of=told),
            gas_price=_maybe(told.get("effectiveGasPrice")),
            l1_fee=_maybe(told.get("l1Fee")),
        )
    )
    return made


def block(answer: Any) -> Block | None:
    """A header; None for a height that is not there yet."""
    if answer is None:
        return None
    told = _object(answer)
    return _read(
        lambda: Block(
            number=count(told["number"]),
            hash=data(told["hash"]),
            timestamp=count(told["timestamp"]),
            base_fee=_maybe(told.get("baseFeePerGas")),
        )
    )


def logs(answer: Any, *, of: Mapping[str, Any] | None = None) -> tuple[Log, ...]:
    """In the order of the chain. `of`: the receipt that they stand in, which knows what they may leave out."""
    if not isinstance(answer, list):
        raise Malformed(f"{str(answer)[:80]!r} is no list of logs")
    found = [_log(_object(one), of or {}) for one in answer]
    return tuple(sorted((one for one in found if one), key=lambda one: (one.block_number, one.index)))


def _log(told: Mapping[str, Any], of: Mapping[str, Any]) -> Log | None:
    if told.get("removed") is True:
        return None
    return _read(
        lambda: Log(
            address=address(told["address"]),
            topics=tuple(data(topic) for topic in told["topics"]),
            data=data(told["data"] or "0x"),
            block_number=count(_or(told.get("blockNumber"), of.get("blockNumber"))),
            transaction_hash=data(_or(told.get("transactionHash"), of.get("transactionHash"))),
            index=count(told["logIndex"]),
        )
    )


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _maybe(value: Any) -> int | None:
    return None if value is None else count(value)


def _object(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise Malformed(f"{str(answer)[:80]!r} is no object")
    return answer


def _read(make: Callable[[], F]) -> F:
    try:
        return make()
    except (KeyError, TypeError) as error:
        raise Malformed(f"a field is missing or of another kind: {error}") from error


FACTS: Mapping[str, Callable[[Any], Any]] = {
    "eth_getTransactionReceipt": receipt,
    "eth_getBlockByNumber": block,
    "eth_getLogs": logs,
    "eth_call": data,
    "eth_getCode": data,
    "eth_getStorageAt": data,
    "eth_getTransactionCount": count,
    "eth_getBalance": count,
    "eth_blockNumber": count,
    "eth_chainId": count,
}
"""Method -> what its answer says."""


def of(method: str, answer: Any) -> Any:
    """What an answer to `method` says. Raises Malformed."""
    return FACTS[method](answer)


# -- agreeing


def core(fact: Any) -> Any:
    """The fact without what a client may leave out: equal cores do not contradict each other."""
    optional = dict.fromkeys(_optional(fact))
    return replace(fact, **optional) if optional else fact


def _optional(fact: Any) -> list[str]:
    if not isinstance(fact, Receipt | Block):
        return []
    return [one.name for one in fields(fact) if one.metadata.get("optional")]


def agree(told: Sequence[Any], needed: int) -> Any:
    """The fact that at least `needed` of `told` state. Raises Contradiction where none has that support.

    A field that some leave out has the value that more than half of those who state it agree on.
    """
    votes = Counter(core(fact) for fact in told)
    word, times = max(votes.items(), key=lambda item: item[1], default=(None, 0))
    if times < needed:
        raise Contradiction
    same = [fact for fact in told if core(fact) == word]
    stated = {name: _stated([getattr(one, name) for one in same]) for name in _optional(word)}
    return replace(word, **stated) if stated and word is not None else word


def _stated(values: Iterable[int | None]) -> int | None:
    votes = Counter(value for value in values if value is not None)
    if not votes:
        return None
    value, times = votes.most_common(1)[0]
    if times * 2 <= votes.total():
        raise Contradiction
    return value


def contradicts(fact: Any, agreed: Any) -> bool:
    """Whether `fact` states something else than what was agreed on; leaving something out does not."""
    if core(fact) != core(agreed):
        return True
    return any(getattr(fact, name) not in (None, getattr(agreed, name)) for name in _optional(fact))
