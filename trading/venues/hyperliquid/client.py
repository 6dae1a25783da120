"""HTTP requests to Hyperliquid: POST /info for reads, POST /exchange for signed actions.

Errors are those of `maxxit.core.http`. A refusal in Hyperliquid's own words is a `Refusal`: it comes with HTTP 200, as
status "err" of the whole action or as "error" of its order, and with HTTP 422 where the body was not understood. Any
other answer proves nothing: Unknown for an action, Retryable for a read.
"""

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from maxxit.core import clock, http
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from trading.reasons import Reason
from trading.venues import background

HOSTS = {"mainnet": "https://api.hyperliquid.xyz", "testnet": "https://api.hyperliquid-testnet.xyz"}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TIMEOUT_SECONDS = 10.0
MAX_SECONDS = 30.0
"""For a whole answer."""
MINUTE = timedelta(minutes=1)
WEIGHT_A_MINUTE = 1200
"""Of one IP address."""
RESERVED_FOR_ACTIONS = 400
"""Of that weight, what reads leave to orders."""
IN_BACKGROUND = 400
"""Of that weight, what reads in the background may use (`trading.venues.background`)."""
EXCHANGE_WEIGHT = 1
LIGHT = frozenset({"l2Book", "allMids", "clearinghouseState", "orderStatus", "activeAssetData"})
LIGHT_WEIGHT, WEIGHT = 2, 20
"""Of a read in `LIGHT`, and of any other."""
PAUSE_SECONDS = 10.0
"""After 429 without a Retry-After, and where an address has used up its requests: one each ten seconds is allowed."""

DUPLICATE_NONCE, TOO_MANY = "duplicate nonce", "Too many cumulative requests"
WORDS: tuple[tuple[str, str], ...] = (
    ("does not exist", Reason.CREDENTIALS_REFUSED),
    ("Insufficient margin", Reason.INSUFFICIENT_BALANCE),
    ("minimum value", Reason.BELOW_MINIMUM),
    ("Reduce only", Reason.NO_POSITION),
    ("could not immediately match", Reason.NOT_MATCHED),
    ("No liquidity", Reason.NOT_MATCHED),
    ("Builder fee has not been approved", Reason.BUILDER_FEE_NOT_APPROVED),
    ("expire", Reason.DEADLINE_PASSED),
)
"""Part of a text that refuses an action -> reason code; the first that fits."""


@dataclass(frozen=True, slots=True)
class Keys:
    """An account: the address that owns it, and the agent key that signs for it."""

    address: str
    """The main wallet's address, lower case: every read asks with it."""
    agent_key: str

    def __repr__(self) -> str:
        return f"Keys({self.address})"


class Refusal(Rejected):
    """Hyperliquid's words for an action, or an order, that it did not do."""

    def __init__(self, text: str) -> None:
        code = next((code for words, code in WORDS if words in text), Reason.REFUSED_BY_VENUE)
        super().__init__(f"Hyperliquid refused it: {text}", code=code)
        self.text = text

    @property
    def arrived_before(self) -> bool:
        """Whether the nonce was used: this action arrived before, and was done or refused then."""
        return DUPLICATE_NONCE in self.text


