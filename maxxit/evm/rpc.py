"""JSON-RPC to a chain through several endpoints that check each other.

An endpoint that is silent, on another chain, behind, or at odds with the others is not believed; whoever lies is
named. What money depends on is agreed on by more than half of the *configured* endpoints, as facts
(`maxxit.evm.facts`): an outage or a gateway's limit never leaves the decision to the one that still answers.
What cannot be settled is refused: `Disagreement` is Retryable, so nothing is decided on it.
"""

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog

from maxxit.core import http, untrusted
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from maxxit.evm import facts
from maxxit.evm.codec import decode, encode_call, revert_reason
from maxxit.evm.node_errors import is_busy, range_suggested

log = structlog.get_logger(__name__)
T = TypeVar("T")

Question = tuple[str, str, Sequence[Any]]
"""What it is about, in words; method; parameters."""
MULTICALL_SIZE = 500
"""Calls in one Multicall3 read."""
READ_TRIES = 2
PATIENCE_SECONDS = 1.0
"""How long the last endpoints are waited for once the others have decided."""
MOST_BLOCKS = 5_000
"""Of one eth_getLogs."""
GROWS_AFTER = 16
"""Spans that were answered in a row before a larger one is tried again."""
REVERTED_CODE = 3
REVERTED_WORDS = ("revert", "vm execution error", "invalid opcode")
_AGGREGATE = "aggregate3((address,bool,bytes)[])"


class Fault(Rejected):
    """The node understood and said no. `reason` is the contract's, where it was a revert."""

    def __init__(self, message: str, data: str = "", error_code: object = None) -> None:
        self.reason = revert_reason(data.removeprefix("Reverted ")) if data else ""
        super().__init__(
            f"{message} {self.reason}".strip(), code=code_of(self.reason) if self.reason else "rpc_fault"
        )
        self.text = message
        said = message.lower()
        self.reverted = (
            bool(self.reason) or error_code == REVERTED_CODE or any(word in said for word in REVERTED_WORDS)
        )
        """Whether the contract said no, and not the node."""


class NotTaken(Fault):
    """No endpoint took a transaction. `faults`: what those said that answered; `silent`: whether one may have it."""

    def __init__(self, found: Sequence[Fault], *, silent: bool) -> None:
        super().__init__("; ".join(dict.fromkeys(one.text for one in found)))
        self.faults, self.silent = tuple(found), silent


class TooManyBlocks(Retryable):
    """The node would answer for fewer blocks. `suggested`: for which, where it says so."""

    def __init__(self, message: str, suggested: tuple[int, int] | None) -> None:
        super().__init__(message)
        self.suggested = suggested


class Disagreement(Retryable):
    """Endpoints contradict each other; the message names the one that stands alone, or both."""


def code_of(reason: str) -> str:
    """A contract's reason as the code to persist: `TRADE_ID_USED` -> `trade_id_used`."""
    word = "".join(c if c.isalnum() else "_" for c in reason.strip().lower())[:50].strip("_")
    return word or "reverted"


