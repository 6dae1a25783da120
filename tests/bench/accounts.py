"""Followed accounts with a new post each, through ingest, classify, generate and execute, beside what slots allow.

    python -m tests.bench.accounts [--accounts 1000] [--source-seconds 0.3] [--places 4] [--model-seconds 2] [--slots 8]

Each stage has a process of its own, woken by the events that wake its worker; the database is a scratch one with fsync
on, the venue is paper. The source answers after `--source-seconds`, for `--places` accounts at once; the model after
`--model-seconds`, in `--slots` slots, as the lexical reader reads. The accounts are divided among `--agents` agents, so
that signals arise from the first account to the last; `--hang` accounts do not answer before the source's time is over.

The bound is what the slots allow: calls × seconds / slots of fetching or of reading, whichever is longer, since they
overlap. Prints the bound, the time until the last post was read and the last signal was made, their ratio, and how
busy the machine was: where others take both cores, the time between two calls of a slot grows with the wait for them.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from maxxit.core.config import ROOT
from maxxit.llm.providers.base import Answer, Request
from signals_app.reading.provider import LexicalReader
from signals_app.sources.base import Cursor, RawPost, Refused

TOKENS = {"BTC": "60000", "ETH": "3000", "SOL": "150"}
STAGES = ("ingest", "classify", "generate", "execute", "monitor")
HANGING_SECONDS = 100.0


class SlowSource:
    """A post source that answers after a while: one post of each account."""

    def __init__(self, seconds: str, concurrency: int, hanging: int) -> None:
        self.seconds, self.concurrency, self.hanging = float(seconds), concurrency, hanging

    def fetch(self, username: str, cursor: Cursor) -> Iterator[RawPost]:
        """Fetch the account's only post, unless it was fetched."""
        from maxxit.core import clock

        number = int(username.removeprefix("bench"))
        time.sleep(HANGING_SECONDS if number < self.hanging else self.seconds)
        if not cursor.since_id:
            token = list(TOKENS)[number % len(TOKENS)]
            yield RawPost(f"{number + 1}", username, f"Buying ${token} here, this goes higher.", clock.now())

    def refused(self) -> list[Refused]:
        """None."""
        return []


class SlowModel(LexicalReader):
    """The lexical reader as a model behind a network: it answers after a while."""

    def complete(self, request: Request) -> Answer:
        """Read the posts."""
        time.sleep(float(os.environ["BENCH_MODEL_SECONDS"]))
        return super().complete(request)


def configure(home: Path, options: argparse.Namespace) -> None:
    """Write the configuration of this run, before Django reads it."""
    folder = home / "config"
    shutil.copytree(ROOT / "config", folder)
    llm = yaml.safe_load((folder / "llm.yaml").read_text())
    llm["purposes"]["classify"] |= {"chain": ["bench"], "calls_per_day": 1_000_000}
    llm["providers"]["bench"] = {
        "adapter": "bench",
        "base_url": "bench://model",
        "concurrency": options.slots,
    }
    (folder / "llm.yaml").write_text(yaml.safe_dump(llm))
    signals = yaml.safe_load((folder / "signals.yaml").read_text())
    signals["ingest"]["sources"] = {
        "bench": {
            "adapter": "bench",
            "seconds": options.source_seconds,
            "concurrency": options.places,
            "hanging": options.hang,
        }
    }
    (folder / "signals.yaml").write_text(yaml.safe_dump(signals))
    os.environ |= {
        "MAXXIT_CONFIG_DIR": str(folder),
        "MAXXIT_DATA_DIR": str(home / "data"),
        "MAXXIT_PROFILE": "",
        "BENCH_MODEL_SECONDS": str(options.model_seconds),
        "DJANGO_SETTINGS_MODULE": "maxxit.settings",
        "LOG_LEVEL": "CRITICAL",
    }


