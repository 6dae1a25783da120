"""Every page and API list, and the exit sweep, over a year of history: 3 M orders, 1.5 M closed positions, 10 M events.

    python -m tests.bench.history [--folder FOLDER] [--only WORD] [--limit-ms 300] [--rounds 3] [--plans FILE]

Fills an embedded Postgres in FOLDER once (ten minutes, 10 GB; a filled folder is used again; without FOLDER it is
deleted afterwards) and prints, slowest first, the time and the number of queries of each request as staff and as a
customer with 100,000 positions: the processor time of this process and of Postgres together, which other jobs on the
machine do not lengthen much, and the median time on the clock. The sweep runs in turns with the same sweep in a
database without history. Exits with 1 if a request takes more processor time than the limit, or a sweep 20 % longer
than without history.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from os import getloadavg
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import django
import psutil

if TYPE_CHECKING:
    from positions.models import Position

SWEEP_RATIO = 1.2
"""How much longer a sweep may take with history than without."""
EMPTY = "without_history"
"""The second database, with the same open positions and nothing else."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One request: who asked for what, the answer's status and queries."""

    person: str
    path: str
    status: int
    cpu_ms: float
    """Processor time of this process and of Postgres, mean."""
    ms: float
    """On the clock, median."""
    p95_ms: float
    """On the clock; of few rounds the slowest."""
    queries: int
    plans: tuple[str, ...] = ()
    """The plan of each query, where they were asked for."""