@dataclass(eq=False)
class Endpoint:
    """One node. It keeps a connection and counts its own calls."""

    url: str
    timeout: float
    wire: http.Client = field(init=False)
    takes_batches: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise Misconfigured(f"config/chains.yaml: {self.name} must be reached by https")
        self.wire = http.client(timeout=self.timeout)
        self._close_wire = weakref.finalize(self, self.wire.close)
        self._ids = itertools.count(1)

    def close(self) -> None:
        """Let go of the connection now; otherwise that happens when nobody holds the endpoint any more."""
        self._close_wire()

    @property
    def name(self) -> str:
        """Its host: a path may hold a key."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def call(self, method: str, *params: Any, writes: bool = False) -> Any:
        """The result. Raises Fault, Retryable or (for writes, after sending) Unknown."""
        body = self._body(method, params)
        found = self._post(body, writes=writes)
        lost: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
        if not isinstance(found, dict) or found.get("id") != body["id"]:
            raise lost(f"{self.name} answered no JSON-RPC")
        return self._result(found, method, lost)

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Several reads in one request, answered in order; the first error is raised.

        An endpoint that refuses batches is asked one by one from then on.
        """
        if self.takes_batches and len(calls) > 1:
            body = [self._body(method, params) for method, params in calls]
            try:
                found = self._post(body)
            except Fault:
                found = None  # it may be the batch that is refused
            if isinstance(found, list):
                rows = {
                    row["id"]: row
                    for row in found
                    if isinstance(row, dict) and isinstance(row.get("id"), int)
                }
                return [self._result(rows.get(asked["id"], {}), asked["method"], Retryable) for asked in body]
            answers = [self.call(method, *params) for method, params in calls]
            self.takes_batches = False
            return answers
        return [self.call(method, *params) for method, params in calls]

    def _body(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    def _post(self, body: Any, *, writes: bool = False) -> Any:
        try:
            answer = http.fetch(self.wire, "POST", self.url, json=body, writes=writes, max_body=50_000_000)
        except Rejected as error:  # some gateways say a node's no with a status of HTTP
            raise Fault(str(error)) from error
        try:
            return untrusted.loads(answer.content)
        except ValueError as error:
            lost: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
            raise lost(f"{self.name} answered no JSON-RPC: {error}") from error

    def _result(
        self, row: dict[str, Any], method: str = "", lost: type[Retryable] | type[Unknown] = Retryable
    ) -> Any:
        error = row.get("error")
        if error is None:
            if "result" not in row:
                raise lost(f"{self.name} answered no JSON-RPC: neither a result nor an error")
            return row["result"]
        if not isinstance(error, dict):
            error = {"message": error}
        said, code, data = str(error.get("message")), error.get("code"), error.get("data")
        if not isinstance(data, str | None):
            said, data = f"{said} {data}", None  # a gateway that explains itself there
        if not isinstance(code, int):
            code = None
        if is_busy(code, said, method):
            raise Retryable(f"{self.name} is busy: {said}")
        raise Fault(said, data or "", code)


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
        self._looking = threading.Lock()
        self._checked = float("-inf")
        self._span, self._answered = MOST_BLOCKS, 0
        """Blocks of one eth_getLogs that was answered, and how many of that size were since it was refused a larger."""

    # -- endpoint health

    def healthy(self) -> list[Endpoint]:
        """The endpoints that are on this chain, near its head and at one about its past.

        Of many threads one looks again once `health_seconds` have passed; the others go by the last look meanwhile.
        """
        if time.monotonic() - self._checked < self.health_seconds and self._healthy:
            return self._healthy
        mine = self._looking.acquire(blocking=False)
        if not mine and self._healthy:
            return self._healthy
        try:
            return self._look()
        finally:
            if mine:
                self._looking.release()

    def _look(self) -> list[Endpoint]:
        """Ask every endpoint; raises Retryable where none can be believed."""
        self.bad = {}
        heads = self._heads()
        alive = [one for one in self.endpoints if one.url in heads]
        if alive:
            top = sorted(heads.values())[len(heads) // 2]  # a lone head far in the future moves no median
            alive = [one for one in alive if self._near(one, heads[one.url], top)]
        if len(alive) > 1:
            alive = self._same_past(alive, min(heads[one.url] for one in alive))
        for name, why in dict(self.bad).items():  # another thread may add to it
            log.warning("rpc_not_believed", endpoint=name, chain=self.chain_id, why=why)
        if not alive:
            told = "; ".join(f"{name} {why}" for name, why in self.bad.items())
            raise Retryable(f"no endpoint of chain {self.chain_id} can be believed: {told}")
        self._healthy, self._checked = alive, time.monotonic()
        return alive

    def _heads(self) -> dict[str, int]:
        """Endpoint -> the height of its chain, of those that answer and are on this chain."""
        asked = [("eth_chainId", ()), ("eth_blockNumber", ())]
        found = {}
        for one, told in self._ask(self.endpoints, lambda one: one.batch(asked)).items():
            try:
                chain_id, found[one.url] = (facts.count(value) for value in told)
            except facts.Malformed as error:
                self.bad[one.name] = f"does not answer ({error})"
                continue
            if chain_id != self.chain_id:
                self.bad[one.name] = f"is chain {chain_id}, not {self.chain_id}"
                del found[one.url]
        return found

    def _near(self, one: Endpoint, head: int, top: int) -> bool:
        if abs(head - top) <= self.head_lag:
            return True
        self.bad[one.name] = f"is at block {head}, the others at {top}"
        return False

    def _same_past(self, alive: list[Endpoint], lowest: int) -> list[Endpoint]:
        """Those whose block at a height that all have is the majority's; without a majority, nobody."""
        height = max(lowest - self.head_lag, 0)
        told = self._ask(alive, lambda one: [one.call("eth_getBlockByNumber", hex(height), False)])
        [[block, same]] = self._vote(
            [(f"block {height}", "eth_getBlockByNumber", ())], told, len(told) // 2 + 1
        )
        return [one for one in same if block is not None]

    @property
    def quorum(self) -> int:
        """How many endpoints must say the same: more than half of those configured."""
        return quorum_of(len(self.endpoints))

    def _ask(self, whom: Sequence[Endpoint], question: Callable[[Endpoint], T]) -> dict[Endpoint, T]:
        """All at once. Who does not answer is noted; who keeps the others waiting is left out until the next check."""
        told: dict[Endpoint, T] = {}
        refused: TooManyBlocks | None = None
        for one, answer in _at_once(whom, question, self.quorum).items():
            if answer is None:
                self._leave_out(one, "keeps the others waiting")
                continue
            try:
                told[one] = answer.result()
            except TooManyBlocks as error:
                refused = error
            except (Retryable, Fault) as error:
                self.bad[one.name] = f"does not answer ({error})"
        if refused and len(told) < self.quorum:
            raise refused
        return told

    def _leave_out(self, one: Endpoint, why: str) -> None:
        self.bad[one.name] = why
        log.warning("rpc_not_believed", endpoint=one.name, chain=self.chain_id, why=why)
        self._healthy = [other for other in self._healthy if other is not one]

    def _vote(
        self, questions: Sequence[Question], told: dict[Endpoint, list[Any]], needed: int
    ) -> list[tuple[Any, list[Endpoint]]]:
        """For each question the fact that `needed` endpoints state, and who states it. Names who says otherwise.

        Raises Retryable where too few answer, Disagreement where they contradict each other.
        """
        if not told:
            raise Retryable(f"no endpoint of chain {self.chain_id} answers {questions[0][1]}")
        return [
            self._fact(what, method, place, told, needed) for place, (what, method, _) in enumerate(questions)
        ]

    def _fact(
        self, what: str, method: str, place: int, told: dict[Endpoint, list[Any]], needed: int
    ) -> tuple[Any, list[Endpoint]]:
        stated: dict[Endpoint, Any] = {}
        for one, answers in told.items():
            try:
                stated[one] = facts.of(method, answers[place])
            except facts.Malformed as error:
                log.warning(
                    "rpc_malformed", endpoint=one.name, chain=self.chain_id, about=what, error=str(error)
                )
        try:
            agreed = facts.agree(list(stated.values()), needed)
        except facts.Contradiction:
            names = ", ".join(one.name for one in told)
            if len(told) < needed:
                raise Retryable(
                    f"chain {self.chain_id}: only {names} of {len(self.endpoints)} endpoints answers about {what}; "
                    f"{needed} must agree"
                ) from None
            raise Disagreement(f"chain {self.chain_id}: {names} contradict each other about {what}") from None
        others = [one for one in told if one not in stated or facts.contradicts(stated[one], agreed)]
        for one in others:
            self.bad[one.name] = f"contradicts the others about {what}"
            log.error("rpc_lies", endpoint=one.name, chain=self.chain_id, about=what)
        return agreed, [one for one in told if one not in others]

    # -- reading

    def read(self, method: str, *params: Any) -> Any:
        """One answer, of the first healthy endpoint that gives one. Raises Retryable, and Fault for a contract's no.

        A contract speaks in an eth_call alone; whatever else a node refuses is that node's own trouble.
        """
        for one in list(self.healthy()):
            for _ in range(READ_TRIES):
                try:
                    return one.call(method, *params)
                except (Retryable, Fault) as error:
                    if isinstance(error, Fault) and error.reverted and method == "eth_call":
                        raise
                    self.bad[one.name] = f"does not answer ({error})"
            self._healthy = sorted(
                self._healthy, key=lambda other: other is one
            )  # the others are asked first
        self._checked = float("-inf")
        raise Retryable(
            f"no endpoint of chain {self.chain_id} answers {method}: {'; '.join(self.bad.values())}"
        )

    def agreed(self, what: str, method: str, *params: Any) -> Any:
        """The fact (`maxxit.evm.facts`) that more than half of the configured endpoints state."""
        return self.agreed_all([(what, method, params)])[0]

    def agreed_all(self, questions: Sequence[Question]) -> list[Any]:
        """The same for several questions, in one request to each endpoint."""
        calls = [(method, params) for _, method, params in questions]
        told = self._ask(self.healthy(), lambda one: one.batch(calls))
        return [fact for fact, _ in self._vote(questions, told, self.quorum)]

    def head(self) -> Head:
        """The newest block that more than half of the configured endpoints have."""
        told = self._ask(self.healthy(), lambda one: one.call("eth_getBlockByNumber", "latest", False))
        heights = [height for answer in told.values() if (height := _height(answer)) is not None]
        if len(heights) < self.quorum:
            raise Retryable(f"no endpoint of chain {self.chain_id} answers eth_getBlockByNumber: {heights}")
        number = sorted(heights, reverse=True)[self.quorum - 1]
        newest = {one: [answer] for one, answer in told.items() if _height(answer) == number}
        if len(newest) >= self.quorum:
            [(block, _)] = self._vote([("the head", "eth_getBlockByNumber", ())], newest, self.quorum)
        else:
            block = self.block(number)
        return Head(block.number, block.timestamp, block.base_fee or 0)

    def block(self, number: int) -> facts.Block:
        """The block at a height. Raises Retryable where there is none yet."""
        found: facts.Block | None = self.agreed(f"block {number}", "eth_getBlockByNumber", hex(number), False)
        if found is None:
            raise Retryable(f"chain {self.chain_id} has no block {number} yet")
        return found

    def nonce(self, address: str, block: str = "latest") -> int:
        """How many transactions of `address` stand in blocks."""
        found: int = self.agreed(f"the nonce of {address}", "eth_getTransactionCount", address, block)
        return found

    def logs(self, start: int, end: int, filters: Sequence[dict[str, Any]]) -> Iterator[facts.Log]:
        """The logs of the blocks `start` to `end`, both included, that match any of the filters; in their order.

        A span that is refused, in whichever words, is halved, down to one block; the size that was answered is kept
        for the next. Raises TooManyBlocks where even one block is refused.
        """
        low, kept = start, self._span
        while low <= end:
            high = min(low + self._span - 1, end)
            asked = {"fromBlock": hex(low), "toBlock": hex(high)}
            questions: list[Question] = [("logs", "eth_getLogs", [asked | one]) for one in filters]
            try:
                told = self._ask(self.healthy(), partial(_logs_of, questions))
            except TooManyBlocks as no:
                if low == high:
                    self._span = kept  # the node refuses whatever is asked
                    raise
                self._span, self._answered = _smaller(low, high, no.suggested), 0
                continue
            found = [fact for fact, _ in self._vote(questions, told, self.quorum)]
            yield from sorted(
                {one for part in found for one in part}, key=lambda one: (one.block_number, one.index)
            )
            self._answered += 1
            if self._answered % GROWS_AFTER == 0:
                self._span = min(2 * self._span, MOST_BLOCKS)
            low = high + 1

    def call(
        self, to: str, data: bytes, *, sender: str = "", block: str = "latest", agreed: bool = False
    ) -> bytes:
        """An eth_call, of one endpoint or `agreed` on by more than half, which takes a `block` by its number.

        Raises Fault with the reason of a revert, Retryable for an answer that is no hex.
        """
        request = {"to": to, "data": "0x" + data.hex()} | ({"from": sender} if sender else {})
        if agreed:
            answer = self.agreed(f"a call of {to}", "eth_call", request, block)
        else:
            answer = self.read("eth_call", request, block)
        try:
            return bytes.fromhex(answer.removeprefix("0x"))
        except (AttributeError, ValueError) as error:
            raise Retryable(f"chain {self.chain_id} answered eth_call with {str(answer)[:80]!r}") from error

    def many(
        self, calls: Sequence[tuple[str, bytes]], *, block: str = "latest", agreed: bool = False
    ) -> list[bytes]:
        """The answers to (target, calldata), 500 in one request through Multicall3. Fault if one reverts."""
        found: list[bytes] = []
        for start in range(0, len(calls), MULTICALL_SIZE):
            part = [(to, True, data) for to, data in calls[start : start + MULTICALL_SIZE]]
            answer = self.call(self.multicall, encode_call(_AGGREGATE, part), block=block, agreed=agreed)
            for place, (good, value) in enumerate(decode(["(bool,bytes)[]"], answer)[0]):
                if not good:
                    raise Fault(
                        f"read {start + place} of {calls[start + place][0]} reverts", "0x" + value.hex()
                    )
                found.append(value)
        return found

    # -- sending

    def broadcast(self, raw: bytes) -> None:
        """Hand signed bytes to all healthy endpoints at once; one that takes them is enough.

        Raises NotTaken where an endpoint said no and none took them, else Unknown where one may have them, else
        Retryable.
        """
        told = _at_once(
            self.healthy(), lambda one: one.call("eth_sendRawTransaction", "0x" + raw.hex(), writes=True), 1
        )
        faults: list[Fault] = []
        others: list[Retryable | Unknown] = []
        for one, answer in told.items():
            try:
                if answer is not None:
                    answer.result()
                    return
            except Fault as no:
                faults.append(no)
            except (Retryable, Unknown) as error:
                others.append(error)
                self.bad[one.name] = f"does not answer ({error})"
        silent = next((error for error in others if isinstance(error, Unknown)), None)
        if faults:
            raise NotTaken(faults, silent=silent is not None)
        raise silent or others[0]


def _at_once(
    whom: Sequence[Endpoint], question: Callable[[Endpoint], T], enough: int
) -> dict[Endpoint, "Future[T] | None"]:
    """Ask all at the same time. None: no answer within a moment after `enough` others had answered well.

    Threads of its own for each question: a process that was forked has none of its parent's.
    """
    if len(whom) == 1:
        return {one: _asked(question, one) for one in whom}
    pool = ThreadPoolExecutor(max(len(whom), 1), thread_name_prefix="rpc")
    asked = {one: pool.submit(question, one) for one in whom}
    pending, well = set(asked.values()), 0
    while pending:
        patience = PATIENCE_SECONDS if well >= enough else None
        done, pending = wait(pending, timeout=patience, return_when=FIRST_COMPLETED)
        well += sum(one.exception() is None for one in done)
        if not done:
            break
    pool.shutdown(wait=False, cancel_futures=True)
    return {one: None if answer in pending else answer for one, answer in asked.items()}


def _logs_of(questions: Sequence[Question], one: Endpoint) -> list[Any]:
    """What an endpoint answers to several eth_getLogs. Raises TooManyBlocks for any refusal."""
    try:
        return one.batch([(method, params) for _, method, params in questions])
    except Fault as no:
        raise TooManyBlocks(f"{one.name}: {no.text}", range_suggested(no.text)) from no


def quorum_of(configured: int) -> int:
    """How many of so many configured endpoints must say the same."""
    return configured // 2 + 1


def _asked(question: Callable[[Endpoint], T], one: Endpoint) -> "Future[T]":
    """The answer of a single endpoint, without a thread."""
    answer: Future[T] = Future()
    try:
        answer.set_result(question(one))
    except Exception as error:
        answer.set_exception(error)
    return answer


def _height(answer: Any) -> int | None:
    """The number of a block as an endpoint states it; None for no block."""
    try:
        block = facts.block(answer)
    except facts.Malformed:
        return None
    return block.number if block else None


def _smaller(low: int, high: int, suggested: tuple[int, int] | None) -> int:
    """How many blocks to ask for next, once `low` to `high` were refused: as suggested, or half."""
    size = high - low + 1
    if suggested and suggested[0] == low and low <= suggested[1] < high:
        return suggested[1] - low + 1
    return size // 2
