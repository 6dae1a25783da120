"""A database of its own for a replay or a measurement: nothing of it reaches the live tables, or depends on them.

With DATABASE_URL the database is made beside the live one (the role needs the right to create databases);
otherwise an embedded Postgres of its own runs for as long as the replay, so that nothing else has to be running.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from maxxit.embedded.servers import NAME, Postgres
from maxxit.env import read_env


@contextmanager
def own_database(*, keep: bool = False, durable: bool = False) -> Iterator[str]:
    """Inside this block Django's default connection is a fresh, migrated database; yields where it is.

    It is dropped afterwards unless `keep`. With `durable` each commit reaches the disk, for those who measure that.
    The cache lives in memory for as long: a replay needs no Redis.
    """
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    place = _embedded(keep, durable) if read_env().own_postgres else _beside(keep, durable)
    with place as where:
        call_command("migrate", verbosity=0, interactive=False)
        yield where


@contextmanager
def _embedded(keep: bool, durable: bool) -> Iterator[str]:
    folder = Path(settings.DATA_DIR) / f"replay-{os.getpid()}"
    server = Postgres(folder, ephemeral=not durable)
    server.start()
    try:
        with _connected_to(HOST=str(server.sockets), USER=NAME):
            yield f"{folder} (stopped; its files are kept)"
    finally:
        server.stop()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _beside(keep: bool, durable: bool) -> Iterator[str]:
    name = f"{connection.settings_dict['NAME']}_replay_{os.getpid()}"
    quoted = connection.ops.quote_name(name)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {quoted}")
        cursor.execute(f"CREATE DATABASE {quoted}")
    options = dict(connection.settings_dict["OPTIONS"])
    if not durable:
        options["options"] = "-c synchronous_commit=off"
    try:
        with _connected_to(NAME=name, OPTIONS=options):
            yield f"database {name}"
    finally:
        if not keep:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {quoted} WITH (FORCE)")


@contextmanager
def _connected_to(**place: Any) -> Iterator[None]:
    """Point Django's default connection somewhere else, and back."""
    live = {name: connection.settings_dict[name] for name in place}
    connection.close()
    connection.settings_dict.update(place)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(live)
