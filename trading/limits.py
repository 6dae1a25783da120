"""What an account, and the whole platform, already do: counted from the orders and the ledger, under a lock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core.money import USDC, ZERO
from maxxit.core.terms import Purpose
from trading.models import Order
from trading.risk import Load
from trading.states import IN_FLIGHT

FOREVER = timedelta(days=36_500)


def lock(account: str, *, platform: bool = True) -> None:
    """Let one reservation at a time through, on the platform and on the account, until the transaction ends.

    A closing order uses up nothing of the platform's limits: without `platform` it waits for its own account only.
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
    WHERE kind = 'external' AND asset <> 'USDC' AND account LIKE 'deployment:%%'
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
"""One statement, so one snapshot: an order that is settled between two would be in neither.

Tokens that the owner of a Safe moved himself are his own: they use up no limit, neither his nor the platform's.
"""


@dataclass(frozen=True)
class Book:
    """Every holding and every entry in flight, by (account, symbol), in signed tokens."""

    held: Mapping[tuple[str, str], Decimal]
    open_orders: Mapping[str, int]
    """Account -> entries in flight."""

    def exposure(self, prices: Mapping[str, Decimal], account: str = "", symbol: str = "") -> Decimal | None:
        """Gross USD at `prices`, of one account or all, of one symbol or all; None where a price is missing."""
        total = ZERO
        for (owner, token), quantity in self.held.items():
            if (account and owner != account) or (symbol and token != symbol) or not quantity:
                continue
            if token not in prices:
                return None
            total += abs(quantity) * prices[token]
        return total

    def load(
        self, prices: Mapping[str, Decimal], symbol: str, last_minute: int, account: str = ""
    ) -> Load | None:
        """The figures that the limits are held against; None where one cannot be computed."""
        gross, in_symbol = self.exposure(prices, account), self.exposure(prices, account, symbol)
        if gross is None or in_symbol is None:
            return None
        flying = self.open_orders.get(account, 0) if account else sum(self.open_orders.values())
        return Load(last_minute, flying, gross, in_symbol)


def read_book(account: str = "", symbol: str = "") -> Book:
    """Holdings by the ledger plus what entries in flight would add: of all, or of one account and one symbol."""
    held: dict[tuple[str, str], Decimal] = {}
    flying: dict[str, int] = {}
    with connection.cursor() as cursor:
        asked: dict[str, Any] = {"in_flight": list(IN_FLIGHT), "account": account, "symbol": symbol}
        cursor.execute(HELD_AND_IN_FLIGHT, asked)
        for owner, token, amount, count in cursor.fetchall():
            held[owner, token] = held.get((owner, token), ZERO) + amount
            flying[owner] = flying.get(owner, 0) + count
    return Book(held, flying)


@dataclass(frozen=True)
class OrderRate:
    """How often an account, and everyone, sent entries of late."""

    account_last_minute: int
    platform_last_minute: int
    symbol_today: int
    since_last: timedelta


def read_order_rate(account: str, symbol: str, now: datetime) -> OrderRate:
    """Entries by the moment of their reservation; a day is a UTC day."""
    entries = Order.objects.filter(purpose=Purpose.OPEN, reserved_at__isnull=False)
    minute = entries.filter(reserved_at__gt=now - timedelta(minutes=1))
    mine = entries.filter(account=account, symbol=symbol)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    last = mine.order_by("-reserved_at").values_list("reserved_at", flat=True).first()
    return OrderRate(
        account_last_minute=minute.filter(account=account).count(),
        platform_last_minute=minute.count(),
        symbol_today=mine.filter(reserved_at__gte=midnight).count(),
        since_last=now - last if last else FOREVER,
    )


def equity(balances: Mapping[str, Decimal], owed: Decimal, prices: Mapping[str, Decimal]) -> Decimal | None:
    """What an account is worth in USD at `prices`, less what it owes; None where a price is missing."""
    total = owed
    for asset, amount in balances.items():
        if asset == USDC:
            total += amount
        elif amount:
            if asset not in prices:
                return None
            total += amount * prices[asset]
    return total
