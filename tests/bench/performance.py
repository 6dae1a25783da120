"""The figures of closed positions and their parts over 1,000, 100,000 and 1,000,000 positions of a year.

    python -m tests.bench.performance [--sizes 1000,100000,1000000] [--rounds 5] [--json]

For each size, in a scratch database with fsync on, 2,000 deployments (the first with every fifteenth position), 200
authors, two of them behind each signal:

roll-up     all positions, by the passes that live installs run; one more position
read        the total and the parts of every dimension, in one statement, for the platform and for one customer; each
            dimension alone; the last 30 days; all of it from up to 100,000
            positions without the roll-up; the peaks of memory in this process (tracemalloc) and in Postgres (private
            memory of the backend)

Prints medians; asserts that the lists add up, never how long they took.
"""

import argparse
import json
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import django

MB = 1 << 20
MOST_LIVE = 100_000
"""More positions take minutes to read one by one."""
CUSTOMER = [1]
SECOND_POST = """
INSERT INTO signal_posts (signal_id, ctpost_id)
SELECT s.id, p.id FROM signals s CROSS JOIN LATERAL (SELECT 1 + (s.id * 9 + 5) % %(posts)s AS id) AS p
ON CONFLICT DO NOTHING
"""
FEES = """
INSERT INTO ledger_entries (journal, journal_kind, account, deployment_id, asset, amount, kind, order_id,
                            correlation_id, at)
SELECT 'fee:' || o.id, 'fee', l.account, l.deployment_id, 'USDC', l.amount, 'platform_fee', o.id, o.correlation_id,
       o.created_at
FROM orders o CROSS JOIN LATERAL (
    SELECT 'deployment:' || o.deployment_id || ':payable' AS account, o.deployment_id, -0.1 AS amount
    UNION ALL SELECT 'fees:platform', NULL, 0.1
) AS l WHERE o.purpose = 'open' AND o.state = 'filled' ORDER BY o.id
"""

OPEN_FILLS = """
INSERT INTO fills (id, order_id, venue_fill_id, quantity, price, cash, fee, at)
SELECT o.id, o.id, 'f' || o.id, 1, o.average_price, o.average_price, 0.1, o.created_at
FROM orders o JOIN positions p ON p.entry_order_id = o.id WHERE p.state = 'open'
"""


