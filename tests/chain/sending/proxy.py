"""A node that misbehaves as told: an HTTP proxy before anvil.

Faults by method, each with how often it happens (0 to 1) or as a list of what comes next:
  silent     the node does it, and nobody hears of it        lost      it never reaches the node, no answer
  busy       503, not done                                   twice     the node gets it two times
  late       the node gets it a while later, no answer
  limited    JSON-RPC's "limit exceeded", not done          broken    JSON-RPC's "internal error", not done
  stale      as a node that lags: no receipt, an old nonce, an old head
  reorg      (of a receipt) the block is taken back, and the transaction with it
  moved      (of a receipt) the block is taken back, and the transaction is mined in another, later one
"""

import argparse
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answers = dict[str, Any]
LATE_SECONDS = 0.5
UNHEARD = ("lost", "busy", "late")
ERRORS: dict[str, Answers] = {
    "limited": {"error": {"code": -32005, "message": "daily request count exceeded"}},
    "broken": {"error": {"code": -32603, "message": "internal error"}},
}


class Proxy:
    """The state behind the server: faults, what was seen, what to answer instead."""

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self.upstream, self.dice = upstream, random.Random(seed)
        self.chances: dict[str, dict[str, float]] = {}
        self.script: dict[str, list[str]] = {}
        self.answers: dict[str, Any] = {}
        """Method -> the result to give instead of the node's: a lie."""
        self.seen: list[str] = []
        self.arrivals: list[tuple[str, float]] = []
        """Each broadcast that reached this proxy, whatever became of it: the bytes, and seconds since the epoch."""
        self.done: Counter[str] = Counter()
        """Faults that were made, since the last seed."""
        self.mines = False
        """Whether asking for a receipt lets a block pass, as time would."""
        self.snapshot, self.before = "", 0
        """The chain before the newest broadcast, and its height."""
        self.final = 10**9
        """How deep a block stands that is never taken back."""
        self.sent: Any = None
        """The newest broadcast, for `moved`."""
        self.lock = threading.Lock()

    def tell(self, changes: dict[str, Any]) -> None:
        """Set fields by name."""
        for name, value in changes.items():
            setattr(self, name, value)
        if "seed" in changes:
            self.dice = random.Random(changes["seed"])
            self.done.clear()

    def fault(self, method: str) -> str:
        """What happens to this call."""
        if self.script.get(method):
            return self.script[method].pop(0)
        throw = self.dice.random()
        for name, chance in self.chances.get(method, {}).items():
            if throw < chance:
                return name
            throw -= chance
        return "ok"

    def ask(self, method: str, *params: Any) -> Any:
        """The node's own answer to a call of ours."""
        return self.forward({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).get(
            "result"
        )

    def forward(self, body: Any) -> Any:
        """To the node and back."""
        parts = urlsplit(self.upstream)
        wire = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        try:
            wire.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(wire.getresponse().read())
        finally:
            wire.close()

    def note(self, calls: list[Answers]) -> None:
        """Write down the broadcasts."""
        sent = [call["params"][0] for call in calls if call["method"] == "eth_sendRawTransaction"]
        self.arrivals += [(raw, time.time()) for raw in sent]

    def handle(self, call: Answers) -> Answers | None:
        """One call: its answer, or None for silence."""
        method = call["method"]
        self.seen.append(method)
        how = self.fault(method)
        if how != "ok":
            self.done[f"{method} {how}"] += 1
        if how in UNHEARD:
            self._unheard(call, how)
            return None
        if how in ERRORS or method in self.answers:
            answer = {"jsonrpc": "2.0", "id": call["id"]}
            return answer | (ERRORS.get(how) or {"result": self.answers[method]})
        if how == "stale":
            return self._stale(call)
        found = self._broadcast(call) if method == "eth_sendRawTransaction" else self.forward(call)
        if how == "twice":
            found = self.forward(call)
        if method == "eth_getTransactionReceipt" and found.get("result"):
            if how in ("reorg", "moved") and self.snapshot:
                self._take_back(again=how == "moved")
            elif self.mines:
                self.ask("evm_mine")
        return None if how == "silent" else found

    def _broadcast(self, call: Answers) -> Answers:
        """Hand a transaction to the node, note the chain before it, and answer once it is mined."""
        self._settled()
        self.before = int(self.ask("eth_blockNumber"), 16)
        self.snapshot, self.sent = self.ask("evm_snapshot"), call
        answer: Answers = self.forward(call)
        with suppress(TimeoutError):  # what pays too little stays in the pool
            self._settled(seconds=1)
        return answer

    def _unheard(self, call: Answers, how: str) -> None:
        """No answer, and the node gets it later or never."""
        if how == "late":
            threading.Timer(LATE_SECONDS, self.forward, (call,)).start()

    def _take_back(self, *, again: bool) -> None:
        """Undo the blocks since before the newest broadcast; `again`: and mine that one later."""
        self._settled()
        if int(self.ask("eth_blockNumber"), 16) - self.before >= self.final:
            return
        self.ask("evm_revert", self.snapshot)
        self.snapshot = ""
        if again:
            self.ask("evm_mine")
            self.forward(self.sent)

    def _settled(self, seconds: float = 5) -> None:
        """Wait until anvil has mined what it was given, so that a busy machine gives the same answers as a quiet one.

        A snapshot that is taken meanwhile is torn, the block number from before and the state from after: reverting
        to it leaves a nonce that is used by no transaction in any block, which no real chain can show.
        """
        until = time.monotonic() + seconds
        while self.ask("anvil_getAutomine") and int(self.ask("txpool_status")["pending"], 16):
            if time.monotonic() > until:
                raise TimeoutError("anvil mines nothing of what it holds")
            time.sleep(0.001)

    def _stale(self, call: Answers) -> Answers:
        answer = {"jsonrpc": "2.0", "id": call["id"]}
        if call["method"] == "eth_getTransactionCount":
            old = hex(max(int(self.ask("eth_blockNumber"), 16) - 1, 0))
            return answer | {"result": self.ask("eth_getTransactionCount", call["params"][0], old)}
        return answer | {"result": None}


def make_server(proxy: Proxy, port: int = 0) -> ThreadingHTTPServer:
    """The proxy as a server on the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with proxy.lock:
                if self.path == "/tell":
                    proxy.tell(body)
                    return self._say(proxy.done)
                if self.path == "/arrivals":
                    arrived, proxy.arrivals = proxy.arrivals, []
                    return self._say(arrived)
                calls = body if isinstance(body, list) else [body]
                proxy.note(calls)
                answers = [proxy.handle(call) for call in calls]
            if any(answer is None for answer in answers):
                self.close_connection = True
                return None
            return self._say(answers if isinstance(body, list) else answers[0])

        def _say(self, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server


@contextmanager
def proxied(upstream: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in a thread of this process, and its URL."""
    proxy = Proxy(upstream)
    server = make_server(proxy)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    make_server(Proxy(given.upstream), given.port).serve_forever(0.02)
