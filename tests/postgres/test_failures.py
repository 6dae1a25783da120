"""What Postgres itself raises: one statement that failed, or a database that is away."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from django.db import Error, InterfaceError, OperationalError, connection, transaction

from maxxit.pipeline.interrupts import ends_the_pass
from maxxit.postgres.failures import database_is_away, timed_out
from tests.fakes import statement_timeout


@pytest.fixture
def holder() -> Iterator[psycopg.Connection]:
    """Another session, which holds the advisory lock 4711."""
    connection.ensure_connection()
    with closing(psycopg.connect(connection.connection.info.dsn, password=_password())) as other:
        other.execute("SELECT pg_advisory_lock(4711)")
        yield other


def _password() -> str | None:
    return connection.settings_dict["PASSWORD"] or None


def error_of(statements: str) -> Error:
    with pytest.raises(Error) as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statements)
    return caught.value


@pytest.mark.django_db
def test_a_statement_beyond_its_time_is_a_failure_of_that_statement() -> None:
    error = error_of("SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)")

    assert isinstance(error, OperationalError)
    assert timed_out(error)
    assert not database_is_away(error)
    assert not ends_the_pass(error)
    made = statement_timeout()
    assert (type(made), type(made.__cause__)) == (type(error), type(error.__cause__))


@pytest.mark.django_db
def test_a_lock_that_is_not_free_in_time_is_a_failure_of_its_statement(holder: psycopg.Connection) -> None:
    error = error_of("SET LOCAL lock_timeout = 1; SELECT pg_advisory_lock(4711)")

    assert isinstance(error, OperationalError)
    assert timed_out(error)
    assert not ends_the_pass(error)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_the_server_ends_is_a_database_that_is_away() -> None:
    error = error_of("SELECT pg_terminate_backend(pg_backend_pid())")
    connection.close()

    assert database_is_away(error)
    assert ends_the_pass(error)
    assert not timed_out(error)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_closed_is_a_database_that_is_away() -> None:
    connection.ensure_connection()
    connection.connection.close()
    with pytest.raises(Error) as caught, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()

    assert database_is_away(caught.value)


def test_a_server_that_refuses_connections_is_a_database_that_is_away() -> None:
    assert database_is_away(OperationalError("connection refused"))
    assert database_is_away(InterfaceError("the connection is closed"))
    assert not database_is_away(ValueError("ours"))
