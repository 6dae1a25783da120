"""Database wrapper whose connection error says how to start Postgres."""

from typing import Any

import psycopg
from django.db.backends.postgresql import base

POOLER = "unsupported startup parameter"
"""What PgBouncer says to the parameters of a session."""
NO_SERVER = ("No such file or directory", "Connection refused")


class DatabaseWrapper(base.DatabaseWrapper):
    """Adds the fix to the error of a missing server, the most frequent mistake of a first installation."""

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
