"""Tick -> closing order at its venue, for customers whose neighbours make all the trouble that they can.

    python -m tests.bench.neighbours [--rounds 15] [--customers 10] [--safes 100] [--json]

Each round gives every customer an open position, then one tick hits all their stop losses; the time is from the commit
of the tick to the moment when the paper exchange took the closing order. The workers are those of `make up`. In some
rounds the same tick hits a stop of every Safe, too: until its closing order is first broadcast. First a quiet run,
then a loaded one with, all at once:

flood     posts of one author, twenty a second, each waking the reader
filter    a model that answers every question with a content filter
silent    a member of staff whose webhook takes connections and never answers, five alerts a second
whale     an account with 50 open positions that is 20 % down: the guard's worker stops it, the exits worker flattens it
expired   the approval of every venue has expired: entries stop, exits go on
slow      each request to the Safes' node takes 0.3 s longer

The loaded run goes on until the guard has acted. What was in flight at its ticks is printed besides: a load that was
not there proves nothing.
"""

import argparse
import itertools
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, ClassVar

from maxxit.core.config import ROOT
from tests.bench.slow_rpc import DELAY, Safes, safes
from tests.chaos.stack import Stack, free_port
from tests.chaos.world import widen

if TYPE_CHECKING:
    from agents.models import Deployment
    from positions.models import Position

SYMBOL = "OP"
"""No feed of the demo has it: its ticks are ours alone."""
ENTRY, STOPPED = Decimal(2), Decimal(1)
PATIENCE = 60.0
"""Seconds after which a closing order counts as lost."""
SAFE_ROUNDS = 10
"""Every so many rounds the stops of Safes are hit."""
GUARD_ROUNDS = 60
"""Rounds after which the guard should have acted."""
KINDS = (", claimed", "", ", Safes")
"""Of times: tick -> claimed and tick -> sent, of the customers on paper, and tick -> broadcast, of those with Safes."""
PATCH = """
from dataclasses import replace
from maxxit.core import egress
strictly = egress.parse
egress.parse = lambda url, rules=None: replace(strictly(url, rules), port={port})
egress.locate = lambda target, rules, seconds: "127.0.0.1"
from trading.chain import anvil
def find_anvil():
    raise anvil.AnvilError("the bench has a chain of its own")
anvil.find_anvil = find_anvil
"""
"""For the stack's processes: every untrusted address is the silent receiver on this machine; no chain of the demo."""