class Client:
    """Sends requests to one host, within the weight that an IP address may use in a minute."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._http = http.client(base_url, timeout=TIMEOUT_SECONDS)
        self._lock = threading.Lock()
        self._used: deque[tuple[datetime, int, bool]] = deque()
        """When, how much, and whether in the background."""
        self._paused: datetime | None = None

    def info(self, kind: str, **query: Any) -> Any:
        """Return the JSON answer of a read, its numbers as Decimal. Raises Retryable, or Rejected with 422."""
        self._spend(LIGHT_WEIGHT if kind in LIGHT else WEIGHT, WEIGHT_A_MINUTE - RESERVED_FOR_ACTIONS)
        return self._post("/info", json.dumps({"type": kind, **query}), writes=False)

    def info_object(self, kind: str, *needed: str, **query: Any) -> dict[str, Any]:
        """Return an answer that is an object with the members `needed`. Raises Retryable for any other."""
        answer = self.info(kind, **query)
        if not isinstance(answer, dict) or any(answer.get(name) is None for name in needed):
            raise Retryable(f"Hyperliquid's answer to {kind} has no {', '.join(needed)}")
        return answer

    def info_list(self, kind: str, **query: Any) -> list[Any]:
        """Return an answer that is a list. Raises Retryable for any other."""
        answer = self.info(kind, **query)
        if not isinstance(answer, list):
            raise Retryable(f"Hyperliquid's answer to {kind} is not a list")
        return answer

    def exchange(self, body: str) -> dict[str, Any]:
        """Send a signed action and return its `response`. Raises Refusal, Retryable (not arrived) or Unknown."""
        self._spend(EXCHANGE_WEIGHT, WEIGHT_A_MINUTE)
        answer = self._post("/exchange", body, writes=True)
        status = answer.get("status") if isinstance(answer, dict) else None
        response = answer.get("response") if isinstance(answer, dict) else None
        if status == "err" and isinstance(response, str):
            if TOO_MANY in response:
                raise Retryable(f"Hyperliquid: {response}", after=PAUSE_SECONDS, limited=True)
            raise Refusal(response)
        if status != "ok" or not isinstance(response, dict):
            raise Unknown("Hyperliquid's answer to an action is neither ok nor err")
        return response

    def _post(self, path: str, body: str, *, writes: bool) -> Any:
        failure: type[Retryable] | type[Unknown] = Unknown if writes else Retryable
        try:
            response = http.fetch(
                self._http, "POST", path, writes=writes, max_seconds=MAX_SECONDS, content=body.encode(),
                headers={"content-type": "application/json"},
            )  # fmt: skip
        except Retryable as error:
            if error.limited:
                self._pause(error.after)
            raise
        except Rejected as error:
            if error.code == "http_422" and not error.body.lstrip().startswith("<"):
                raise Refusal(error.body or "the body was not understood") from error
            raise failure(f"{error}") from error
        if response.status_code >= 300:
            raise failure(f"Hyperliquid answered {path} with a redirect ({response.status_code})")
        try:
            return json.loads(response.content, parse_float=Decimal)
        except ValueError as error:
            raise failure(f"Hyperliquid answered {path} with something that is not JSON") from error

    def _spend(self, weight: int, limit: int) -> None:
        """Count a request's weight. Raises Retryable where the minute's is used up, or after 429."""
        now, waits = clock.now(), background.is_on()
        with self._lock:
            if self._paused and now < self._paused:
                left = (self._paused - now).total_seconds()
                raise Retryable(
                    f"Hyperliquid's rate limit is used up for {left:.0f} s", after=left, limited=True
                )
            while self._used and (self._used[0][0] <= now - MINUTE or self._used[0][0] > now):
                self._used.popleft()
            shares = [(limit, sum(one for _, one, _ in self._used))]
            if waits:
                shares.append((IN_BACKGROUND, sum(one for _, one, waited in self._used if waited)))
            for most, used in shares:
                if used + weight > most:
                    raise Retryable(
                        f"Hyperliquid: {used} of {most} weight used in this minute",
                        after=PAUSE_SECONDS,
                        limited=True,
                    )
            self._used.append((now, weight, waits))

    def _pause(self, seconds: float | None) -> None:
        """Ask nothing more for a time; a minute at most."""
        wait = PAUSE_SECONDS if seconds is None else min(max(seconds, 1.0), MINUTE.total_seconds())
        self._paused = clock.now() + timedelta(seconds=wait)

    def forget_limits(self) -> None:
        """Forget what was used, for tests that share a client."""
        with self._lock:
            self._used.clear()
            self._paused = None


def api_host(network: str, base_url: str = "") -> str:
    """Return the URL of a network's API. Raises Misconfigured for any other host; loopback is allowed, for tests."""
    if network not in HOSTS:
        raise Misconfigured(f"venue hyperliquid: network is {network!r}; it is mainnet or testnet")
    url = base_url.rstrip("/") or HOSTS[network]
    if url == HOSTS[network] or (urlsplit(url).hostname in LOOPBACK and "@" not in url):
        return url
    raise Misconfigured(
        f"venue hyperliquid: base_url is {base_url!r}; {network} is at {HOSTS[network]}, nowhere else"
    )


def statuses_of(response: Mapping[str, Any]) -> list[Any]:
    """Return what an order action's response says of each of its orders. Raises Unknown for any other response."""
    data = response.get("data")
    statuses = data.get("statuses") if isinstance(data, Mapping) else None
    if not isinstance(statuses, list) or not statuses:
        raise Unknown("Hyperliquid's answer to an order names no status")
    return statuses
