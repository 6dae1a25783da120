"""Measure how much of the risk limits accounts and the platform already use: exposure, open orders, order rate.

Read for a whole batch from the orders and the ledger while `lock` is held, so that concurrent reservations cannot
overshoot a limit. `Usage.add_entry` counts the entries that the batch itself has reserved so far.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection

from maxxit.core.money import CASH, IS_TOKEN, ZERO
from trading.risk.checks import LimitUsage
from trading.states import IN_FLIGHT

NEVER_BEFORE = timedelta(days=36_500)

LOCK = """
SELECT pg_advisory_xact_lock(key) FROM (
    SELECT DISTINCT name <> 'platform' AS later, hashtextextended(name, 0) AS key FROM unnest(%s::text[]) AS name
    ORDER BY later, key
) AS keys
"""


def lock(accounts: Iterable[str], *, platform: bool = True) -> None:
    """Take the advisory locks of the platform and of the accounts; they are released when the transaction ends.

    One reservation at a time passes. Closing orders use up no platform limit: with `platform=False` they wait for
    their own accounts only. The platform comes first and the accounts by ascending key, so that two batches cannot
    wait for each other.
    """
    names = [f"account:{account}" for account in accounts]
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [["platform", *names] if platform else names])


OF_ALL = f"""
SELECT split_part(account, ':', 2)::bigint AS deployment_id, asset, amount FROM ledger_balances
WHERE amount <> 0 AND asset {IS_TOKEN} AND split_part(account, ':', 3) = ''
"""  # noqa: S608 (constants only)
OF_SOME = f"""
SELECT b.id AS deployment_id, asset, amount
FROM agent_deployments b JOIN ledger_balances ON ledger_balances.account = 'deployment:' || b.id
WHERE amount <> 0 AND asset {IS_TOKEN} AND b.account = ANY(%(accounts)s)
"""  # noqa: S608 (constants only)
"""What deployments hold in tokens, not what they owe. For all of them a join by number takes half the time."""


def _used(balances: str, chosen: str, then: str) -> str:
    return f"""
WITH used AS MATERIALIZED (
    SELECT account, symbol, sum(tokens) AS tokens, sum(orders)::int AS orders FROM (
        SELECT d.account, h.asset AS symbol, h.amount AS tokens, 0 AS orders
        FROM (
            {balances}
            UNION ALL
            SELECT deployment_id, asset, -amount FROM ledger_entries
            WHERE kind = 'external' AND asset {IS_TOKEN} AND deployment_id IS NOT NULL
        ) AS h JOIN agent_deployments d ON d.id = h.deployment_id
        WHERE {chosen.format("d.account")}
        UNION ALL
        SELECT account, symbol, CASE side WHEN 'buy' THEN 1 ELSE -1 END * (quantity - filled_quantity), 1
        FROM orders
        WHERE state = ANY(%(in_flight)s) AND purpose = 'open' AND {chosen.format("account")}
    ) AS part
    GROUP BY account, symbol
)
{then}"""  # noqa: S608 (constants only)


OF_EACH = """
SELECT account, symbol, tokens, orders FROM used WHERE (%(all)s OR account = ANY(%(accounts)s))
UNION ALL
SELECT NULL, symbol, sum(abs(tokens)), sum(orders)::int FROM used WHERE %(platform)s GROUP BY symbol
"""
USED_BY_ALL, USED_BY_SOME = _used(OF_ALL, "true", OF_EACH), _used(OF_SOME, "{} = ANY(%(accounts)s)", OF_EACH)
"""(account, symbol, signed tokens, entries in flight): held by the ledger, plus what entries in flight would add; then
the platform's gross tokens per symbol, without an account.

