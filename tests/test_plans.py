"""At 3 M orders no statement of the money path, and none of a page or a list, reads a table of history whole.

The plans are those of a small history whose tables the planner is told to be 500 times as long.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from psycopg.types.json import Jsonb

from agents.models import Agent
from maxxit import adminkit
from maxxit.access.auth import create_key
from maxxit.core import clock
from maxxit.notify import alerts
from maxxit.reports import progress
from maxxit.reports.activity import feed
from maxxit.reports.activity.feed import Filters, Scope
from positions import book, costs, health
from positions.exits import sweep
from positions.performance import equity, identity, parts, roll_up
from tests.bench.history import requests
from tests.bench.history_rows import TABLES, Size, analyze, fill
from tests.plans import kept, nodes, plan
from trading import gate, tasks
from trading.entries import planning
from trading.models import LedgerEntry, Order
from trading.risk import limits
from trading.states import IN_FLIGHT

pytestmark = pytest.mark.django_db
SMALL = Size(closed=3_000, open=40, posts=2_000, deployments=200, messages=2_000, days=2)
LONGER = 500
HISTORY = frozenset(TABLES) - {"ledger_balances", "signal_posts"}
"""Tables that grow with every trade, post or message."""


@pytest.fixture(scope="module")
def history(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The rows and the statistics, for the tests of this file; rolled back after them."""
    with django_db_blocker.unblock(), transaction.atomic():
        fill(SMALL)
        with connection.cursor() as cursor:
            analyze()
            cursor.execute(
                "UPDATE pg_class SET reltuples = reltuples * %s WHERE relname = ANY(%s)",
                [LONGER, sorted(HISTORY)],
            )
        yield
        transaction.set_rollback(True)


def read_whole(root: dict[str, Any]) -> set[str]:
    """The tables of history that a plan scans from end to end; a scan that a LIMIT ends early is none."""
    found = set()
    for node, limit in nodes(root):
        table, cost = node.get("Relation Name"), node["Total Cost"]
        if node["Node Type"] == "Seq Scan" and table in HISTORY and (limit is None or limit > cost / 5):
            found.add(f"{table} {node.get('Filter', '')}")
    return found


def agents(*ids: int) -> dict[int, Agent]:
    """Agents of the feed's scope."""
    return {pk: Agent(pk=pk, name=f"agent {pk}", created_at=clock.now()) for pk in ids}


def indexes(root: dict[str, Any]) -> set[str]:
    """The indexes that a plan uses."""
    return {node["Index Name"] for node, _ in nodes(root) if "Index Name" in node}


def moment() -> dict[str, Any]:
    """The parameters of the sweep."""
    now = clock.now()
    return gate.query_params() | {"oldest": now - timedelta(minutes=1), "newest": now, "seen": None}


def rates() -> dict[str, Any]:
    """The parameters of the statement of `limits.read_order_rates`."""
    now = clock.now()
    return {
        "minute": now - timedelta(minutes=1),
        "midnight": now.replace(hour=0),
        "accounts": ["paper:1", "paper:2"],
        "symbols": ["ETH", "ETH"],
    }


def booking() -> dict[str, Any]:
    """The parameters of the statements of `positions.book`."""
    return {"tries": 3, "now": clock.now(), "shards": 1, "shard": 0, "limit": 250}


def rolled_up() -> dict[str, Any]:
    """The parameters of the statements of `roll_up`."""
    return {"since": clock.now() - timedelta(hours=1), "until": clock.now(), "batch": 100}


