"""Receipts of messages that a provider has just taken, in Redis, until the database says `sent`.

A worker that dies between the two leaves the delivery pending; the next one finds the receipt and does not send again.
Only a hint: without Redis such a message comes twice.
"""

from collections.abc import Iterable
from functools import cache

import structlog
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

log = structlog.get_logger(__name__)
SECONDS = 3600
"""Longer than any claim."""


@cache
def _store() -> BaseCache:
    """Return one cache for all threads of this process: its connections are open when a receipt must be kept."""
    store: BaseCache = caches.create_connection("default")
    return store


def _key(ident: str) -> str:
    return f"notify:taken:{ident}"


def keep(ident: str) -> None:
    """Note that the message `ident` was taken. Uses no database: it runs on a sending thread."""
    try:
        _store().set(_key(ident), 1, timeout=SECONDS)
    except Exception as error:
        log.warning("receipt_not_kept", message=ident, error=str(error))


def found(idents: Iterable[str]) -> set[str]:
    """Return which of the messages were taken."""
    keys = {_key(ident): ident for ident in idents}
    try:
        return {keys[key] for key in _store().get_many(list(keys))} if keys else set()
    except Exception as error:
        log.warning("receipts_not_read", error=str(error))
        return set()


def drop(idents: Iterable[str]) -> None:
    """Forget the receipts of messages that are stored as sent."""
    try:
        _store().delete_many([_key(ident) for ident in idents])
    except Exception as error:
        log.warning("receipts_not_dropped", error=str(error))
