"""One signal for many customers, and one price that hits many stops, with the workers' own passes in their processes.

    python -m tests.bench.crowd [--only entries|exits|both|scaling] [--sizes 1,100,1000] [--rounds 3] [--json]

entries  one pending signal of an agent with N funded deployments -> the last position booked; entries worker and
         booking worker
exits    one tick below N stops -> the last position closed and booked; exits worker and booking worker
         floor of both: COPY of the same rows into the same tables, with their triggers, one commit per 500 orders
both     exits of 1,000 alone, then again while entries of 10,000 arrive: tick -> closed, p50 and p95
scaling  entries of the largest size with 1, 2 and 4 processes each for entries and booking

The paper venue on a durable Postgres of the bench's own. Workers have served seven customers one by one before the
clock starts; wakes travel between them by shared events instead of Redis. Times are the commit times of the events,
read from Postgres (`track_commit_timestamp`). The limits of config/risk.yaml that count are raised, so that none binds.
With `--profile FOLDER` each worker writes what its functions and statements cost; the times are then too long.
Checks that the work was done; prints times, floors and targets, and asserts no time.
"""

import argparse
import json
import multiprocessing
import os
import pstats
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from cProfile import Profile
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from io import BytesIO
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from maxxit.core.config import ROOT

if TYPE_CHECKING:
    from agents.models import Agent

Row = dict[str, Any]
SPAWN = multiprocessing.get_context("spawn")

TASKS = {
    "entries": "trading.tasks.execute",
    "exits": "positions.tasks.sweep_exits",
    "booking": "positions.tasks.monitor",
}
"""Worker of the bench -> the task whose wakes start its pass."""
IDLE_SECONDS = 1.0
"""A worker that is not woken does a pass this often, as the schedule's sweeps make up for a lost wake."""
PATIENCE = 600.0
"""Seconds after which a worker that does not start, or a run of one order, counts as stuck: for a busy machine, too."""
LOOK = 0.05
"""Seconds between two looks at whether a run is over."""
FIRST_SYMBOLS = ("SOL", "OP", "EOS", "IOTA", "NEO", "XRP", "LTC")
"""Of the customers with whom the workers do their work before the clock starts, one after the other."""
PRICE, BELOW_STOPS = Decimal(2000), Decimal(1800)
"""USD: the signal's price, and one below all stops that follow from it."""
REFRESH = 20.0
"""Seconds after which the prices are sent again, so that a slow run does not end for want of a fresh quote."""
BATCH = 500
"""Orders per commit of the floor."""
STORM, CROWD = 1_000, 10_000
"""Exits and entries of `both`."""
TARGETS = {1: 30.0, 100: 500.0, 1_000: 2_500.0, 10_000: 25_000.0}
"""Size -> milliseconds, for entries and for exits."""
FIRST, RATIO, LINEAR, BESIDE = 1_000.0, 6.0, 1.2, 1.3
"""Targets: the first exit, milliseconds; ours / floor; cost an order at 10,000 / at 1,000; p95 beside / alone."""


# --- the database and the limits


