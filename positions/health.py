"""What the automatic triggers of the kill switch look at: the figures of every account, read by a few statements."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core import clock
from maxxit.core.money import USDC, ZERO
from maxxit.market.models import Quote
from trading import reconcile, risk
from trading.limits_in_force import protective_limits
from trading.models import KillSwitch
from trading.policy import Triggers
from trading.states import IN_FLIGHT


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """One account, all its deployments together. Amounts in USD."""

    account: str
    equity: Decimal = ZERO
    pnl: Decimal = ZERO
    """Equity less all that was paid in."""
    pnl_at_midnight: Decimal = ZERO
    equity_at_midnight: Decimal = ZERO
    """With what was paid in since; a withdrawal does not make it smaller."""
    best_pnl: Decimal = ZERO
    """The highest `pnl` of any midnight, at least zero."""
    drift_usd: Decimal = ZERO
    unread: str = ""
    """Which venue could not say what it holds, for longer than the grace; or that it holds what has no price."""
    price_age: timedelta | None = None
    """Of the oldest price among the tokens that it holds; None where it holds none."""
    unknown_for: timedelta | None = None
    """The age of its oldest order that may or may not have arrived; None where there is none."""
    in_flight_for: timedelta | None = None
    """The age of its oldest order in flight, whatever the venue says of it."""
    entries_judged: int = 0
    """Entries of the window that were not refused for an ordinary reason."""
    entries_abnormal: int = 0
    """Those that were refused for an abnormal one."""

    @property
    def lost_today(self) -> Decimal:
        """Since midnight UTC; negative for a gain."""
        return self.pnl_at_midnight - self.pnl

    @property
    def fallen(self) -> Decimal:
        """From the best PnL; negative where it stands higher than ever."""
        return self.best_pnl - self.pnl

    @property
    def peak(self) -> Decimal:
        """The equity that it has fallen from."""
        return self.equity + self.fallen


@dataclass(frozen=True, slots=True)
class VenueReads:
    """How many of a venue's accounts could not be read, for longer than the grace."""

    venue: str
    accounts: int
    unread: int


@dataclass(frozen=True, slots=True)
class Health:
    """Every account, and what concerns the platform alone."""

    accounts: tuple[AccountHealth, ...] = ()
    venues: tuple[VenueReads, ...] = ()
    stopped: frozenset[str] = field(default_factory=frozenset)
    """Accounts that their triggers stopped within the window of `accounts_stopped`."""

    @property
    def equity(self) -> Decimal:
        """USD of all accounts."""
        return sum((one.equity for one in self.accounts), ZERO)

    @property
    def pnl(self) -> Decimal:
        """USD of all accounts."""
        return sum((one.pnl for one in self.accounts), ZERO)


FIGURES = """
WITH accounts AS (
    SELECT id, account, 'deployment:' || id AS ledger_account FROM agent_deployments WHERE state <> 'draft'
), worth AS (
    SELECT p.account, sum(CASE b.asset WHEN 'USDC' THEN b.amount ELSE b.amount * q.price END) AS equity
    FROM (
        SELECT account, ledger_account FROM accounts
        UNION ALL SELECT account, ledger_account || ':payable' FROM accounts
    ) AS p
    JOIN ledger_balances b ON b.account = p.ledger_account AND b.amount <> 0
    LEFT JOIN quotes q ON q.symbol = b.asset
    GROUP BY p.account
), paid AS (
    SELECT p.account, sum(CASE e.asset WHEN 'USDC' THEN e.amount ELSE e.amount * q.price END) AS deposits
    FROM accounts p
    JOIN ledger_entries e ON e.account = p.ledger_account AND e.kind IN ('deposit', 'external')
    LEFT JOIN quotes q ON q.symbol = e.asset
    GROUP BY p.account
), midnight AS (
    SELECT p.account, sum(s.equity) AS equity, sum(s.equity - s.deposits) AS pnl
    FROM accounts p
    CROSS JOIN LATERAL (
        SELECT equity, deposits FROM pnl_snapshots
        WHERE deployment_id = p.id AND day < %(today)s ORDER BY day DESC LIMIT 1
    ) AS s
    GROUP BY p.account
)
SELECT account, coalesce(w.equity, 0), coalesce(p.deposits, 0), coalesce(m.equity, 0), coalesce(m.pnl, 0),
       greatest(b.pnl, 0)
FROM (SELECT DISTINCT account FROM accounts) AS a
LEFT JOIN worth w USING (account) LEFT JOIN paid p USING (account)
LEFT JOIN midnight m USING (account) LEFT JOIN best_pnls b USING (account)
ORDER BY account
"""
"""(account, equity, deposits less withdrawals, equity and PnL at the last midnight, best PnL of any midnight)"""

PRICES = """
SELECT d.account, CASE WHEN bool_and(q.at IS NOT NULL) THEN min(q.at) END
FROM (
    SELECT deployment_id, symbol FROM positions WHERE state = 'open'
    UNION ALL
    SELECT deployment_id, symbol FROM positions WHERE state = 'closing'
) AS p JOIN agent_deployments d ON d.id = p.deployment_id LEFT JOIN quotes q ON q.symbol = p.symbol
GROUP BY d.account
HAVING bool_or(q.at IS NULL) OR min(q.at) <= %(stale)s
"""
"""(account, time of the oldest price among its tokens, NULL for none) of the accounts that hold a token whose price is
stale."""

