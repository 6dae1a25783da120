"""Scratch databases for replays and measurements, separate from the live tables.

With DATABASE_URL the scratch database is created on the same server (the role needs CREATEDB); otherwise a separate
embedded Postgres runs for the duration, so that nothing else has to be running.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from asgiref.local import Local
from django.conf import settings
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection

from maxxit.embedded.servers import NAME, Postgres
from maxxit.embedded.template import connected_to, create_migrated, digest
from maxxit.env import PREPARED, read_env

REPLAY = "replay"
FAST = PREPARED | {
    "options": "-c synchronous_commit=off -c enable_seqscan=off -c plan_cache_mode=force_generic_plan"
}
"""Connection options of a database that is thrown away: in a replay planning would take half of the server's time.

Left to itself, Postgres plans some of the prepared statements anew at each execution.
"""


@contextmanager
def scratch_database(*, keep: bool = False, durable: bool = False, name: str = REPLAY) -> Iterator[str]:
    """Connect Django's default connection to a fresh, migrated database inside this block; yields its location.

    It is dropped afterwards unless `keep`. With `durable` each commit is flushed to disk and statements are planned as
    on live connections (for measurements). The cache is in memory meanwhile: a replay needs no Redis. `name` is a part
    of its name; what killed processes left under another one than `replay` is removed first.
    """
    embedded = read_env().embedded_postgres or not _may_create()
    database = _embedded(name, keep, durable) if embedded else _on_same_server(name, keep, durable)
    with _cache_in_memory(), database as location:
        yield location


@contextmanager
def fast_connection() -> Iterator[None]:
    """Connect anew with the options of a scratch database inside this block: a crash may lose the last commits."""
    with connected_to(OPTIONS=_options(durable=False)):
        yield


def _may_create() -> bool:
    """Return whether this role may create databases; the application's role of an installation may not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
        return bool(cursor.fetchone()[0])


@contextmanager
def _cache_in_memory() -> Iterator[None]:
    """Use a cache in memory inside this block."""
    before = settings.CACHES
    _use_caches({"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
    try:
        yield
    finally:
        _use_caches(before)


def _use_caches(configured: dict[str, Any]) -> None:
    settings.CACHES = configured
    # Django keeps the settings that it read first and the caches that it opened: forget both
    caches._settings = caches.settings = caches.configure_settings(None)  # type: ignore[attr-defined]
    caches._connections = Local(caches.thread_critical)  # type: ignore[attr-defined]


@contextmanager
def _embedded(purpose: str, keep: bool, durable: bool) -> Iterator[str]:
    with (
        _server(purpose, keep=keep, ephemeral=not durable, template=embedded_template()) as (
            server,
            folder,
        ),
        connected_to(**_local(server), OPTIONS=_options(durable)),
    ):
        yield f"{folder} (stopped; its files are kept)"


@contextmanager
def empty_database(purpose: str) -> Iterator[None]:
    """Connect Django's default connection to an empty database of an embedded server of its own inside this block.

    The server is removed afterwards; what killed processes left of the same purpose is removed first.
    """
    with (
        _server(purpose, keep=False, ephemeral=True, template=None) as (server, _),
        connected_to(**_local(server)),
    ):
        yield


@contextmanager
def _server(
    purpose: str, *, keep: bool, ephemeral: bool, template: Path | None
) -> Iterator[tuple[Postgres, Path]]:
    data_dir = Path(settings.DATA_DIR)
    folder = data_dir / f"{purpose}-{os.getpid()}"
    for left in data_dir.glob(f"{purpose}-*") if purpose != REPLAY else ():
        if not psutil.pid_exists(int(left.name.rpartition("-")[2])):
            _remove(Postgres(left, ephemeral=True), left)
    server = Postgres(folder, ephemeral=ephemeral, template=template)
    server.start()
    try:
        yield server, folder
    finally:
        server.stop()
        if not keep:
            _remove(server, folder)


TEMPLATE = "migrated-"
"""Beginning of the name of a template's folder; the digest of the code follows."""


def embedded_template() -> Path:
    """Return the data folder of an embedded Postgres with a migrated database; make it if the code has changed."""
    data_dir = Path(settings.DATA_DIR)
    template = data_dir / f"{TEMPLATE}{digest(NAME)}"
    if template.exists():
        return template
    for stale in data_dir.glob(f"{TEMPLATE}*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = data_dir / f"migrating-{os.getpid()}"
    server = Postgres(folder, ephemeral=True)
    server.start()
    try:
        with connected_to(**_local(server)):
            call_command("migrate", verbosity=0, interactive=False)
        server.stop()
        server.save_template(template)
    finally:
        server.stop()
        _remove(server, folder)
    return template


def _local(server: Postgres) -> dict[str, str]:
    """Return the settings of a connection to an embedded server."""
    return {"NAME": NAME, "HOST": str(server.sockets), "USER": NAME, "PASSWORD": "", "PORT": ""}


def _remove(server: Postgres, folder: Path) -> None:
    shutil.rmtree(server.home, ignore_errors=True)  # outside the folder where it may not be entered
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _on_same_server(purpose: str, keep: bool, durable: bool) -> Iterator[str]:
    prefix = f"{connection.settings_dict['NAME']}_{purpose}_"
    name = f"{prefix}{os.getpid()}"
    quoted = connection.ops.quote_name(name)
    with connection.cursor() as cursor:
        for left in _unused(cursor, prefix) if purpose != REPLAY else ():
            cursor.execute(f"DROP DATABASE IF EXISTS {connection.ops.quote_name(left)}")
        cursor.execute(f"DROP DATABASE IF EXISTS {quoted}")
    create_migrated(name)
    try:
        with connected_to(NAME=name, OPTIONS=_options(durable)):
            yield f"database {name}"
    finally:
        if not keep:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {quoted} WITH (FORCE)")


UNUSED = """
SELECT datname FROM pg_database d WHERE starts_with(datname, %s) AND pg_get_userbyid(datdba) = current_user
  AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)
"""


def _unused(cursor: Any, prefix: str) -> list[str]:
    """Return the databases of this role whose names are `prefix` and the id of a process that has ended."""
    cursor.execute(UNUSED, [prefix])
    ids = {name: name.removeprefix(prefix) for (name,) in cursor.fetchall()}
    return [name for name, pid in ids.items() if pid.isdecimal() and not psutil.pid_exists(int(pid))]


def _options(durable: bool) -> dict[str, Any]:
    live: dict[str, Any] = connection.settings_dict["OPTIONS"]
    return live if durable else live | FAST
