"""Ledger lines and closing orders of the last release get their columns in the migration, and lose them in reverse."""

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from agents.models import Deployment
from tests import builders as make
from tests.builders import T0, RecordedClock

BEFORE, AFTER = [("trading", "0015_help_texts")], [("trading", "0017_closes")]
LINES = [
    ("deposit:{a}", "deployment:{a}", "deposit"),
    ("fill:1", "deployment:{b}", "trade"),
    ("fill:1", "venue:paper", "trade"),
    ("fee:1:2", "deployment:{b}:payable", "platform_fee"),
    ("taken:1", "deployment:{a}", "profit_share"),
    ("share:3", "profit:platform", "profit_share"),
    ("external:0xabc:1:-1", "external", "external"),
    ("unexplained:0xabc:7:ETH", "deployment:{a}", "external"),
    ("taken_out:3:0.4", "deployment:{a}", "taken_out"),
    ("handover:1:2:7", "deployment:{b}", "external"),
    ("gas:mx-1", "executor:0xabc", "gas"),
]
"""(journal, account, kind) of one line for each kind of journal."""


@pytest.fixture
def old(db: None, time: RecordedClock) -> tuple[Deployment, Deployment]:
    """Two deployments in a database of the last release; all of it is rolled back."""
    first, second = (make.deployment(make.agent(), funded=False) for _ in range(2))
    migrate(BEFORE)
    return first, second


def migrate(to: list[tuple[str, str]]) -> None:
    run("SET CONSTRAINTS ALL IMMEDIATE")  # no table can be altered while checks of its rows wait
    MigrationExecutor(connection).migrate(to)
    run("SET CONSTRAINTS ALL DEFERRED")