HOT: dict[str, tuple[Any, set[str]]] = {
    "sweep: trailing stops, exits that are hit": (
        lambda: (sweep.SEARCH, moment()),
        {"positions_ratchet", "positions_below", "positions_above", "positions_held"},
    ),
    "sweep: claim": (
        lambda: (sweep.CLAIM, moment() | {"ids": [1, 2], "reasons": Jsonb({1: "manual"}), "at_once": True}),
        set(),
    ),
    "fan-out": (
        lambda: (planning.FAN_OUT, {"now": clock.now(), "only": None, "most": 2_000}),
        {"signals_pending"},
    ),
    "concluded signals": (lambda: (planning.FINISHED_SIGNALS, None), {"signals_pending"}),
    "left behind": (lambda: (tasks.LEFT_BEHIND, {"tries": 3}), {"orders_planned", "signals_pending"}),
    "fills to be booked": (lambda: (book.FILLED, booking()), {"orders_unbooked"}),
    "ends to be booked": (lambda: (book.ENDED, booking()), {"positions_closing"}),
    "fills of a position": (lambda: (costs.FILLS, {"entries": [1, 2]}), {"orders_closes"}),
    "platform fees of orders": (
        lambda: LedgerEntry.objects.filter(
            order__in=[1, 2], kind="platform_fee", account="fees:platform"
        ).query.sql_with_params(),
        set(),
    ),
    "profit share that a venue collected": (
        lambda: LedgerEntry.objects.filter(
            order__closes=1, journal_kind="taken", kind="profit_share"
        ).query.sql_with_params(),
        {"orders_closes"},
    ),
    "orders in flight": (
        lambda: Order.objects.filter(state__in=IN_FLIGHT).values("pk").query.sql_with_params(),
        {"orders_in_flight"},
    ),
    "limits: holdings and orders in flight": (
        lambda: (
            limits.USED_BY_SOME,
            {"in_flight": list(IN_FLIGHT), "accounts": ["paper:1"], "all": False, "platform": False},
        ),
        {"orders_in_flight", "ledger_owners_tokens"},
    ),
    "limits: entries of the last minute and of today": (
        lambda: (limits.RATES, rates()),
        {"orders_entries_reserved", "orders_account_symbol"},
    ),
    "guard: orders in flight, entries of the window": (
        lambda: (
            health.ORDERS,
            {
                "in_flight": list(IN_FLIGHT),
                "since": clock.now() - timedelta(hours=1),
                "ordinary": ["cooldown"],
            },
        ),
        {"orders_in_flight", "orders_entries_created"},
    ),
    "guard: figures of every account": (
        lambda: (health.FIGURES, {"today": clock.now().date()}),
        {"ledger_flows"},
    ),
    "guard: prices of what is held": (lambda: (health.PRICES, {"stale": clock.now()}), set()),
    "progress: the queue of planned entries": (
        lambda: (progress.RUNS, {"own": None, "tries": 3}),
        {"orders_planned"},
    ),
    "progress: places in the queue": (
        lambda: (
            progress.PLACES,
            {"signal": 1, "order": None, "own": [1, 2], "tries": 3, "most": 15},
        ),
        {"orders_planned"},
    ),
    "progress: entries of signals by state": (
        lambda: (progress.COUNTS, {"signals": [1, 2], "own": None, "tries": 3}),
        set(),  # that of the foreign key, or a skip scan where deployments are few
    ),
    "progress: a customer's entries of signals": (
        lambda: (progress.COUNTS, {"signals": [1, 2], "own": [1], "tries": 3}),
        {"one_order_per_deployment_signal_and_purpose"},
    ),
    "activity of a customer": (
        lambda: feed.statement(Scope(agents(1, 2), [1], [1, 2, 101]), Filters()),
        {"signals_agent_created", "ct_posts_account", "ct_posts_calls"},
    ),
    "activity of the platform": (
        lambda: feed.statement(Scope(None, None, None), Filters()),
        {"signals_created", "ct_posts_posted_at"},
    ),
    "activity: a customer's traded signals of a token": (
        lambda: feed.statement(Scope(agents(1), [1], [1, 2, 101]), Filters(token="ETH", outcome="traded")),
        set(),  # signals_agent_created, or the index on agent, token and bucket
    ),
    "activity: blocked signals of the platform": (
        lambda: feed.statement(Scope(None, None, None), Filters(outcome="blocked")),
        {"signals_not_executed"},
    ),
    "activity: declined calls of a customer": (
        lambda: feed.statement(Scope(agents(1), [1], [1, 2, 101]), Filters(outcome="declined")),
        {"ct_posts_calls"},
    ),
    "activity: posts that were not read": (
        lambda: feed.statement(Scope(None, None, None), Filters(outcome="unread")),
        {"ct_posts_new", "ct_posts_quarantined"},
    ),
    "payments of a deployment": (
        lambda: (equity.PAID_IN, {"deployments": [1]}),
        {"ledger_flows"},
    ),
    "daily figures of each deployment": (
        lambda: (equity.SNAPSHOTS, {"day": clock.now() - timedelta(days=1), "next": clock.now()}),
        {"positions_results", "ledger_flows"},
    ),
    "parts of the PnL: what closed since the roll-up": (
        lambda: parts.statement(["total", "author", "token"]),
        {"positions_closed", "orders_closes"},
    ),
    "parts of the PnL: one customer's last hours": (
        lambda: parts.statement(["token"], [1], clock.now() - timedelta(hours=9), stored=False),
        {"orders_closes"},
    ),
    "the books of all deployments": (identity.books_statement, {"positions_closed", "ledger_flows"}),
    "parts of the PnL: a roll-up": (
        lambda: (roll_up.ADD, rolled_up()),
        {"positions_closed", "orders_closes"},
    ),
    "parts of the PnL: where a batch ends": (lambda: (roll_up.EDGE, rolled_up()), {"positions_closed"}),
    "best PnL of each account": (
        lambda: (equity.BEST, {"day": clock.now().date()}),
        {"pnl_snapshots_day"},
    ),
    "alerts": (
        lambda: (alerts.WRITE, alerts.parameters() | {"names": ["order.quarantined"]}),
        {"events_name_at"},
    ),
}
"""What runs for each order, tick or pass -> the statement, and the indexes that it is read by."""


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_reads_by_its_indexes(history: None, name: str) -> None:
    statement, expected = HOT[name]
    found = plan(*statement())
    assert read_whole(found) == set()
    assert expected <= indexes(found)


