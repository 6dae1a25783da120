"""JSON-RPC client for a blockchain over several endpoints, which are checked against each other.

An endpoint that is down, on another chain, behind, or contradicts the others is excluded and logged. Values that
money depends on need the agreement of more than half of the *configured* endpoints (`maxxit.evm.facts`), so that an
outage or a rate limit never leaves the decision to a single endpoint. Without agreement `Disagreement`, a Retryable,
is raised.

web3 and safe-eth-py ask one endpoint and compare nothing, so their reads go through this client, too
(`maxxit.evm.provider`). 1,000 reads take 0.04 s of CPU by Multicall3 here, 0.6 s one by one, and 2.1 s by web3's
contracts (`python -m tests.bench.chain_reads`).
"""

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""(description for messages, method, parameters)."""
MULTICALL_SIZE = 500
"""Calls in one Multicall3 read."""
READ_TRIES = 2
PATIENCE_SECONDS = 1.0
"""How long to wait for slow endpoints once a quorum has answered."""
MAX_BLOCKS = 5_000
"""Block range of one eth_getLogs."""
GROWS_AFTER = 16
"""Ranges answered in a row before a larger one is tried again."""
REVERTED_CODE = 3
REVERTED_WORDS = ("revert", "vm execution error", "invalid opcode")
_AGGREGATE = "aggregate3((address,bool,bytes)[])"


class Fault(Rejected):
    """The node answered with a JSON-RPC error. `reason`: the contract's revert reason, if it was a revert."""

    def __init__(self, message: str, data: str = "", error_code: object = None) -> None:
        self.data = data.removeprefix("Reverted ")
        self.reason = revert_reason(self.data) if data else ""
        super().__init__(
            f"{message} {self.reason}".strip(), code=code_of(self.reason) if self.reason else "rpc_fault"
        )
        self.text = message
        said = message.lower()
        self.reverted = (
            bool(self.reason) or error_code == REVERTED_CODE or any(word in said for word in REVERTED_WORDS)
        )
        """Whether the contract reverted, as opposed to an error of the node."""


class BroadcastRejected(Fault):
    """No endpoint accepted a transaction. `faults`: their errors; `silent`: whether one may have it unconfirmed."""

    def __init__(self, faults: Sequence[Fault], *, silent: bool) -> None:
        super().__init__("; ".join(dict.fromkeys(fault.text for fault in faults)))
        self.faults, self.silent = tuple(faults), silent


class TooManyBlocks(Retryable):
    """The block range is too large for the node. `suggested`: the range that it names, if any."""

    def __init__(self, message: str, suggested: tuple[int, int] | None) -> None:
        super().__init__(message)
        self.suggested = suggested


class Disagreement(Retryable):
    """Endpoints contradict each other; the message names them."""


def code_of(reason: str) -> str:
    """Return the reason code to store for a revert reason: `TRADE_ID_USED` -> `trade_id_used`."""
    word = "".join(c if c.isalnum() else "_" for c in reason.strip().lower())[:50].strip("_")
    return word or "reverted"


