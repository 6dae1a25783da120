"""`manage.py performance`: returns, risk, results of trades and costs of a span, and its parts by one dimension."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.clock import duration_text
from maxxit.core.commands import OpsCommand, clock_text
from maxxit.ops.scopes import scope_given, scope_options, span_given, span_options
from maxxit.reports import performance
from maxxit.reports.scope import Scope
from positions.performance.parts import DIMENSIONS, Dimension, Part
from positions.performance.report import Performance
from positions.performance.returns import NotEnough, Ratio


class Command(OpsCommand):
    help = (
        "Show returns, risk, results of trades and costs over a span, or the parts of the result. docs/figures.md "
        "defines each figure. Times are UTC, amounts USD."
    )
    epilog = """examples:
  manage.py performance --period 30d
  manage.py performance --deployment 7 --since 2026-01-01 --until 2026-01-31
  manage.py performance --agent Momentum --by author       which followed account earned how much
  manage.py performance --account @cobie                   the trades on this account's posts, beside its own record
  manage.py performance --by exit_reason --json"""

    def options(self, parser: CommandParser, action: str) -> None:
        scope_options(parser, authors=True)
        span_options(parser)
        kinds = [name for name in DIMENSIONS if name != "total"]
        parser.add_argument("--by", choices=kinds, help="show the parts by this; they add up to the total")

    def run(self, **options: Any) -> Any:
        scope = scope_given(options, authors=True)
        since, until = span_given(options)
        self.say(f"{scope.label}, {_span(since, until)}")
        if options["by"] or scope.author is not None:
            return self._parts(scope, options["by"] or "author", since, until)
        figures = performance.read(scope, since, until)
        self._print(figures)
        result = {"about": scope.label} | figures.as_json()
        if spent := performance.spent(scope, since, until):
            self._section(
                "Paid by the platform for models and posts", [("together", f"{spent.total.usd:,.2f}", "")]
            )
            result["spent"] = spent.as_json()
        return result

    def _parts(self, scope: Scope, by: Dimension, since: datetime | None, until: datetime | None) -> Any:
        rows = performance.attribution(scope, by, since, until)
        total = sum(rows, Part("", "total"))
        self.table(
            (by, "trades", "win rate", "PnL", "before costs", "fees", "profit share", "slippage", "turnover"),
            [_row(part) for part in (*rows, *([total] if len(rows) > 1 else []))],
        )
        result = performance.attributed(scope, by, since, until)
        if scope.author is not None:
            record = result["own_record"]
            self.say(
                "own record of the calls: not measured yet (`manage.py authors update`, each night)"
                if record is None
                else f"own record: {record['calls']} calls, mean score {record['mean_score']} (-1.5 to 1.5), impact "
                f"factor {record['impact_factor']} (0.5: unknown)"
            )
        return result

    def _print(self, figures: Performance) -> None:
        trades, closed, fall = figures.statistics, figures.closed, figures.drawdown
        quote = (
            f"oldest quote {clock_text(figures.oldest_quote_at)}" if figures.oldest_quote_at else "cash only"
        )
        risk = figures.risk
        ratios: list[tuple[str, str, str]] = (
            [("Sharpe, Sortino, Calmar", risk.text(), "")]
            if isinstance(risk, NotEnough)
            else [("volatility", _percent(risk.volatility), "a year")]
            + [(name, _ratio(getattr(risk, name)), _interval(getattr(risk, name))) for name in
               ("sharpe", "sortino", "calmar")]
        )  # fmt: skip
        self._section(
            "Money (USD)",
            [
                ("equity", f"{figures.equity:,.2f}", quote),
                ("deposits", f"{figures.deposits:,.2f}", f"withdrawals {figures.withdrawals:,.2f}"),
                ("PnL", _signed(figures.pnl), "change of equity less deposits plus withdrawals"),
                ("closed", _signed(closed.net), "positions closed in the span, after all costs"),
                ("open", _signed(figures.open_pnl), "open positions with their fees"),
            ],
        )
        self._section(
            "Returns",
            [
                ("TWR", _percent(figures.twr), "deposits and withdrawals do not move it"),
                ("MWR", _percent(figures.mwr.period), figures.mwr.reason or "over the span"),
                (
                    "APR",
                    figures.apr.text() if isinstance(figures.apr, NotEnough) else _percent(figures.apr),
                    "",
                ),
                ("max drawdown", f"{fall.percent:.2f} %" if fall else "–", _fall(figures)),
                *ratios,
            ],
        )
        rate = _percent(trades.win_rate)
        between = (
            f"95 %: {_percent(trades.win_rate_low)} to {_percent(trades.win_rate_high)}"
            if trades.count
            else ""
        )
        held = figures.median_held_seconds
        self._section(
            "Trades",
            [
                ("closed", str(trades.count), f"{trades.winners} won"),
                ("win rate", rate, between),
                ("profit factor", _plain(trades.profit_factor), "won / lost"),
                ("expectancy", _signed(trades.expectancy), "a trade"),
                ("average win", _signed(trades.average_win), f"average loss {_signed(trades.average_loss)}"),
                ("median held", duration_text(float(held)) if held is not None else "–", ""),
                ("time in market", _percent(figures.time_in_market), ""),
                ("turnover", _plain(figures.turnover), "times the mean equity"),
            ],
        )
        self._section(
            "Costs (USD), of the closed positions",
            [
                ("trading fees", f"{closed.venue_fees:,.2f}", ""),
                ("platform fees", f"{closed.platform_fees:,.2f}", ""),
                ("profit share", f"{closed.profit_share:,.2f}", ""),
                ("slippage", _signed(closed.slippage_usd), "against the quotes of the decisions; in the PnL"),
                ("gas", f"{closed.gas_usd:,.2f}", "paid by the platform; in no PnL"),
            ],
        )

    def _section(self, title: str, lines: list[tuple[str, str, str]]) -> None:
        self.say()
        self.say(title)
        for name, value, note in lines:
            self.say(f"  {name:<24} {value:>14}  {note}".rstrip())


def _span(since: datetime | None, until: datetime | None) -> str:
    if since is None and until is None:
        return "all time"
    return f"{clock_text(since) if since else 'the beginning'} to {clock_text(until) if until else 'now'} UTC"


def _row(part: Part) -> tuple[Any, ...]:
    count = f"{part.closed:.1f}".removesuffix(".0")
    return (
        part.label, count, _percent(part.win_rate), _signed(part.net), _signed(part.gross), f"{part.fees:,.2f}",
        f"{part.profit_share:,.2f}", _signed(part.slippage_usd), f"{part.turnover_usd:,.0f}",
    )  # fmt: skip


def _fall(figures: Performance) -> str:
    fall = figures.drawdown
    if fall is None or fall.peak_at is None or fall.trough_at is None:
        return ""
    recovered = f"recovered {fall.recovered_at:%Y-%m-%d}" if fall.recovered_at else "not recovered"
    return f"{fall.peak_at:%Y-%m-%d} to {fall.trough_at:%Y-%m-%d}, {recovered}"


def _signed(amount: Decimal | None) -> str:
    return "–" if amount is None else f"{amount:+,.2f}"


def _percent(fraction: Decimal | float | None) -> str:
    return "–" if fraction is None else f"{fraction * 100:.2f} %"


def _plain(value: Decimal | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _ratio(ratio: Ratio) -> str:
    return "–" if ratio.value is None else f"{ratio.value:.2f}"


def _interval(ratio: Ratio) -> str:
    if ratio.value is None:
        return f"undefined; {ratio.days} days"
    low, high = ("unbounded" if end is None else f"{end:.2f}" for end in (ratio.low, ratio.high))
    return f"95 %: {low} to {high}; {ratio.days} days"
