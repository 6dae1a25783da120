"""Tick -> closing order at its venue, for customers whose neighbours make all the trouble that they can.

    python -m tests.bench.neighbours [--rounds 15] [--customers 10] [--json]

Each round gives every customer an open position, then one tick hits all their stop losses; the time is from the commit
of the tick to the moment when the paper exchange took the closing order. The workers are those of `make up`. First a
quiet run, then a loaded one with, all at once:

flood     posts of one author, twenty a second, each waking the reader
filter    a model that answers every question with a content filter
silent    a member of staff whose webhook takes connections and never answers, five alerts a second
whale     an account with 50 open positions that is 20 % down: the guard flattens it
expired   the approval of the venue has expired: entries stop, exits go on

The slow RPC of a chain is not part of it.
"""

import argparse
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from maxxit.core.config import ROOT
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
PATCH = """
from dataclasses import replace
from maxxit.core import egress
strictly = egress.parse
egress.parse = lambda url, rules=None: replace(strictly(url, rules), port={port})
egress.locate = lambda target, rules, seconds: "127.0.0.1"
"""
"""For the stack's processes: every untrusted address is the silent receiver on this machine."""


class Filter(BaseHTTPRequestHandler):
    """A model that refuses to read anything."""

    def do_POST(self) -> None:
        """The answer of a content filter."""
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


@contextmanager
def neighbours() -> Iterator[tuple[int, int]]:
    """The ports of the filtering model and of the silent receiver."""
    model = ThreadingHTTPServer(("127.0.0.1", 0), Filter)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", free_port()), backlog=1024) as silent:
        yield model.server_address[1], silent.getsockname()[1]
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
    chain = {"purposes": {"classify": {"chain": ["filter"], "calls_per_day": 10**6}}}
    (profile / "llm.yaml").write_text(yaml.safe_dump(chain | {"providers": {"filter": provider}}))
    (home / "patch").mkdir()
    (home / "patch" / "sitecustomize.py").write_text(PATCH.format(port=receiver))


