"""Read the risk figures of every account for the kill-switch triggers: PnL, drawdown, drift, prices, orders, margin."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core import clock
from maxxit.core.money import IS_CASH, USDC, ZERO
from maxxit.market.models import Quote
from positions import liquidation_warnings
from trading import reasons, reconcile
from trading.deployments import stops
from trading.models import KillSwitch
from trading.risk.limits_in_force import protective_limits
from trading.risk.policy import Triggers
from trading.states import IN_FLIGHT


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """The risk figures of one account, over all its deployments. Amounts in USD."""

    account: str
    equity: Decimal = ZERO
    pnl: Decimal = ZERO
    """Equity less net deposits."""
    pnl_at_midnight: Decimal = ZERO
    equity_at_midnight: Decimal = ZERO
    """Plus deposits since then; a withdrawal does not reduce it."""
    best_pnl: Decimal = ZERO
    """The highest `pnl` at any midnight, at least zero."""
    drift_usd: Decimal = ZERO
    """Absolute difference between venue and ledger."""
    unread: str = ""
    """The venue that could not report its balances for longer than `unreadable_seconds`, or "no price" where an asset
    that differs has none; empty where all could be compared."""
    price_age: timedelta | None = None
    """Age of the oldest price among the tokens it holds, if stale; `timedelta.max` where one has no price."""
    unknown_for: timedelta | None = None
    """Age of its oldest order in the state unknown."""
    in_flight_for: timedelta | None = None
    """Age of its oldest order in flight, whatever its state."""
    entries_judged: int = 0
    """Entries of the window, except those blocked for an ordinary reason (`reasons.ORDINARY`)."""
    entries_abnormal: int = 0
    """Those of them that were blocked."""
    room: Decimal | None = None
    """What the position nearest to its liquidation can still lose, a fraction of its initial margin; None for none."""

    @property
    def daily_loss(self) -> Decimal:
        """USD lost since midnight UTC; negative for a gain."""
        return self.pnl_at_midnight - self.pnl

    @property
    def drawdown(self) -> Decimal:
        """USD below the best PnL; negative at a new high."""
        return self.best_pnl - self.pnl

    @property
    def peak(self) -> Decimal:
        """The equity at the best PnL, from which the drawdown is measured."""
        return self.equity + self.drawdown


@dataclass(frozen=True, slots=True)
class VenueReads:
    """How many of a venue's accounts could not be read for longer than `unreadable_seconds`."""

    venue: str
    accounts: int
    unread: int


@dataclass(frozen=True, slots=True)
class Health:
    """The figures of every account and of the platform."""

    accounts: tuple[AccountHealth, ...] = ()
    venues: tuple[VenueReads, ...] = ()
    stopped: frozenset[str] = field(default_factory=frozenset)
    """Accounts that their own triggers stopped within the window of `accounts_stopped`."""

    @property
    def equity(self) -> Decimal:
        """Equity of all accounts, USD."""
        return sum((account.equity for account in self.accounts), ZERO)

    @property
    def pnl(self) -> Decimal:
        """PnL of all accounts, USD."""
        return sum((account.pnl for account in self.accounts), ZERO)


FIGURES = f"""
WITH accounts AS (
    SELECT id, account, 'deployment:' || id AS ledger_account FROM agent_deployments WHERE state <> 'draft'
), worth AS (
    SELECT p.account, sum(CASE WHEN b.asset {IS_CASH} THEN b.amount ELSE b.amount * q.price END) AS equity
    FROM (
        SELECT account, ledger_account FROM accounts
        UNION ALL SELECT account, ledger_account || ':payable' FROM accounts
    ) AS p
    JOIN ledger_balances b ON b.account = p.ledger_account AND b.amount <> 0
    LEFT JOIN quotes q ON q.symbol = b.asset
    GROUP BY p.account
), paid AS (
    SELECT p.account, sum(CASE WHEN e.asset {IS_CASH} THEN e.amount ELSE e.amount * q.price END) AS deposits
    FROM accounts p
    JOIN ledger_entries e ON e.deployment_id = p.id AND e.kind IN ('deposit', 'external')
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
"""  # noqa: S608 (constants only)
"""(account, equity, net deposits, equity and PnL at the last midnight, best PnL at any midnight), USD"""

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
"""(account, time of the oldest price among its tokens; NULL where one has none) of accounts with a stale price"""