def endpoint_name(url: str) -> str:
    """Return the name of an endpoint in messages: its host."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


@dataclass(eq=False)
class Endpoint:
    """One RPC node, with a persistent connection."""

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
        """Close the connection now; otherwise it is closed when the endpoint is garbage-collected."""
        self._close_wire()

    @property
    def name(self) -> str:
        """The host; the path may contain an API key."""
        return endpoint_name(self.url)

    def call(self, method: str, *params: Any, writes: bool = False) -> Any:
        """Return the result. Raises Fault, Retryable or (for writes, after sending) Unknown."""
        body = self._body(method, params)
        found = self._post(body, writes=writes)
        lost: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
        if not isinstance(found, dict) or found.get("id") != body["id"]:
            raise lost(f"{self.name} did not answer with JSON-RPC")
        return self._result(found, method, lost)

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Send several reads in one request; return the results in order. Raises the first error.

        An endpoint that rejects batches gets single calls from then on.
        """
        if self.takes_batches and len(calls) > 1:
            body = [self._body(method, params) for method, params in calls]
            try:
                found = self._post(body)
            except Fault:
                found = None  # perhaps batches are not supported
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
        except Rejected as error:  # some gateways return JSON-RPC errors with an HTTP error status
            raise Fault(str(error)) from error
        try:
            return untrusted.loads(answer.content)
        except ValueError as error:
            lost: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
            raise lost(f"{self.name} did not answer with JSON-RPC: {error}") from error

    def _result(
        self, row: dict[str, Any], method: str = "", lost: type[Retryable] | type[Unknown] = Retryable
    ) -> Any:
        error = row.get("error")
        if error is None:
            if "result" not in row:
                raise lost(f"{self.name} did not answer with JSON-RPC: neither a result nor an error")
            return row["result"]
        if not isinstance(error, dict):
            error = {"message": error}
        said, code, data = str(error.get("message")), error.get("code"), error.get("data")
        if not isinstance(data, str | None):
            said, data = f"{said} {data}", None  # some gateways put the explanation there
        if not isinstance(code, int):
            code = None
        if is_busy(code, said, method):
            raise Retryable(f"{self.name} is busy: {said}")
        raise Fault(said, data or "", code)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block that the endpoints agree on."""

    number: int
    timestamp: int
    """Unix time."""
    base_fee: int
    """Wei a gas."""


class Chain:
    """A blockchain, read through its healthy endpoints."""

    def __init__(
        self, chain_id: int, urls: Sequence[str], *, head_lag: int, health_seconds: float, timeout: float,
        multicall: str, report: Callable[[int, str, str], None] | None = None,
    ) -> None:  # fmt: skip
        """`report` is called with chain id, endpoint name and problem when an endpoint contradicts the others."""
        if not urls:
            raise Misconfigured(f"chain {chain_id} has no endpoints")
        self.chain_id, self.multicall = chain_id, multicall
        self.endpoints = [Endpoint(url, timeout) for url in urls]
        self.head_lag, self.health_seconds = head_lag, health_seconds
        self._report = report or (lambda *_: None)
        self.bad: dict[str, str] = {}
        """Endpoint name -> problem."""
        self._healthy: list[Endpoint] = []
        self._check_lock = threading.Lock()
        self._checked = float("-inf")
        self._span, self._answered = MAX_BLOCKS, 0
        """Block range of the last answered eth_getLogs, and how many were answered since a larger one was rejected."""

    # -- endpoint health

    def healthy(self) -> list[Endpoint]:
        """Return the endpoints that are on this chain, near its head and consistent about a past block.

        After `health_seconds` one thread repeats the check; the others use the last result meanwhile.
        """
        if time.monotonic() - self._checked < self.health_seconds and self._healthy:
            return self._healthy
        mine = self._check_lock.acquire(blocking=False)
        if not mine and self._healthy:
            return self._healthy
        try:
            return self._check_endpoints()
        finally:
            if mine:
                self._check_lock.release()

    def _check_endpoints(self) -> list[Endpoint]:
        """Check every endpoint; return the healthy ones. Raises Retryable where none is."""
        self.bad = {}
        heads = self._heads()
        alive = [endpoint for endpoint in self.endpoints if endpoint.url in heads]
        if alive:
            # The median, which a single far-off head does not move.
            top = sorted(heads.values())[len(heads) // 2]
            alive = [endpoint for endpoint in alive if self._near(endpoint, heads[endpoint.url], top)]
        if len(alive) > 1:
            alive = self._same_past(alive, min(heads[endpoint.url] for endpoint in alive))
        for name, why in dict(self.bad).items():  # another thread may add to it
            log.warning("rpc_endpoint_excluded", endpoint=name, chain=self.chain_id, why=why)
        if not alive:
            problems = "; ".join(f"{name} {why}" for name, why in self.bad.items())
            raise Retryable(f"no endpoint of chain {self.chain_id} is healthy: {problems}")
        self._healthy, self._checked = alive, time.monotonic()
        return alive

    def _heads(self) -> dict[str, int]:
        """Return URL -> block height of the endpoints that answer and are on this chain."""
        asked = [("eth_chainId", ()), ("eth_blockNumber", ())]
        found = {}
        for endpoint, answers in self._query(self.endpoints, lambda endpoint: endpoint.batch(asked)).items():
            try:
                chain_id, found[endpoint.url] = (facts.count(value) for value in answers)
            except facts.Malformed as error:
                self.bad[endpoint.name] = f"does not answer ({error})"
                continue
            if chain_id != self.chain_id:
                self.bad[endpoint.name] = f"is chain {chain_id}, not {self.chain_id}"
                del found[endpoint.url]
        return found

    def _near(self, endpoint: Endpoint, head: int, top: int) -> bool:
        if abs(head - top) <= self.head_lag:
            return True
        self.bad[endpoint.name] = f"is at block {head}, the others at {top}"
        return False

    def _same_past(self, alive: list[Endpoint], lowest: int) -> list[Endpoint]:
        """Return those that agree with the majority about a block that all have; without a majority, none."""
        height = max(lowest - self.head_lag, 0)
        answers = self._query(
            alive, lambda endpoint: [endpoint.call("eth_getBlockByNumber", hex(height), False)]
        )
        [[block, same]] = self._vote(
            [(f"block {height}", "eth_getBlockByNumber", ())], answers, len(answers) // 2 + 1
        )
        return [endpoint for endpoint in same if block is not None]

    @property
    def quorum(self) -> int:
        """How many endpoints must agree: more than half of those configured."""
        return quorum_of(len(self.endpoints))

    def _query(self, endpoints: Sequence[Endpoint], question: Callable[[Endpoint], T]) -> dict[Endpoint, T]:
        """Query endpoints in parallel; note those that fail and exclude slow ones until the next check."""
        answers: dict[Endpoint, T] = {}
        refused: TooManyBlocks | None = None
        for endpoint, answer in _query_parallel(endpoints, question, self.quorum).items():
            if answer is None:
                self._exclude(endpoint, "keeps the others waiting")
                continue
            try:
                answers[endpoint] = answer.result()
            except TooManyBlocks as error:
                refused = error
            except (Retryable, Fault) as error:
                self.bad[endpoint.name] = f"does not answer ({error})"
        if refused and len(answers) < self.quorum:
            raise refused
        return answers

    def _exclude(self, endpoint: Endpoint, why: str) -> None:
        self.bad[endpoint.name] = why
        log.warning("rpc_endpoint_excluded", endpoint=endpoint.name, chain=self.chain_id, why=why)
        self._healthy = [other for other in self._healthy if other is not endpoint]

    def _vote(
        self, questions: Sequence[Question], answers: dict[Endpoint, list[Any]], needed: int
    ) -> list[tuple[Any, list[Endpoint]]]:
        """Return for each question the value that `needed` endpoints agree on, and those endpoints; log the others.

        Raises Retryable where too few answer, Disagreement where they contradict each other.
        """
        if not answers:
            raise Retryable(f"no endpoint of chain {self.chain_id} answers {questions[0][1]}")
        problems: dict[Endpoint, str] = {}
        try:
            return [
                self._fact(what, method, place, answers, needed, problems)
                for place, (what, method, _) in enumerate(questions)
            ]
        finally:
            for endpoint, problem in problems.items():
                self.bad[endpoint.name] = problem
                log.error("rpc_contradicts", endpoint=endpoint.name, chain=self.chain_id, problem=problem)
                self._report(self.chain_id, endpoint.name, problem)

    def _fact(
        self, what: str, method: str, place: int, answers: dict[Endpoint, list[Any]], needed: int,
        problems: dict[Endpoint, str],
    ) -> tuple[Any, list[Endpoint]]:  # fmt: skip
        """Return the agreed value of one question and the endpoints that state it.

        Endpoints of which some have nothing yet (None) lag behind the others; that is no contradiction.

        Args:
            problems: endpoint -> its first contradiction; added to.
        """
        stated: dict[Endpoint, Any] = {}
        for endpoint, values in answers.items():
            try:
                stated[endpoint] = facts.of(method, values[place])
            except facts.Malformed as error:
                log.warning(
                    "rpc_malformed", endpoint=endpoint.name, chain=self.chain_id, about=what, error=str(error)
                )
        try:
            agreed = facts.agree(list(stated.values()), needed)
        except facts.Contradiction:
            names = ", ".join(endpoint.name for endpoint in answers)
            if len(answers) < needed:
                raise Retryable(
                    f"chain {self.chain_id}: only {names} of {len(self.endpoints)} endpoints answers about {what}; "
                    f"{needed} must agree"
                ) from None
            found = {endpoint: fact for endpoint, fact in stated.items() if fact is not None}
            same = len({facts.core(fact) for fact in found.values()}) < 2
            if same and len(found) < needed and len(stated) == len(answers):
                raise Retryable(
                    f"chain {self.chain_id}: of {names} only {len(found)} have {what} yet; {needed} must agree"
                ) from None
            for endpoint in answers:
                if endpoint in found or endpoint not in stated:
                    problems.setdefault(endpoint, f"contradicts another about {what}")
            raise Disagreement(f"chain {self.chain_id}: {names} contradict each other about {what}") from None
        others = [
            endpoint
            for endpoint in answers
            if endpoint not in stated or facts.contradicts(stated[endpoint], agreed)
        ]
        for endpoint in others:
            if endpoint not in stated or None not in (stated[endpoint], agreed):
                problems.setdefault(endpoint, f"contradicts the others about {what}")
        return agreed, [endpoint for endpoint in answers if endpoint not in others]

    # -- reading

    def read(self, method: str, *params: Any) -> Any:
        """Return the answer of the first healthy endpoint. Raises Retryable, and Fault for a revert.

        Only an eth_call can revert; any other error is a problem of that node, and the next one is asked.
        """
        for endpoint in list(self.healthy()):
            for _ in range(READ_TRIES):
                try:
                    return endpoint.call(method, *params)
                except (Retryable, Fault) as error:
                    if isinstance(error, Fault) and error.reverted and method == "eth_call":
                        raise
                    self.bad[endpoint.name] = f"does not answer ({error})"
            self._healthy = sorted(
                self._healthy, key=lambda other: other is endpoint
            )  # the others are asked first
        self._checked = float("-inf")
        raise Retryable(
            f"no endpoint of chain {self.chain_id} answers {method}: {'; '.join(self.bad.values())}"
        )

    def read_all(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Return the answers of one healthy endpoint to several reads, in one request. Raises Retryable."""
        for endpoint in list(self.healthy()):
            try:
                return endpoint.batch(calls)
            except (Retryable, Fault) as error:
                self.bad[endpoint.name] = f"does not answer ({error})"
        self._checked = float("-inf")
        raise Retryable(
            f"no endpoint of chain {self.chain_id} answers {calls[0][0]}: {'; '.join(self.bad.values())}"
        )

    def close(self) -> None:
        """Close the connections to the endpoints."""
        for endpoint in self.endpoints:
            endpoint.close()

    def agreed(self, what: str, method: str, *params: Any) -> Any:
        """Return the value (`maxxit.evm.facts`) that more than half of the configured endpoints agree on."""
        return self.agreed_all([(what, method, params)])[0]

    def agreed_all(self, questions: Sequence[Question]) -> list[Any]:
        """Return the agreed values of several questions, with one request to each endpoint."""
        calls = [(method, params) for _, method, params in questions]
        answers = self._query(self.healthy(), lambda endpoint: endpoint.batch(calls))
        return [fact for fact, _ in self._vote(questions, answers, self.quorum)]

    def head(self) -> Head:
        """Return the newest block that more than half of the configured endpoints have."""
        answers = self._query(
            self.healthy(), lambda endpoint: endpoint.call("eth_getBlockByNumber", "latest", False)
        )
        heights = [height for answer in answers.values() if (height := _height(answer)) is not None]
        if len(heights) < self.quorum:
            raise Retryable(f"no endpoint of chain {self.chain_id} answers eth_getBlockByNumber: {heights}")
        number = sorted(heights, reverse=True)[self.quorum - 1]
        newest = {endpoint: [answer] for endpoint, answer in answers.items() if _height(answer) == number}
        if len(newest) >= self.quorum:
            [(block, _)] = self._vote([("the head", "eth_getBlockByNumber", ())], newest, self.quorum)
        else:
            block = self.block(number)
        return Head(block.number, block.timestamp, block.base_fee or 0)

    def block(self, number: int) -> facts.Block:
        """Return the block at a height. Raises Retryable where it does not exist yet."""
        found: facts.Block | None = self.agreed(f"block {number}", "eth_getBlockByNumber", hex(number), False)
        if found is None:
            raise Retryable(f"chain {self.chain_id} has no block {number} yet")
        return found

    def nonce(self, address: str, block: str = "latest") -> int:
        """Return the number of transactions of `address` in blocks."""
        found: int = self.agreed(f"the nonce of {address}", "eth_getTransactionCount", address, block)
        return found

    def logs(self, start: int, end: int, filters: Sequence[dict[str, Any]]) -> Iterator[facts.Log]:
        """Yield the logs of the blocks `start` to `end`, inclusive, that match any of the filters, in chain order.

        A rejected block range is halved, down to one block; the accepted size is kept for the next range. Raises
        TooManyBlocks where even one block is rejected.
        """
        low, kept = start, self._span
        while low <= end:
            high = min(low + self._span - 1, end)
            asked = {"fromBlock": hex(low), "toBlock": hex(high)}
            questions: list[Question] = [("logs", "eth_getLogs", [asked | wanted]) for wanted in filters]
            try:
                answers = self._query(self.healthy(), partial(_logs_of, questions))
            except TooManyBlocks as no:
                if low == high:
                    self._span = kept  # the node rejects every range
                    raise
                self._span, self._answered = _smaller(low, high, no.suggested), 0
                continue
            found = [fact for fact, _ in self._vote(questions, answers, self.quorum)]
            yield from sorted(
                {entry for part in found for entry in part},
                key=lambda entry: (entry.block_number, entry.index),
            )
            self._answered += 1
            if self._answered % GROWS_AFTER == 0:
                self._span = min(2 * self._span, MAX_BLOCKS)
            low = high + 1

    def call(
        self,
        to: str,
        data: bytes,
        *,
        sender: str = "",
        block: str = "latest",
        agreed: bool = False,
        value: int = 0,
    ) -> bytes:
        """Return the result of an eth_call, by one endpoint or (`agreed`) by a quorum, which needs a block number.

        Raises Fault with the reason of a revert, Retryable for an answer that is not hex.
        """
        request = {"to": to, "data": "0x" + data.hex()} | ({"from": sender} if sender else {})
        if value:
            request["value"] = hex(value)
        if agreed:
            answer = self.agreed(f"a call of {to}", "eth_call", request, block)
        else:
            answer = self.read("eth_call", request, block)
        try:
            return bytes.fromhex(answer.removeprefix("0x"))
        except (AttributeError, ValueError) as error:
            raise Retryable(f"chain {self.chain_id} answered eth_call with {str(answer)[:80]!r}") from error

    def agreed_call(self, request: Mapping[str, Any], block: str) -> str:
        """Return the result of an eth_call, 0x hex, that a quorum agrees on at a block number.

        A request without `to` creates a contract, and the result is its code.

        Raises Fault for a revert that a quorum agrees on, Retryable without a majority.
        """
        answers = self._query(self.healthy(), lambda endpoint: [_call_or_revert(endpoint, request, block)])
        [(fact, _)] = self._vote(
            [(f"a call of {request.get('to', 'a creation')}", "eth_call", ())], answers, self.quorum
        )
        if isinstance(fact, facts.Revert):
            raise Fault(fact.message, fact.data, REVERTED_CODE)
        return str(fact)

    def many(
        self, calls: Sequence[tuple[str, bytes]], *, block: str = "latest", agreed: bool = False
    ) -> list[bytes]:
        """Return the results of (target, calldata) calls, 500 per Multicall3 request. Raises Fault if one reverts."""
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
        """Send a signed transaction to all healthy endpoints at once; one that accepts it is enough.

        Raises BroadcastRejected where an endpoint rejected it and none accepted it, else Unknown where one may have
        it, else Retryable.
        """
        answers = _query_parallel(
            self.healthy(),
            lambda endpoint: endpoint.call("eth_sendRawTransaction", "0x" + raw.hex(), writes=True),
            1,
        )
        faults: list[Fault] = []
        others: list[Retryable | Unknown] = []
        for endpoint, answer in answers.items():
            try:
                if answer is not None:
                    answer.result()
                    return
            except Fault as no:
                faults.append(no)
            except (Retryable, Unknown) as error:
                others.append(error)
                self.bad[endpoint.name] = f"does not answer ({error})"
        silent = next((error for error in others if isinstance(error, Unknown)), None)
        if faults:
            raise BroadcastRejected(faults, silent=silent is not None)
        raise silent or others[0]


