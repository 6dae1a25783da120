"""Helpers of the HTTP feeds: URL checks, JSON without floats, numbers and times."""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog

from maxxit.core import clock, untrusted
from maxxit.core.config import PRODUCTION, profile, variable
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.core.http import Client, client, fetch

log = structlog.get_logger(__name__)
Row = TypeVar("Row")
Read = TypeVar("Read")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
NAN = Decimal("NaN")


def checked_url(feed: str, url: str, *, own_node: bool = False) -> str:
    """Return `url` if it is allowed for prices: https, or plain HTTP on this machine.

    In production plain HTTP is allowed only for our own node (`own_node`): another local server could serve invented
    prices. Raises `Misconfigured`.
    """
    parts = urlsplit(url)
    local = parts.hostname in LOOPBACK and (own_node or profile() != PRODUCTION)
    if parts.scheme in {"https", "wss"} or (local and parts.scheme in {"http", "ws"}):
        return url
    raise Misconfigured(
        f"config/feeds.yaml: feeds.{feed}: {url!r} must be https (plain only for a test on loopback)"
    )


def api_client(
    feed: str,
    base_url: str,
    *,
    key_env: str = "",
    key_header: str = "",
    timeout: float,
    own_node: bool = False,
) -> Client:
    """Return an HTTP client for the feed's provider; its key, if any, is read from the variable `key_env`.

    `key_header` is the header of the key, `authorization` for a bearer token. `timeout` in seconds.
    """
    headers = {"accept": "application/json"}
    if key_env:
        key = variable(key_env)
        if not key:
            raise Misconfigured(
                f"feed {feed} needs a key: set {key_env}, or take {feed} out of `order` in config/feeds.yaml"
            )
        headers[key_header] = f"Bearer {key}" if key_header.lower() == "authorization" else key
    return client(checked_url(feed, base_url, own_node=own_node), headers=headers, timeout=timeout)


def ask(http: Client, method: str, path: str, **request: Any) -> Any:
    """Return the JSON answer, decimals as `Decimal`. Raises Retryable when it is not JSON, and as `fetch` does."""
    response = fetch(http, method, path, **request)
    try:
        return untrusted.loads(response.content, decimals=True)
    except ValueError as error:
        raise Retryable(f"{http.base_url}{path} answered no JSON: {error}") from error


@contextmanager
def shaped(feed: str) -> Iterator[None]:
    """Convert errors of parsing an undocumented answer to Retryable: they are the source's failure."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError) as error:
        # OSError: a time outside the operating system's range
        raise Retryable(f"{feed} answered in another shape: {type(error).__name__} {error}") from error


def each(feed: str, rows: Iterable[Row], read: Callable[[Row], Read]) -> list[Read]:
    """Apply `read` to every row; malformed rows are logged and left out. Raises Retryable if all rows are malformed."""
    found: list[Read] = []
    refused: Retryable | None = None
    for row in rows:
        try:
            with shaped(feed):
                found.append(read(row))
        except Retryable as error:
            refused = error
            log.warning("row_refused", feed=feed, row=str(row)[:200], error=str(error))
    if refused and not found:
        raise refused
    return found


def name_missing(feed: str, asked: Iterable[str], found: Container[str]) -> None:
    """Log requested symbols without an answer, for example a retired id or a dead contract."""
    if missing := sorted(symbol for symbol in asked if symbol not in found):
        log.warning("symbols_unanswered", feed=feed, symbols=missing)


def number(value: Any) -> Decimal:
    """Return a price as received; NaN for anything but a number, so that it is rejected and stored as such."""
    try:
        return (
            Decimal(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else NAN
        )
    except InvalidOperation:
        return NAN


def moment(value: Any) -> datetime:
    """Parse ISO 8601 text or Unix seconds into UTC. Raises ValueError or TypeError."""
    if isinstance(value, str) and not value.isdigit():
        return clock.utc(datetime.fromisoformat(value))
    return datetime.fromtimestamp(int(value), UTC)


def spread(bid: Decimal, ask: Decimal) -> Decimal | None:
    """Return half of the bid-ask spread, USD; None without both sides."""
    return (ask - bid) / 2 if bid.is_finite() and ask.is_finite() and 0 < bid <= ask else None