def run(sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def book(*lines: tuple[str, str, str], amount: int = 5) -> None:
    """Write lines as the last release did, each with a counterpart that belongs to no deployment."""
    for journal, account, kind in lines:
        for name, value in ((account, amount), (f"other side of {account}", -amount)):
            run(
                """INSERT INTO ledger_entries (journal, account, asset, amount, kind, at)
                   VALUES (%s, %s, 'USDC', %s, %s, %s)""",
                [journal, name, value, kind, T0],
            )


def order(deployment: Deployment, key: str, purpose: str) -> int:
    """Write an order as the last release did; return its id."""
    [(pk,)] = run(
        """INSERT INTO orders (deployment_id, idempotency_key, purpose, symbol, venue, account, position_side, side,
               leverage, quantity, state, reason, verdict, exit_reason, prepared, venue_ref, filled_quantity,
               booked_quantity, correlation_id, attempts, last_error, created_at, updated_at)
           VALUES (%s, %s, %s, 'ETH', 'paper', %s, 'long', 'buy', 1, 1, 'filled', '', '{}', '', '{}', '', 1, 1,
               gen_random_uuid(), 0, '', %s, %s) RETURNING id""",
        [deployment.pk, key, purpose, deployment.account, T0, T0],
    )
    return int(pk)


def position(deployment: Deployment, entry: int, number: int) -> None:
    """Write the position `number` of an entry."""
    run(
        """INSERT INTO positions (id, deployment_id, entry_order_id, symbol, side, state, quantity, closed_quantity,
               entry_price, stop_loss, take_profit, exits, exit_reason, opened_at, fees, realised_pnl, profit_share,
               correlation_id)
           VALUES (%s, %s, %s, 'ETH', 'long', 'open', 1, 0, 2000, 1900, 2400, 0, '', %s, 0, 0, 0, gen_random_uuid())""",
        [number, deployment.pk, entry, T0],
    )


def test_each_line_gets_its_deployment_and_the_kind_of_its_journal(
    old: tuple[Deployment, Deployment],
) -> None:
    a, b = (deployment.pk for deployment in old)
    book(*((journal.format(a=a, b=b), account.format(a=a, b=b), kind) for journal, account, kind in LINES))
    old_lines = run("SELECT id, journal, account, amount, kind FROM ledger_entries ORDER BY id")
    migrate(AFTER)

    owner = {f"deployment:{pk}": pk for pk in (a, b)} | {f"deployment:{b}:payable": b}
    lines = run("SELECT journal, account, journal_kind, deployment_id FROM ledger_entries")
    assert len(lines) == 2 * len(LINES)
    for journal, account, kind, deployment in lines:
        assert (kind, deployment) == (journal.split(":")[0], owner.get(account))
    assert run("SELECT id, journal, account, amount, kind FROM ledger_entries ORDER BY id") == old_lines
    assert run(
        "SELECT bool_and(convalidated) FROM pg_constraint WHERE conrelid = 'ledger_entries'::regclass"
    ) == [(True,)]


def test_the_ledger_stays_append_only_and_keeps_its_balances(old: tuple[Deployment, Deployment]) -> None:
    a = old[0].pk
    book(("external:1", f"deployment:{a}", "external"))
    triggers = """SELECT tgname, tgenabled FROM pg_trigger
                  WHERE tgrelid = 'ledger_entries'::regclass AND NOT tgisinternal"""
    before = run(triggers)
    migrate(AFTER)

    assert sorted(run(triggers)) == sorted(before)
    assert {enabled for _, enabled in before} == {"O"}
    for change in (
        "UPDATE ledger_entries SET deployment_id = NULL",
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            run(change)
    run(
        """INSERT INTO ledger_entries (journal, journal_kind, account, deployment_id, asset, amount, kind, at) VALUES
           ('fill:1', 'fill', %(account)s, %(pk)s, 'USDC', 2, 'trade', now()),
           ('fill:1', 'fill', 'venue:paper', NULL, 'USDC', -2, 'trade', now())""",
        {"account": f"deployment:{a}", "pk": a},
    )
    balances = "SELECT account, amount FROM ledger_balances"
    assert run(balances) == [(f"deployment:{a}", 7)]
    assert run("SELECT prosecdef, proconfig FROM pg_proc WHERE proname = 'keep_ledger_balances'") == [
        (True, ["search_path=public, pg_temp"])
    ]
    migrate(BEFORE)
    book(("external:2", f"deployment:{a}", "external"))

    assert run(balances) == [(f"deployment:{a}", 12)]
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        run("DELETE FROM ledger_entries")


def test_a_line_of_a_deleted_deployment_keeps_none_and_new_lines_are_checked(
    old: tuple[Deployment, Deployment],
) -> None:
    gone = old[1].pk + 1
    book(("external:1", f"deployment:{gone}", "external"))
    migrate(AFTER)

    assert run("SELECT deployment_id FROM ledger_entries WHERE account LIKE 'deployment:%'") == [(None,)]
    with pytest.raises(DatabaseError, match="an_account_names_its_deployment"), transaction.atomic():
        run(
            """INSERT INTO ledger_entries (journal, journal_kind, account, asset, amount, kind, at)
               VALUES ('external:2', 'external', %s, 'USDC', 1, 'external', now())""",
            [f"deployment:{old[0].pk}"],
        )


def test_a_journal_of_an_unknown_kind_stops_the_migration(old: tuple[Deployment, Deployment]) -> None:
    book(("bribe:1", "external", "external"))

    with pytest.raises(DatabaseError, match="a_journal_has_a_known_kind"), transaction.atomic():
        migrate(AFTER)


def test_each_closing_order_gets_the_entry_of_its_position(old: tuple[Deployment, Deployment]) -> None:
    """Ids of positions and orders differ, and one position was closed by two orders."""
    entries = [order(old[0], f"open:1:{number}", "open") for number in range(3)]
    for entry, number in zip(entries, (71, 7, 1), strict=True):
        position(old[0], entry, number)
    closing = {
        order(old[0], key, "close"): entry
        for key, entry in (("close:7:1", 1), ("close:7:2", 1), ("close:71:1", 0), ("close:1:12", 2))
    }
    migrate(AFTER)

    expected = {pk: entries[entry] for pk, entry in closing.items()} | dict.fromkeys(entries)
    assert dict(run("SELECT id, closes_id FROM orders")) == expected
    for change in (
        "UPDATE orders SET closes_id = NULL WHERE purpose = 'close'",
        "UPDATE orders SET closes_id = id WHERE purpose = 'open'",
    ):
        with pytest.raises(DatabaseError, match="a_closing_order_names_the_entry"), transaction.atomic():
            run(change)
    migrate(BEFORE)
    migrate(AFTER)
    assert dict(run("SELECT id, closes_id FROM orders")) == expected


def test_a_closing_order_without_a_position_stops_the_migration(old: tuple[Deployment, Deployment]) -> None:
    order(old[0], "close:7:1", "close")

    with pytest.raises(DatabaseError, match="a_closing_order_names_the_entry"), transaction.atomic():
        migrate(AFTER)
