"""The database's roles, each logged in to a real Postgres: what the application and the reader are refused."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg.errors import InsufficientPrivilege, RestrictViolation

from maxxit.embedded import scratch
from maxxit.embedded.servers import APPLICATION, READER
from maxxit.embedded.template import connected_to, create_migrated
from maxxit.ops import roles
from maxxit.reports import checks

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


@pytest.fixture(scope="module")
def granted(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> str:
    """The conninfo of the test database, in which both roles have their rights."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:  # type: ignore[attr-defined]
        for role in (APPLICATION, READER):
            roles.create(cursor, role)
        roles.grant(cursor, APPLICATION, READER)
        roles.grant(cursor, APPLICATION, READER)  # twice gives the same
        one = connection.settings_dict
        return f"host={one['HOST']} dbname={one['NAME']}"


@pytest.fixture
def application(granted: str) -> Iterator[psycopg.Connection]:
    """A session of the application; nothing is kept."""
    with psycopg.connect(f"{granted} user={APPLICATION}") as session:
        yield session
        session.rollback()


@pytest.fixture
def reader(granted: str) -> Iterator[psycopg.Connection]:
    """A session of the reader."""
    with psycopg.connect(f"{granted} user={READER}") as session:
        yield session
        session.rollback()


@pytest.fixture
def tables(application: psycopg.Connection) -> list[str]:
    """Every table."""
    return [name for (name,) in application.execute(TABLES)]


def refused(session: psycopg.Connection, statement: str) -> None:
    """Assert that this session lacks the right to do it."""
    with pytest.raises(InsufficientPrivilege), session.transaction():
        session.execute(statement)


@pytest.mark.parametrize("table", roles.APPEND_ONLY)
@pytest.mark.parametrize(
    "what", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"]
)
def test_what_is_written_once_stays(application: psycopg.Connection, table: str, what: str) -> None:
    refused(application, what.format(table))
    application.execute(f"SELECT count(*) FROM {table}")


def test_no_table_can_be_emptied_altered_dropped_or_given_away(
    application: psycopg.Connection, tables: list[str]
) -> None:
    assert len(tables) > 50
    for table in tables:
        for statement in (
            "TRUNCATE {}",
            "ALTER TABLE {} ADD extra int",
            "DROP TABLE {}",
            "GRANT ALL ON {} TO PUBLIC",
        ):
            if "GRANT" in statement:
                assert not _granted_anything(application, statement.format(table))
            else:
                refused(application, statement.format(table))


def _granted_anything(session: psycopg.Connection, statement: str) -> bool:
    """Postgres only warns where nothing could be granted."""
    try:
        with session.transaction():
            session.execute(statement)
    except InsufficientPrivilege:
        return False
    said = session.execute("SELECT count(*) FROM information_schema.table_privileges WHERE grantee = 'PUBLIC' "
                           "AND table_schema = 'public'").fetchone()  # fmt: skip
    return said != (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine SUPERUSER",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TRIGGER events_append_only ON events",
        "ALTER FUNCTION refuse_change() RENAME TO allow_change",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "SET session_replication_role = replica",
        "SET ROLE maxxit",
        "SET SESSION AUTHORIZATION maxxit",
        "COPY events TO PROGRAM 'cat'",
        "COPY events FROM PROGRAM 'echo 1'",
        "COPY (SELECT 1) TO '/tmp/out'",
        "COPY events FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "INSERT INTO ledger_balances VALUES (1)",
        "UPDATE ledger_balances SET amount = 10",
        "DELETE FROM orders",
        "DELETE FROM kill_switches",
        "UPDATE chain_attempts SET raw = '0x00'",
        "DELETE FROM django_migrations",
        "UPDATE auth_permission SET name = 'x'",
    ],
)
def test_the_application_is_refused(application: psycopg.Connection, statement: str) -> None:
    refused(application, statement)


@pytest.mark.parametrize("statement", ["CREATE DATABASE mine", "ALTER SYSTEM SET fsync = off"])
def test_the_application_is_refused_what_needs_no_transaction(granted: str, statement: str) -> None:
    login = f"{granted} user={APPLICATION}"
    with psycopg.connect(login, autocommit=True) as session, pytest.raises(InsufficientPrivilege):
        session.execute(statement)


def test_the_application_does_its_work(application: psycopg.Connection) -> None:
    application.execute("UPDATE chain_attempts SET broadcast_at = now() WHERE id = 0")
    application.execute("UPDATE orders SET last_error = '' WHERE id = 0")
    application.execute("INSERT INTO events (at, name, subject, data) VALUES (now(), 'test', 'x/1', '{}')")
    application.execute("CREATE TEMP TABLE offered ON COMMIT DROP AS SELECT * FROM candles LIMIT 0")