ORDERS = """
SELECT account,
       min(reserved_at) FILTER (WHERE state = 'unknown'),
       min(reserved_at) FILTER (WHERE state = ANY(%(in_flight)s)),
       count(*) FILTER (WHERE in_window),
       count(*) FILTER (WHERE in_window AND state = 'blocked')
FROM (
    SELECT account, state, reserved_at, false AS in_window FROM orders WHERE state = ANY(%(in_flight)s)
    UNION ALL
    SELECT account, state, NULL, true FROM orders
    WHERE purpose = 'open' AND created_at > %(since)s AND state <> 'planned'
      AND NOT (state = 'blocked' AND reason = ANY(%(ordinary)s))
) AS o
GROUP BY account
"""
"""(account, oldest unknown order, oldest order in flight, entries judged, entries refused abnormally)"""

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
"""Store since when each account cannot be read; return the (venue, account) pairs overdue."""


Figures = dict[str, dict[str, Any]]
"""Account -> the fields of its `AccountHealth`."""


def read() -> Health:
    """Read the figures of all accounts now. This asks every venue for balances."""
    now, rules = clock.now(), protective_limits().triggers
    figures: Figures = {}
    _figures(figures, now)
    _prices(figures, now, rules)
    _orders(figures, now, rules)
    venues = _balances(figures, now, rules)
    for account, room in liquidation_warnings.least_rooms().items():  # of what the venues have just reported
        figures.setdefault(account, {})["room"] = room
    accounts = tuple(AccountHealth(account, **facts) for account, facts in figures.items())
    return Health(accounts, venues, _stopped(now, rules))


def _figures(figures: Figures, now: datetime) -> None:
    for account, equity, deposits, equity_then, pnl_then, best in _rows(FIGURES, {"today": now.date()}):
        figures[account] = {
            "equity": equity,
            "pnl": equity - deposits,
            "pnl_at_midnight": pnl_then,
            "equity_at_midnight": max(equity_then, pnl_then + deposits),
            "best_pnl": best,
        }


def _prices(figures: Figures, now: datetime, rules: Triggers) -> None:
    stale = now - timedelta(seconds=rules.stale_prices.limit_seconds)
    for account, at in _rows(PRICES, {"stale": stale}):
        figures.setdefault(account, {})["price_age"] = now - at if at else timedelta.max


def _orders(figures: Figures, now: datetime, rules: Triggers) -> None:
    params = {
        "in_flight": list(IN_FLIGHT),
        "since": now - timedelta(seconds=rules.blocked_rate.window_seconds),
        "ordinary": list(reasons.ORDINARY),
    }
    for account, unknown, in_flight, judged, abnormal in _rows(ORDERS, params):
        figures.setdefault(account, {}).update(
            unknown_for=now - unknown if unknown else None,
            in_flight_for=now - in_flight if in_flight else None,
            entries_judged=judged,
            entries_abnormal=abnormal,
        )


def _balances(figures: Figures, now: datetime, rules: Triggers) -> tuple[VenueReads, ...]:
    """Compare venues with the ledger in USD at the newest quotes; return how many accounts are unreadable per venue."""
    compared = reconcile.compare_settled()
    assets = {asset for amounts in compared.differences.values() for asset in amounts}
    prices = dict(Quote.objects.filter(symbol__in=assets).values_list("symbol", "price")) | {USDC: Decimal(1)}
    for (_, account), amounts in compared.differences.items():
        facts = figures.setdefault(account, {})
        if amounts.keys() <= prices.keys():
            worth = sum((abs(amount) * prices[asset] for asset, amount in amounts.items()), ZERO)
            facts["drift_usd"] = facts.get("drift_usd", ZERO) + worth
        else:  # without a price the difference cannot be compared with the limit
            facts["unread"] = "no price"
    overdue = _unread(compared.unread, now, rules)
    for name, account in overdue:
        figures.setdefault(account, {})["unread"] = name
    return tuple(
        VenueReads(name, count, sum(1 for venue, _ in overdue if venue == name))
        for name, count in compared.accounts.items()
    )


def _unread(
    unread: Iterable[reconcile.VenueAccount], now: datetime, rules: Triggers
) -> list[reconcile.VenueAccount]:
    grace = timedelta(seconds=rules.ledger_drift.unreadable_seconds)
    pairs = sorted(unread)
    params = {
        "venues": [venue for venue, _ in pairs],
        "accounts": [account for _, account in pairs],
        "now": now,
        "overdue": now - grace,
    }
    return [(venue, account) for venue, account in _rows(UNREAD, params)]


def _stopped(now: datetime, rules: Triggers) -> frozenset[str]:
    since = now - timedelta(seconds=rules.platform.accounts_stopped.window_seconds)
    pulled = KillSwitch.objects.filter(pulled_at__gt=since).exclude(account="")
    return frozenset(
        pulled.exclude(cause__in=("manual", stops.OWNER, "stale_prices")).values_list("account", flat=True)
    )


def _rows(sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
