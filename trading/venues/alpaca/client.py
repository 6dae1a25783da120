"""HTTP requests to Alpaca's paper trading API, for the keys of one account each.

Errors are those of `maxxit.core.http`. A refusal in Alpaca's own words is a `Refusal`; any other answer of status 4xx,
a redirect, and a body that is not JSON prove nothing: Unknown for a write, Retryable for a read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from maxxit.core import clock, http
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from trading.reasons import Reason

PAPER_URL = "https://paper-api.alpaca.markets"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TIMEOUT_SECONDS = 10.0
MAX_SECONDS = 30.0
"""For a whole answer."""
MINUTE = 60.0
"""Seconds; the window of the rate limit, so that no pause is longer."""
RESERVED = 40
"""Requests of a minute's 200 that are kept for orders: reads that can wait stop there."""
UNAUTHORIZED = 40110000
WORDS: tuple[tuple[str, str], ...] = (
    ("insufficient buying power", Reason.INSUFFICIENT_BALANCE),
    ("insufficient balance for USD", Reason.INSUFFICIENT_BALANCE),
    ("insufficient balance for", Reason.NO_POSITION),
    ("insufficient qty", Reason.NO_POSITION),
    ("rejected by user request", Reason.ACCOUNT_BLOCKED),
    ("not allowed to trade", Reason.ACCOUNT_BLOCKED),
    ("cannot be sold short", Reason.SHORTS_NOT_SUPPORTED),
    ("not tradable", Reason.TOKEN_NOT_LISTED),
    ("not found", Reason.TOKEN_NOT_LISTED),
)
"""Part of a message that refuses an order -> reason code; the first that fits."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs the requests of one account."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"Keys(…{self.key_id[-4:]})"


class Refusal(Rejected):
    """A 4xx answer in Alpaca's words: it did not do what was asked."""

    def __init__(self, status: int, number: int | None, message: str) -> None:
        super().__init__(
            f"Alpaca refused it ({number or status}): {message}", code=_reason(status, number, message)
        )
        self.status, self.number, self.text = status, number, message


