"""Trading and platform metrics for Prometheus, read from the database and Redis at each scrape.

They are the same whatever process or machine is scraped.
"""

from collections.abc import Iterator
from decimal import Decimal

from django.db import connection
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from maxxit.core.money import IS_TOKEN
from maxxit.core.terms import KILL_LEVELS
from maxxit.reports.metrics import platform, totals
from maxxit.reports.metrics.gauges import gauge
from positions.exits import pauses
from positions.models import BooksCheck, Position
from positions.performance import equity, figures
from positions.twin import report as twins
from trading import gate
from trading.billing import debts, subscriptions
from trading.reconciliation import checks as checks_of_accounts
from trading.reconciliation import holdings

HELD = f"""
FROM ledger_balances b JOIN quotes q ON q.symbol = b.asset
WHERE b.asset {IS_TOKEN} GROUP BY b.asset
"""
GROSS = f"SELECT b.asset, sum(abs(b.amount) * q.price) {HELD}"
NET = f"SELECT b.asset, sum(b.amount * q.price) {HELD}"


def _exposure(sql: str) -> dict[str, float]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows: list[tuple[str, Decimal]] = cursor.fetchall()
    return {symbol: float(amount) for symbol, amount in rows}


class MaxxitCollector(Collector):
    """Reads the database and Redis once per scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._reconciliation()
        yield gauge(
            "open_positions", "positions not closed", {"": Position.objects.exclude(state="closed").count()}
        )
        yield gauge("exposure_usd", "gross exposure at the newest quotes, USD", _exposure(GROSS), "symbol")
        yield gauge("net_exposure_usd", "signed exposure at the newest quotes, USD", _exposure(NET), "symbol")
        yield gauge(
            "exits_paused", "1 while exits are paused", {"": float(pauses.current_pause() is not None)}
        )
        level = gate.kill_level()
        latched = {str(known): float(known == level) for known in KILL_LEVELS}
        yield gauge("kill_switch", "1 for the strictest latched level", latched, "level")
        stopped = gate.latched().exclude(account="").order_by().values("account").distinct().count()
        yield gauge("stopped_accounts", "accounts whose own kill switch is latched", {"": stopped})
        today = figures.figures(figures.midnight(timezone.now()))
        yield gauge(
            "daily_pnl_usd", "realised PnL since midnight UTC, after fees", {"": float(today.realised)}
        )
        yield gauge(
            "unrealised_pnl_usd",
            "unrealised PnL of open positions at the newest quotes",
            {"": float(equity.total_unrealised())},
        )
        yield gauge("portfolio_value_usd", "equity of all deployments", {"": float(figures.equity())})
        if (books := BooksCheck.objects.first()) is not None:
            what = "deployments whose positions and ledger disagree"
            yield gauge("books_differ", what, {"": float(len(books.wrong))})
            age = (timezone.now() - books.checked_at).total_seconds()
            yield gauge("books_check_age_seconds", "seconds since they were compared", {"": age})
        drifting = {measure: float(count) for measure, count in twins.alarms().items()}
        yield gauge("twin_drifts", "deployments that drift from their paper twin", drifting, "measure")
        ever = figures.figures()
        yield gauge("drawdown_usdc", "max drawdown of the realised PnL", {"": float(ever.drawdown)})
        if ever.cvar_95_pct is not None:
            what = "mean loss of the worst 5 % of the closed positions, percent of their entry"
            yield gauge("cvar_95_pct", what, {"": float(ever.cvar_95_pct)})
        blocked = {reason: float(count) for reason, count in figures.blocked().items()}
        yield gauge("blocked_orders_24h", "orders blocked in the last 24 hours", blocked, "reason")
        yield from self._billing()
        yield from platform.metrics()
        totals.count_new_rows()
        yield from totals.metrics()

    def _reconciliation(self) -> Iterator[Metric]:
        pending = {venue: float(count) for venue, count in checks_of_accounts.pending_orders().items()}
        yield gauge("open_orders", "orders in flight", {"": sum(pending.values())})
        yield gauge("pending_orders", "orders whose venue has not ended them", pending, "venue")
        errors = CounterMetricFamily(
            "maxxit_reconcile_errors", "reads of accounts that failed, by venue", labels=["venue"]
        )
        for venue, count in checks_of_accounts.errors().items():
            errors.add_metric([venue], count)
        yield errors
        unexplained = {origin: float(count) for origin, count in holdings.unexplained().items()}
        yield gauge("unexplained_holdings", "holdings that differ from the ledger", unexplained, "origin")

    def _billing(self) -> Iterator[Metric]:
        owed = debts.totals()
        yield gauge("owed_usdc", "what deployments owe the platform", {"": float(owed.owed)})
        yield gauge(
            "owing_deployments",
            "deployments that owe more than the limit of fees.yaml",
            {"": owed.above_limit},
        )
        yield gauge(
            "failed_charges", "billing events whose charge failed", {"": subscriptions.failed().count()}
        )