class Filter(BaseHTTPRequestHandler):
    """A model that refuses to read anything."""

    answers: ClassVar = itertools.count()

    def do_POST(self) -> None:
        """The answer of a content filter."""
        next(self.answers)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        choice = {"finish_reason": "content_filter", "message": {"role": "assistant", "content": ""}}
        body = json.dumps({"model": "filter", "choices": [choice], "usage": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Silent(threading.Thread):
    """A receiver that takes connections and never says a word."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.door = socket.create_server(("127.0.0.1", free_port()), backlog=1024)
        self.port: int = self.door.getsockname()[1]
        self.taken: list[socket.socket] = []

    def run(self) -> None:
        """Take what comes, until this process ends."""
        while True:
            self.taken.append(self.door.accept()[0])


@contextmanager
def neighbours() -> Iterator[tuple[int, Silent]]:
    """The port of the filtering model, and the silent receiver."""
    model, silent = ThreadingHTTPServer(("127.0.0.1", 0), Filter), Silent()
    threading.Thread(target=model.serve_forever, daemon=True).start()
    silent.start()
    yield model.server_address[1], silent
    model.shutdown()


def write_config(home: Path, model: int, receiver: int) -> None:
    """The demo with wide limits, the filtering model as its only reader, and the way to the silent receiver."""
    import yaml

    profile = widen(home / "config", "demo")
    provider = {
        "adapter": "openai",
        "model": "filter",
        "base_url": f"http://127.0.0.1:{model}",
        "local": True,
    }
    endless = {"calls_per_day": 10**6, "calls_per_account_per_day": 10**6}  # no budget ends the load
    chain = {"purposes": {"classify": {"chain": ["filter"]} | endless}}
    (profile / "llm.yaml").write_text(yaml.safe_dump(chain | {"providers": {"filter": provider}}))
    (home / "patch").mkdir()
    (home / "patch" / "sitecustomize.py").write_text(PATCH.format(port=receiver))


class Load(threading.Thread):
    """The flood of posts and the alerts for the silent receiver."""

    def __init__(self) -> None:
        from tests import builders as make

        super().__init__(daemon=True)
        self.over, self.posts, self.alerts = threading.Event(), 0, 0
        self.author = make.account(make.agent(), username="flood")

    def run(self) -> None:
        """Until it is over."""
        from django.contrib.auth.models import User
        from django.db import connection, transaction

        from maxxit.core import clock
        from maxxit.events import wake
        from maxxit.events.record import record
        from maxxit.notify import endpoints
        from maxxit.notify.models import Endpoint
        from tests import builders as make
        from trading.models import Gate

        staff = User.objects.create_user("silent", is_staff=True)
        endpoint = endpoints.set_endpoint(staff, "webhook", "https://silent.example.org/")
        Endpoint.objects.filter(pk=endpoint.pk).update(verified_at=clock.now())
        gate = Gate.objects.first()
        assert gate is not None
        while not self.over.wait(0.2):
            with transaction.atomic():
                for _ in range(4):
                    make.post(self.author)
                record("approval.expired", gate, scope="paper")
                wake.after_commit("stage.ingest")
            self.posts, self.alerts = self.posts + 4, self.alerts + 1
        connection.close()

    def stop(self) -> None:
        """No more of it."""
        self.over.set()
        self.join(30)


def hold(deployment: "Deployment", quantity: Decimal = Decimal(100)) -> "Position":
    """An open position of this deployment, in its ledger and at the paper exchange, with a stop above `STOPPED`."""
    from tests import builders as make
    from trading import ledger
    from trading.models import JournalKind, PaperBalance

    opened = make.position(deployment, symbol=SYMBOL, entry=str(ENTRY), quantity=str(quantity))
    move = ledger.Move("venue:paper", ledger.account_of(deployment.pk), SYMBOL, quantity, "trade")
    ledger.post(JournalKind.FILL, f"bench:{opened.pk}", [move])
    held, _ = PaperBalance.objects.get_or_create(account=deployment.account, asset=SYMBOL)
    held.amount += quantity
    held.save()
    return opened


def tick(price: Decimal, besides: Callable[[datetime], None] = lambda _: None) -> datetime:
    """A price as a feed stores it, with the wake that follows; what `besides` does is part of its transaction. Returns
    when it was committed."""
    from django.db import transaction

    from maxxit.core import clock
    from maxxit.events import wake
    from maxxit.market.models import Quote

    with transaction.atomic():
        now = clock.now()
        values = {"price": price, "at": now, "source": "bench"}
        Quote.objects.update_or_create(symbol=SYMBOL, defaults=values)
        besides(now)
        wake.after_commit("quotes.moved")
    return clock.now()


def rounds(
    deployments: "list[Deployment]",
    number: int,
    its: Safes | None = None,
    look: Callable[[], None] = lambda: None,
    enough: Callable[[], bool] = lambda: True,
) -> tuple[list[float], list[float]]:
    """Milliseconds until each closing order on paper was claimed, and until it was sent: of `number` rounds, and of
    more until it is `enough`. `its` stops are hit, too; `look` is called after each tick. Raises TimeoutError when an
    order does not come, or it is never enough."""
    from django.db import transaction

    from positions.models import Position
    from trading.models import Order, PaperOrder

    claimed: list[float] = []
    taken: list[float] = []
    for done in range(GUARD_ROUNDS):
        if done >= number and enough():
            return claimed, taken
        tick(ENTRY)
        with transaction.atomic():
            opened = [hold(deployment) for deployment in deployments]
        time.sleep(1)
        begun = tick(STOPPED, its.hit) if its and done % SAFE_ROUNDS == 0 else tick(STOPPED)
        look()
        accounts = [deployment.account for deployment in deployments]
        mine = PaperOrder.objects.filter(account__in=accounts, side="sell", accepted_at__gte=begun)
        wait(lambda mine=mine: mine.count() >= len(deployments))  # type: ignore[misc]
        taken += [
            (at - begun) / timedelta(milliseconds=1) for at in mine.values_list("accepted_at", flat=True)
        ]
        orders = Order.objects.filter(account__in=accounts, purpose="close", created_at__gte=begun)
        claimed += [
            (at - begun) / timedelta(milliseconds=1) for at in orders.values_list("created_at", flat=True)
        ]
        left = Position.objects.filter(pk__in=[one.pk for one in opened]).exclude(state="closed")
        wait(lambda left=left: not left.exists())  # type: ignore[misc]
    raise TimeoutError(f"the guard did not act in {GUARD_ROUNDS} rounds")


def wait(seen: Callable[[], bool]) -> None:
    """Until `seen`, looked for every 50 ms."""
    begun = time.monotonic()
    while not seen():
        if time.monotonic() - begun > PATIENCE:
            raise TimeoutError(f"a closing order did not come within {PATIENCE:.0f} s")
        time.sleep(0.05)


def whale() -> "Deployment":
    """An account of 100,000 USD that has lost a fifth since midnight, with 50 open positions."""
    from maxxit.core import clock
    from positions.models import PnlSnapshot
    from tests import builders as make
    from trading import ledger
    from trading.models import JournalKind, PaperBalance

    made = make.deployment(make.agent(name="whale"), usdc="100000", account="bench:whale")
    for _ in range(50):
        hold(made)
    lost = ledger.Move(ledger.account_of(made.pk), "venue:paper", "USDC", Decimal(30_000), "trade")
    ledger.post(JournalKind.FILL, "bench:lost", [lost])
    PaperBalance.objects.filter(account=made.account, asset="USDC").update(amount=Decimal(70_000))
    amounts = {"equity": 100_000, "deposits": 100_000, "realised_pnl": 0, "unrealised_pnl": 0}
    PnlSnapshot.objects.create(deployment=made, day=clock.now().date() - timedelta(days=1), **amounts)
    return made


def measure(home: Path, customers: int, number: int, its: Safes, silent: Silent) -> dict[str, Any]:
    """Both runs, one after the other, on the stack that runs in `home`."""
    os.environ |= {
        "MAXXIT_DATA_DIR": str(home / "data"),
        "MAXXIT_PROFILE": "demo",
        "MAXXIT_CONFIG_DIR": str(home / "config"),
    }
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    import django

    django.setup()
    from maxxit.core import clock
    from signals_app.models import CtPost
    from tests import builders as make
    from trading import gate
    from trading.models import Approval, KillSwitch, Order

    deployments = [make.deployment(make.agent(), account=f"bench:{n}") for n in range(customers)]
    its.fill(2 + GUARD_ROUNDS // SAFE_ROUNDS)
    rounds(deployments, 1, its)  # the first pays for what is opened once
    its.times()
    quiet = rounds(deployments, number)
    rounds(deployments, 1, its)
    found: dict[str, Any] = {
        "quiet, claimed": spread(quiet[0]),
        "quiet": spread(quiet[1]),
        "quiet, Safes": spread(its.times()),
    }
    big, load = whale(), Load()
    Approval.objects.update(expires_at=clock.now())
    its.node.delay, began = DELAY, clock.now()
    load.start()
    time.sleep(3)
    before = (next(Filter.answers), len(silent.taken), its.node.requests)
    seen: dict[str, list[int]] = {"posts that wait": [], "closing orders of Safes": []}

    def look() -> None:
        seen["posts that wait"].append(CtPost.objects.filter(account=load.author, state="new").count())
        seen["closing orders of Safes"].append(its.in_flight())

    def enough() -> bool:
        return gate.kill_level(big.account) == "flatten"

    loaded = rounds(deployments, number, its, look, enough)
    after = (next(Filter.answers) - 1, len(silent.taken), its.node.requests)
    load.stop()
    found |= {
        "loaded, claimed": spread(loaded[0]),
        "loaded": spread(loaded[1]),
        "loaded, Safes": spread(its.times()),
    }
    for one in KINDS:
        pairs = zip(found[f"quiet{one}"], found[f"loaded{one}"], strict=True)
        found[f"ratio{one}"] = tuple(round(b / a, 2) for a, b in pairs)
    pulled = KillSwitch.objects.filter(account=big.account, level="flatten").earliest("pulled_at")
    others = gate.latched().exclude(account=big.account)
    names = ("refusals of the model", "connections of the silent receiver", "requests to the slow node")
    return {
        **found,
        "rounds under load": len(seen["posts that wait"]),
        **{f"at a tick, least and most {name}": (min(those), max(those)) for name, those in seen.items()},
        **dict(zip(names, (b - a for a, b in zip(before, after, strict=True)), strict=True)),
        "posts": load.posts,
        "alerts": load.alerts,
        "approved": gate.is_approved("paper") or gate.is_approved("safe"),
        "whale": f"{pulled.level} by {pulled.pulled_by} after {(pulled.pulled_at - began).total_seconds():.0f} s, "
        f"{Order.objects.filter(account=big.account, purpose='close', state='filled').count()} of 50 closed",
        "other switches": [f"{one.level}: {one.cause}, {one.account or 'platform'}" for one in others],
    }


def spread(times: list[float]) -> tuple[float, float]:
    """p50 and p95, milliseconds."""
    cuts = quantiles(times, n=20, method="inclusive")
    return round(cuts[9], 1), round(cuts[18], 1)


def main() -> None:
    """Print p50 and p95 of both runs and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--customers", type=int, default=10)
    parser.add_argument("--safes", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="maxxit-neighbours-") as folder,
        neighbours() as (model, silent),
        safes(Path(folder), options.safes) as its,
    ):
        home = Path(folder)
        write_config(home, model, silent.port)
        path = f"{home / 'patch'}:{ROOT}"
        stack = Stack.start(home, MAXXIT_CONFIG_DIR=str(home / "config"), PYTHONPATH=path, **its.environ)
        try:
            found = measure(home, options.customers, options.rounds, its, silent)
        finally:
            stack.stop()
    if options.json:
        print(json.dumps(found))
        return
    for name in [f"{run}{whose}" for whose in KINDS for run in ("quiet", "loaded", "ratio")]:
        middle, slow = found.pop(name)
        print(f"{name:<15} p50 {middle:8}   p95 {slow:8}{'' if 'ratio' in name else '   ms'}")
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
