"""A post -> its order, through the running workers of `make up`, beside what one bare Celery task costs.

    python -m tests.bench.latency [--posts 100] [--json]

ours   a post is committed as ingestion commits it; it is over when its order is committed (planned), and when the order
       stands filled: classify, generate, execute, each in a worker of its own, woken by the one before
floor  a task is sent to a worker of its own; it is over when the row that it inserts is committed

The two take turns, one post every four seconds (the platform's throttle lets thirty orders a minute through, the
demo's among them), on the demo's stack with nothing else to do than its own ticks and posts. Each post has an account,
an agent and a deployment of its own. Milliseconds, looked for every two.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

from maxxit.core.config import ROOT
from tests.chaos.stack import Stack

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from agents.models import CtAccount, Deployment
    from trading.models import Order

EVERY = 4.0
"""Seconds from one post to the next."""
LOOK = 0.002
PATIENCE = 30.0
"""Seconds after which a post that has no order counts as lost."""
WORKER = (
    "-A",
    "tests.bench.floor_task",
    "worker",
    "-Q",
    "bench",
    "-n",
    "bench@bench",
    "-c",
    "1",
    "--without-mingle",
)


def main() -> None:
    """Print p50 and p99 of both, and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--posts", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maxxit-latency-") as home:
        stack = Stack.start(Path(home))
        try:
            taken = _measured(Path(home), options.posts)
        finally:
            stack.stop()
    figures = {what: _spread(times) for what, times in taken.items()}
    if options.json:
        print(json.dumps(figures))
        return
    floor = figures["floor"]
    for what, (middle, worst) in figures.items():
        ratios = f"{middle / floor[0]:5.1f} × {worst / floor[1]:5.1f} ×"
        print(f"{what:<16} p50 {middle:7.1f} ms   p99 {worst:7.1f} ms   {ratios} of the floor")


def _spread(times: list[float]) -> tuple[float, float]:
    """p50 and p99."""
    cuts = quantiles(times, n=100, method="inclusive")
    return round(cuts[49], 1), round(cuts[98], 1)


def _measured(home: Path, posts: int) -> dict[str, list[float]]:
    os.environ |= {"MAXXIT_DATA_DIR": str(home / "data"), "MAXXIT_PROFILE": "demo"}
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    import django

    django.setup()
    from maxxit.events.models import Event
    from tests.bench import floor_task
    from trading.models import Order

    command = [sys.executable, "-m", "celery", "--quiet", *WORKER]
    worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    taken: dict[str, list[float]] = {"floor": [], "post -> order": [], "post -> filled": []}
    try:
        deployments = [_follower(number) for number in range(posts)]
        for number, (account, deployment) in enumerate(deployments):
            begun = time.perf_counter()
            floor_task.row.delay(f"bench/{number}")
            floor = _until(begun, Event.objects.filter(subject=f"bench/{number}").exists)
            begun = _post(account, number)
            mine = Order.objects.filter(deployment=deployment)
            planned = _until(begun, mine.exists)
            filled = _until(begun, lambda mine=mine: _filled(mine))  # type: ignore[misc]
            if number:  # the first round starts the worker
                for what, milliseconds in zip(taken, (floor, planned, filled), strict=True):
                    taken[what].append(milliseconds)
            time.sleep(max(0.0, EVERY - (time.perf_counter() - begun)))
    finally:
        worker.terminate()
        worker.wait()
    return taken


def _until(begun: float, seen: Callable[[], bool]) -> float:
    """Milliseconds from `begun` until `seen`."""
    while not seen():
        if time.perf_counter() - begun > PATIENCE:
            raise TimeoutError(f"nothing came within {PATIENCE:.0f} s")
        time.sleep(LOOK)
    return (time.perf_counter() - begun) * 1000


def _filled(mine: "QuerySet[Order]") -> bool:
    """Whether the order stands filled. Raises `RuntimeError` when it was blocked."""
    order = mine.get()
    if order.reason:
        raise RuntimeError(f"the order is {order.state}: {order.reason} {order.verdict}")
    return order.state == "filled"


def _follower(number: int) -> tuple["CtAccount", "Deployment"]:
    """An account, and the deployment of the one agent that follows it."""
    from agents.evidence import POSTS
    from agents.models import Agent, CtAccount, Deployment, Subscription
    from agents.states import AgentState, DeploymentState
    from maxxit.events.record import advance
    from trading.deployments.funding import fund

    account = CtAccount.objects.create(x_username=f"bench{number}", source="bench")
    agent = Agent.objects.create(
        name=f"bench {number}",
        venue="paper",
        tokens=["ETH"],
        min_confidence=Decimal("0.01"),  # whatever the demo's market does
        weights={POSTS: 100},
    )
    advance(agent, AgentState.ACTIVE)
    Subscription.objects.create(agent=agent, account=account)
    deployment = Deployment.objects.create(
        agent=agent, account=f"bench:{number}", starting_balance=Decimal(10_000)
    )
    advance(deployment, DeploymentState.ACTIVE)
    fund(deployment)
    return account, deployment


def _post(account: "CtAccount", number: int) -> float:
    """The account says buy, and the stage that reads is woken as ingestion wakes it; returns when it was committed."""
    from django.db import transaction

    from maxxit.core import clock
    from maxxit.events import wake
    from signals_app.ingest import ingest
    from signals_app.sources.base import Cursor, RawPost, Refused

    class Source:
        def fetch(self, username: str, cursor: Cursor) -> list[RawPost]:
            if username != account.x_username:
                return []
            return [RawPost(f"bench-{number}", username, "Buying $ETH here, this goes higher.", clock.now())]

        def refused(self) -> list[Refused]:
            return []

    ingest({"bench": Source()})
    begun = time.perf_counter()
    with transaction.atomic():
        wake.after_commit("stage.ingest")
    return begun


if __name__ == "__main__":
    main()