ORDERS = """
SELECT account,
       min(reserved_at) FILTER (WHERE state = 'unknown'),
       min(reserved_at) FILTER (WHERE state = ANY(%(flying)s)),
       count(*) FILTER (WHERE of_window),
       count(*) FILTER (WHERE of_window AND state = 'blocked')
FROM (
    SELECT account, state, reserved_at, false AS of_window FROM orders WHERE state = ANY(%(flying)s)
    UNION ALL
    SELECT account, state, NULL, true FROM orders
    WHERE purpose = 'open' AND created_at > %(since)s AND state <> 'planned'
      AND NOT (state = 'blocked' AND reason = ANY(%(ordinary)s))
) AS o
GROUP BY account
"""
"""(account, oldest unknown order, oldest order in flight, entries of the window that count, refused ones among them)"""

UNREAD = """
WITH unread AS (
    SELECT * FROM unnest(%(venues)s::text[], %(accounts)s::text[]) AS u (venue, account)
), read AS (
    DELETE FROM unread_accounts t
    WHERE NOT EXISTS (SELECT FROM unread u WHERE u.venue = t.venue AND u.account = t.account)
), first AS (
    INSERT INTO unread_accounts (venue, account, since) SELECT venue, account, %(now)s FROM unread
    ON CONFLICT (venue, account) DO NOTHING
)
SELECT t.venue, t.account FROM unread_accounts t JOIN unread u USING (venue, account) WHERE t.since <= %(overdue)s
"""
"""Keeps since when each account cannot be read; (venue, account) of those for which that is too long ago."""


Found = dict[str, dict[str, Any]]
"""Account -> the fields of its `AccountHealth`."""


def read() -> Health:
    """The figures of this moment."""
    now, rules = clock.now(), protective_limits().triggers
    found: Found = {}
    _figures(found, now)
    _prices(found, now, rules)
    _orders(found, now, rules)
    venues = _balances(found, now, rules)
    accounts = tuple(AccountHealth(account, **facts) for account, facts in found.items())
    return Health(accounts, venues, _stopped(now, rules))


def _figures(found: Found, now: datetime) -> None:
    for account, equity, deposits, equity_then, pnl_then, best in _rows(FIGURES, {"today": now.date()}):
        found[account] = {
            "equity": equity,
            "pnl": equity - deposits,
            "pnl_at_midnight": pnl_then,
            "equity_at_midnight": max(equity_then, pnl_then + deposits),
            "best_pnl": best,
        }


def _prices(found: Found, now: datetime, rules: Triggers) -> None:
    stale = now - timedelta(seconds=rules.stale_prices.limit_seconds)
    for account, at in _rows(PRICES, {"stale": stale}):
        found.setdefault(account, {})["price_age"] = now - at if at else timedelta.max


def _orders(found: Found, now: datetime, rules: Triggers) -> None:
    asked = {
        "flying": list(IN_FLIGHT),
        "since": now - timedelta(seconds=rules.blocked_rate.window_seconds),
        "ordinary": list(risk.ORDINARY),
    }
    for account, unknown, flying, judged, abnormal in _rows(ORDERS, asked):
        found.setdefault(account, {}).update(
            unknown_for=now - unknown if unknown else None,
            in_flight_for=now - flying if flying else None,
            entries_judged=judged,
            entries_abnormal=abnormal,
        )


def _balances(found: Found, now: datetime, rules: Triggers) -> tuple[VenueReads, ...]:
    """Venue against ledger in USD at the newest quotes, and what could not be read for too long."""
    compared = reconcile.compare_settled()
    assets = {asset for amounts in compared.apart.values() for asset in amounts}
    prices = dict(Quote.objects.filter(symbol__in=assets).values_list("symbol", "price")) | {USDC: Decimal(1)}
    for (_, account), amounts in compared.apart.items():
        facts = found.setdefault(account, {})
        if amounts.keys() <= prices.keys():
            worth = sum((abs(amount) * prices[asset] for asset, amount in amounts.items()), ZERO)
            facts["drift_usd"] = facts.get("drift_usd", ZERO) + worth
        else:  # what has no price cannot be compared with the limit
            facts["unread"] = "no price"
    overdue = _unread(compared.unread, now, rules)
    for name, account in overdue:
        found.setdefault(account, {})["unread"] = name
    return tuple(
        VenueReads(name, count, sum(1 for venue, _ in overdue if venue == name))
        for name, count in compared.accounts.items()
    )


def _unread(
    unread: Iterable[reconcile.VenueAccount], now: datetime, rules: Triggers
) -> list[reconcile.VenueAccount]:
    grace = timedelta(seconds=rules.ledger_drift.unreadable_seconds)
    pairs = sorted(unread)
    told = {
        "venues": [venue for venue, _ in pairs],
        "accounts": [account for _, account in pairs],
        "now": now,
        "overdue": now - grace,
    }
    return [(venue, account) for venue, account in _rows(UNREAD, told)]


def _stopped(now: datetime, rules: Triggers) -> frozenset[str]:
    since = now - timedelta(seconds=rules.platform.accounts_stopped.window_seconds)
    pulled = KillSwitch.objects.filter(pulled_at__gt=since).exclude(account="")
    return frozenset(pulled.exclude(cause__in=("manual", "stale_prices")).values_list("account", flat=True))


def _rows(sql: str, told: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, told)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
