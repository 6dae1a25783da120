"""What an Alpaca account may do now, what Alpaca lists, and when the stock exchange is open."""

from collections.abc import Mapping
from datetime import date, time
from typing import Any

from maxxit.core.errors import Retryable
from maxxit.market.calendar import Session
from trading.venues.alpaca.client import Client, Keys, Refusal
from trading.venues.cache import Cache

CLOCK_SECONDS, ACCOUNT_SECONDS, ASSET_SECONDS = 10, 15, 600
"""How long an answer of /v2/clock, of the account and of an asset is used again."""
BLOCKING = ("trading_blocked", "account_blocked", "trade_suspended_by_user")


class Access:
    """Reads the account, its settings, assets and the clock; keeps each for some seconds."""

    def __init__(self, client: Client) -> None:
        self._client, self._cache = client, Cache()

    def account(self, keys: Keys) -> dict[str, Any]:
        """Return the account, with `suspend_trade` of its configuration."""

        def ask() -> dict[str, Any]:
            self._client.leave_reserve(keys)
            settings = self._client.get_object(keys, "/v2/account/configurations", "suspend_trade")
            account = self._client.get_object(keys, "/v2/account", "status")
            return account | {"suspend_trade": settings["suspend_trade"]}

        return self._cache.read(("account", keys.key_id), ACCOUNT_SECONDS, ask)

    def market_clock(self, keys: Keys) -> dict[str, Any]:
        """Return /v2/clock: whether the stock exchange is open, and when it opens and closes next.

        Where it does not answer, nobody waits for it again for as long as an answer is kept. Raises Retryable, or
        Refusal, which is of these keys alone and not kept, as is a rate limit.
        """

        def ask() -> dict[str, Any] | Retryable:
            try:
                return self._client.get_object(keys, "/v2/clock", "is_open")
            except Retryable as error:
                if error.limited:
                    raise
                return error

        answer = self._cache.read(("clock", ""), CLOCK_SECONDS, ask)
        if isinstance(answer, Retryable):
            raise Retryable(str(answer)) from answer
        return answer

    def sessions(self, keys: Keys, first: date, last: date) -> list[Session]:
        """Return the sessions of /v2/calendar, whose times are those of New York. Raises Retryable."""
        self._client.leave_reserve(keys)
        path = "/v2/calendar"
        rows = self._client.get_list(keys, path, start=first.isoformat(), end=last.isoformat())
        try:
            return [
                Session.of(
                    date.fromisoformat(row["date"]),
                    time.fromisoformat(row["open"]),
                    time.fromisoformat(row["close"]),
                )
                for row in rows
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise Retryable(f"Alpaca's answer to {path} has a day that cannot be read: {error}") from error

    def is_tradable(self, keys: Keys, name: str) -> bool:
        """Return whether Alpaca lists the asset of this name and trades it now."""

        def ask() -> bool:
            self._client.leave_reserve(keys)
            try:
                asset = self._client.get_object(keys, f"/v2/assets/{name.replace('/', '%2F')}", "tradable")
            except Refusal as refusal:
                if refusal.status == 404:
                    return False
                raise
            return bool(asset["tradable"]) and asset.get("status", "active") == "active"

        return self._cache.read(("asset", name), ASSET_SECONDS, ask)


def is_blocked(account: Mapping[str, Any], *, stock: bool) -> bool:
    """Return whether an account may not trade. Flags that Alpaca leaves out block nothing."""
    if account.get("status") != "ACTIVE":
        return True
    if not stock and account.get("crypto_status", "ACTIVE") != "ACTIVE":
        return True
    return any(account.get(name) for name in (*BLOCKING, "suspend_trade"))


def permissions(account: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what an account may do, in Alpaca's words."""
    words = [f"paper account {account.get('account_number', '')}".rstrip(), f"status {account['status']}"]
    words += [name for name in (*BLOCKING, "suspend_trade") if account.get(name)]
    if account.get("crypto_status") == "ACTIVE":
        words.append("crypto")
    if account.get("shorting_enabled"):
        words.append("shorts")
    return tuple(words)
