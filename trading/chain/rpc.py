"""JSON-RPC to a chain through several endpoints that watch each other.

An endpoint that is silent, on another chain, behind, or at odds with the others is not believed; whoever lies is
named. What cannot be settled is refused: `Disagreement` is Retryable, so nothing is decided on it.
"""

import itertools
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog

from maxxit.core import http, untrusted
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from trading.contracts.codec import decode, encode_call, revert_reason

log = structlog.get_logger(__name__)

MULTICALL_SIZE = 500
"""Calls in one Multicall3 read."""
READ_TRIES = 2
BUSY_CODES = frozenset({-32005, -32002, 429})
BUSY_WORDS = ("rate limit", "too many requests", "header not found")
"""How a node says that it cannot answer now (EIP-1474: limit exceeded, resource unavailable), which is no refusal."""
_AGGREGATE = "aggregate3((address,bool,bytes)[])"


class Fault(Rejected):
    """The node understood and said no. `reason` is the contract's, where it was a revert."""

    def __init__(self, message: str, data: str = "") -> None:
        self.reason = revert_reason(data) if data else ""
        super().__init__(
            f"{message} {self.reason}".strip(), code=code_of(self.reason) if self.reason else "rpc_fault"
        )
        self.text = message


class Disagreement(Retryable):
    """Endpoints contradict each other; the message names the one that stands alone, or both."""


def code_of(reason: str) -> str:
    """A contract's reason as the code to persist: `TRADE_ID_USED` -> `trade_id_used`."""
    word = "".join(c if c.isalnum() else "_" for c in reason.strip().lower())[:50].strip("_")
    return word or "reverted"


@dataclass
class Endpoint:
    """One node. It keeps a connection and counts its own calls."""

    url: str
    timeout: float
    wire: http.Client = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise Misconfigured(f"config/chains.yaml: {self.name} must be reached by https")
        self.wire = http.client(timeout=self.timeout)
        self._let_go = weakref.finalize(self, self.wire.close)
        self._ids = itertools.count(1)

    def close(self) -> None:
        """Let go of the connection now; otherwise that happens when nobody holds the endpoint any more."""
        self._let_go()

    @property
    def name(self) -> str:
        """Its host: a path may hold a key."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def call(self, method: str, *params: Any, writes: bool = False) -> Any:
        """The result. Raises Fault, Retryable or (for writes, after sending) Unknown."""
        return self.batch([(method, params)], writes=writes)[0]

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], *, writes: bool = False) -> list[Any]:
        """Several calls in one request, answered in order; the first error is raised."""
        body = [
            {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
            for method, params in calls
        ]
        lost: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
        answer = http.fetch(
            self.wire,
            "POST",
            self.url,
            json=body if len(body) > 1 else body[0],
            writes=writes,
            max_body=50_000_000,
        )
        try:
            found = untrusted.loads(answer.content)
            rows = {row["id"]: row for row in (found if isinstance(found, list) else [found])}
            return [self._result(rows[asked["id"]]) for asked in body]
        except (ValueError, KeyError, TypeError) as error:
            raise lost(f"{self.name} answered no JSON-RPC: {error}") from error

    def _result(self, row: dict[str, Any]) -> Any:
        if row.get("error") is not None:
            error = row["error"]
            said, data = str(error.get("message")), error.get("data")
            if error.get("code") in BUSY_CODES or any(word in said.lower() for word in BUSY_WORDS):
                raise Retryable(f"{self.name} is busy: {said}")
            raise Fault(said, data if isinstance(data, str) else "")
        return row["result"]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block that the healthy endpoints agree to have."""

    number: int
    timestamp: int
    """Unix time."""
    base_fee: int
    """Wei a gas."""