def _query_parallel(
    endpoints: Sequence[Endpoint], question: Callable[[Endpoint], T], enough: int
) -> dict[Endpoint, "Future[T] | None"]:
    """Query all endpoints in parallel. None: no answer within PATIENCE_SECONDS after `enough` others had answered.

    A new pool for each query: a forked process does not have its parent's threads.
    """
    if len(endpoints) == 1:
        return {endpoint: _query_one(question, endpoint) for endpoint in endpoints}
    pool = ThreadPoolExecutor(max(len(endpoints), 1), thread_name_prefix="rpc")
    asked = {endpoint: pool.submit(question, endpoint) for endpoint in endpoints}
    pending, well = set(asked.values()), 0
    while pending:
        patience = PATIENCE_SECONDS if well >= enough else None
        done, pending = wait(pending, timeout=patience, return_when=FIRST_COMPLETED)
        well += sum(future.exception() is None for future in done)
        if not done:
            break
    pool.shutdown(wait=False, cancel_futures=True)
    return {endpoint: None if answer in pending else answer for endpoint, answer in asked.items()}


def _call_or_revert(endpoint: Endpoint, request: Mapping[str, Any], block: str) -> str | facts.Revert:
    """Return an endpoint's answer to an eth_call. Raises Retryable, and Fault for an error that is no revert."""
    try:
        answer: str = endpoint.call("eth_call", request, block)
        return answer
    except Fault as error:
        if not error.reverted:
            raise
        return facts.Revert(error.data.lower(), error.text)


