"""Whether this release can migrate a database: neither one of a later release nor one that is too old for it."""

from collections.abc import Collection

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from maxxit.core.errors import Rejected


def check_database() -> None:
    """Raise Rejected (newer_release, too_old) where this release cannot migrate the database of the settings."""
    applied = {f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations()}
    if newer := unknown(applied):
        raise Rejected(
            f"the database was migrated by a later release ({_some(newer)}): install that release. To go back, restore "
            "a backup that was made before it (docs/backups.md)",
            code="newer_release",
        )
    if missing := lost(applied):
        raise Rejected(
            f"the database lacks migrations that are no longer shipped one by one ({_some(missing)}): run "
            "`manage.py setup` of the last release that ships them, then that of this one",
            code="too_old",
        )


def unknown(applied: Collection[str]) -> list[str]:
    """Return those of the applied migrations ("app.name") that this release does not know, sorted."""
    disk = MigrationLoader(None).disk_migrations
    known = {*disk, *(old for migration in disk.values() for old in migration.replaces)}
    return sorted(set(applied) - {f"{app}.{name}" for app, name in known})


def lost(applied: Collection[str]) -> list[str]:
    """Return what the database lacks of squashed migrations that were applied in part, sorted.

    A squashed migration stands for all or none of those that it replaces, which are no longer there.
    """
    missing = set[str]()
    for key, migration in MigrationLoader(None).disk_migrations.items():
        replaced = {f"{app}.{name}" for app, name in migration.replaces}
        if ".".join(key) not in applied and replaced & set(applied):
            missing |= replaced - set(applied)
    return sorted(missing)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
