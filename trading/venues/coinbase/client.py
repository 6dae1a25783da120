"""HTTP requests to Coinbase Advanced, signed with the key of one account each.

Errors are those of `maxxit.core.http`. A refusal in Coinbase's own words is a `Refusal`; any other answer of status
4xx, a redirect, and a body that is not JSON prove nothing: Unknown for a write, Retryable for a read.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from maxxit.core import clock, http
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable, Unknown
from trading.reasons import Reason
from trading.venues.coinbase.token import HOST, Keys

URL = f"https://{HOST}"
API = "/api/v3/brokerage"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TIMEOUT_SECONDS = 10.0
MAX_SECONDS = 30.0
"""For a whole answer."""
PAUSE_SECONDS, LONGEST_PAUSE = 1.0, 60.0
"""How long an account rests after a 429: Coinbase counts requests by the second."""
SKEW_SECONDS = 30.0
"""How far this host's clock may be from Coinbase's before a 401 is blamed on it."""
PAGE = 250
MOST_PAGES = 20
Query = Sequence[tuple[str, str]]
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What parsing an answer raises that lacks a member, or whose member has another form."""


class Refusal(Rejected):
    """A 4xx answer in Coinbase's words: it did not do what was asked."""

    def __init__(self, status: int, word: str, message: str) -> None:
        code = Reason.CREDENTIALS_REFUSED if status in (401, 403) else Reason.REFUSED_BY_VENUE
        super().__init__(f"Coinbase refused it ({word or status}): {message}", code=code)
        self.status, self.word = status, word


