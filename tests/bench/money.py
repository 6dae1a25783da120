"""The money path under load, each figure beside the bare statement that it cannot beat, interleaved in one run.

    python -m tests.bench.money [--only sweep|tick|fanout|check] [--rounds 7] [--json]

sweep    1,000, 10,000 and 100,000 open positions over 200 repriced symbols, at 0, 0.1 and 5 % hits; floor: one UPDATE
         of the known hits, fsync on; loop: every row in Python, saving only the hits
tick     one price of one symbol of 100,000 open positions -> closing order and events on the disk
fanout   one signal to 10,000 deployments; floor: COPY of the same orders and events; and the same again
check    `manage.py check`: start-up of any command

Prints medians and ratios beside the targets; asserts that the work was done, never how long it took.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from io import BytesIO
from statistics import median
from time import perf_counter
from typing import Any

import django

Row = dict[str, Any]
SYMBOLS = 200


def timed(what: Callable[[], object]) -> float:
    """Milliseconds."""
    begun = perf_counter()
    what()
    return (perf_counter() - begun) * 1000


def sweep(rounds: int) -> Iterator[Row]:
    """Nine worlds."""
    from maxxit.embedded.scratch import scratch_database
    from maxxit.ops import sweep_bench

    for count in (1_000, 10_000, 100_000):
        with scratch_database(durable=True):
            world = sweep_bench.World(count, SYMBOLS)
            sweep_bench.build(world)
            for hits in (0, count // 1000, count // 20):
                prices = sweep_bench.prices_for(world, hits)
                loops = hits in (
                    0,
                    count // 1000,
                )  # a loop that saves 5 % takes minutes and tells nothing new
                found = sweep_bench.measure(prices, rounds=rounds, loop=loops).as_json()
                assert found["hits"] == hits
                yield {"what": f"sweep {count:,} open, {hits:,} hits"} | found


def tick(rounds: int) -> Iterator[Row]:
    """A tick that passes one stop."""
    from django.db import connection

    from maxxit.core import clock
    from maxxit.embedded.scratch import scratch_database
    from maxxit.market import quotes
    from maxxit.market.feeds.base import Tick
    from maxxit.ops import sweep_bench as world_of
    from positions.exits import sweep as watch
    from positions.models import Position
    from trading.models import Order

    with scratch_database(durable=True):
        world = world_of.World(100_000, SYMBOLS)
        world_of.build(world)
        calm, one = world_of.prices_for(world, 0), world_of.prices_for(world, 1)
        ours, floor = [], []
        for number in range(rounds + 1):
            world_of._restore()
            world_of._reprice(calm)
            came = Tick("S0", one[0], clock.now() + timedelta(milliseconds=1), "coinbase")
            took = timed(lambda came=came: (quotes.accept([came]), watch.sweep()))  # type: ignore[misc]
            hit = list(Position.objects.filter(state="closing").values_list("pk", flat=True))
            assert len(hit) == Order.objects.filter(purpose="close").count() == 1
            world_of._restore()
            world_of._reprice(calm)
            with connection.cursor() as cursor:
                bare = timed(lambda cursor=cursor, hit=hit: cursor.execute(world_of.FLOOR, [hit]))  # type: ignore[misc]
            if number:
                ours.append(took)
                floor.append(bare)
        yield {
            "what": "tick -> durable closing order, 100,000 open",
            "ours_ms": round(median(ours), 3),
            "floor_ms": round(median(floor), 3),
        }


def fanout(rounds: int) -> Iterator[Row]:
    """One signal, 10,000 deployments."""
    from django.db import connection

    from agents.models import Agent, Deployment
    from maxxit.core import clock
    from maxxit.embedded.scratch import scratch_database
    from maxxit.events.models import Event
    from signals_app.models import Signal
    from trading.entries import planning
    from trading.models import Order

    deployments = 10_000
    with scratch_database(durable=True):
        agent = Agent.objects.create(name="bench", venue="paper", state="active")
        Deployment.objects.bulk_create(
            Deployment(agent=agent, account=f"paper:{n}", state="active", starting_balance=0)
            for n in range(deployments)
        )
        ours, again, floor = [], [], []
        for number in range(rounds + 1):
            Order.objects.all().delete()
            Signal.objects.all().delete()
            now = clock.now()
            Signal.objects.create(
                agent=agent, token="ETH", venue="paper", side="long", confidence=Decimal("0.8"),
                entry_price=2000, stop_loss_pct=5, take_profit_pct=10, bucket=now, created_at=now,
                expires_at=now + timedelta(hours=1), correlation_id="3f2b0000-0000-4000-8000-000000000000",
            )  # fmt: skip
            _vacuum()
            took = timed(planning.fan_out)
            assert Order.objects.count() == deployments
            repeat = timed(planning.fan_out)
            assert Order.objects.count() == deployments
            last = Event.objects.order_by("-pk").values_list("pk", flat=True)[0]
            kept = {
                "orders": _copy_out("SELECT * FROM orders"),
                "events (at, name, subject, correlation_id, data)": _copy_out(
                    f"SELECT at, name, subject, correlation_id, data FROM events WHERE id > {last - deployments}"
                ),
            }
            Order.objects.all().delete()
            _vacuum()
            bare = timed(lambda kept=kept: _copy_in(kept))  # type: ignore[misc]
            assert Order.objects.count() == deployments
            if number:
                ours.append(took)
                again.append(repeat)
                floor.append(bare)
        connection.close()
        yield {
            "what": "fan-out of one signal to 10,000 deployments",
            "ours_ms": round(median(ours), 3),
            "floor_ms": round(median(floor), 3),
            "repeat_ms": round(median(again), 3),
        }


def _vacuum() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for statement in ("VACUUM ANALYZE orders", "VACUUM ANALYZE signals", "CHECKPOINT"):
            cursor.execute(statement)


def _copy_out(query: str) -> bytes:
    from django.db import connection

    out = BytesIO()
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT") as copied:
        for part in copied:
            out.write(part)
    return out.getvalue()


def _copy_in(kept: dict[str, bytes]) -> None:
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        for table, rows in kept.items():
            with cursor.copy(f"COPY {table} FROM STDIN") as copied:
                copied.write(rows)


def check(rounds: int) -> Iterator[Row]:
    """The start of a command, as a person sees it."""
    command = [sys.executable, "manage.py", "check"]
    taken = [timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds)]
    bare = [
        timed(lambda: subprocess.run([sys.executable, "-c", "import django"], check=True))
        for _ in range(rounds)
    ]
    yield {"what": "manage.py check", "ours_ms": round(median(taken)), "floor_ms": round(median(bare))}


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "sweep": sweep,
    "tick": tick,
    "fanout": fanout,
    "check": check,
}


def main() -> None:
    """Print one line per figure, or all of them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    django.setup()
    from maxxit.events import wake

    rows = []
    with wake.collected():
        for name, part in PARTS.items():
            if options.only in (None, name):
                for row in part(options.rounds):
                    rows.append(row)
                    if not options.json:
                        print(told(row), flush=True)
    if options.json:
        print(json.dumps(rows))


def told(row: Row) -> str:
    """One line: the figure, its floor, the ratios."""
    ours = row.get("sweep_ms", row.get("ours_ms"))
    said = f"{row['what']:<46} {ours:>9,.2f} ms   floor {row['floor_ms']:>8,.2f} ms ({ours / row['floor_ms']:.2f} ×)"
    if row.get("loop_ms"):
        said += f"   loop {row['loop_ms']:>9,.1f} ms ({row['loop_ms'] / ours:,.0f} × slower)"
    if row.get("repeat_ms"):
        said += f"   again {row['repeat_ms']:,.2f} ms"
    return said


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    main()