def test_the_ledger_keeps_its_balances_with_the_owners_rights(application: psycopg.Connection) -> None:
    """The application writes entries; the trigger alone writes balances."""
    columns = "(at, journal, journal_kind, kind, account, deployment_id, asset, amount)"
    application.execute(
        f"INSERT INTO ledger_entries {columns} VALUES "
        "(now(), 'fill:1', 'fill', 'trade', 'deployment:999', 999, 'USDC', 5), "
        "(now(), 'fill:1', 'fill', 'trade', 'venue:x', NULL, 'USDC', -5)"
    )
    held = application.execute(
        "SELECT amount FROM ledger_balances WHERE account = 'deployment:999'"
    ).fetchone()
    assert held == (5,)


def test_parts_of_the_candles_are_made_and_dropped_by_function_alone(application: psycopg.Connection) -> None:
    application.execute("SELECT make_candles_part('2031-02-17')")
    application.execute("SELECT make_candles_part('2031-02-01')")
    found = application.execute("SELECT to_regclass('candles_1m_2031_02') IS NOT NULL").fetchone()
    assert found == (True,)
    refused(application, "DROP TABLE candles_1m_2031_02")
    gone = application.execute("SELECT * FROM drop_candles_parts('2031-03-01')").fetchall()
    assert ("candles_1m_2031_02",) in gone
    assert ("candles_1m_2031_03",) not in gone


def test_a_temporary_table_does_not_stand_in_for_a_real_one(application: psycopg.Connection) -> None:
    """Functions with the owner's rights look at temporary tables last."""
    application.execute("CREATE TEMP TABLE candles_1m (LIKE public.candles_1m) ON COMMIT DROP")
    application.execute("SELECT make_candles_part('2031-05-01')")
    found = application.execute("SELECT to_regclass('public.candles_1m_2031_05') IS NOT NULL").fetchone()
    assert found == (True,)


def test_the_reader_reads_and_writes_nothing(reader: psycopg.Connection, tables: list[str]) -> None:
    for table in tables:
        if table in roles.SECRET:
            refused(reader, f"SELECT * FROM {table}")
        else:
            reader.execute(f"SELECT * FROM {table} LIMIT 1")
        for statement in ("INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}", "TRUNCATE {}"):
            refused(reader, statement.format(table))
    refused(reader, "CREATE TABLE mine (id int)")
    refused(reader, "CREATE TEMP TABLE mine (id int)")
    refused(reader, "SELECT make_candles_part('2031-02-17')")
    reader.execute("SELECT id, username, is_staff FROM auth_user")


@pytest.mark.django_db
def test_doctor_refuses_an_owner_as_the_application_in_production(settings: Any) -> None:
    assert checks.database_role().ok
    settings.PRODUCTION = True
    told = checks.database_role()
    assert (told.ok, "DATABASE_OWNER_URL" in told.fix) == (False, True)


@pytest.mark.django_db
def test_setup_refuses_an_application_that_owns_its_tables_in_production(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        (owner,) = cursor.fetchone()
    call_command("roles", application=owner)
    assert "nothing to grant" in capsys.readouterr().out
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match=r"the application would own its tables.*DATABASE_OWNER_URL"):
        call_command("roles", application=owner)


@pytest.mark.django_db
@pytest.mark.parametrize("table", ["events", "fills", "ledger_entries", "paper_fills", "chain_attempts"])
def test_the_trigger_refuses_truncate_to_the_owner_as_well(table: str) -> None:
    with (
        connection.cursor() as cursor,
        pytest.raises(Exception, match="append-only: TRUNCATE refused") as error,
    ):
        cursor.execute(f"TRUNCATE {table} CASCADE")
    assert isinstance(error.value.__cause__, RestrictViolation)


def test_the_application_makes_scratch_databases_where_it_is_allowed(
    granted: str, django_db_blocker: Any
) -> None:
    """As `docker compose` lets it: with the rights of the role alone, all migrations included."""
    name = "maxxit_scratch_of_the_application"
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:
            roles.let_create_databases(cursor, APPLICATION, True)
        roles.prepare_template(f"{granted} user={connection.settings_dict['USER']}")
        try:
            with connected_to(USER=APPLICATION):
                assert scratch._may_create()
                create_migrated(name)
                with connection._nodb_cursor() as cursor:
                    cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            with connection.cursor() as cursor:
                roles.let_create_databases(cursor, APPLICATION, False)
    with connected_to(USER=APPLICATION), django_db_blocker.unblock():
        assert not scratch._may_create()
