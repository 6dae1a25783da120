"""Receipts of messages that a provider has just taken, in Redis, until the database says `sent`.

A worker that dies between the two leaves the delivery pending; the next one finds the receipt and does not send again.
A receipt is prepared before its message leaves, and kept as soon as the provider has accepted it: when the status of
the answer is read, or where the provider may refuse in the body, when the channel has read that. Keeping it is one
write to an open connection, on the thread that reads the answer. Only a hint: without Redis such a message comes twice.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from typing import Any, cast

import redis
import structlog
from django.conf import settings

from maxxit.core import http

log = structlog.get_logger(__name__)
SECONDS = 3600
"""Longer than any claim."""
PATIENCE = 2.0
"""Seconds to wait for Redis."""


@cache
def _store() -> redis.Redis:
    """Return the client of this process."""
    return redis.Redis.from_url(settings.ENV.broker, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)


def _key(ident: str) -> str:
    return f"maxxit:notify:taken:{ident}"


class Receipt:
    """The receipt of one message, on a connection of its own. Uses no database: it runs on a sending thread."""

    def __init__(self, ident: str) -> None:
        self.ident = ident
        self._kept = False
        self._pool = _store().connection_pool
        self._connection = cast(Any, self._pool.get_connection())
        self._command = self._connection.pack_command("SET", _key(ident), 1, "EX", SECONDS)

    def keep(self) -> None:
        """Note that the message was taken; a second call does nothing."""
        if not self._kept:
            self._kept = True
            self._connection.send_packed_command(self._command, check_health=False)

    def close(self) -> None:
        """Wait until Redis has the receipt, where it was kept, and give the connection back."""
        try:
            if self._kept:
                self._connection.read_response()
        except BaseException:
            self._connection.disconnect()
            raise
        finally:
            self._pool.release(self._connection)


@contextmanager
def prepared(ident: str, *, by_status: bool = True) -> Iterator[None]:
    """Keep the receipt of the message `ident` as soon as a provider accepts it within this context.

    Without an error the message counts as accepted too: mail has no such answer. Without Redis no receipt is kept.

    Args:
        by_status: whether an answer with a status below 300 accepts it, whatever its body says.
    """
    receipt = None
    try:
        receipt = Receipt(ident)
    except Exception as error:
        log.warning("receipt_not_prepared", message=ident, error=str(error))

    def keep() -> None:
        try:
            if receipt is not None:
                receipt.keep()
        except Exception as error:
            log.warning("receipt_not_kept", message=ident, error=str(error))

    try:
        with http.when_answered(keep) if by_status else nullcontext():
            yield
        keep()
    finally:
        if receipt is not None:
            with suppress(redis.RedisError):
                receipt.close()


def found(idents: Iterable[str]) -> set[str]:
    """Return which of the messages were taken."""
    named = list(idents)
    try:
        values = _store().mget([_key(ident) for ident in named]) if named else []
    except Exception as error:
        log.warning("receipts_not_read", error=str(error))
        return set()
    return {ident for ident, value in zip(named, values, strict=True) if value is not None}


def drop(idents: Iterable[str]) -> None:
    """Forget the receipts of messages that are stored as sent."""
    keys = [_key(ident) for ident in idents]
    try:
        if keys:
            _store().delete(*keys)
    except Exception as error:
        log.warning("receipts_not_dropped", error=str(error))