One statement, hence one snapshot: an order settled between two statements would be missing from both. Tokens that the
owners of a Safe moved in or out count against no limit.
"""


@dataclass
class Holdings:
    """Holdings plus entries in flight. Quantities in tokens, negative for a short."""

    by_account: dict[str, dict[str, Decimal]] = field(default_factory=lambda: defaultdict(dict))
    """Account -> symbol -> tokens, of the accounts that were asked for."""
    open_orders: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Account -> number of entries in flight."""
    gross: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    """Symbol -> tokens of all accounts of the platform, each without its sign."""
    platform_open_orders: int = 0

    def held(self, account: str, symbol: str) -> Decimal:
        """Return the tokens of one account."""
        return self.by_account.get(account, {}).get(symbol, ZERO)

    def add_entry(self, account: str, symbol: str, tokens: Decimal) -> None:
        """Count an entry of `tokens` (negative for a short) that was reserved just now."""
        before = self.held(account, symbol)
        self.by_account[account][symbol] = before + tokens
        self.gross[symbol] += abs(before + tokens) - abs(before)
        self.open_orders[account] += 1
        self.platform_open_orders += 1

    def exposure(self, prices: Mapping[str, Decimal], account: str, symbol: str = "") -> Decimal | None:
        """Return an account's gross exposure in USD at `prices`, of one symbol or all (''); None without a price."""
        return _value(self.by_account.get(account, {}), prices, symbol)

    def platform_exposure(self, prices: Mapping[str, Decimal], symbol: str = "") -> Decimal | None:
        """Return the same of all accounts together."""
        return _value(self.gross, prices, symbol)

    def usage(
        self, prices: Mapping[str, Decimal], symbol: str, last_minute: int, account: str = ""
    ) -> LimitUsage | None:
        """Return the usage of one account, or of the platform (''); None where a price is missing."""
        tokens = self.by_account.get(account, {}) if account else self.gross
        gross, in_symbol = _value(tokens, prices), _value(tokens, prices, symbol)
        if gross is None or in_symbol is None:
            return None
        in_flight = self.open_orders.get(account, 0) if account else self.platform_open_orders
        return LimitUsage(last_minute, in_flight, gross, in_symbol)


def _value(tokens: Mapping[str, Decimal], prices: Mapping[str, Decimal], symbol: str = "") -> Decimal | None:
    total = ZERO
    for token, quantity in ((symbol, tokens.get(symbol)),) if symbol else tokens.items():
        if not quantity:
            continue
        if token not in prices:
            return None
        total += abs(quantity) * prices[token]
    return total


def read_holdings(accounts: Sequence[str] | None = None, *, platform: bool = True) -> Holdings:
    """Read holdings and entries in flight of `accounts` (None: all), and with `platform` the sums of all accounts."""
    holdings = Holdings()
    of_all = platform or accounts is None
    with connection.cursor() as cursor:
        cursor.execute(
            USED_BY_ALL if of_all else USED_BY_SOME,
            {
                "in_flight": list(IN_FLIGHT),
                "accounts": list(accounts or ()),
                "all": accounts is None,
                "platform": of_all,
            },
        )
        for account, symbol, tokens, orders in cursor.fetchall():
            if account is None:
                holdings.gross[symbol] = tokens
                holdings.platform_open_orders += orders
            else:
                holdings.by_account[account][symbol] = tokens
                holdings.open_orders[account] += orders
    return holdings


# A kept plan must be good for a crowd too. IS TRUE makes the list of accounts a hashed subplan, where `= ANY(list)`
# would be compared with each row one by one; <> 'close' keeps the planner from the index of all entries of the day.
RATES = """
SELECT account, NULL, count(*)::int, NULL::timestamptz FROM orders
WHERE purpose = 'open' AND reserved_at > %(minute)s AND (account IN (SELECT unnest(%(accounts)s::text[]))) IS TRUE
GROUP BY account
UNION ALL
SELECT NULL, NULL, count(*)::int, NULL FROM orders WHERE purpose = 'open' AND reserved_at > %(minute)s
UNION ALL
SELECT wanted.account, wanted.symbol, (
        SELECT count(*)::int FROM orders o
        WHERE o.account = wanted.account AND o.symbol = wanted.symbol AND o.purpose <> 'close'
          AND o.reserved_at >= %(midnight)s
    ), (
        SELECT o.reserved_at FROM orders o
        WHERE o.account = wanted.account AND o.symbol = wanted.symbol AND o.purpose <> 'close'
          AND o.reserved_at IS NOT NULL
        ORDER BY o.reserved_at DESC LIMIT 1
    )
FROM unnest(%(accounts)s::text[], %(symbols)s::text[]) AS wanted (account, symbol)
"""
"""(account, none, entries of the last minute, none); the platform's, without an account; then (account, symbol, entries
today, last entry). By the time of reservation."""


@dataclass
class OrderRates:
    """How many entries accounts and the platform reserved recently. A day is a UTC day."""

    now: datetime
    account_last_minute: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    platform_last_minute: int = 0
    symbol_today: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    last_entry: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def since_last(self, account: str, symbol: str) -> timedelta:
        """Return the time since the account's last entry in this symbol; `NEVER_BEFORE` where there was none."""
        last = self.last_entry.get((account, symbol))
        return self.now - last if last else NEVER_BEFORE

    def add_entry(self, account: str, symbol: str) -> None:
        """Count an entry that was reserved just now."""
        self.account_last_minute[account] += 1
        self.platform_last_minute += 1
        self.symbol_today[account, symbol] += 1
        self.last_entry[account, symbol] = self.now