def fill(accounts: int, agents: int) -> None:
    """Accounts, agents that follow them, a deployment for each agent, prices."""
    from agents.models import Agent, CtAccount, Subscription
    from maxxit.core import clock
    from tests import builders as make

    make.open_gate()
    hour = clock.bucket(clock.now(), timedelta(hours=1))
    for token, usd in TOKENS.items():
        make.hourly_bars(token, make.calm(float(usd)), until=hour)
        make.price(token, usd)
    followers = [
        Agent.objects.create(
            name=f"bench {number}", venue="paper", tokens=list(TOKENS), state="active", weights={"tweet": 100},
            min_confidence="0.01",
        )
        for number in range(agents)
    ]  # fmt: skip
    for follower in followers:
        make.deployment(follower)
    rows = [CtAccount(x_username=f"bench{number}", source="bench") for number in range(accounts)]
    CtAccount.objects.bulk_create(rows)
    Subscription.objects.bulk_create(
        Subscription(agent=followers[number * agents // accounts], account=row)
        for number, row in enumerate(rows)
    )


def work(name: str, step: Callable[[], Any], woken: Any) -> None:
    """One worker: runs a pass of its stage whenever it is woken."""
    from maxxit.pipeline.runs import run_stage

    while True:
        woken.wait()
        woken.clear()
        run_stage(name, step)


def start_workers() -> tuple[list[Any], Any]:
    """Start a process for each stage; return them and what wakes the first."""
    from django.db import connections

    from maxxit.events import wake
    from maxxit.pipeline.stages import stage
    from signals_app.tasks import classify_pass, generate_pass, ingest_pass
    from tests.passes import monitor_pass
    from trading.tasks import entry_pass

    steps = dict(
        zip(STAGES, (ingest_pass, classify_pass, generate_pass, entry_pass, monitor_pass), strict=True)
    )
    fork = multiprocessing.get_context("fork")
    events = {stage(name).task: fork.Event() for name in STAGES}

    def send(task: str, shard: int = 0) -> None:
        if task in events:
            events[task].set()

    wake.send = send
    connections.close_all()
    workers = [
        fork.Process(target=work, args=(name, step, events[stage(name).task]), daemon=True)
        for name, step in steps.items()
    ]
    for worker in workers:
        worker.start()
    return workers, events[stage("ingest").task]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Wake the first worker; return the figures when every post was read and decided on."""
    from maxxit.core import clock
    from maxxit.events.models import Event
    from signals_app.models import CtPost, Signal
    from tests import builders as make
    from trading.models import Order

    expected = options.accounts
    workers, first = start_workers()
    try:
        began = clock.now()
        first.set()
        end = time.monotonic() + options.patience
        while True:
            for token, usd in TOKENS.items():
                make.price(token, usd)
            read = CtPost.objects.filter(state="classified")
            undecided = read.filter(is_signal_candidate=True, processed_for_signals=False)
            if read.count() >= expected and not undecided.exists():
                break
            if time.monotonic() > end:
                raise TimeoutError(f"{read.count()} of {expected} posts read after {options.patience} s")
            if not all(worker.is_alive() for worker in workers):
                raise RuntimeError("a worker ended")
            time.sleep(0.2)
        last_fetched = CtPost.objects.latest("ingested_at").ingested_at
        reads = Event.objects.filter(name="ctpost.classified").order_by("at").values_list("at", flat=True)
        sent = Event.objects.filter(name="order.sending").order_by("at").values_list("at", flat=True)
        last_signal = Signal.objects.latest("created_at").created_at

        def seconds(moment: datetime) -> float:
            return (moment - began).total_seconds()

        first_order = seconds(sent[0])
        return {
            "posts": expected,
            "signals": Signal.objects.count(),
            "orders": Order.objects.filter(purpose="open").count(),
            "fetching_bound_s": expected * options.source_seconds / options.places,
            "fetched_s": seconds(last_fetched),
            "reading_bound_s": expected * options.model_seconds / options.slots,
            "read_s": seconds(list(reads)[-1]),
            "last_signal_s": seconds(last_signal),
            "first_order_s": first_order,
            "read_when_the_first_order_left": sum(seconds(at) < first_order for at in reads),
        }
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--source-seconds", type=float, default=0.3)
    parser.add_argument("--places", type=int, default=4, help="accounts that the source lets fetch at once")
    parser.add_argument("--model-seconds", type=float, default=2.0)
    parser.add_argument("--slots", type=int, default=8, help="model calls in flight")
    parser.add_argument("--hang", type=int, default=0, help=f"accounts that answer after {HANGING_SECONDS} s")
    parser.add_argument(
        "--patience", type=float, default=1800.0, help="seconds after which the run has failed"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not 0 < options.agents <= options.accounts:
        parser.error(f"--agents {options.agents}: give 1 to {options.accounts}, one account each at least")
    with tempfile.TemporaryDirectory(prefix="maxxit-accounts-") as home:
        Path(home).chmod(0o711)  # Postgres runs as another user under root
        configure(Path(home), options)
        import django

        django.setup()
        from maxxit.embedded.scratch import scratch_database
        from maxxit.llm.providers import PROVIDERS
        from signals_app.sources import SOURCES

        PROVIDERS.known["bench"] = "tests.bench.accounts.SlowModel"
        SOURCES.known["bench"] = "tests.bench.accounts.SlowSource"
        with scratch_database(durable=True):
            fill(options.accounts, options.agents)
            figures = measure(options)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures |= {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "load": os.getloadavg()[1]}
    report(figures, as_json=options.json)
    return 0


def report(figures: dict[str, Any], *, as_json: bool) -> None:
    """Print one run."""
    bound = max(figures["fetching_bound_s"], figures["reading_bound_s"])
    done = max(figures["read_s"], figures["last_signal_s"])
    figures |= {"bound_s": bound, "done_s": done, "ratio": round(done / bound, 3)}
    if as_json:
        print(json.dumps(figures))
        return
    f = figures
    print(
        f"fetched   {f['posts']} accounts in {f['fetched_s']:.1f} s   (bound {f['fetching_bound_s']:.1f} s)"
    )
    print(f"read      {f['posts']} posts in {f['read_s']:.1f} s   (bound {f['reading_bound_s']:.1f} s)")
    print(
        f"decided   {f['signals']} signals, the last after {f['last_signal_s']:.1f} s; {f['orders']} orders"
    )
    print(
        f"first     order sent after {f['first_order_s']:.1f} s, when {f['read_when_the_first_order_left']} were read"
    )
    print(f"machine   load {f['load']:.1f}; workers and database used {f['cpu_s']:.1f} s of CPU")
    print(f"ratio     {done:.1f} s / {bound:.1f} s = {f['ratio']:.2f} × (target 1.3 ×)")


if __name__ == "__main__":
    sys.exit(main())