@contextmanager
def durable_postgres() -> Iterator[None]:
    """Run a Postgres of the bench's own, connect Django to it, and raise the limits, inside this block."""
    from maxxit.embedded.servers import Postgres
    from maxxit.env import PLANS_ONCE

    with tempfile.TemporaryDirectory(prefix="maxxit-crowd-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # under root Postgres runs as nobody
        server = Postgres(home / "data")
        server.start()
        _configure(server.url)
        server.stop()  # track_commit_timestamp is read at the start
        server.start()
        assert server.process is not None
        _server[:] = [psutil.Process(server.process.pid)]
        os.environ |= {
            "DATABASE_URL": server.url,
            "MAXXIT_DATA_DIR": str(home / "data"),
            "MAXXIT_CONFIG_DIR": str(write_config(home)),
            "MAXXIT_PROFILE": "",
            "LOG_LEVEL": "ERROR",
            **PLANS_ONCE,  # as the workers that place and book orders have it
        }
        try:
            connect()
            from django.core.management import call_command

            call_command("migrate", verbosity=0, interactive=False)
            yield
        finally:
            server.stop()
            shutil.rmtree(server.home, ignore_errors=True)


_server: list[psutil.Process] = []
"""The Postgres that `durable_postgres` runs."""


def postgres_cpu() -> float:
    """Return the processor seconds that the server has used so far, with its ended connections."""
    [server] = _server
    used = 0.0
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
            used += times.children_user + times.children_system if process == server else 0
    return used


def _configure(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            row = connection.execute(f"SHOW {name}").fetchone()
            if row != ("on",):
                raise RuntimeError(f"{name} is {row}: this bench measures a durable Postgres")


def write_config(home: Path) -> Path:
    """Copy config/ with account and platform limits (`max_…`) that no run reaches; return the folder."""
    folder = home / "config"
    shutil.copytree(ROOT / "config", folder)
    risk = yaml.safe_load((folder / "risk.yaml").read_text())
    for section in (risk["account"], risk["platform"]):
        section |= {name: 10**9 for name in section if name.startswith("max_")}
    (folder / "risk.yaml").write_text(yaml.safe_dump(risk))
    return folder


def connect() -> None:
    """Set Django up in this process, with its cache in memory."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    import django

    django.setup()
    from maxxit.embedded.scratch import _use_caches

    _use_caches({"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})


def run_sql(statement: str, params: Any = None) -> list[tuple[Any, ...]]:
    """Run one statement; return its rows, if it has any."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


KEPT = ("django_migrations", "django_content_type", "auth_permission")
TABLES = """
SELECT string_agg(quote_ident(c.relname), ', ') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> ALL(%s)
"""


def empty_database() -> None:
    """Delete every row and open the gate."""
    from tests import builders as make

    [(tables,)] = run_sql(TABLES, [list(KEPT)])
    run_sql("SET session_replication_role = replica")  # append-only tables refuse TRUNCATE
    run_sql(f"TRUNCATE {tables} RESTART IDENTITY")
    run_sql("SET session_replication_role = origin")
    make.open_gate()


def settle_down() -> None:
    """Collect statistics and write everything to disk, so that a run pays for its own rows only."""
    run_sql("VACUUM ANALYZE")
    run_sql("CHECKPOINT")


# --- customers


def add_customers(count: int, symbol: str) -> "Agent":
    """Make an agent with `count` active deployments, each with 10,000 USDC."""
    from agents.models import Deployment
    from maxxit.core import clock
    from maxxit.core.money import USDC
    from tests import builders as make
    from trading import ledger
    from trading.models import JournalKind, LedgerEntry, PaperBalance

    agent, money, now = make.agent(tokens=[symbol]), Decimal(10_000), clock.now()
    made = Deployment.objects.bulk_create(
        Deployment(agent=agent, account=f"{symbol}:{n}", state="active", starting_balance=money)
        for n in range(count)
    )
    PaperBalance.objects.bulk_create(
        [PaperBalance(account=one.account, asset=USDC, amount=money) for one in made], batch_size=5_000
    )
    LedgerEntry.objects.bulk_create(
        [
            LedgerEntry(
                journal=f"{JournalKind.DEPOSIT}:{one.pk}", journal_kind=JournalKind.DEPOSIT, account=account,
                deployment_id=ledger.deployment_of(account), asset=USDC, amount=amount, kind="deposit", at=now,
            )
            for one in made
            for account, amount in (("external", -money), (ledger.account_of(one.pk), money))
        ],
        batch_size=5_000,
    )  # fmt: skip
    return agent


def send_signal(agent: "Agent") -> None:
    """Make a pending signal of the agent, which one post supports."""
    from tests import builders as make

    [symbol] = agent.tokens
    signal = make.signal(agent, token=symbol, usd=str(PRICE))
    signal.posts.add(make.candidate(make.account(agent), {symbol: "long"}))


_prices: dict[str, Decimal] = {}
"""Symbol -> the price that the bench sent last."""


def tick(symbol: str = "", price: Decimal = PRICE) -> None:
    """Send a price as a feed does; without a symbol, those sent before again."""
    from maxxit.core import clock
    from maxxit.market import quotes
    from maxxit.market.feeds.base import Tick

    _prices.update({symbol: price} if symbol else {})
    now = clock.now()
    moved = quotes.accept([Tick(name, usd, now, "bench") for name, usd in _prices.items()])
    if symbol and symbol not in moved:
        raise RuntimeError(f"the price {price} of {symbol} was refused")


# --- workers


@dataclass(frozen=True, slots=True)
class Job:
    """One worker process: what it runs, and its part of the accounts."""

    name: str
    """A key of `TASKS`."""
    shard: int = 0
    shards: int = 1
    profile: str = ""
    """Folder for what its functions and statements cost; empty: do not measure that."""


Wakes = dict[tuple[str, int], Event]
"""(task, shard) -> the event of the worker that it wakes."""


def use_relay(wakes: Wakes) -> None:
    """Wake the bench's workers where `maxxit.events.wake.send` sends a message through Redis."""
    from maxxit.events import wake

    def send(task: str, shard: int = 0) -> None:
        event = wakes.get((task, shard))
        if event is not None and not event.is_set():
            event.set()

    wake.send = send


def pass_of(job: Job) -> Callable[[], object]:
    """Return the pass that the job's worker runs."""
    from positions.tasks import book_pass, exit_pass
    from trading import passes
    from trading.closing import Lanes
    from trading.shards import Shard
    from trading.tasks import entry_pass

    shard = Shard(job.shard, job.shards)
    if job.name == "booking":
        return lambda: book_pass(shard)
    if job.name == "entries":
        return lambda: entry_pass(shard)
    lanes = Lanes(passes.policy().exits.lanes)
    return lambda: exit_pass(lanes)


def work(job: Job, wakes: Wakes, woken: Event, stop: Event, pipe: Connection) -> None:
    """Run the job's passes in this process until `stop`; report memory and processor time through `pipe`."""
    import signal

    from maxxit.embedded.processes import die_with_parent

    die_with_parent(signal.SIGKILL)
    try:
        connect()
        use_relay(wakes)
        run_pass = pass_of(job)
        run_pass()  # connects, reads the configuration, and plans what it asks
        meter = Meter() if job.profile else None
        woken.clear()
        pipe.send({"memory_mb": peak_memory()})
        used = time.process_time()
        passes = 0
        while not stop.is_set():
            woken.wait(IDLE_SECONDS)
            woken.clear()
            if not stop.is_set():
                passes += 1
                if meter:
                    meter.run(run_pass)
                else:
                    run_pass()
        if meter:
            meter.write(Path(job.profile) / f"{job.name}-{job.shard}.txt")
        pipe.send({"peak_mb": peak_memory(), "cpu_s": time.process_time() - used, "passes": passes})
    except BaseException as error:
        pipe.send({"error": f"{type(error).__name__}: {error}"})
        raise


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, MB."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024, 1)


class Meter:
    """What the passes of one worker cost in processor time: its functions, and the server for each statement."""

    def __init__(self) -> None:
        from django.db import connection
        from django.db.backends.base.base import BaseDatabaseWrapper
        from django.db.backends.signals import connection_created

        from trading import closing

        self.profiles: list[Profile] = []
        self.counts: Counter[str] = Counter()
        self.nanoseconds: Counter[str] = Counter()
        self.elapsed: Counter[str] = Counter()
        connection.execute_wrappers.append(self._time)
        connection_created.connect(self._watch, weak=False)
        connections: Any = BaseDatabaseWrapper
        commit, in_thread = connections._commit, closing._log_errors

        def timed_commit(of: Any) -> None:
            with self._counted("COMMIT", of):
                commit(of)

        def measured(work: Callable[[], None]) -> None:
            self.run(lambda: in_thread(work))

        connections._commit = timed_commit
        closing._log_errors = measured

    def _watch(self, connection: Any, **_: Any) -> None:
        if self._time not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._time)

    def _time(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        with self._counted(" ".join(str(sql).split()), context["connection"]):
            return execute(sql, params, many, context)

    @contextmanager
    def _counted(self, shape: str, connection: Any) -> Iterator[None]:
        used, begun = _server_time(connection), time.perf_counter_ns()
        try:
            yield
        finally:
            self.counts[shape] += 1
            self.nanoseconds[shape] += _server_time(connection) - used
            self.elapsed[shape] += time.perf_counter_ns() - begun

    def run(self, run_pass: Callable[[], object]) -> object:
        """Run one pass, or one batch in a thread, and measure it."""
        profile = Profile(time.thread_time)
        self.profiles.append(profile)
        return profile.runcall(run_pass)

    def write(self, path: Path) -> None:
        """Write the most expensive statements and functions."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as out:
            total = sum(self.nanoseconds.values()) / 1e6
            print(
                f"{sum(self.counts.values())} statements: {total:.1f} ms of the server's processor", file=out
            )
            for shape, nanoseconds in self.nanoseconds.most_common(50):
                count, elapsed = self.counts[shape], self.elapsed[shape] / 1e6
                print(
                    f"{nanoseconds / 1e6:9.1f} ms of {elapsed:9.1f} ms {count:6} × {shape[:400]}",
                    file=out,
                )
            print(
                "\nprocessor time of functions, under the profiler: about twice as long as without", file=out
            )
            for order in ("tottime", "cumulative"):
                stats = pstats.Stats(*[one for one in self.profiles if one.getstats()], stream=out)
                stats.sort_stats(order).print_stats(60)


def _server_time(connection: Any) -> int:
    """Return the processor nanoseconds of the connection's server process; Linux only, elsewhere 0."""
    try:
        pid = connection.connection.info.backend_pid
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (OSError, AttributeError):
        return 0


@dataclass
class Crew:
    """The worker processes of one run: warm when the block begins, stopped when it ends."""

    jobs: Sequence[Job]
    wakes: Wakes = field(default_factory=dict)
    reports: dict[str, dict[str, float]] = field(default_factory=dict)
    """Worker -> its memory before the run and at its peak (MB), processor seconds, and passes."""

    def __enter__(self) -> "Crew":
        self.stop, woken = SPAWN.Event(), [SPAWN.Event() for _ in self.jobs]
        self.wakes.update(
            {(TASKS[job.name], job.shard): event for job, event in zip(self.jobs, woken, strict=True)}
        )
        self.pipes, self.processes = [], []
        for job, event in zip(self.jobs, woken, strict=True):
            mine, theirs = SPAWN.Pipe()
            given = (job, self.wakes, event, self.stop, theirs)
            process = SPAWN.Process(target=work, args=given, name=job.name, daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(mine)
            self.processes.append(process)
        self._hear()
        use_relay(self.wakes)
        self.postgres_s = postgres_cpu()
        return self

    def __exit__(self, *failed: object) -> None:
        postgres = postgres_cpu() - self.postgres_s
        self.stop.set()
        for event in self.wakes.values():
            event.set()
        if failed[0] is None:
            self._hear()
            self.reports["postgres"] = {"cpu_s": postgres}
        for process in self.processes:
            process.join(30 if failed[0] is None else 1)
            if process.is_alive():
                process.kill()
        use_relay({})

    def _hear(self) -> None:
        for job, pipe in zip(self.jobs, self.pipes, strict=True):
            if not pipe.poll(PATIENCE):
                raise TimeoutError(f"the {job.name} worker does not answer")
            report = pipe.recv()
            if "error" in report:
                raise RuntimeError(f"the {job.name} worker failed: {report['error']}")
            name = job.name if job.shards == 1 else f"{job.name} {job.shard + 1}/{job.shards}"
            self.reports.setdefault(name, {}).update(report)

    def start_entries(self) -> None:
        """Wake the entry workers, as the stage before them does."""
        self.wakes[TASKS["entries"], 0].set()

    def wait(self, is_over: Callable[[], bool], seconds: float) -> None:
        """Wait until `is_over`. Raises where an order was refused, a worker failed, or `seconds` have passed."""
        begun, refreshed, looked = time.monotonic(), time.monotonic(), time.monotonic()
        while not is_over():
            now = time.monotonic()
            for job, process, pipe in zip(self.jobs, self.processes, self.pipes, strict=True):
                if pipe.poll() or not process.is_alive():
                    raise RuntimeError(f"the {job.name} worker failed: {pipe.recv()}")
            if now - refreshed > REFRESH:
                tick()
                refreshed = now
            if now - looked > 2:
                check_nothing_refused()
                looked = now
            if now - begun > seconds:
                raise TimeoutError(f"not over after {seconds:.0f} s: {state_of_orders()}")
            time.sleep(LOOK)


# --- what was done


def state_of_orders() -> str:
    """Return how many orders and positions are in which state, for a message."""
    orders = run_sql("SELECT purpose, state, reason, count(*) FROM orders GROUP BY 1, 2, 3 ORDER BY 1, 2, 3")
    positions = run_sql("SELECT state, count(*) FROM positions GROUP BY 1 ORDER BY 1")
    return "; ".join(" ".join(map(str, row)) for row in (*orders, *positions))


def check_nothing_refused() -> None:
    """Raise where an order failed or ended without a fill."""
    [(failed,)] = run_sql("SELECT count(*) FROM orders WHERE attempts > 0")
    [(ended,)] = run_sql(
        "SELECT count(*) FROM orders WHERE state IN ('blocked', 'rejected', 'expired', 'canceled')"
    )
    if failed or ended:
        error = run_sql("SELECT last_error FROM orders WHERE attempts > 0 LIMIT 1")
        raise RuntimeError(f"{failed} orders failed, {ended} were refused: {state_of_orders()} {error}")


def check(symbol: str, opened: int, closed: int) -> None:
    """Raise unless so many positions were opened and closed, each by a filled order, and the ledger balances."""
    from trading import ledger

    check_nothing_refused()
    orders = dict(
        run_sql(
            "SELECT purpose, count(*) FROM orders WHERE state = 'filled' AND filled_quantity = quantity AND symbol = %s"
            " GROUP BY 1",
            [symbol],
        )
    )
    positions = dict(run_sql("SELECT state, count(*) FROM positions WHERE symbol = %s GROUP BY 1", [symbol]))
    wanted = {"open": opened - closed, "closed": closed}
    unbooked = run_sql(
        "SELECT count(*) FROM orders WHERE purpose = 'open' AND booked_quantity <> filled_quantity"
    )
    if (
        orders != {"open": opened} | ({"close": closed} if closed else {})
        or positions != {state: count for state, count in wanted.items() if count}
        or unbooked != [(0,)]
        or ledger.drift()
    ):
        raise RuntimeError(
            f"{opened} opened and {closed} closed were expected of {symbol}; unbooked {unbooked}, "
            f"drift {ledger.drift()}, {state_of_orders()}"
        )
    [(wrong,)] = run_sql(
        "SELECT count(*) FROM paper_balances p JOIN agent_deployments d USING (account) "
        "LEFT JOIN ledger_balances b ON b.account = 'deployment:' || d.id AND b.asset = p.asset "
        "WHERE p.amount <> coalesce(b.amount, 0)"
    )
    if wrong:
        raise RuntimeError(f"{wrong} balances of the paper exchange differ from the ledger")


TIMES = """
SELECT (extract(epoch FROM pg_xact_commit_timestamp(e.xmin) - %(begun)s) * 1000)::float8 AS ms
FROM events e WHERE e.name = %(name)s AND e.id > %(after)s
  AND (%(symbol)s = '' OR e.subject IN (SELECT 'positions.position/' || id FROM positions WHERE symbol = %(symbol)s))
ORDER BY 1
"""


def times(name: str, begun: datetime, after: int, symbol: str = "") -> list[float]:
    """Return the milliseconds from `begun` to the commit of each event of this name, ascending."""
    params = {"name": name, "begun": begun, "after": after, "symbol": symbol}
    return [ms for (ms,) in run_sql(TIMES, params)]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p95."""
    cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else [values[0]] * 19
    return cuts[9], cuts[18]


# --- entries and exits


@dataclass
class Run:
    """The figures of one run, in milliseconds since its start."""

    first_filled: float
    first_booked: float
    """The first position opened (entries) or closed (exits)."""
    last_booked: float
    after: int
    """The last event before its start."""
    workers: dict[str, dict[str, float]]
    booked: list[float] = field(default_factory=list)
    """Of each position."""


def last_event() -> int:
    [(newest,)] = run_sql("SELECT coalesce(max(id), 0) FROM events")
    return int(newest)


def patience(count: int) -> float:
    """Return the seconds after which a run of `count` orders counts as stuck."""
    return PATIENCE + 0.4 * count


def is_open(count: int, symbol: str) -> bool:
    """Return whether `count` positions of the symbol were booked."""
    return run_sql("SELECT count(*) FROM positions WHERE symbol = %s", [symbol]) == [(count,)]


def is_closed(symbol: str) -> bool:
    """Return whether no position of the symbol is open or closing."""
    return not run_sql("SELECT 1 FROM positions WHERE state <> 'closed' AND symbol = %s LIMIT 1", [symbol])


def measure_entries(agent: "Agent", count: int, jobs: Sequence[Job]) -> Run:
    """Let the agent's deployments enter after one signal."""
    from maxxit.core import clock

    [symbol] = agent.tokens
    tick(symbol)
    with Crew(jobs) as crew:
        enter_first(crew)
        remember_derived()
        send_signal(agent)
        tick(symbol)
        after = last_event()
        begun = clock.now()
        crew.start_entries()
        crew.wait(lambda: is_open(count, symbol), patience(count))
    booked = times("position.open", begun, after)
    check(symbol, count, 0)
    filled = times("execution.completed", begun, after)[0]
    return Run(filled, booked[0], booked[-1], after, crew.reports, booked)


def enter_first(crew: Crew) -> None:
    """Let other customers enter one by one, so that the workers have done all their work before the clock starts."""
    settle_down()
    for symbol in FIRST_SYMBOLS:
        first = add_customers(1, symbol)
        send_signal(first)
        tick(symbol)
        crew.start_entries()
        crew.wait(partial(is_open, 1, symbol), patience(1))


def leave_first(crew: Crew) -> None:
    """Let the positions of `enter_first` reach their stops one by one, for the same reason."""
    settle_down()
    for symbol in FIRST_SYMBOLS:
        tick(symbol, BELOW_STOPS)
        crew.wait(partial(is_closed, symbol), patience(1))


def measure_exits(symbol: str, count: int, jobs: Sequence[Job]) -> Run:
    """Let all positions of the symbol reach their stops at one tick."""
    from maxxit.core import clock

    with Crew(jobs) as crew:
        leave_first(crew)
        remember_derived()
        after = last_event()
        begun = clock.now()
        tick(symbol, BELOW_STOPS)
        crew.wait(lambda: is_closed(symbol), patience(count))
    closed = times("position.closed", begun, after)
    check(symbol, count, count)
    filled = times("execution.completed", begun, after)[0]
    return Run(filled, closed[0], closed[-1], after, crew.reports, closed)


# --- the floor: COPY of the same rows

COPIED = {
    "paper_orders": "client_order_id IN (SELECT client_order_id FROM orders WHERE id = ANY(%(ids)s))",
    "paper_fills": "order_id IN (SELECT p.id FROM paper_orders p JOIN orders o USING (client_order_id)"
    " WHERE o.id = ANY(%(ids)s))",
    "paper_balances": "account IN (SELECT account FROM orders WHERE id = ANY(%(ids)s))",
    "orders": "id = ANY(%(ids)s)",
    "fills": "order_id = ANY(%(ids)s)",
    "ledger_entries": "order_id = ANY(%(ids)s)",
    "profit_marks": "deployment_id IN (SELECT deployment_id FROM orders WHERE id = ANY(%(ids)s))",
    "positions": "id IN (SELECT id FROM positions WHERE %(purpose)s = 'open' AND entry_order_id = ANY(%(ids)s)"
    " OR %(purpose)s = 'close' AND exit_order_id = ANY(%(ids)s))",
    "events": "id > %(after)s AND subject IN (SELECT 'trading.order/' || unnest(%(ids)s) UNION ALL"
    " SELECT 'positions.position/' || id FROM positions"
    " WHERE entry_order_id = ANY(%(ids)s) OR exit_order_id = ANY(%(ids)s))",
}
"""Table -> its rows that belong to the orders `ids`; a table comes after those that it refers to."""
DERIVED = ("ledger_balances",)
"""Tables that triggers write."""
COLUMNS = """
SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = %s AND is_generated = 'NEVER'
"""


def remember_derived() -> None:
    """Keep what triggers have written so far, for `measure_floor`."""
    for table in DERIVED:
        run_sql(f"DROP TABLE IF EXISTS pg_temp.before_{table}")
        run_sql(f"CREATE TEMP TABLE before_{table} AS SELECT * FROM {table}")


@dataclass(frozen=True, slots=True)
class Floor:
    """What the COPY took."""

    ms: float
    cpu_ms: float
    """Processor time, of Postgres too."""


def measure_floor(purpose: str, symbol: str, after: int) -> Floor:
    """Take the rows of all orders of one purpose and symbol out and COPY them in again; return what that took.

    Triggers and foreign keys are in force while the rows are copied in. `after`: the last event before the run.
    """
    from django.db import connection, transaction

    query = "SELECT id FROM orders WHERE purpose = %s AND symbol = %s ORDER BY id"
    ids = [pk for (pk,) in run_sql(query, [purpose, symbol])]
    columns = {table: run_sql(COLUMNS, [table])[0][0] for table in COPIED}
    batches = []
    for start in range(0, len(ids), BATCH):
        params = {"ids": ids[start : start + BATCH], "purpose": purpose, "after": after}
        rows = {}
        for table, condition in COPIED.items():
            query = f"COPY (SELECT {columns[table]} FROM {table} WHERE {condition}) TO STDOUT"
            with connection.cursor() as cursor, cursor.copy(query, params) as copied:
                out = BytesIO()
                for part in copied:
                    out.write(part)
            rows[table] = out.getvalue()
        batches.append(rows)
    params = {"ids": ids, "purpose": purpose, "after": after}
    with transaction.atomic():
        run_sql("SET LOCAL session_replication_role = replica")
        for table in ("events", "positions", "profit_marks", "ledger_entries", "fills", "paper_fills"):
            run_sql(f"DELETE FROM {table} WHERE {COPIED[table]}", params)
        for table in ("paper_balances", "paper_orders", "orders"):
            run_sql(f"DELETE FROM {table} WHERE {COPIED[table]}", params)
        for table in DERIVED:
            run_sql(f"DELETE FROM {table}")
            run_sql(f"INSERT INTO {table} SELECT * FROM before_{table}")
    for table in (*COPIED, *DERIVED):
        run_sql(f"VACUUM (FULL, ANALYZE) {table}")
    run_sql("CHECKPOINT")
    used = time.process_time() + postgres_cpu()
    begun = time.perf_counter()
    for rows in batches:
        with transaction.atomic(), connection.cursor() as cursor:
            for table, lines in rows.items():
                with cursor.copy(f"COPY {table} ({columns[table]}) FROM STDIN") as copied:
                    copied.write(lines)
    took = time.perf_counter() - begun
    return Floor(took * 1000, (time.process_time() + postgres_cpu() - used) * 1000)


# --- parts


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    sizes: tuple[int, ...]
    rounds: int
    processes: tuple[int, ...]
    storm: int
    crowd: int
    profile: str


def crew_of(*names: str, profile: str = "", processes: int = 1) -> list[Job]:
    """Return the jobs of these workers, `processes` each of those that share the accounts."""
    return [
        Job(name, shard, shards, profile)
        for name in names
        for shards in (1 if name == "exits" else processes,)
        for shard in range(shards)
    ]


def entries_and_exits(options: Options, wanted: tuple[str, ...]) -> Iterator[Row]:
    """Measure entries, and exits of the positions that they opened, each beside its floor."""
    costs: dict[str, dict[int, float]] = {part: {} for part in wanted}
    for size in options.sizes:
        found: dict[str, list[tuple[Run, Floor]]] = {part: [] for part in wanted}
        for _ in range(options.rounds):
            empty_database()
            agent = add_customers(size, "ETH")
            folder = f"{options.profile}/{size}" if options.profile else ""
            entered = measure_entries(
                agent, size, crew_of("entries", "booking", profile=folder and f"{folder}/entries")
            )
            if "entries" in wanted:
                found["entries"].append((entered, measure_floor("open", "ETH", entered.after)))
                check("ETH", size, 0)
            if "exits" in wanted:
                left = measure_exits(
                    "ETH", size, crew_of("exits", "booking", profile=folder and f"{folder}/exits")
                )
                found["exits"].append((left, measure_floor("close", "ETH", left.after)))
                check("ETH", size, size)
        for part, runs in found.items():
            row = figures(part, size, runs)
            costs[part][size] = row["ms_per_order"]
            yield row
    for part, by_size in costs.items():
        if {1_000, 10_000} <= by_size.keys():
            ratio = round(by_size[10_000] / by_size[1_000], 2)
            yield {"what": f"{part}: cost per order at 10,000 / at 1,000", "ratio": ratio, "target": LINEAR}


def figures(part: str, size: int, runs: Sequence[tuple[Run, Floor]]) -> Row:
    """Return the medians of the runs of one size."""

    def middle(of: Callable[[Run], float]) -> float:
        return round(median(of(run) for run, _ in runs), 1)

    last, floor = middle(lambda run: run.last_booked), round(median(floor.ms for _, floor in runs), 1)
    cpu = cpu_per_order([run for run, _ in runs], size)
    floor_cpu = median(floor.cpu_ms for _, floor in runs) / size
    names = [name for name in cpu if name != "postgres"]
    return {
        "what": f"{part} {size:,}",
        "ours_ms": last,
        "target_ms": TARGETS.get(size),
        "floor_ms": floor,
        "ratio": round(last / floor, 2),
        "ratio_target": RATIO if size >= 100 else None,
        "ms_per_order": round(last / size, 3),
        "first_filled_ms": middle(lambda run: run.first_filled),
        "first_booked_ms": middle(lambda run: run.first_booked),
        "first_target_ms": FIRST if part == "exits" else None,
        "memory_mb": {name: max(run.workers[name]["memory_mb"] for run, _ in runs) for name in names},
        "peak_mb": {name: max(run.workers[name]["peak_mb"] for run, _ in runs) for name in names},
        "cpu_ms_per_order": cpu,
        "cpu_floor_ms_per_order": round(floor_cpu, 3),
        "cpu_ratio": round(sum(cpu.values()) / floor_cpu, 2),
    }


def cpu_per_order(runs: Sequence[Run], size: int) -> dict[str, float]:
    """Return the median processor milliseconds an order of each worker and of Postgres.

    They say what a run costs where other programs share the machine and its times say little.
    """
    return {
        name: round(median(run.workers[name]["cpu_s"] for run in runs) * 1000 / size, 3)
        for name in runs[0].workers
    }


def both(options: Options) -> Iterator[Row]:
    """Measure exits alone, and exits while entries of another agent arrive."""
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        _open_positions(options.storm)
        alone.append(
            spread(measure_exits("ETH", options.storm, crew_of("exits", "booking", "entries")).booked)
        )
        _open_positions(options.storm)
        beside.append(spread(_exits_beside_entries(options)))
    figure = {
        f"{percentile}_{name}_ms": round(median(run[place] for run in runs), 1)
        for place, percentile in enumerate(("p50", "p95"))
        for name, runs in (("alone", alone), ("beside", beside))
    }
    ratio = round(figure["p95_beside_ms"] / figure["p95_alone_ms"], 2)
    what = f"exits {options.storm:,} beside entries {options.crowd:,}"
    yield {"what": what, **figure, "ratio": ratio, "target": BESIDE}


def _open_positions(count: int) -> None:
    empty_database()
    measure_entries(add_customers(count, "ETH"), count, crew_of("entries", "booking"))


def _exits_beside_entries(options: Options) -> list[float]:
    """Return the milliseconds from the tick to each closed position while the crowd enters."""
    from maxxit.core import clock

    agent = add_customers(options.crowd, "BTC")
    tick("BTC")
    with Crew(crew_of("exits", "booking", "entries")) as crew:
        leave_first(crew)
        send_signal(agent)
        tick()
        after = last_event()
        begun = clock.now()
        crew.start_entries()
        tick("ETH", BELOW_STOPS)
        crew.wait(lambda: is_closed("ETH"), patience(options.storm + options.crowd))
        crew.wait(lambda: is_open(options.crowd, "BTC"), patience(options.crowd))
    closed = times("position.closed", begun, after, "ETH")
    check("ETH", options.storm, options.storm)
    check("BTC", options.crowd, 0)
    return closed


def scaling(options: Options) -> Iterator[Row]:
    """Measure entries with several processes for entries and for booking, each with a part of the accounts."""
    size, first = max(options.sizes), 0.0
    for processes in options.processes:
        runs = []
        for _ in range(options.rounds):
            empty_database()
            jobs = crew_of("entries", "booking", processes=processes)
            runs.append(measure_entries(add_customers(size, "ETH"), size, jobs))
        took = median(run.last_booked for run in runs)
        first = first or took
        yield {
            "what": f"entries {size:,} by {processes} + {processes} processes",
            "ours_ms": round(took, 1),
            "speedup": round(first / took, 2),
            "cpu_ms_per_order": cpu_per_order(runs, size),
        }


PARTS = ("entries", "exits", "both", "scaling")


def measure(options: Options, only: str | None) -> Iterator[Row]:
    """Yield the figures of one part, or of all."""
    flows = tuple(part for part in ("entries", "exits") if only in (None, part))
    if flows:
        yield from entries_and_exits(options, flows)
    if only in (None, "both"):
        yield from both(options)
    if only in (None, "scaling"):
        yield from scaling(options)


def line(row: Row) -> str:
    """Return one figure as people read it."""
    text = f"{row['what']:<40}"
    if "ours_ms" in row:
        text += f" {row['ours_ms']:>11,.1f} ms{_target(row.get('target_ms'))}"
    if "p95_alone_ms" in row:
        text += ", ".join(
            f" {name} alone {row[f'{name}_alone_ms']:,.1f}, beside {row[f'{name}_beside_ms']:,.1f} ms"
            for name in ("p50", "p95")
        )
    if "floor_ms" in row:
        text += f"  {row['ms_per_order']:.2f} ms an order"
        text += f"  floor {row['floor_ms']:,.1f} ms: {row['ratio']:.2f} ×{_target(row['ratio_target'])}"
        text += f"\n    first filled {row['first_filled_ms']:,.1f} ms, first position {row['first_booked_ms']:,.1f} ms"
        text += _target(row["first_target_ms"])
        memory = (
            f"{name} {row['memory_mb'][name]:.0f} -> {peak:.0f}" for name, peak in row["peak_mb"].items()
        )
        text += f"; memory, MB: {', '.join(memory)}"
    elif "ratio" in row:
        text += f"  {row['ratio']:.2f} ×{_target(row['target'])}"
    if "speedup" in row:
        text += f"  {row['speedup']:.2f} × as fast as one of each"
    if "cpu_ms_per_order" in row:
        cpu = row["cpu_ms_per_order"]
        text += "\n    processor, ms an order: " + ", ".join(f"{name} {ms:.2f}" for name, ms in cpu.items())
        text += f"; together {sum(cpu.values()):.2f}"
    if "cpu_ratio" in row:
        text += f", floor {row['cpu_floor_ms_per_order']:.2f}: {row['cpu_ratio']:.2f} ×"
    return text


def _target(value: float | None) -> str:
    return f" (target ≤ {value:,g})" if value else ""


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a comma-separated list."""
    return tuple(int(part) for part in text.split(","))


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print one line per figure, or all of them as JSON; return them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--sizes", type=numbers, default=(1, 100, 1_000, 10_000))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--processes", type=numbers, default=(1, 2, 4), help="of `scaling`, each for entries and booking"
    )
    parser.add_argument("--storm", type=int, default=STORM, help="exits of `both`")
    parser.add_argument("--crowd", type=int, default=CROWD, help="entries of `both`")
    parser.add_argument("--profile", default="", help="folder for the cost of functions and statements")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    options = Options(given.sizes, given.rounds, given.processes, given.storm, given.crowd, given.profile)
    rows = []
    with durable_postgres():
        for row in measure(options, given.only):
            rows.append(row)
            if not given.json:
                print(line(row), flush=True)
    if given.json:
        print(json.dumps(rows))
    return rows


if __name__ == "__main__":
    main()
