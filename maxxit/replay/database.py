"""A database of its own for each replay, so that nothing of it can reach the live tables."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import connection


@contextmanager
def own_database(*, keep: bool = False) -> Iterator[str]:
    """Inside this block Django's default connection is a fresh, migrated database; yields its name.

    It is dropped afterwards unless `keep`. The role needs the right to create databases.
    """
    live = connection.settings_dict["NAME"]
    options = connection.settings_dict["OPTIONS"]
    name = f"{live}_replay_{os.getpid()}"
    quoted = connection.ops.quote_name(name)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {quoted}")
        cursor.execute(f"CREATE DATABASE {quoted}")
    connection.close()
    connection.settings_dict["NAME"] = name
    connection.settings_dict["OPTIONS"] = {**options, "options": "-c synchronous_commit=off"}
    try:
        call_command("migrate", verbosity=0, interactive=False)
        yield name
    finally:
        connection.close()
        connection.settings_dict["NAME"], connection.settings_dict["OPTIONS"] = live, options
        if not keep:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {quoted} WITH (FORCE)")
