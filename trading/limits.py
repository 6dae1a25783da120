"""Measure how much of the risk limits an account and the platform already use: exposure, open orders, order rate.

Read from the orders and the ledger while `lock` is held, so that concurrent reservations cannot overshoot a limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core.money import USDC, ZERO
from maxxit.core.terms import Purpose
from trading.models import Order
from trading.risk import LimitUsage
from trading.states import IN_FLIGHT

NEVER_BEFORE = timedelta(days=36_500)


def lock(account: str, *, platform: bool = True) -> None:
    """Take the advisory locks of the account and of the platform; they are released when the transaction ends.

    One reservation at a time passes. A closing order uses up no platform limit: with `platform=False` it waits for
    its own account only.
    """
    names = ["platform"] if platform else []
    with connection.cursor() as cursor:
        for name in (*names, f"account:{account}"):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


HELD_AND_IN_FLIGHT = """
SELECT d.account, h.asset, sum(h.amount), 0
FROM (
    SELECT account, asset, amount FROM ledger_balances WHERE amount <> 0 AND asset <> 'USDC'
    UNION ALL
    SELECT account, asset, -amount FROM ledger_entries
    WHERE kind = 'external' AND asset <> 'USDC' AND deployment_id IS NOT NULL
) AS h JOIN agent_deployments d ON h.account = 'deployment:' || d.id
WHERE (%(account)s = '' OR d.account = %(account)s) AND (%(symbol)s = '' OR h.asset = %(symbol)s)
GROUP BY d.account, h.asset
UNION ALL
SELECT account, symbol, sum(CASE side WHEN 'buy' THEN 1 ELSE -1 END * (quantity - filled_quantity)), count(*)
FROM orders
WHERE state = ANY(%(in_flight)s) AND purpose = 'open'
  AND (%(account)s = '' OR account = %(account)s) AND (%(symbol)s = '' OR symbol = %(symbol)s)
GROUP BY account, symbol
"""
"""(account, symbol, signed tokens, entries in flight): held by the ledger, plus what entries in flight would add.

One statement, hence one snapshot: an order settled between two statements would be missing from both. Tokens that the
owners of a Safe moved in or out count against no limit.
"""


@dataclass(frozen=True)
class Holdings:
    """Holdings plus entries in flight. Quantities in tokens, negative for a short."""

    held: Mapping[tuple[str, str], Decimal]
    """(account, symbol) -> tokens."""
    open_orders: Mapping[str, int]
    """Account -> number of entries in flight."""

    def exposure(self, prices: Mapping[str, Decimal], account: str = "", symbol: str = "") -> Decimal | None:
        """Return the gross exposure in USD at `prices` of one account or all (''), of one symbol or all ('').

        None where a price is missing.
        """
        total = ZERO
        for (holder, token), quantity in self.held.items():
            if (account and holder != account) or (symbol and token != symbol) or not quantity:
                continue
            if token not in prices:
                return None
            total += abs(quantity) * prices[token]
        return total

    def usage(
        self, prices: Mapping[str, Decimal], symbol: str, last_minute: int, account: str = ""
    ) -> LimitUsage | None:
        """Return the usage of one account, or of the platform (''); None where a price is missing."""
        gross, in_symbol = self.exposure(prices, account), self.exposure(prices, account, symbol)
        if gross is None or in_symbol is None:
            return None
        in_flight = self.open_orders.get(account, 0) if account else sum(self.open_orders.values())
        return LimitUsage(last_minute, in_flight, gross, in_symbol)


def read_holdings(account: str = "", symbol: str = "") -> Holdings:
    """Read holdings and entries in flight: of every account and symbol, or of the one given."""
    held: dict[tuple[str, str], Decimal] = {}
    open_orders: dict[str, int] = {}
    with connection.cursor() as cursor:
        params: dict[str, Any] = {"in_flight": list(IN_FLIGHT), "account": account, "symbol": symbol}
        cursor.execute(HELD_AND_IN_FLIGHT, params)
        for holder, token, amount, count in cursor.fetchall():
            held[holder, token] = held.get((holder, token), ZERO) + amount
            open_orders[holder] = open_orders.get(holder, 0) + count
    return Holdings(held, open_orders)


@dataclass(frozen=True)
class OrderRate:
    """How many entries an account and the platform reserved recently."""

    account_last_minute: int
    platform_last_minute: int
    symbol_today: int
    since_last: timedelta
    """Since the account's last entry in this symbol; `NEVER_BEFORE` where there was none."""


def read_order_rate(account: str, symbol: str, now: datetime) -> OrderRate:
    """Count entries by the time of their reservation; a day is a UTC day."""
    entries = Order.objects.filter(purpose=Purpose.OPEN, reserved_at__isnull=False)
    minute = entries.filter(reserved_at__gt=now - timedelta(minutes=1))
    in_symbol = entries.filter(account=account, symbol=symbol)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    last = in_symbol.order_by("-reserved_at").values_list("reserved_at", flat=True).first()
    return OrderRate(
        account_last_minute=minute.filter(account=account).count(),
        platform_last_minute=minute.count(),
        symbol_today=in_symbol.filter(reserved_at__gte=midnight).count(),
        since_last=now - last if last else NEVER_BEFORE,
    )


def equity(balances: Mapping[str, Decimal], owed: Decimal, prices: Mapping[str, Decimal]) -> Decimal | None:
    """Return an account's equity in USD at `prices`; None where a price is missing.

    `owed` is USDC that it owes the platform, zero or negative.
    """
    total = owed
    for asset, amount in balances.items():
        if asset == USDC:
            total += amount
        elif amount:
            if asset not in prices:
                return None
            total += amount * prices[asset]
    return total
