"""The world of a campaign: servers of its own, the product's code loaded once, and workers that are forked from it.

A process that has loaded everything and holds no thread is the parent; each worker is a `fork` of it, so that a kill
costs milliseconds. Database and exchange are real processes. Limits are wide, so that faults decide and not caps.
"""

import argparse
import contextlib
import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.chaos import semantics
from tests.templates import given_template

DEADLINE_SECONDS = 2
WIDE = {
    "account": {
        "max_orders_per_minute": 10**6,
        "max_orders_per_symbol_per_day": 10**6,
        "max_open_orders": 10**6,
        "cooldown_seconds_per_symbol": 1,
        "max_total_exposure_usd": 10**12,
        "max_symbol_exposure_usd": 10**12,
    },
    "platform": {
        "max_orders_per_minute": 10**6,
        "max_open_orders": 10**6,
        "max_total_exposure_usd": 10**12,
        "max_symbol_exposure_usd": 10**12,
    },
    "price_band_pct": 90,
    "volatility_band": {"method": "std", "multiplier": 20},
    "allow_add_to_position": True,
}
"""Over config/risk.yaml."""
VENUES = {"dedup": True, "plain": False}
"""Venue of the exchange -> whether it recognises a repeated client order id there."""
HUNG_SECONDS = 120.0
"""A worker that takes longer is killed and reported."""


def widen(folder: Path, profile: str, **over: Any) -> Path:
    """The repository's configuration in `folder`, with wide limits in a profile of it; returns the profile."""
    import yaml

    from maxxit.core.config import ROOT

    shutil.copytree(ROOT / "config", folder)
    place = folder / "profiles" / profile
    place.mkdir(exist_ok=True)
    (place / "risk.yaml").write_text(yaml.safe_dump(WIDE | over))
    return place


def write_config(folder: Path) -> None:
    """The configuration of the campaigns on the exchange: wide limits, a short deadline, its two venues."""
    import yaml

    profile = widen(folder, "chaos", order_deadline_seconds=DEADLINE_SECONDS)
    stanza = {"adapter": "exchange", "shorts": False, "max_leverage": 1, "paper": True}
    venues = {name: stanza | {"options": {"dedup": dedup}} for name, dedup in VENUES.items()}
    token = yaml.safe_load((folder / "markets.yaml").read_text())["instruments"]["ETH"]
    listed = {"ETH": {"venues": [*token["venues"], *VENUES]}}
    for name, values in {"venues": venues, "markets": {"instruments": listed}}.items():
        (profile / f"{name}.yaml").write_text(yaml.safe_dump(values))


@dataclass
class World:
    """What the campaigns work with."""

    home: Path
    postgres: Any
    url: str
    """Of the exchange."""

    def tell(self, **told: Any) -> Any:
        """Instruct the exchange."""
        return self.ask("POST", "/tell", json=told)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """One request to the exchange, that never fails."""
        from maxxit.core import http

        with http.client(self.url, timeout=60) as asking:
            return http.fetch(asking, method, path, max_body=10**9, **options).json()

    def kill_postgres(self) -> None:
        """Its first process dies at once, and with it all others; it recovers from its log."""
        from django.db import connection

        connection.close()
        self.postgres.process.kill()
        self.postgres.process.wait()
        self.postgres.start()


@contextlib.contextmanager
def world(like: str = "") -> Iterator[World]:
    """Everything up, migrated, the gates open, and this process ready to be forked.

    `like`: the venue of the product whose promises both venues of the exchange make (`semantics`).
    """
    home = Path(tempfile.mkdtemp(prefix="maxxit-chaos-"))
    home.chmod(0o711)  # so that `nobody`, who runs Postgres under root, can pass
    exchange = None
    try:
        os.environ["MAXXIT_DATA_DIR"] = str(home)
        from maxxit.embedded.processes import bound_to_parent
        from maxxit.embedded.servers import Postgres

        postgres = Postgres(home, template=given_template())
        postgres.start()
        write_config(home / "config")
        os.environ |= {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": "redis://127.0.0.1:1/0",  # nobody: wakes are hints, and Redis may be away
            "MAXXIT_CONFIG_DIR": str(home / "config"),
            "MAXXIT_PROFILE": "chaos",
            "MAXXIT_ENV_FILE": os.devnull,
            "LOG_LEVEL": "CRITICAL",
            "DJANGO_SETTINGS_MODULE": "maxxit.settings",
        }
        exchange = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.exchange"],
            stdout=subprocess.PIPE,
            preexec_fn=bound_to_parent(signal.SIGKILL),
        )
        assert exchange.stdout is not None
        url = f"http://127.0.0.1:{int(exchange.stdout.readline())}"
        try:
            _load(url, like)
            yield World(home, postgres, url)
        finally:
            from django.db import connections

            connections.close_all()
            postgres.stop()
    finally:
        if exchange is not None:
            exchange.kill()
            exchange.wait()
        shutil.rmtree(home, ignore_errors=True)


def _load(url: str, like: str) -> None:
    """Import all that a worker needs, make the tables, open the adapters."""
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    from tests import builders as make
    from tests.chaos.exchange import HttpVenue
    from trading import venues
    from trading.wiring import venue

    for module in ("positions.tasks", "trading.tasks"):
        __import__(module)
    venues.VENUES.known["exchange"] = "tests.chaos.exchange.HttpVenue"
    HttpVenue.url = url
    if like:
        from positions.exits import at_venue

        HttpVenue.promises = semantics.of(like).capabilities
        at_venue.ASK_AGAIN_AFTER, at_venue.STALLED_AFTER = timedelta(seconds=0.2), timedelta(seconds=1)
    for name in VENUES:
        venue(name)
        make.open_gate(name)


