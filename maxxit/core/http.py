"""The project's HTTP client: every outgoing HTTP call goes through `client`; only this module imports httpx.

Errors map to `maxxit.core.errors`: an unreachable server and 429 are `Retryable` (with the server's Retry-After);
a timeout, a broken response or a 5xx after the request was sent is `Unknown` for writes (`writes=True`) and
`Retryable` for reads; any other 4xx, and a response that is too large, is `Rejected`.
"""

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import httpx

from maxxit.core import clock, redact
from maxxit.core.errors import Rejected, Retryable, Unknown

Client = httpx.Client
Response = httpx.Response
HTTPError = httpx.HTTPError
DEFAULT_TIMEOUT = 20.0
"""Seconds, for each of connect, read, write and pool."""
MAX_SECONDS = 120.0
"""Seconds for a whole response: a slow trickle of bytes never reaches the read timeout."""
MAX_BODY = 5_000_000
"""Bytes of a response body."""
MAX_RETRY_AFTER = 86_400.0
"""Seconds; a larger Retry-After, or infinity, is capped."""
MAX_ERROR_BODY = 20_000
"""Characters of an error response that are kept."""


_answered: ContextVar[Callable[[], None] | None] = ContextVar("answered", default=None)


@contextmanager
def when_answered(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` when a request within this context was accepted: once its status, below 300, is read, before its body.

    `act` must not raise.
    """
    token = _answered.set(act)
    try:
        yield
    finally:
        _answered.reset(token)


@cache
def _authorities(trust_env: bool, file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return a context with the known certificate authorities, loaded once: that takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=trust_env)


def client(
    base_url: str = "",
    *,
    headers: dict[str, str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    trust_env: bool = True,
    proxy: str | None = None,
) -> Client:
    """Return a client for one provider. Redirects are not followed: a provider that moves is a config change.

    `trust_env` false ignores the environment's proxies and ~/.netrc. `proxy`: URL of the only proxy.
    """
    return httpx.Client(
        base_url=base_url, headers=headers, timeout=timeout, follow_redirects=False, trust_env=trust_env, proxy=proxy,
        verify=_authorities(trust_env, os.getenv("SSL_CERT_FILE"), os.getenv("SSL_CERT_DIR")),
    )  # fmt: skip


def fetch(
    http: Client,
    method: str,
    url: str,
    *,
    writes: bool = False,
    max_body: int = MAX_BODY,
    max_seconds: float = MAX_SECONDS,
    **request: Any,
) -> Response:
    """Send one request and read the response, up to `max_body` bytes and for `max_seconds`.

    `writes`: the request changes something on the server, so a failure after sending is `Unknown`, not `Retryable`.
    Raises Retryable, Rejected or Unknown as the module docstring says.
    """
    failure: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
    try:
        with http.stream(method, url, **request) as response:
            if response.status_code < 300 and (act := _answered.get()) is not None:
                act()
            body, begun = bytearray(), time.monotonic()
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() - begun > max_seconds:
                    raise failure(f"{response.url.host} was still answering after {max_seconds:.0f} s")
                if len(body) > max_body:
                    raise Rejected(
                        f"{response.url.host} answered more than {max_body} bytes", code="answer_too_large"
                    )
            response._content = bytes(body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Retryable(f"{http.base_url or url}: {error}") from error
    except httpx.HTTPError as error:
        raise failure(f"{http.base_url or url}: {type(error).__name__} {error}") from error
    return _check_status(response, failure)


def _check_status(response: Response, failure: type[Retryable] | type[Unknown]) -> Response:
    code = response.status_code
    if code < 400:
        return response
    where = f"{response.url.host} answered {code}"
    body = redact.text(response.text[:MAX_ERROR_BODY])  # servers like to quote the key that they refuse
    if code == 429:
        raise Retryable(f"{where}: {body[:300]}", after=retry_after(response), limited=True, body=body)
    if code >= 500:
        raise failure(where)
    raise Rejected(f"{where}: {body[:300]}", code=f"http_{code}", body=body)


def retry_after(response: Response) -> float | None:
    """Return the wait in seconds that the server asks for, capped.

    X sends `x-rate-limit-reset` instead, Alpaca `x-ratelimit-reset`: the moment, in seconds since 1970.
    """
    value = response.headers.get("retry-after", "")
    if value.replace(".", "", 1).isdecimal():
        return min(float(value), MAX_RETRY_AFTER)
    reset = response.headers.get("x-rate-limit-reset") or response.headers.get("x-ratelimit-reset", "")
    if not reset.isdecimal():
        return None
    return min(max(0.0, float(reset) - clock.now().timestamp()), MAX_RETRY_AFTER)
