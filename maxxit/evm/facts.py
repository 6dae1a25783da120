"""Normalise JSON-RPC answers to comparable values, and agree on one value among the answers of several nodes.

Differences between clients in key order, letter case, leading zeros, extra or optional fields do not matter. An
answer of another shape, or without a required field, raises `Malformed`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

F = TypeVar("F")
OPTIONAL = {"optional": True}
"""Marks a field that some clients omit; an omission is not a contradiction."""
ADDRESS_DIGITS = 42
"""Characters of an address, including 0x."""


class Malformed(ValueError):
    """An answer that does not have the method's shape."""


class Contradiction(ValueError):
    """No answer has the required majority."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log of a contract. Hex in lower case."""

    address: str
    topics: tuple[str, ...]
    data: str
    block_number: int
    transaction_hash: str
    index: int

    def as_json(self) -> dict[str, Any]:
        """Return the log as in JSON-RPC."""
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
    """The receipt of a transaction in a block."""

    transaction_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    logs: tuple[Log, ...]
    gas_price: int | None = field(default=None, metadata=OPTIONAL)
    """Wei per gas, as paid."""
    l1_fee: int | None = field(default=None, metadata=OPTIONAL)
    """Wei for L1 data on OP stack rollups, in addition to gas."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block header."""

    number: int
    hash: str
    timestamp: int
    """Unix time."""
    base_fee: int | None = field(default=None, metadata=OPTIONAL)
    """Wei per gas."""


@dataclass(frozen=True, slots=True)
class Revert:
    """A call that the contract reverted. Endpoints agree on the data; each words its message in its own way."""

    data: str
    """0x hex, or empty."""
    message: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Payment:
    """What a transaction of a block pays with its call. Hex in lower case."""

    transaction_hash: str
    sender: str
    to: str
    """Empty where it creates a contract."""
    value: int
    """Wei."""


# -- reading one answer