def read_order_rates(wanted: Iterable[tuple[str, str]], now: datetime) -> OrderRates:
    """Count the entries of (account, symbol) pairs and of the platform, in one statement."""
    rates, pairs = OrderRates(now), list(dict.fromkeys(wanted))
    with connection.cursor() as cursor:
        cursor.execute(
            RATES,
            {
                "minute": now - timedelta(minutes=1),
                "midnight": now.replace(hour=0, minute=0, second=0, microsecond=0),
                "accounts": [account for account, _ in pairs],
                "symbols": [symbol for _, symbol in pairs],
            },
        )
        for account, symbol, count, last in cursor.fetchall():
            if account is None:
                rates.platform_last_minute = count
            elif symbol is None:
                rates.account_last_minute[account] = count
            else:
                rates.symbol_today[account, symbol] = count
                if last is not None:
                    rates.last_entry[account, symbol] = last
    return rates


HEAVIEST = _used(
    OF_ALL,
    "true",
    """
, worth AS (
    SELECT account, symbol, orders, abs(tokens) * price AS usd, price IS NULL AND tokens <> 0 AS unpriced
    FROM used LEFT JOIN quotes USING (symbol)
), accounts AS (
    SELECT account, sum(usd) AS usd, sum(orders) AS orders, bool_or(unpriced) AS unpriced FROM worth
    GROUP BY account
)
(SELECT 'exposure', account, '', usd FROM accounts WHERE NOT unpriced ORDER BY usd DESC LIMIT 1)
UNION ALL
(SELECT 'symbol_exposure', account, symbol, usd FROM worth WHERE NOT unpriced ORDER BY usd DESC LIMIT 1)
UNION ALL
(SELECT 'open_orders', account, '', orders FROM accounts ORDER BY orders DESC LIMIT 1)
UNION ALL
(SELECT 'orders_last_minute', account, '', count(*) FROM orders
 WHERE purpose = 'open' AND reserved_at > %(minute)s GROUP BY account ORDER BY 4 DESC LIMIT 1)
UNION ALL
(SELECT 'symbol_orders_today', account, symbol, count(*) FROM orders
 WHERE purpose = 'open' AND reserved_at >= %(midnight)s GROUP BY account, symbol ORDER BY 4 DESC LIMIT 1)
UNION ALL
(SELECT 'platform_exposure', '', '', sum(usd) FROM worth)
UNION ALL
(SELECT 'platform_symbol_exposure', '', symbol, sum(usd) FROM worth
 GROUP BY symbol ORDER BY 4 DESC NULLS LAST LIMIT 1)
UNION ALL
(SELECT 'platform_open_orders', '', '', sum(orders) FROM worth)
UNION ALL
(SELECT 'platform_orders_last_minute', '', '', count(*) FROM orders WHERE purpose = 'open' AND reserved_at > %(minute)s)
""",
)


@dataclass(frozen=True, slots=True)
class HighestUse:
    """The highest use of one limit, and whose it is."""

    account: str
    """Empty for the platform."""
    symbol: str
    value: Decimal
    """USD at the newest quotes, or a number of orders. Accounts that hold a token without a quote are left out."""


def highest_uses(now: datetime) -> dict[str, HighestUse]:
    """Return the highest use of the limits that accounts and the platform share, by name, in one statement.

    For people: a reservation reads `read_holdings` and `read_order_rates` under its lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            HEAVIEST,
            {
                "in_flight": list(IN_FLIGHT),
                "minute": now - timedelta(minutes=1),
                "midnight": now.replace(hour=0, minute=0, second=0, microsecond=0),
            },
        )
        return {
            name: HighestUse(account, symbol, value)
            for name, account, symbol, value in cursor.fetchall()
            if value is not None
        }


def equity(balances: Mapping[str, Decimal], owed: Decimal, prices: Mapping[str, Decimal]) -> Decimal | None:
    """Return an account's equity in USD at `prices`; None where a price is missing.

    `owed` is USDC that it owes the platform, zero or negative.
    """
    total = owed
    for asset, amount in balances.items():
        if asset in CASH:
            total += amount
        elif amount:
            if asset not in prices:
                return None
            total += amount * prices[asset]
    return total