@pytest.mark.parametrize("name", [name for name, (_, expected) in HOT.items() if expected])
def test_a_dropped_index_is_found(history: None, name: str) -> None:
    statement, expected = HOT[name]
    with transaction.atomic(), connection.cursor() as cursor:
        for index in expected:
            cursor.execute(f"DROP INDEX {index}")
        found = plan(*statement())
        transaction.set_rollback(True)
    assert not expected & indexes(found)


@pytest.fixture(scope="module")
def people(history: None) -> dict[str, tuple[User, str]]:
    """Name -> person and key."""
    found = {"customer": User.objects.get(username="whale"), "staff": User.objects.get(username="staff")}
    return {name: (one, create_key(one, "plans", ["read"], by="test")) for name, one in found.items()}


@pytest.mark.parametrize("person", ["customer", "staff"])
def test_pages_and_lists_read_no_table_whole(
    people: dict[str, tuple[User, str]], person: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, key = people[person]
    client = Client()
    client.force_login(user)
    found: dict[str, set[str]] = {}
    monkeypatch.setattr(adminkit, "LISTED_ROWS", SMALL.positions // 10)
    asked = [path for who, path in requests() if who == person and ("/admin/" not in path or "?" not in path)]
    assert len(asked) > 30
    for path in asked:
        cache.clear()
        headers = {"X-API-Key": key} if path.startswith("/api/") else {}
        with CaptureQueriesContext(connection) as done:
            answer = client.get(path, headers=headers)
        assert answer.status_code < 500 or path.startswith("/health/"), path
        for query in done.captured_queries:
            sql = query["sql"]
            if sql.lstrip().startswith(("SELECT", "WITH")) and (whole := read_whole(plan(sql))):
                found[f"{path}: {sql[:200]}"] = whole
    assert found == {}


def test_a_kept_plan_of_the_order_rates_reads_the_orders_of_each_account_alone() -> None:
    """Made while there are few orders: by the index of all entries it would read those of the day for each."""
    with kept(limits.RATES, rates()) as execution:
        root = plan(execution)

    of_each = [node for node, _ in nodes(root) if "SubPlan" in node.get("Subplan Name", "")]
    used = {index for node in of_each for index in indexes(node)}
    assert used == {"orders_account_symbol"}
