"""Migrated databases are copies of one template: made once, never half-made, and dropped when the code changes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from maxxit.embedded import template

OWN = f"templating{os.getpid()}_"
"""Begins the names of this process's databases: another test process uses the same server."""
SCHEMA = """
SELECT 'column', table_name || '.' || column_name, data_type || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass::text || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
UNION ALL SELECT 'trigger', tgrelid::regclass::text || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger
WHERE NOT tgisinternal
UNION ALL SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'migration', app, name FROM django_migrations
UNION ALL SELECT 'permission', g.name, p.codename
FROM auth_group g JOIN auth_group_permissions x ON x.group_id = g.id JOIN auth_permission p ON p.id = x.permission_id
ORDER BY 1, 2, 3
"""
COPY = """
import sys, time
import django
django.setup()
from django.db import connection
from maxxit.embedded import template

def migrate(*words, **options):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE half_made ()")
        print("migrates", flush=True)
        time.sleep(0.5)
        cursor.execute("ALTER TABLE half_made RENAME TO whole")

template.PREFIX, template.call_command = sys.argv[1], migrate
template.create_migrated(sys.argv[2])
with template.connected_to(NAME=sys.argv[2]), connection.cursor() as cursor:
    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    print(cursor.fetchall())
"""
"""Copies a template whose only migration takes half a second."""


@pytest.fixture
def server(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cursor on the server, with template names of this test, all of whose databases are dropped afterwards."""
    monkeypatch.setattr(template, "PREFIX", f"{OWN}template_")
    with connection._nodb_cursor() as cursor:
        yield cursor
        for name in names(cursor):
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def names(cursor: Any) -> list[str]:
    """The databases of the test."""
    cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", [OWN])
    return [name for (name,) in cursor.fetchall()]


def rows(query: str) -> list[tuple[Any, ...]]:
    """What a statement returns in the current database."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def migrating(monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> list[str]:
    """Let migrating be one statement; returns the databases that were migrated."""
    migrated: list[str] = []

    def migrate(*_: Any, **__: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE whole AS SELECT 1 AS one")
        migrated.append(connection.settings_dict["NAME"])
        if fails:
            raise RuntimeError("the migration fails")

    monkeypatch.setattr(template, "call_command", migrate)
    return migrated


def test_a_copy_has_the_tables_and_rows_that_migrating_gives(server: Any) -> None:
    migrated = rows(SCHEMA)
    template.create_migrated(f"{OWN}copy")
    with template.connected_to(NAME=f"{OWN}copy"):
        assert rows(SCHEMA) == migrated
        executor = MigrationExecutor(connection)
        assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []
    assert len(migrated) > 1_000


def test_only_the_first_one_migrates(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    migrated = migrating(monkeypatch)
    for name in (f"{OWN}a", f"{OWN}b"):
        template.create_migrated(name)
        with template.connected_to(NAME=name):
            assert rows("SELECT one FROM whole") == [(1,)]
    made = template.ensure_template()
    assert migrated == [made + template.BUILDING]
    assert names(server) == [f"{OWN}a", f"{OWN}b", made]


def test_a_half_made_template_is_never_copied(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    migrating(monkeypatch, fails=True)
    with pytest.raises(RuntimeError, match="the migration fails"):
        template.create_migrated(f"{OWN}a")
    assert [name.endswith(template.BUILDING) for name in names(server)] == [True]

    migrated = migrating(monkeypatch)
    template.create_migrated(f"{OWN}a")
    assert names(server) == [f"{OWN}a", template.ensure_template()]
    assert len(migrated) == 1


def test_the_template_of_other_code_is_dropped(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    migrating(monkeypatch)
    template.create_migrated(f"{OWN}a")
    old = template.ensure_template()
    monkeypatch.setattr(template, "digest", lambda role: "0123456789abcdef")
    template.create_migrated(f"{OWN}b")
    assert old != template.ensure_template() == f"{OWN}template_0123456789abcdef"
    assert names(server) == [f"{OWN}a", f"{OWN}b", f"{OWN}template_0123456789abcdef"]


def test_two_processes_at_once_make_one_template(server: Any, worker_environ: dict[str, str]) -> None:
    environ = worker_environ | {"DJANGO_SETTINGS_MODULE": "maxxit.settings"}
    wanted = (f"{OWN}a", f"{OWN}b")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COPY, template.PREFIX, name],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in wanted
    ]
    printed = sorted(process.communicate()[0] for process in running)
    assert printed == ["[('whole',)]\n", "migrates\n[('whole',)]\n"]
    assert [process.returncode for process in running] == [0, 0]
    assert names(server) == [*wanted, template.ensure_template()]


@pytest.mark.parametrize("change", ["content", "name", "new file", "role"])
def test_the_digest_follows_the_code(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAXXIT", tmp_path)
    migration = tmp_path / "migrations" / "0001_initial.py"
    migration.parent.mkdir()
    migration.write_text("operations = []")
    first = template.digest.__wrapped__("owner")
    assert template.digest.__wrapped__("owner") == first
    if change == "content":
        migration.write_text("operations = [1]")
    elif change == "name":
        migration.rename(migration.with_name("0002_initial.py"))
    elif change == "new file":
        (tmp_path / "models.py").write_text("")
    assert template.digest.__wrapped__("other" if change == "role" else "owner") != first
