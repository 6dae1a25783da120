"""The one door out: every HTTP call of the project leaves through `client`, and httpx is imported only here.

Errors become the project's own: an unreachable server and 429 are `Retryable` (with the server's Retry-After);
a timeout, a broken answer or a 5xx after the request was sent is `Unknown` for writes (the caller says so) and
`Retryable` for reads; any other 4xx, and an answer that is too large, is `Rejected`.
"""

import time
from typing import Any

import httpx

from maxxit.core import clock, redact
from maxxit.core.errors import Rejected, Retryable, Unknown

Client = httpx.Client
Response = httpx.Response
HTTPError = httpx.HTTPError
DEFAULT_TIMEOUT = 20.0
"""Seconds for connect, read, write and pool together each."""
MAX_SECONDS = 120.0
"""For a whole answer: a server that drips bytes keeps each single read within the timeout."""
MAX_BODY = 5_000_000
"""Bytes of an answer that we are willing to hold."""
LONGEST_WAIT = 86_400.0
"""Seconds that a server may ask us to wait: a larger number, or infinity, is no wish of a server."""
MAX_REFUSAL = 20_000
"""Characters of a refusal's body that are kept for reading its reason."""


def client(
    base_url: str = "",
    *,
    headers: dict[str, str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    trust_env: bool = True,
) -> Client:
    """A client for one provider. Redirects are not followed: a provider that moves is a change of config.

    `trust_env` false: the proxies of the environment and the passwords in ~/.netrc are not used.
    """
    return httpx.Client(
        base_url=base_url, headers=headers, timeout=timeout, follow_redirects=False, trust_env=trust_env
    )


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
    """One request, its body read up to `max_body` bytes and for `max_seconds`.

    `writes` says that the request changes something on the other side, so a failure after sending is
    `Unknown` and not `Retryable`. Raises Retryable, Rejected or Unknown as the module says.
    """
    lost: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
    try:
        with http.stream(method, url, **request) as response:
            body, begun = bytearray(), time.monotonic()
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() - begun > max_seconds:
                    raise lost(f"{response.url.host} was still answering after {max_seconds:.0f} s")
                if len(body) > max_body:
                    raise Rejected(
                        f"{response.url.host} answered more than {max_body} bytes", code="answer_too_large"
                    )
            response._content = bytes(body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Retryable(f"{http.base_url or url}: {error}") from error
    except httpx.HTTPError as error:
        raise lost(f"{http.base_url or url}: {type(error).__name__} {error}") from error
    return _judge(response, lost)


def _judge(response: Response, lost: type[Retryable] | type[Unknown]) -> Response:
    code = response.status_code
    if code < 400:
        return response
    where = f"{response.url.host} answered {code}"
    body = redact.text(response.text[:MAX_REFUSAL])  # servers like to quote the key that they refuse
    if code == 429:
        raise Retryable(f"{where}: {body[:300]}", after=retry_after(response), limited=True)
    if code >= 500:
        raise lost(where)
    raise Rejected(f"{where}: {body[:300]}", code=f"http_{code}", body=body)


def retry_after(response: Response) -> float | None:
    """Seconds, as the server said, a day at most; X names the moment in `x-rate-limit-reset` instead."""
    value = response.headers.get("retry-after", "")
    if value.replace(".", "", 1).isdecimal():
        return min(float(value), LONGEST_WAIT)
    reset = response.headers.get("x-rate-limit-reset", "")
    if not reset.isdecimal():
        return None
    return min(max(0.0, float(reset) - clock.now().timestamp()), LONGEST_WAIT)