@contextmanager
def postgres(folder: Path | None) -> Iterator[None]:
    """Run Postgres in `folder` (None: in one that is deleted afterwards) and make it Django's default connection."""
    from django.conf import settings
    from django.db import connection

    from maxxit.embedded.servers import Postgres

    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    home = folder or Path(mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    server = Postgres(home, ephemeral=True)
    server.start()
    connection.settings_dict |= {
        "HOST": str(server.sockets),
        "NAME": "maxxit",
        "USER": "maxxit",
        "PASSWORD": "",
        "PORT": "",
    }
    try:
        yield
    finally:
        connection.close()
        server.stop()
        if folder is None:
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def database(name: str) -> Iterator[None]:
    """Django's default connection is to the database `name` inside this block."""
    from django.db import connection

    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def prepare(closed: int) -> None:
    """Migrate and fill the current database unless it is filled; open the gate of its paper venue."""
    from django.core.management import call_command
    from django.db import connection

    from maxxit.core import clock
    from positions.performance import roll_up
    from tests.bench.history_rows import Size, fill, finish
    from trading import gate
    from trading.models import Order
    from trading.passes import TimeBudget

    call_command("migrate", verbosity=0, interactive=False)
    if not Order.objects.exists():
        size = Size(closed=closed) if closed else Size(closed=0, posts=1_000, messages=1_000, days=1)
        fill(size, rolled_up=False)
        while roll_up.roll_up(
            TimeBudget(20)
        ):  # as in life: a transaction a batch, and the table is vacuumed meanwhile
            with connection.cursor() as cursor:
                cursor.execute("VACUUM ANALYZE pnl_parts")
        finish()
    gate.set_dry_run("paper", False, by="bench", reason="bench")
    gate.approve("*", by="bench", until=clock.now() + timedelta(days=365), reason="bench")


def requests() -> Iterator[tuple[str, str]]:
    """(person, path) of every page, list and detail."""
    from django.contrib import admin
    from django.db.models import F
    from django.urls import reverse

    from positions.models import Position

    own = Position.objects.filter(state="closed", deployment_id=1, signal__agent=F("deployment__agent"))
    newest = own.order_by("-pk").first()
    assert newest is not None
    since = (newest.opened_at - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    year = (newest.opened_at - timedelta(days=364)).strftime("%Y-%m-%dT%H:%M:%SZ")
    shared = ["/", "/market", "/market/tables", f"/chain/{newest.correlation_id}"]
    shared += [f"/signals/{newest.signal_id}{part}" for part in ("", "/progress")]
    shared += [f"/trades/{newest.pk}", f"/trades/{newest.pk}/figures", "/accounts", "/accounts?sort=name"]
    shared += [
        "/accounts/author1",
        "/api/records?sort=calls",
        "/api/records/author1",
        f"/api/trades/{newest.pk}",
    ]
    shared += ["/agents", "/start", "/wallet", "/invoices", f"/invoices/1/{newest.opened_at:%Y-%m}"]
    shared += [
        f"/performance{query}" for query in ("", "?period=1d", "?period=7d", "?period=all", "?deployment=1")
    ]
    shared += [f"/api/performance{query}" for query in ("", "?deployment=1", "?period=7d")]
    shared += [f"/activity{query}" for query in activity_queries(newest)]
    shared += [f"/api/activity?token={newest.symbol}&limit=200", "/activity/rows"]
    shared += ["/api/signals/progress", f"/api/signals/{newest.signal_id}/progress"]
    lists = ("posts", "signals", "orders", "trades", "positions")
    shared += [f"/api/db/{name}{query}" for name in lists for query in ("", "?limit=500", "?offset=10000")]
    shared += [
        f"/api/db/orders?status={state}" for state in ("planned", "filled", "blocked", "rejected", "unknown")
    ]
    shared += [f"/api/db/positions?status={state}" for state in ("open", "closing", "closed")]
    shared += [f"/api/db/signals?status={state}" for state in ("pending", "executed", "skipped")]
    shared += [f"/api/db/posts?status={state}" for state in ("new", "classified", "quarantined")]
    shared += ["/api/db/orders?reason=cooldown", "/api/db/orders?reason=no_price", "/api/signals"]
    shared += ["/api/db/posts?outcome=traded", "/api/db/posts?outcome=candidate:too_old"]
    shared += [f"/api/db/deployments/1/statement{query}" for query in ("", f"?since={since}")]
    shared += [f"/api/chain/position/{newest.pk}", f"/api/chain/order/{newest.entry_order_id}"]
    shared += [f"/api/market/trades?symbol={newest.symbol}&since={moment}" for moment in (since, year)]
    shared += [f"/api/market/{path}" for path in ("quotes", "health", "refused", "rules", "deliveries")]
    shared += [f"/api/market/candles?symbol={newest.symbol}&interval={width}" for width in ("1m", "5m", "1h")]
    yield from (("customer", path) for path in shared)
    yield from (("staff", path) for path in shared)
    yield from (
        ("staff", path) for path in ("/admin/", "/metrics", "/health/ready", "/health/live", "/admin/stop")
    )
    for model, page in admin.site._registry.items():
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found = reverse(f"{base}_changelist")
        yield "staff", found
        yield from (("staff", found + query) for query in admin_queries(model, page))
        row = model._default_manager.order_by("-pk").first()
        if row is not None:
            yield "staff", reverse(f"{base}_change", args=[row.pk])


def activity_queries(newest: "Position") -> Iterator[str]:
    """Filters of the activity page: none, each outcome, each other filter, and an agent, token and time."""
    from maxxit.reports.activity.feed import OUTCOMES

    yield ""
    yield from (f"?outcome={outcome}" for outcome in OUTCOMES)
    yield f"?token={newest.symbol}"
    yield from (f"?token={newest.symbol}&outcome={outcome}" for outcome in ("traded", "declined", "no_call"))
    agent, at = newest.deployment.agent, newest.opened_at
    follows = agent.subscriptions.order_by("pk").first()
    assert follows is not None
    yield f"?account={follows.account.x_username}"
    yield f"?since={at:%Y-%m-%dT%H:%M}&until={at + timedelta(days=2):%Y-%m-%d}"
    yield f"?until={at - timedelta(days=200):%Y-%m-%d}"
    yield f"?agent={agent.name.replace(' ', '%20')}&token={newest.symbol}&at={at:%Y-%m-%dT%H:%M}"
    yield f"?q={newest.pk}"


def admin_queries(model: type, page: object) -> Iterator[str]:
    """Searches, filters and sortings of a model's admin list."""
    from django.db import models as fields

    if getattr(page, "search_fields", ()):
        yield "?q=" + ("1" if "=id" in page.search_fields else "paper:77")  # type: ignore[attr-defined]
        yield "?q=nothing-like-this"
    for one in getattr(page, "list_filter", ()):
        if not isinstance(one, str) or "__" in one:
            continue
        field = model._meta.get_field(one)  # type: ignore[attr-defined]
        if isinstance(field, fields.CharField):
            row = model._default_manager.values_list(one, flat=True).first()  # type: ignore[attr-defined]
            for value in (row, "nothing"):
                yield f"?{one}__exact={value}" if field.choices else f"?{one}={value}"
    if "deployment__agent" in getattr(page, "list_filter", ()):
        yield "?deployment__agent__id__exact=7"
    for owner in getattr(page, "owners", ()):
        yield from (f"?{owner}=1", f"?{owner}=77")


def processor_ms(server: psutil.Process) -> float:
    """What this process and `server`, with all its present and former children, have used of the processor."""
    mine = server.cpu_times()
    used = mine.user + mine.system + getattr(mine, "children_user", 0) + getattr(mine, "children_system", 0)
    for child in server.children():
        with suppress(psutil.NoSuchProcess):
            used += sum(child.cpu_times()[:2])
    return (used + process_time()) * 1000


def server_of() -> psutil.Process:
    """The Postgres that the default connection is to."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        parent = psutil.Process(cursor.fetchone()[0]).parent()
    assert parent is not None
    return parent


def plans_of(queries: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Run each query again and return it with its plan."""
    from django.db import connection

    plans = []
    with connection.cursor() as cursor:
        for query in queries:
            sql = query["sql"]
            if not sql.lstrip().upper().startswith(("SELECT", "WITH", "(")):
                continue
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {sql.replace('%', '%%')}")
            plans.append("\n".join([sql, *(line for (line,) in cursor.fetchall())]))
    return tuple(plans)


def time_requests(rounds: int, only: str, plans: bool = False) -> Iterator[Timing]:
    """One request of each at a time, after one that warms the caches."""
    from django.contrib.auth.models import User
    from django.core.cache import cache
    from django.db import connection, reset_queries
    from django.test import Client

    from maxxit.access.auth import create_key

    people = {"customer": User.objects.get(username="whale"), "staff": User.objects.get(username="staff")}
    keys = {name: create_key(person, "bench", ["read"], by="bench") for name, person in people.items()}
    server = server_of()
    for person, path in requests():
        if only not in f"{person} {path}":
            continue
        client = Client(raise_request_exception=False)
        client.force_login(people[person])
        headers = {"X-API-Key": keys[person]} if path.startswith("/api/") else {}
        took = []
        for number in range(rounds + 1):
            reset_queries()
            cache.clear()  # the limit of calls a minute
            if number == 1:
                before = processor_ms(server)
            connection.force_debug_cursor = True
            begun = perf_counter()
            answer = client.get(path, headers=headers, SERVER_NAME="localhost")
            answer.content  # noqa: B018 (renders what is lazy)
            took.append((perf_counter() - begun) * 1000)
        used = (processor_ms(server) - before) / rounds
        clock = sorted(took[1:])
        p95 = clock[math.ceil(0.95 * rounds) - 1]
        queries = list(connection.queries)
        yield Timing(
            person,
            path,
            answer.status_code,
            used,
            median(clock),
            p95,
            len(queries),
            plans_of(queries) if plans else (),
        )


def time_sweeps(rounds: int) -> dict[str, float]:
    """Database -> median milliseconds of a sweep without hits, in turns."""
    from django.db import connection

    from positions.exits import sweep

    names = (connection.settings_dict["NAME"], EMPTY)
    took: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with database(name):
                for number in range(6):
                    with connection.cursor() as cursor:
                        cursor.execute("UPDATE quotes SET at = now()")
                    begun = perf_counter()
                    assert sweep.sweep() == 0
                    took[name] += [(perf_counter() - begun) * 1000] if number else []
    return {name: median(times) for name, times in took.items()}


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", default="", help="requests that contain this, and no sweep")
    parser.add_argument("--limit-ms", type=float, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plans", type=Path, help="file for the plan of each query")
    options = parser.parse_args()
    django.setup()
    from maxxit.events import wake

    with postgres(options.folder), wake.collected():
        return measure(options)


def measure(options: argparse.Namespace) -> int:
    """Fill what is empty, measure, print; 1 if a limit was passed."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [EMPTY])
        if not cursor.rowcount:
            cursor.execute(f"CREATE DATABASE {EMPTY}")
    prepare(1_500_000)
    with database(EMPTY):
        prepare(0)
    slow = False
    if not options.only:
        history, bare = time_sweeps(options.rounds * 10).values()
        slow = history > bare * SWEEP_RATIO
        print(
            f"sweep {history:.2f} ms with history, {bare:.2f} ms without: {history / bare:.2f} ×", flush=True
        )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE quotes SET at = now()")
    timings = list(time_requests(options.rounds, options.only, bool(options.plans)))
    found = sorted(timings, key=lambda one: -one.cpu_ms)
    if options.plans:
        options.plans.write_text(
            "\n\n".join(f"# {one.person} {one.path}\n" + "\n\n".join(one.plans) for one in found)
        )
    print("processor   clock: median      p95")
    for one in found:
        print(
            f"{one.cpu_ms:6.0f} ms {one.ms:14.0f} ms {one.p95_ms:5.0f} ms {one.queries:4} queries  "
            f"{one.status}  {one.person:8} {one.path}"
        )
    over = [one for one in found if one.cpu_ms > options.limit_ms]
    late = sum(one.ms > options.limit_ms for one in found)
    broken = [one for one in found if one.status >= 500 and "/health/" not in one.path]
    print(
        f"{len(found)} requests, {len(over)} over {options.limit_ms:.0f} ms of processor time ({late} on the clock), "
        f"{len(broken)} with a server error; load {getloadavg()[0]:.0f}"
    )
    return int(bool(slow or over or broken))


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    sys.exit(main())