@dataclass
class Job:
    """One worker process with one task, and how it is to end before its time."""

    name: str
    work: Callable[[], Any]
    harm: Callable[[], None] | None = None
    """Called in the worker before its work: plants what will go wrong."""
    batch: int = 1
    """Orders that the worker's venues take together, and that it books together."""
    killed_after: float = 0.0
    """Seconds until SIGKILL; 0: it is left alone."""
    pid: int = 0
    status: int = 0
    began: float = 0.0
    hung: bool = False
    report: str = ""

    @property
    def died(self) -> bool:
        """Whether SIGKILL ended it."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


_kept: list[Any] = []
"""The parent's connections in a child: never used, never closed, for the server would hear of it."""


def run(jobs: list[Job], say: int) -> None:
    """Fork each, wait for all. `say` is a file descriptor that the workers write one line to."""
    for job in jobs:
        job.began = time.monotonic()
        job.pid = os.fork()
        if not job.pid:
            _work(job, say)
    waiting = {job.pid: job for job in jobs}
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in waiting:
            waiting.pop(pid).status = status
            continue
        now = time.monotonic()
        for job in waiting.values():
            age = now - job.began
            if (job.killed_after and age >= job.killed_after) or age > HUNG_SECONDS:
                job.hung = age > HUNG_SECONDS
                os.kill(job.pid, signal.SIGKILL)
                job.killed_after = 0.0
        time.sleep(0.0005)


def take_batches(size: int) -> None:
    """Let this worker's passes and venues take `size` orders together; entries wait for no exits."""
    from trading import passes, wiring

    exits = passes.policy().exits.model_copy(update={"entries_wait_seconds": 0})
    rules = passes.policy().model_copy(update={"batch": size, "exits": exits})
    passes.policy = lambda: rules  # type: ignore[assignment]
    for name in VENUES:
        venue: Any = wiring.venue(name)
        most = venue.promises.batch if venue.promises else size
        venue.capabilities = replace(venue.capabilities, batch=min(size, most))


def _work(job: Job, say: int) -> None:
    """In the child. It never returns."""
    code = 1
    try:
        from django.db import connection

        from maxxit.events import wake

        _kept.append(connection.connection)
        connection.connection = None
        take_batches(job.batch)
        if job.harm:
            job.harm()
        with wake.collected():
            job.work()
        code = 0
    except BaseException as error:
        kind = type(error).__name__
        if kind not in ("OperationalError", "InterfaceError"):
            code = 3
            text = f"{job.name}: {traceback.format_exc(limit=-6)}".replace("\n", " | ")
            os.write(say, (text[:3000] + "\n").encode())
    finally:
        os._exit(code)


def run_forever(work: Callable[[], Any]) -> int:
    """Fork a worker that does `work` again and again until it is killed; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        from django.db import connection

        from maxxit.events import wake

        _kept.append(connection.connection)
        connection.connection = None
        with wake.collected():
            while True:
                work()
                time.sleep(0.002)
    finally:
        traceback.print_exc()
        os._exit(1)


def settle_down(*works: Callable[[], Any]) -> None:
    """Make this process cheap to fork: what a worker loads at its first pass is loaded once, here."""
    from maxxit.events import wake

    with wake.collected():
        for work in works:
            work()
    gc.collect()
    gc.freeze()


Plant = Callable[[], None] | None
"""What changes the product first."""


def planting(name: str) -> Plant:
    """What plants the bug of `tests.chaos.mutants` with `name` in its name, in a world that stands; None for none."""

    def plant() -> None:
        from tests.chaos.mutants import MUTANTS, planted

        [mutant] = [one for one in MUTANTS if name in one.name]
        print(f"planted: {mutant.name}", flush=True)
        planted(mutant).__enter__()  # until this process ends

    return plant if name else None


def asked(
    doc: str | None, what: str, default: int, campaign: Callable[..., "Tally"], *, like: bool = False
) -> int:
    """The command line of a campaign: `--what`, `--seed`, `--mutant`, `--like` if asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{what}", dest="times", type=int, default=default)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--mutant", default="", help="plant this bug of tests.chaos.mutants (part of its name)"
    )
    if like:
        parser.add_argument(
            "--like", choices=semantics.VENUES, default="", help="both venues promise what this one does"
        )
    given = parser.parse_args()
    more = {"like": given.like} if like else {}
    return campaign(given.times, given.seed, planting(given.mutant), **more).tell()


@dataclass
class Tally:
    """What a campaign did and found, printed at its end."""

    name: str
    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> int:
        """Faults that really happened."""
        return sum(self.faults.values())

    def count(self, what: str, times: int = 1) -> None:
        """One more of these."""
        self.faults[what] = self.faults.get(what, 0) + times

    def tell(self) -> int:
        """Print it; returns the exit code."""
        print(f"\n{self.name}: {self.total} faults, seed {self.seed}, {time.monotonic() - self.began:.0f} s")
        print(
            "  mix: " + ", ".join(f"{what} {times}" for what, times in sorted(self.faults.items(), key=_most))
        )
        for what, figure in self.figures.items():
            print(f"  {what}: {figure}")
        print(f"  violations: {len(self.violations)}")
        for one in dict.fromkeys(self.violations[:20]):
            print(f"    {one[:900]}")
        sys.stdout.flush()
        return 1 if self.violations else 0


def _most(pair: tuple[str, int]) -> int:
    return -pair[1]


def percentiles(values: list[float]) -> Mapping[str, float]:
    """p50, p99 and the largest, in the unit that came in."""
    ordered = sorted(values) or [0.0]
    return {
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "max": ordered[-1],
    }


Dice = random.Random
