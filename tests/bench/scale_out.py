"""Entries of one signal by 1, 2, 4 and 8 worker processes a queue, on one Postgres and one Redis.

    python -m tests.bench.scale_out [--customers 2000] [--processes 1,2,4,8] [--json]

Real Celery workers, started as docker-compose.yml starts them, `-c N` each for `execute` and for `monitor,market`, with
N `shards` in config/passes.yaml; the paper venue, a durable Postgres and a Redis of the bench's own. Each N has as many
customers, who enter after one signal; before the clock starts others have entered, so that the processes have
loaded their code. The clock runs from the signal to the last position booked.

Prints positions a second, how many processors Postgres and the workers used meanwhile, and how many of Postgres'
sessions computed, waited for rows or waited for the log on disk, as the mean of samples of pg_stat_activity. Postgres
is saturated where more processes bring no more positions while its sessions wait, or while it has no processor left.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.bench import crowd

Row = dict[str, Any]
SYMBOL, FIRST = "ETH", "BTC"
QUEUES = {"execute": "execute", "monitor": "monitor,market"}
"""Worker -> its queues."""
SAMPLE_SECONDS = 0.1
PATIENCE = 300.0
SESSIONS = """
SELECT CASE WHEN wait_event_type IS NULL THEN 'computes' WHEN wait_event_type = 'Lock' THEN 'waits for rows'
            WHEN wait_event ~ '^WAL' THEN 'waits for the log' ELSE 'waits otherwise' END
FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@contextmanager
def redis() -> Iterator[None]:
    """Run a Redis of the bench's own inside this block."""
    from maxxit.embedded.servers import Redis

    with tempfile.TemporaryDirectory(prefix="maxxit-scale-") as folder:
        server = Redis(Path(folder))
        server.start()
        os.environ["REDIS_URL"] = server.url
        try:
            yield
        finally:
            server.stop()


def use_shards(count: int) -> None:
    """Write how many processes share the accounts, for the workers started next."""
    path = Path(os.environ["MAXXIT_CONFIG_DIR"]) / "passes.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"shards": count}))


@contextmanager
def workers(count: int) -> Iterator[list[psutil.Process]]:
    """Run a worker of `count` processes for each of QUEUES inside this block."""
    from celery import Celery

    from maxxit.embedded.processes import wait_until

    command = [sys.executable, "-m", "celery", "--quiet", "-A", "maxxit.celery", "worker", "--without-mingle"]
    environ = os.environ | {"REMAP_SIGTERM": "SIGQUIT", "SOFT_SHUTDOWN_SECONDS": "2"}
    nodes = {f"{name}@scale": queues for name, queues in QUEUES.items()}
    started = [
        subprocess.Popen(
            [*command, "-n", node, "-Q", queues, "-c", str(count)],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for node, queues in nodes.items()
    ]

    def answer() -> bool:
        with Celery("asking", broker=os.environ["REDIS_URL"]) as app:
            return len(app.control.ping(list(nodes), timeout=1)) == len(nodes)

    try:
        if not wait_until(answer, PATIENCE):
            raise RuntimeError("the workers do not answer")
        yield [psutil.Process(one.pid) for one in started]
    finally:
        for one in started:
            one.terminate()
        for one in started:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()


def cpu_of(parents: Sequence[psutil.Process]) -> float:
    """Return the processor seconds of these processes and their children so far."""
    everyone = [one for parent in parents for one in (parent, *parent.children())]
    return sum(times.user + times.system for times in (one.cpu_times() for one in everyone))


class Sampler(threading.Thread):
    """Counts what the sessions of Postgres do, until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: Counter[str] = Counter()
        self.samples = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Sample."""
        import psycopg

        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
            while not self.stopped.wait(SAMPLE_SECONDS):
                self.found.update(what for (what,) in session.execute(SESSIONS))
                self.samples += 1

    def means(self) -> dict[str, float]:
        """Return what, with the mean number of sessions."""
        self.stopped.set()
        self.join()
        return {what: round(count / max(self.samples, 1), 2) for what, count in sorted(self.found.items())}


def enter(count: int, symbol: str) -> float:
    """Let `count` customers enter after one signal; return the seconds until the last position is booked."""
    from celery import current_app

    agent = crowd.add_customers(count, symbol)
    crowd.tick(symbol)
    crowd.settle_down()
    crowd.tick(symbol)
    begun = time.perf_counter()
    crowd.send_signal(agent)
    current_app.send_task("trading.tasks.execute", queue="execute", ignore_result=True)
    renewed = begun
    done = partial(crowd.is_open, count, symbol)
    while not done():
        now = time.perf_counter()
        if now - begun > PATIENCE:
            raise RuntimeError(f"not done after {PATIENCE:.0f} s: {crowd.state_of_orders()}")
        if now - renewed > crowd.REFRESH:
            crowd.tick()
            renewed = now
        time.sleep(crowd.LOOK)
    return time.perf_counter() - begun


def measure(customers: int, processes: Sequence[int]) -> Iterator[Row]:
    """Yield the figures of each number of processes."""
    first = 0.0
    for count in processes:
        crowd.empty_database()
        use_shards(count)
        with workers(count) as parents:
            enter(4 * count, FIRST)
            sampler, server, ours = Sampler(), crowd.postgres_cpu(), cpu_of(parents)
            sampler.start()
            took = enter(customers, SYMBOL)
            used_by_server, used_by_workers = crowd.postgres_cpu() - server, cpu_of(parents) - ours
            sessions = sampler.means()
        crowd.check(SYMBOL, customers, 0)
        rate = customers / took
        first = first or rate
        yield {
            "processes": count,
            "positions_per_second": round(rate, 1),
            "speedup": round(rate / first, 2),
            "postgres_processors": round(used_by_server / took, 2),
            "workers_processors": round(used_by_workers / took, 2),
            "cpu_ms_per_position": round((used_by_server + used_by_workers) * 1000 / customers, 2),
            "sessions": sessions,
        }


def line(row: Row) -> str:
    """Return one line of the table."""
    sessions = ", ".join(f"{what} {mean}" for what, mean in row["sessions"].items())
    return (
        f"{row['processes']:>2} a queue  {row['positions_per_second']:>7} positions/s  x{row['speedup']:<5}"
        f" processors: Postgres {row['postgres_processors']}, workers {row['workers_processors']};"
        f" {row['cpu_ms_per_position']} ms CPU each; sessions: {sessions}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--customers", type=int, default=2000)
    parser.add_argument("--processes", type=crowd.numbers, default=(1, 2, 4, 8))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with redis(), crowd.durable_postgres():
        load = os.getloadavg()[0]
        print(f"{os.cpu_count()} processors, load before {load:.1f}", file=sys.stderr)
        for row in measure(options.customers, options.processes):
            print(json.dumps(row) if options.json else line(row), flush=True)


if __name__ == "__main__":
    main()
