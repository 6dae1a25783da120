"""Migrated databases as copies of a template: all migrations take seconds, a copy a few tenths.

The template is a database on the same server. Its name contains a digest of the code, so that a change of a migration,
a model or a `post_migrate` receiver makes another one; the templates of other code are dropped then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.core.management import call_command
from django.db import connection

PREFIX = "maxxit_template_"
BUILDING = "_building"
"""Suffix while it is migrated; a killed process leaves one under this name and the next one drops it."""
LOCK = 20_261_129
"""Advisory lock, held from the search for the template until its copy is made."""
MAXXIT = Path(__file__).parents[1]


def create_migrated(name: str) -> None:
    """Create the database `name`, with all migrations applied, on the server of Django's default connection."""
    with _locked() as cursor:
        template = _find_or_build(cursor)
        cursor.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE {_quoted(template)}")


def ensure_template() -> str:
    """Return the name of the template, which is made unless it is there.

    It stays until a process with other code makes its own on the same server.
    """
    with _locked() as cursor:
        return _find_or_build(cursor)


@contextmanager
def connected_to(**changes: Any) -> Iterator[None]:
    """Change the settings of Django's default connection inside this block."""
    live = {name: connection.settings_dict[name] for name in changes}
    connection.close()
    connection.settings_dict.update(changes)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(live)


@cache
def digest(role: str) -> str:
    """Return a digest of the role, Django's version and all Python files of Maxxit and of the installed apps.

    More than the migrations, because models decide content types and permissions, and receivers the first rows.
    """
    folders = {MAXXIT, *(Path(app.path) for app in apps.get_app_configs())}
    content = sha256(f"{role} {django.__version__}".encode())
    for file in sorted({file for folder in folders for file in folder.rglob("*.py")}):
        content.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return content.hexdigest()[:16]


@contextmanager
def _locked() -> Iterator[Any]:
    """Yield a cursor on the server's maintenance database that holds the advisory lock."""
    with connection._nodb_cursor() as cursor:
        cursor.execute(
            "SET lock_timeout = 0"
        )  # another process may be migrating; statement_timeout still applies
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield cursor  # closing the connection releases the lock


def _find_or_build(cursor: Any) -> str:
    cursor.execute("SELECT current_user")
    template = f"{PREFIX}{digest(*cursor.fetchone())}"
    cursor.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND pg_get_userbyid(datdba) = current_user",
        [PREFIX],
    )
    found = {name for (name,) in cursor.fetchall()}
    if template not in found:
        for stale in found:
            cursor.execute(f"DROP DATABASE {_quoted(stale)} WITH (FORCE)")
        _build(cursor, template)
    return template


def _build(cursor: Any, template: str) -> None:
    building = template + BUILDING
    cursor.execute(f"CREATE DATABASE {_quoted(building)}")
    with connected_to(NAME=building):
        call_command("migrate", verbosity=0, interactive=False)
    # Nobody connects to it any more: what uses a database keeps it from being copied
    cursor.execute(f"ALTER DATABASE {_quoted(building)} ALLOW_CONNECTIONS false")
    cursor.execute(f"ALTER DATABASE {_quoted(building)} RENAME TO {_quoted(template)}")


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
