"""The database of a replay or measurement: its own, and gone afterwards unless it is kept."""

from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.db import connection

from maxxit.embedded import scratch


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keep", [True, False])
def test_a_scratch_database_is_dropped_unless_it_is_kept(keep: bool) -> None:
    live = connection.settings_dict["NAME"]
    with scratch._on_same_server("replay", keep, durable=False) as location, connection.cursor() as cursor:
        name = location.removeprefix("database ")
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == (name,) != (live,)

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), count(*) FROM pg_database WHERE datname = %s", [name])
        database, kept = cursor.fetchone()
        cursor.execute(f"DROP DATABASE IF EXISTS {connection.ops.quote_name(name)}")
    assert (database, kept) == (live, int(keep))


@pytest.mark.django_db(transaction=True)
def test_the_cache_is_in_memory_inside_and_the_former_one_afterwards() -> None:
    before = type(caches["default"])
    with scratch.scratch_database():
        assert type(caches["default"]) is LocMemCache
    assert type(caches["default"]) is before is RedisCache


@pytest.mark.django_db(transaction=True)
def test_an_embedded_scratch_database_is_migrated_once_for_the_code(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement stands for the migrations; the campaigns of tests/chaos begin with all of them."""
    settings.DATA_DIR = tmp_path / "data"
    commands: list[str] = []

    def call_command(name: str, **options: Any) -> None:
        commands.append(name)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE whole AS SELECT 1 AS one")

    monkeypatch.setattr(scratch, "call_command", call_command)
    for _ in range(2):
        with scratch._embedded("replay", keep=False, durable=False), connection.cursor() as cursor:
            cursor.execute("SELECT one FROM whole")
            assert cursor.fetchone() == (1,)
            cursor.execute("CREATE TABLE gone (id int)")
    assert commands == ["migrate"]
    [left] = settings.DATA_DIR.iterdir()
    assert left.name.startswith(scratch.TEMPLATE)


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_process_left_is_removed_by_the_next_one_of_its_purpose() -> None:
    left = f"{connection.settings_dict['NAME']}_preview_999999999"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {connection.ops.quote_name(left)}")
    with scratch.scratch_database(name="preview"), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [left])
        assert cursor.fetchone() == (0,)