class Load(threading.Thread):
    """The flood of posts and the alerts for the silent receiver."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over, self.posts, self.alerts = threading.Event(), 0, 0

    def run(self) -> None:
        """Until it is over."""
        from django.contrib.auth.models import User
        from django.db import connection, transaction

        from maxxit.core import clock
        from maxxit.events import wake
        from maxxit.events.record import record
        from maxxit.notify.models import Endpoint
        from tests import builders as make
        from trading.models import Gate

        staff = User.objects.create_user("silent", is_staff=True)
        address = "https://silent.example.org/"
        Endpoint.objects.create(user=staff, channel="webhook", address=address, created_at=clock.now())
        author, gate = make.account(make.agent(), username="flood"), Gate.objects.first()
        assert gate is not None
        while not self.over.wait(0.2):
            with transaction.atomic():
                for _ in range(4):
                    make.post(author)
                record("approval.expired", gate, scope="paper")
                wake.after_commit("stage.ingest")
            self.posts, self.alerts = self.posts + 4, self.alerts + 1
        connection.close()

    def stop(self) -> None:
        """No more of it."""
        self.over.set()
        self.join(30)


def hold(purse: "Deployment", quantity: Decimal = Decimal(100)) -> "Position":
    """An open position of this purse, in its ledger and at the paper exchange, with a stop above `STOPPED`."""
    from tests import builders as make
    from trading import ledger
    from trading.models import PaperBalance

    opened = make.position(purse, symbol=SYMBOL, entry=str(ENTRY), quantity=str(quantity))
    move = ledger.Move("venue:paper", ledger.account_of(purse.pk), SYMBOL, quantity, "trade")
    ledger.post(f"bench:{opened.pk}", [move])
    held, _ = PaperBalance.objects.get_or_create(account=purse.account, asset=SYMBOL)
    held.amount += quantity
    held.save()
    return opened


def tick(price: Decimal) -> None:
    """A price as a feed stores it, with the wake that follows."""
    from django.db import transaction

    from maxxit.core import clock
    from maxxit.events import wake
    from maxxit.market.models import Quote

    with transaction.atomic():
        values = {"price": price, "at": clock.now(), "source": "bench"}
        Quote.objects.update_or_create(symbol=SYMBOL, defaults=values)
        wake.after_commit("quotes.moved")


def rounds(purses: "list[Deployment]", number: int) -> list[float]:
    """Milliseconds of each closing order. Raises TimeoutError when one does not come."""
    from django.db import transaction

    from maxxit.core import clock
    from positions.models import Position
    from trading.models import PaperOrder

    taken: list[float] = []
    for _ in range(number):
        tick(ENTRY)
        with transaction.atomic():
            opened = [hold(purse) for purse in purses]
        time.sleep(1)
        tick(STOPPED)
        begun = clock.now()
        accounts = [purse.account for purse in purses]
        mine = PaperOrder.objects.filter(account__in=accounts, side="sell", accepted_at__gte=begun)
        wait(lambda mine=mine: mine.count() >= len(purses))  # type: ignore[misc]
        taken += [
            (at - begun) / timedelta(milliseconds=1) for at in mine.values_list("accepted_at", flat=True)
        ]
        left = Position.objects.filter(pk__in=[one.pk for one in opened]).exclude(state="closed")
        wait(lambda left=left: not left.exists())  # type: ignore[misc]
    return taken


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
    from trading.models import PaperBalance

    made = make.deployment(make.agent(name="whale"), usdc="100000", account="bench:whale")
    for _ in range(50):
        hold(made)
    lost = ledger.Move(ledger.account_of(made.pk), "venue:paper", "USDC", Decimal(30_000), "trade")
    ledger.post("bench:lost", [lost])
    PaperBalance.objects.filter(account=made.account, asset="USDC").update(amount=Decimal(70_000))
    amounts = {"equity": 100_000, "deposits": 100_000, "realised_pnl": 0, "unrealised_pnl": 0}
    PnlSnapshot.objects.create(deployment=made, day=clock.now().date() - timedelta(days=1), **amounts)
    return made


def measure(home: Path, customers: int, number: int) -> dict[str, Any]:
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
    from positions import guard
    from tests import builders as make
    from trading import gate
    from trading.models import Approval

    purses = [make.deployment(make.agent(), account=f"bench:{n}") for n in range(customers)]
    rounds(purses, 1)  # the first pays for what is opened once
    found: dict[str, Any] = {"quiet": spread(rounds(purses, number))}
    big, load = whale(), Load()
    Approval.objects.update(expires_at=clock.now())
    load.start()
    time.sleep(3)
    found["loaded"] = spread(rounds(purses, number))
    found["ratio"] = tuple(round(b / a, 2) for a, b in zip(found["quiet"], found["loaded"], strict=True))
    load.stop()
    guard.watch()  # where the worker's minute has not passed yet
    levels = {"whale": gate.kill_level(big.account), "others": gate.kill_level(purses[0].account)}
    return found | {"posts": load.posts, "alerts": load.alerts, "kill switch": levels}


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
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="maxxit-neighbours-") as folder,
        neighbours() as (model, receiver),
    ):
        home = Path(folder)
        write_config(home, model, receiver)
        path = f"{home / 'patch'}:{ROOT}"
        stack = Stack.start(home, MAXXIT_CONFIG_DIR=str(home / "config"), PYTHONPATH=path)
        try:
            found = measure(home, options.customers, options.rounds)
        finally:
            stack.stop()
    if options.json:
        print(json.dumps(found))
        return
    for name in ("quiet", "loaded", "ratio"):
        middle, slow = found.pop(name)
        print(f"{name:<7} p50 {middle:8}   p95 {slow:8}{'' if name == 'ratio' else '   ms'}")
    print(found)


if __name__ == "__main__":
    main()
