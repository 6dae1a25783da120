"""Real Safes for a bench on the processes of `make up`: anvil, and in front of it a node that answers late."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.flatten import PASSWORD, fill_world

DELAY = 0.3
"""Seconds that each request takes longer while the node is slow."""


class SlowNode(ThreadingHTTPServer):
    """Hands each request on to the node at `url`, after `delay` seconds."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.behind, self.delay, self.requests = urlsplit(url), 0.0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Relay(BaseHTTPRequestHandler):
    """One connection of a client, with one to the node behind."""

    protocol_version = "HTTP/1.1"
    server: SlowNode

    def setup(self) -> None:
        super().setup()
        self.node = http.client.HTTPConnection(self.server.behind.hostname or "", self.server.behind.port)

    def finish(self) -> None:
        self.node.close()
        super().finish()

    def do_POST(self) -> None:
        """One request, which may hold many calls."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        time.sleep(self.server.delay)
        self.node.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = self.node.getresponse().read()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def safes(home: Path, count: int) -> Iterator["Safes"]:
    """A chain for the stack of `home`, with `count` Safes to come; give `environ` to the stack before it starts."""
    from maxxit.ops.devchain.anvil import start_anvil
    from maxxit.ops.devchain.world import WORLD_FILE, build_world, local_key
    from tests.chain.lab import Lab
    from trading.chain.signer import write_keystore

    keystore = home / "executor.json"
    with start_anvil() as node, SlowNode(node.url) as slow:
        world = build_world(node.url)
        world.save(home / "data" / WORLD_FILE)
        write_keystore(keystore, local_key("executor"), PASSWORD, iterations=1_000)
        environ = {
            "EXECUTOR_KEYSTORE": str(keystore),
            "EXECUTOR_PASSWORD": PASSWORD,
            "MAXXIT_LOCAL_RPC": slow.url,
        }
        yield Safes(Lab(world), count, slow, environ)
        slow.shutdown()


@dataclass
class Safes:
    """Customers with a Safe each, and the stop losses of theirs that were hit."""

    lab: Any
    count: int
    node: SlowNode
    environ: dict[str, str]
    hits: dict[datetime, list[int]] = field(default_factory=dict)
    """Moment of the tick -> the positions."""

    def fill(self, each: int) -> None:
        """Open `each` positions of every Safe."""
        fill_world(self.lab, self.count, each)

    def hit(self, moment: datetime) -> None:
        """Raise the stop of one open position of every Safe above the market, in the caller's transaction."""
        from positions.models import Position

        mine = Position.objects.filter(deployment__agent__venue="safe", state="open")
        chosen = list(mine.order_by("pk").values_list("pk", flat=True)[: self.count])
        Position.objects.filter(pk__in=chosen).update(stop_loss=10**6)
        if chosen:
            self.hits[moment] = chosen

    def in_flight(self) -> int:
        """Closing orders that are planned or on their way."""
        from trading.models import Order
        from trading.states import IN_FLIGHT, OrderState

        return Order.objects.filter(
            venue="safe", purpose="close", state__in=[OrderState.PLANNED, *IN_FLIGHT]
        ).count()

    def times(self) -> list[float]:
        """Milliseconds from each tick since the last call to the first broadcast of each closing order, once all have
        left."""
        ticks, self.hits = self.hits, {}
        return [
            (broadcast - moment) / timedelta(milliseconds=1)
            for moment, chosen in ticks.items()
            for broadcast in _wait(chosen)
        ]


def _wait(chosen: list[int]) -> list[datetime]:
    """When the closing orders of these positions were first broadcast. Raises TimeoutError after five minutes."""
    from positions.models import Position
    from trading.chain.models import ChainAttempt

    for _ in range(600):
        keys = Position.objects.filter(pk__in=chosen).values("exit_order__client_order_id")
        sent = ChainAttempt.objects.filter(
            number=1, broadcast_at__isnull=False, transaction__idempotency_key__in=keys
        )
        found = [at for at in sent.values_list("broadcast_at", flat=True) if at is not None]
        if len(found) >= len(chosen):
            return found
        time.sleep(0.5)
    raise TimeoutError(f"{len(found)} of {len(chosen)} closing orders of Safes have left")