def _logs_of(questions: Sequence[Question], endpoint: Endpoint) -> list[Any]:
    """Return an endpoint's answers to several eth_getLogs. Raises TooManyBlocks for any error."""
    try:
        return endpoint.batch([(method, params) for _, method, params in questions])
    except Fault as no:
        raise TooManyBlocks(f"{endpoint.name}: {no.text}", range_suggested(no.text)) from no


def quorum_of(configured: int) -> int:
    """Return how many of the configured endpoints must agree."""
    return configured // 2 + 1


def _query_one(question: Callable[[Endpoint], T], endpoint: Endpoint) -> "Future[T]":
    """Query a single endpoint without a thread."""
    answer: Future[T] = Future()
    try:
        answer.set_result(question(endpoint))
    except Exception as error:
        answer.set_exception(error)
    return answer


def _height(answer: Any) -> int | None:
    """Return the number of a block in an endpoint's answer; None for no block."""
    try:
        block = facts.block(answer)
    except facts.Malformed:
        return None
    return block.number if block else None


def _smaller(low: int, high: int, suggested: tuple[int, int] | None) -> int:
    """Return the next block range size after `low` to `high` was rejected: as suggested, or half."""
    size = high - low + 1
    if suggested and suggested[0] == low and low <= suggested[1] < high:
        return suggested[1] - low + 1
    return size // 2