class Client:
    """Sends requests to one host; waits, account by account, after a rate limit."""

    def __init__(self, base_url: str) -> None:
        self._http = http.client(checked_url(base_url), timeout=TIMEOUT_SECONDS, trust_env=False)
        self._paused: dict[str, datetime] = {}
        """Name of a key -> when its account may ask again."""

    def get(self, keys: Keys, path: str, needed: str, query: Query = ()) -> dict[str, Any]:
        """Return the JSON object of a read, its numbers as Decimal. Raises Refusal, or Retryable without `needed`."""
        answer = self._request(keys, "GET", path, writes=False, params=list(query))
        return _with(answer, needed, path)

    def pages(self, keys: Keys, path: str, rows: str, query: Query = ()) -> Iterator[dict[str, Any]]:
        """Yield the rows of all pages of a list. Raises Refusal, or Retryable where a page is not whole."""
        cursor = ""
        for _ in range(MOST_PAGES):
            more = [("cursor", cursor)] if cursor else []
            answer = self.get(keys, path, rows, [*query, ("limit", str(PAGE)), *more])
            if not isinstance(answer[rows], list) or not all(isinstance(row, dict) for row in answer[rows]):
                raise Retryable(f"Coinbase's answer to {path} has no list of {rows}")
            yield from answer[rows]
            before, cursor = cursor, str(answer.get("cursor") or "")
            if not cursor or cursor == before or not answer[rows] or answer.get("has_next") is False:
                return
        raise Retryable(f"Coinbase has more than {MOST_PAGES * PAGE} {rows} for {path}")

    def ask(self, keys: Keys, path: str, body: str) -> dict[str, Any]:
        """Post a body that changes nothing, and return the JSON object. Raises Refusal or Retryable."""
        answer = self._request(keys, "POST", path, writes=False, **_json(body))
        if not isinstance(answer, dict):
            raise Retryable(f"Coinbase's answer to {path} is not an object")
        return answer

    def post(self, keys: Keys, path: str, body: str, expires_at: datetime | None = None) -> Any:
        """Send a body as it is and return the JSON answer. Raises Refusal, Retryable (not arrived) or Unknown.

        `expires_at`: Coinbase refuses the request after this.
        """
        return self._request(keys, "POST", path, writes=True, expires_at=expires_at, **_json(body))

    def clock_skew(self) -> float:
        """Return how many seconds Coinbase's clock is ahead of this host's. Raises Retryable where it is not read."""
        answer = self._json(http.fetch(self._http, "GET", f"{API}/time", max_seconds=MAX_SECONDS), Retryable)
        with reading("time"):
            return int(answer["epochMillis"]) / 1000 - clock.now().timestamp()

    def _request(
        self,
        keys: Keys,
        method: str,
        path: str,
        *,
        writes: bool,
        expires_at: datetime | None = None,
        headers: dict[str, str] | None = None,
        **request: Any,
    ) -> Any:
        self._check_pause(keys)
        failure: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
        token = keys.token(method, API + path, expires_at)
        signed = {**(headers or {}), "authorization": f"Bearer {token}"}
        try:
            response = http.fetch(
                self._http,
                method,
                API + path,
                writes=writes,
                max_seconds=MAX_SECONDS,
                headers=signed,
                **request,
            )
        except Retryable as error:
            if error.limited:
                self._pause(keys, error.after)
            raise
        except Rejected as error:
            refusal = _refusal(error)
            if refusal is None:
                raise failure(f"{error}") from error
            if refusal.status == 401:
                self._check_clock()
            raise refusal from error
        return self._json(response, failure)

    def _json(self, response: http.Response, failure: type[Retryable] | type[Unknown]) -> Any:
        where = response.url.path
        if response.status_code >= 300:
            raise failure(f"Coinbase answered {where} with a redirect ({response.status_code})")
        try:
            return json.loads(response.content, parse_float=Decimal)
        except ValueError as error:
            raise failure(f"Coinbase answered {where} with something that is not JSON") from error

    def _check_clock(self) -> None:
        """Raise Retryable where this host's clock is wrong: then a 401 says nothing of the key."""
        try:
            skew = self.clock_skew()
        except MaxxitError:
            return
        if abs(skew) > SKEW_SECONDS:
            raise Retryable(
                f"Coinbase refused the request because this host's clock is {abs(skew):.0f} s"
                f" {'slow' if skew > 0 else 'fast'}: set it by NTP"
            )

    def _check_pause(self, keys: Keys) -> None:
        """Raise Retryable while the account rests after a rate limit."""
        until = self._paused.get(keys.name)
        if until is None:
            return
        left = (until - clock.now()).total_seconds()
        if left > 0:
            raise Retryable(
                f"Coinbase's rate limit of this account is used up for {left:.0f} s", after=left, limited=True
            )
        self._paused.pop(keys.name, None)

    def _pause(self, keys: Keys, seconds: float | None) -> None:
        wait = min(max(seconds or 0.0, PAUSE_SECONDS), LONGEST_PAUSE)
        self._paused[keys.name] = clock.now() + timedelta(seconds=wait)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise Retryable where an answer has another form than the code of this block expects."""
    try:
        yield
    except UNREADABLE as error:
        raise Retryable(f"Coinbase's {what} cannot be read") from error


def number(text: Any) -> Decimal:
    """Parse a number of an answer. Raises ValueError for anything that is not a finite one."""
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError(f"{text} is not a number")
    return value


def checked_url(base_url: str) -> str:
    """Return the URL without a slash at its end. Raises Misconfigured for any host but Coinbase's API.

    Loopback addresses are allowed, for the fake of the tests.
    """
    url = base_url.rstrip("/")
    if url == URL or (urlsplit(url).hostname in LOOPBACK and "@" not in url):
        return url
    raise Misconfigured(f"venue coinbase: base_url is {base_url!r}; only {URL} is allowed")


def _json(body: str) -> dict[str, Any]:
    return {"content": body.encode(), "headers": {"content-type": "application/json"}}


def _with(answer: Any, needed: str, path: str) -> dict[str, Any]:
    if not isinstance(answer, dict) or answer.get(needed) is None:
        raise Retryable(f"Coinbase's answer to {path} has no {needed}")
    return answer


def _refusal(error: Rejected) -> Refusal | None:
    """Return what Coinbase says in a 4xx answer; None where the answer is not Coinbase's."""
    status = error.code.removeprefix("http_")
    if not status.isdecimal():
        return None
    if status == "401" and error.body.strip().lower() == "unauthorized":  # the one answer that is not JSON
        return Refusal(401, "", "Unauthorized")
    try:
        body = json.loads(error.body)
    except ValueError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        return None
    message = body.get("message") or body.get("error_details") or ""
    return Refusal(int(status), body["error"], str(message))
