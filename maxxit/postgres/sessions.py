"""The connection whose session outlives a transaction: for locks that are held over several of them.

Behind a pooler in transaction mode the default connection has another session in each transaction, so that such a lock
would stay with a session that somebody else gets next.
"""

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from maxxit.postgres import SESSION


def alias() -> str:
    """Return the alias of connections that are sessions of their own."""
    return SESSION if SESSION in settings.DATABASES else DEFAULT_DB_ALIAS


def own_session() -> BaseDatabaseWrapper:
    """Return this thread's connection that is a session of its own."""
    return connections[alias()]