class Client:
    """Sends requests to one host; waits, account by account, where the rate limit is used up."""

    def __init__(self, base_url: str) -> None:
        self._http = http.client(paper_host(base_url), timeout=TIMEOUT_SECONDS)
        self._paused: dict[str, datetime] = {}
        """Key id -> when its account may ask again."""
        self._left: dict[str, tuple[int, datetime]] = {}
        """Key id -> requests left of its minute, and when the minute ends."""

    def get(self, keys: Keys, path: str, **query: str) -> Any:
        """Return the JSON answer of a read, its numbers as Decimal. Raises Refusal or Retryable."""
        return self._request(keys, "GET", path, writes=False, params=query)

    def get_object(self, keys: Keys, path: str, needed: str, **query: str) -> dict[str, Any]:
        """Return an answer that is an object with the member `needed`. Raises Retryable for any other."""
        answer = self.get(keys, path, **query)
        if not isinstance(answer, dict) or answer.get(needed) is None:
            raise Retryable(f"Alpaca's answer to {path} has no {needed}")
        return answer

    def get_list(self, keys: Keys, path: str, **query: str) -> list[Any]:
        """Return an answer that is a list. Raises Retryable for any other."""
        answer = self.get(keys, path, **query)
        if not isinstance(answer, list):
            raise Retryable(f"Alpaca's answer to {path} is not a list")
        return answer

    def post(self, keys: Keys, path: str, body: str) -> Any:
        """Send a body as it is and return the JSON answer. Raises Refusal, Retryable (not arrived) or Unknown."""
        headers = {"content-type": "application/json"}
        return self._request(keys, "POST", path, writes=True, content=body.encode(), headers=headers)

    def delete(self, keys: Keys, path: str) -> None:
        """Send a DELETE. Raises Refusal, Retryable or Unknown."""
        self._request(keys, "DELETE", path, writes=True)

    def _request(
        self,
        keys: Keys,
        method: str,
        path: str,
        *,
        writes: bool,
        headers: Mapping[str, str] = {},
        **request: Any,
    ) -> Any:
        self._check_pause(keys)
        failure: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
        signed = {**headers, "APCA-API-KEY-ID": keys.key_id, "APCA-API-SECRET-KEY": keys.secret}
        try:
            response = http.fetch(
                self._http, method, path, writes=writes, max_seconds=MAX_SECONDS, headers=signed, **request
            )
        except Retryable as error:
            if error.limited:
                self._pause(keys, error.after)
            raise
        except Rejected as error:
            raise _refusal(error) or failure(f"{error}") from error
        self._note_limit(keys, response.headers.get("x-ratelimit-remaining", ""), http.retry_after(response))
        if response.status_code == 204:
            return None
        if response.status_code >= 300:
            raise failure(f"Alpaca answered {method} {path} with a redirect ({response.status_code})")
        try:
            return json.loads(response.content, parse_float=Decimal)
        except ValueError as error:
            raise failure(f"Alpaca answered {method} {path} with something that is not JSON") from error

    def _check_pause(self, keys: Keys) -> None:
        """Raise Retryable while the rate limit of the account is used up."""
        until = self._paused.get(keys.key_id)
        if until is None:
            return
        left = (until - clock.now()).total_seconds()
        if left > 0:
            raise Retryable(
                f"Alpaca's rate limit of this account is used up for {left:.0f} s", after=left, limited=True
            )
        self._paused.pop(keys.key_id, None)

    def _note_limit(self, keys: Keys, left: str, seconds: float | None) -> None:
        """Keep how many requests the account has left, and for how long; pause it where there is none."""
        if not left.isdecimal():
            return
        wait = MINUTE if seconds is None else min(max(seconds, 1.0), MINUTE)
        self._left[keys.key_id] = int(left), clock.now() + timedelta(seconds=wait)
        if int(left) == 0:
            self._pause(keys, seconds)

    def leave_reserve(self, keys: Keys) -> None:
        """Raise Retryable while only the requests that are reserved for orders are left.

        Call it before a read that is not needed to send an order, to settle one or to end an exit.
        """
        left, until = self._left.get(keys.key_id, (RESERVED + 1, clock.now()))
        seconds = (until - clock.now()).total_seconds()
        if left <= RESERVED and seconds > 0:
            raise Retryable(
                f"{left} requests of this account are left for {seconds:.0f} s: they are kept for orders",
                after=seconds,
                limited=True,
            )

    def _pause(self, keys: Keys, seconds: float | None) -> None:
        """Ask nothing more for this account for a time; a minute at most, whatever the server's clock says."""
        wait = MINUTE if seconds is None else min(max(seconds, 1.0), MINUTE)
        self._paused[keys.key_id] = clock.now() + timedelta(seconds=wait)


def paper_host(base_url: str) -> str:
    """Return the URL without a slash at its end. Raises Misconfigured for any host but Alpaca's paper API.

    Loopback addresses are allowed, for the fake of the tests.
    """
    url = base_url.rstrip("/")
    if url == PAPER_URL or (urlsplit(url).hostname in LOOPBACK and "@" not in url):
        return url
    raise Misconfigured(f"venue alpaca: base_url is {base_url!r}; only {PAPER_URL} is allowed (paper money)")


def stream_url(base_url: str) -> str:
    """Return the URL of the stream of an API. Raises Misconfigured as `paper_host`."""
    parts = urlsplit(paper_host(base_url))
    return urlunsplit(("wss" if parts.scheme == "https" else "ws", parts.netloc, "/stream", "", ""))


def _refusal(error: Rejected) -> Refusal | None:
    """Return what Alpaca says in a 4xx answer; None where the answer is not Alpaca's JSON."""
    status = error.code.removeprefix("http_")
    try:
        body = json.loads(error.body)
    except ValueError:
        return None
    if not status.isdecimal() or not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return None
    number = body.get("code")
    return Refusal(int(status), number if isinstance(number, int) else None, body["message"])


def _reason(status: int, number: int | None, message: str) -> str:
    """Return the reason code of a refusal."""
    if status == 401 or number == UNAUTHORIZED or (status == 403 and message.startswith("forbidden")):
        return Reason.CREDENTIALS_REFUSED
    for words, code in WORDS:
        if words in message:
            return code
    return Reason.REFUSED_BY_VENUE