class Chain:
    """A chain as its healthy endpoints tell it."""

    def __init__(
        self, chain_id: int, urls: Sequence[str], *, head_lag: int, health_seconds: float, timeout: float,
        multicall: str,
    ) -> None:  # fmt: skip
        if not urls:
            raise Misconfigured(f"chain {chain_id} has no endpoints")
        self.chain_id, self.multicall = chain_id, multicall
        self.endpoints = [Endpoint(url, timeout) for url in urls]
        self.head_lag, self.health_seconds = head_lag, health_seconds
        self.bad: dict[str, str] = {}
        """Endpoint -> what is wrong with it."""
        self._healthy: list[Endpoint] = []
        self._checked = float("-inf")

    # -- who is to be believed

    def healthy(self) -> list[Endpoint]:
        """The endpoints that are on this chain, near its head and at one about its past."""
        if time.monotonic() - self._checked < self.health_seconds and self._healthy:
            return self._healthy
        self.bad = {}
        heads = {one.url: head for one in self.endpoints if (head := self._head_of(one)) is not None}
        alive = [one for one in self.endpoints if one.url in heads]
        if alive:
            top = sorted(heads.values())[len(heads) // 2]  # a lone head far in the future moves no median
            alive = [one for one in alive if self._near(one, heads[one.url], top)]
        if len(alive) > 1:
            alive = self._same_past(alive, min(heads[one.url] for one in alive))
        for name, why in self.bad.items():
            log.warning("rpc_not_believed", endpoint=name, chain=self.chain_id, why=why)
        if not alive:
            told = "; ".join(f"{name} {why}" for name, why in self.bad.items())
            raise Retryable(f"no endpoint of chain {self.chain_id} can be believed: {told}")
        self._healthy, self._checked = alive, time.monotonic()
        return alive

    def _head_of(self, one: Endpoint) -> int | None:
        try:
            chain_id, head = (int(x, 16) for x in one.batch([("eth_chainId", ()), ("eth_blockNumber", ())]))
        except (Retryable, Rejected, ValueError, TypeError) as error:
            self.bad[one.name] = f"does not answer ({error})"
            return None
        if chain_id != self.chain_id:
            self.bad[one.name] = f"is chain {chain_id}, not {self.chain_id}"
            return None
        return head

    def _near(self, one: Endpoint, head: int, top: int) -> bool:
        if abs(head - top) <= self.head_lag:
            return True
        self.bad[one.name] = f"is at block {head}, the others at {top}"
        return False

    def _same_past(self, alive: list[Endpoint], lowest: int) -> list[Endpoint]:
        """Those whose block at a height that all have is the majority's; without a majority, nobody."""
        height = hex(max(lowest - self.head_lag, 0))
        told = self._ask(alive, lambda one: one.call("eth_getBlockByNumber", height, False)["hash"])
        word = self._majority(f"block {int(height, 16)}", told)
        return [one for one in alive if told.get(one.url) == word]

    def _ask(self, whom: Iterable[Endpoint], question: Callable[[Endpoint], Any]) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for one in whom:
            try:
                told[one.url] = question(one)
            except (Retryable, Fault, TypeError) as error:
                self.bad[one.name] = f"does not answer ({error})"
        if not told:
            raise Retryable(f"no endpoint of chain {self.chain_id} answers")
        return told

    def _majority(self, what: str, told: dict[str, Any]) -> Any:
        """The answer of more than half. Names who says otherwise; raises Disagreement without a majority."""
        counted = Counter(repr(answer) for answer in told.values())
        word, times = counted.most_common(1)[0]
        others = [one.name for one in self.endpoints if one.url in told and repr(told[one.url]) != word]
        if times * 2 <= len(told):
            names = ", ".join(one.name for one in self.endpoints if one.url in told)
            raise Disagreement(f"chain {self.chain_id}: {names} contradict each other about {what}")
        for name in others:
            self.bad[name] = f"contradicts the others about {what}"
            log.error("rpc_lies", endpoint=name, chain=self.chain_id, about=what)
        return next(answer for answer in told.values() if repr(answer) == word)

    # -- reading

    def read(self, method: str, *params: Any) -> Any:
        """One answer, of the first healthy endpoint that gives one. Raises Retryable, and Fault for a contract's no.

        A contract speaks in an eth_call alone; whatever else a node refuses is that node's own trouble.
        """
        for one in self.healthy():
            for _ in range(READ_TRIES):
                try:
                    return one.call(method, *params)
                except (Retryable, Fault) as error:
                    if isinstance(error, Fault) and method == "eth_call":
                        raise
                    self.bad[one.name] = f"does not answer ({error})"
        self._checked = float("-inf")
        raise Retryable(f"no endpoint of chain {self.chain_id} answers {method}")

    def agreed(self, what: str, method: str, *params: Any) -> Any:
        """The answer that more than half of the healthy endpoints give; for what money depends on."""
        told = self._ask(self.healthy(), lambda one: one.call(method, *params))
        return self._majority(what, told)

    def head(self) -> Head:
        """The newest block."""
        block = self.read("eth_getBlockByNumber", "latest", False)
        return Head(
            int(block["number"], 16),
            int(block["timestamp"], 16),
            int(block.get("baseFeePerGas") or "0x0", 16),
        )

    def block_hash(self, number: int) -> str:
        """Of the block at a height, as the endpoints agree; empty when there is none yet."""
        block = self.agreed(f"block {number}", "eth_getBlockByNumber", hex(number), False)
        return str(block["hash"]) if block else ""

    def nonce(self, address: str, block: str = "latest") -> int:
        """How many transactions of `address` stand in blocks."""
        return int(self.agreed(f"the nonce of {address}", "eth_getTransactionCount", address, block), 16)

    def call(self, to: str, data: bytes, *, sender: str = "", block: str = "latest") -> bytes:
        """An eth_call. Raises Fault with the reason of a revert, Retryable for an answer that is no hex."""
        request = {"to": to, "data": "0x" + data.hex()} | ({"from": sender} if sender else {})
        answer = self.read("eth_call", request, block)
        try:
            return bytes.fromhex(answer.removeprefix("0x"))
        except (AttributeError, ValueError) as error:
            raise Retryable(f"chain {self.chain_id} answered eth_call with {str(answer)[:80]!r}") from error

    def many(self, calls: Sequence[tuple[str, bytes]], *, block: str = "latest") -> list[bytes]:
        """The answers to (target, calldata), 500 in one request through Multicall3. Fault if one reverts."""
        found: list[bytes] = []
        for start in range(0, len(calls), MULTICALL_SIZE):
            part = [(to, True, data) for to, data in calls[start : start + MULTICALL_SIZE]]
            answer = self.call(self.multicall, encode_call(_AGGREGATE, part), block=block)
            for place, (good, value) in enumerate(decode(["(bool,bytes)[]"], answer)[0]):
                if not good:
                    raise Fault(
                        f"read {start + place} of {calls[start + place][0]} reverts", "0x" + value.hex()
                    )
                found.append(value)
        return found

    # -- sending

    def broadcast(self, raw: bytes) -> None:
        """Hand signed bytes to the nodes; one that takes them is enough. Raises Fault, Retryable or Unknown."""
        maybe: Exception | None = None
        for one in self.healthy():
            try:
                one.call("eth_sendRawTransaction", "0x" + raw.hex(), writes=True)
                return
            except Retryable as error:
                maybe = maybe or error
            except Unknown as error:
                maybe = error
        raise maybe or Retryable(f"no endpoint of chain {self.chain_id} takes transactions")
