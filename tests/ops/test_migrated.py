"""`manage.py setup` migrates the databases that it knows how to migrate, and changes no others."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from maxxit.core.errors import Rejected
from maxxit.ops import migrated

pytestmark = pytest.mark.django_db
SQUASHED = {key: one for key, one in MigrationLoader(None).disk_migrations.items() if one.replaces}


def forget(app: str, name: str) -> None:
    MigrationRecorder(connection).record_unapplied(app, name)


def forget_squashed() -> None:
    """As a release that shipped the migrations one by one left the database."""
    for key in SQUASHED:
        forget(*key)


def test_a_database_of_this_release_is_migrated() -> None:
    migrated.check_database()


def test_a_database_with_all_migrations_that_were_squashed_lacks_nothing() -> None:
    forget_squashed()
    migrated.check_database()
    executor = MigrationExecutor(connection)
    assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []


def test_a_database_with_some_of_them_is_refused_by_name() -> None:
    forget_squashed()
    forget("trading", "0039_lean_orders")
    with pytest.raises(Rejected, match=r"lacks migrations .*\(trading\.0039_lean_orders\)") as refused:
        call_command("setup", stdout=StringIO())
    assert refused.value.code == "too_old"


def test_a_database_of_a_later_release_is_refused_and_stays_as_it_is() -> None:
    forget("events", "0001_squashed")  # which `migrate` would record again
    MigrationRecorder(connection).record_applied("trading", "9001_of_tomorrow")
    with pytest.raises(
        Rejected, match=r"later release \(trading\.9001_of_tomorrow\).*backups\.md"
    ) as refused:
        call_command("setup", stdout=StringIO())
    assert refused.value.code == "newer_release"
    assert ("events", "0001_squashed") not in MigrationRecorder(connection).applied_migrations()


def test_an_empty_database_is_migrated() -> None:
    assert migrated.lost([]) == []
    assert migrated.unknown([]) == []
    assert migrated.unknown(["events.0004_help_texts", "gone.0001_initial"]) == ["gone.0001_initial"]