def fill(closed: int) -> None:
    """Fill the scratch database."""
    from tests.bench import history_rows as rows

    steps = (
        rows.POSTS,
        rows.SIGNALS,
        rows.SIGNAL_POSTS,
        SECOND_POST.replace("% %(", "%% %("),
        rows.ORDERS,
        rows.POSITIONS,
        OPEN_FILLS,
        FEES,
        rows.DEPOSITS,
        rows.BALANCES,
    )
    rows.fill(rows.Size(closed=closed, open=15, posts=max(closed // 5, 1_000)), steps, rolled_up=False)
    rows.finish()


def timed(what: Callable[[], object], rounds: int) -> float:
    """Median milliseconds, after one run that warms the caches."""
    took = []
    for _ in range(rounds + 1):
        begun = perf_counter()
        what()
        took.append((perf_counter() - begun) * 1000)
    return median(took[1:])


@contextmanager
def peaks() -> Iterator[dict[str, float]]:
    """Measure the peak of this process's Python memory and of the backend's private memory, in MB."""
    from django.db import connection

    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        status = Path(f"/proc/{cursor.fetchone()[0]}/status")
    found: dict[str, float] = {"python_mb": 0, "postgres_mb": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
            found["postgres_mb"] = max(found["postgres_mb"], int(line.split()[1]) / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    tracemalloc.start()
    try:
        yield found
    finally:
        found["python_mb"] = tracemalloc.get_traced_memory()[1] / MB
        tracemalloc.stop()
        done.set()
        watcher.join()


def measure(closed: int, rounds: int) -> dict[str, Any]:
    """Fill a scratch database with so many closed positions and measure everything in it."""
    from maxxit.core import clock
    from maxxit.embedded.scratch import scratch_database
    from positions.performance import figures, report, roll_up
    from positions.performance.parts import DIMENSIONS, Part, attribution, breakdown, total

    with scratch_database(durable=True):
        fill(closed)
        month = clock.now() - timedelta(days=30)
        live = timed(lambda: breakdown(DIMENSIONS), 1) if closed <= MOST_LIVE else None
        begun = perf_counter()
        with clock.frozen(clock.now() + timedelta(hours=2)):
            added = roll_up.roll_up()
        rolled_up = perf_counter() - begun
        assert added == closed, f"{added} of {closed} positions were rolled up"
        with peaks() as memory:
            parts = breakdown(DIMENSIONS)
        for dimension, rows in parts.items():
            whole = sum(rows, Part(""))
            assert (whole.net, whole.closed) == (total().net, closed), dimension
        row: dict[str, Any] = {
            "positions": closed,
            "roll_up_s": rolled_up,
            "everything_ms": timed(lambda: breakdown(DIMENSIONS), rounds),
            "customer_ms": timed(lambda: breakdown(DIMENSIONS, CUSTOMER), rounds),
            "without_roll_up_ms": live,
            "month_ms": timed(lambda: breakdown(DIMENSIONS, None, month), rounds),
            "month_customer_ms": timed(lambda: breakdown(DIMENSIONS, CUSTOMER, month), rounds),
            "dashboard_ms": timed(figures.figures, rounds),
            "performance_ms": timed(report.performance, rounds),
            "performance_customer_ms": timed(lambda: report.performance(CUSTOMER), rounds),
            **memory,
            "dimension_ms": {
                name: timed(lambda name=name: attribution(name), rounds)  # type: ignore[misc]
                for name in DIMENSIONS
            },
        }
        return row | one_more(rounds * 3)


def one_more(rounds: int) -> dict[str, float]:
    """Close one more position, roll it up and read everything again, so many times."""
    from agents.models import Deployment
    from maxxit.core import clock
    from positions.performance import roll_up
    from positions.performance.parts import DIMENSIONS, breakdown
    from tests import builders

    deployment = Deployment.objects.get(pk=2)
    adding, reading = [], []
    for number in range(rounds):
        at = clock.now() + timedelta(hours=3 + number)
        with clock.frozen(at):
            builders.position(deployment, state="closed", opened_at=at, closed_at=at, realised_pnl=1)
        with clock.frozen(at + timedelta(hours=1)):
            begun = perf_counter()
            assert roll_up.roll_up() == 1
            added = perf_counter()
            breakdown(DIMENSIONS)
            adding.append((added - begun) * 1000)
            reading.append((perf_counter() - added) * 1000)
    return {"one_more_ms": median(adding), "read_again_ms": median(reading)}


LABELS = {
    "roll_up_s": "roll-up of all (s)",
    "one_more_ms": "one more position rolled up (ms)",
    "read_again_ms": "everything read after it (ms)",
    "everything_ms": "total and all dimensions, platform (ms)",
    "customer_ms": "the same, one customer (ms)",
    "dashboard_ms": "figures of the dashboard (ms)",
    "performance_ms": "all of performance, platform (ms)",
    "performance_customer_ms": "all of performance, one customer (ms)",
    "month_ms": "everything of 30 days, platform (ms)",
    "month_customer_ms": "everything of 30 days, one customer (ms)",
    "without_roll_up_ms": "everything, without the roll-up (ms)",
    "python_mb": "peak of Python memory (MB)",
    "postgres_mb": "peak of the backend's memory (MB)",
}


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table, and the ratio of the largest to the smallest size."""
    print(f"{'closed positions':<42}" + "".join(f"{row['positions']:>12,}" for row in rows) + f"{'ratio':>9}")
    flat = [row | {f"  {name} (ms)": ms for name, ms in row["dimension_ms"].items()} for row in rows]
    names = [*LABELS, *(name for name in flat[0] if name.startswith("  "))]
    for name in names:
        values = [row[name] for row in flat]
        ratio = f"{values[-1] / values[0]:>8.2f}×" if values[0] and values[-1] is not None else ""
        shown = ("–" if value is None else f"{value:,.1f}" for value in values)
        print(f"{LABELS.get(name, name):<42}" + "".join(f"{value:>12}" for value in shown) + ratio)


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,100000,1000000", help="numbers of closed positions")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    django.setup()
    from maxxit.events import wake

    with wake.collected():
        rows = [measure(int(size), given.rounds) for size in given.sizes.split(",")]
    if given.json:
        print(json.dumps(rows))
    else:
        show(rows)
    return 0


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    sys.exit(main())