def count(value: Any) -> int:
    """Parse a quantity: hex with or without leading zeros, or a JSON number; "0x" is zero."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Malformed(f"{value!r} is not a valid quantity")
    if isinstance(value, int):
        number = value
    else:
        text = value.lower()
        if not text.startswith("0x"):
            raise Malformed(f"{value[:80]!r} is not a valid quantity")
        try:
            number = int(text[2:] or "0", 16)
        except ValueError:
            raise Malformed(f"{value[:80]!r} is not a valid quantity") from None
    if number < 0:
        raise Malformed(f"{value!r} is negative")
    return number


def data(value: Any) -> str:
    """Parse hex data: lower case with prefix. Raises Malformed."""
    if not isinstance(value, str):
        raise Malformed(f"{str(value)[:80]!r} is not a valid hex")
    text = value.lower().removeprefix("0x")
    try:
        bytes.fromhex(text)
    except ValueError:
        raise Malformed(f"{value[:80]!r} is not a valid hex") from None
    return "0x" + text


def call(answer: Any) -> "str | Revert":
    """Parse the answer of an eth_call, which may have reverted."""
    return answer if isinstance(answer, Revert) else data(answer)


def address(value: Any) -> str:
    """Parse an address: 20 bytes, hex in lower case with prefix."""
    text = data(value)
    if len(text) != ADDRESS_DIGITS:
        raise Malformed(f"{text[:80]!r} is not a valid address")
    return text


def receipt(answer: Any) -> Receipt | None:
    """Parse a receipt; None for a transaction that is not in a block."""
    if answer is None:
        return None
    fields_of = _object(answer)
    if fields_of.get("blockHash") is None:  # some clients return pending transactions too
        return None
    parsed = _read(
        lambda: Receipt(
            transaction_hash=data(fields_of["transactionHash"]),
            block_number=count(fields_of["blockNumber"]),
            block_hash=data(fields_of["blockHash"]),
            succeeded=count(fields_of["status"]) == 1,
            gas_used=count(fields_of["gasUsed"]),
            logs=logs(fields_of["logs"], of=fields_of),
            gas_price=_maybe(fields_of.get("effectiveGasPrice")),
            l1_fee=_maybe(fields_of.get("l1Fee")),
        )
    )
    return parsed


def block(answer: Any) -> Block | None:
    """Parse a block header; None for a height that does not exist yet."""
    if answer is None:
        return None
    fields_of = _object(answer)
    return _read(
        lambda: Block(
            number=count(fields_of["number"]),
            hash=data(fields_of["hash"]),
            timestamp=count(fields_of["timestamp"]),
            base_fee=_maybe(fields_of.get("baseFeePerGas")),
        )
    )


def payments(answer: Any) -> tuple[Payment, ...]:
    """Parse the transactions of a block that was asked for with them. Raises Malformed, also without a block."""
    listed = _object(answer).get("transactions")
    if not isinstance(listed, list):
        raise Malformed("a block without its transactions")
    return tuple(_payment(_object(one)) for one in listed)


def _payment(fields_of: Mapping[str, Any]) -> Payment:
    return _read(
        lambda: Payment(
            transaction_hash=data(fields_of["hash"]),
            sender=address(fields_of["from"]),
            to="" if fields_of.get("to") is None else address(fields_of["to"]),
            value=count(fields_of["value"]),
        )
    )


def logs(answer: Any, *, of: Mapping[str, Any] | None = None) -> tuple[Log, ...]:
    """Parse logs, in chain order. `of`: the receipt that contains them, which supplies omitted fields."""
    if not isinstance(answer, list):
        raise Malformed(f"{str(answer)[:80]!r} is not a list of logs")
    parsed = [_log(_object(entry), of or {}) for entry in answer]
    return tuple(sorted((log for log in parsed if log), key=lambda log: (log.block_number, log.index)))


def _log(fields_of: Mapping[str, Any], of: Mapping[str, Any]) -> Log | None:
    if fields_of.get("removed") is True:
        return None
    return _read(
        lambda: Log(
            address=address(fields_of["address"]),
            topics=tuple(data(topic) for topic in fields_of["topics"]),
            data=data(fields_of["data"] or "0x"),
            block_number=count(_or(fields_of.get("blockNumber"), of.get("blockNumber"))),
            transaction_hash=data(_or(fields_of.get("transactionHash"), of.get("transactionHash"))),
            index=count(fields_of["logIndex"]),
        )
    )


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _maybe(value: Any) -> int | None:
    return None if value is None else count(value)


def _object(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise Malformed(f"{str(answer)[:80]!r} is not a valid object")
    return answer


def _read(make: Callable[[], F]) -> F:
    try:
        return make()
    except (KeyError, TypeError) as error:
        raise Malformed(f"a field is missing or has another type: {error}") from error


FACTS: Mapping[str, Callable[[Any], Any]] = {
    "eth_getTransactionReceipt": receipt,
    "eth_getBlockByNumber": block,
    "eth_getLogs": logs,
    "eth_call": call,
    "eth_getCode": data,
    "eth_getStorageAt": data,
    "eth_getTransactionCount": count,
    "eth_getBalance": count,
    "eth_blockNumber": count,
    "eth_chainId": count,
}
"""Method -> parser of its answer."""


def of(method: str, answer: Any) -> Any:
    """Parse an answer to `method`. Raises Malformed."""
    return FACTS[method](answer)


# -- agreeing


def core(fact: Any) -> Any:
    """Return the value without optional fields: equal cores do not contradict each other."""
    optional = dict.fromkeys(_optional(fact))
    return replace(fact, **optional) if optional else fact


def _optional(fact: Any) -> list[str]:
    if not isinstance(fact, Receipt | Block):
        return []
    return [attribute.name for attribute in fields(fact) if attribute.metadata.get("optional")]


def agree(answers: Sequence[Any], needed: int) -> Any:
    """Return the value that at least `needed` of `answers` give. Raises Contradiction where none has that majority.

    An optional field gets the value that more than half of those that include it agree on.
    """
    votes = Counter(core(fact) for fact in answers)
    winner, times = max(votes.items(), key=lambda item: item[1], default=(None, 0))
    if times < needed:
        raise Contradiction
    same = [fact for fact in answers if core(fact) == winner]
    optional = {name: _majority([getattr(fact, name) for fact in same]) for name in _optional(winner)}
    return replace(winner, **optional) if optional and winner is not None else winner


def _majority(values: Iterable[int | None]) -> int | None:
    votes = Counter(value for value in values if value is not None)
    if not votes:
        return None
    value, times = votes.most_common(1)[0]
    if times * 2 <= votes.total():
        raise Contradiction
    return value


def contradicts(fact: Any, agreed: Any) -> bool:
    """Return whether `fact` differs from the agreed value; omitted optional fields do not count."""
    if core(fact) != core(agreed):
        return True
    return any(getattr(fact, name) not in (None, getattr(agreed, name)) for name in _optional(fact))
