"""`manage.py pnl`: PnL, win rate, drawdown, fees and volume."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, clock_text
from maxxit.core.money import plain, usdc
from positions.performance import figures

UNITS = {"usdc": "USDC", "usd": "USD", "pct": "%", "": ""}


class Command(OpsCommand):
    help = (
        "Show realised and unrealised PnL, win rate, drawdown, fees and volume, in USDC. Days are UTC days."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        span = parser.add_mutually_exclusive_group()
        span.add_argument("--today", action="store_true", help="since midnight UTC")
        span.add_argument("--week", action="store_true", help="the last seven days, today included")

    def run(self, **options: Any) -> Any:
        midnight = figures.midnight(clock.now())
        since = midnight if options["today"] else midnight - timedelta(days=6) if options["week"] else None
        results = figures.figures(since).as_json() | figures.volume(since)
        results["equity_usd"] = plain(usdc(figures.equity()))
        self.say(f"since {clock_text(since)} UTC" if since else "all time")
        for name, value in results.items():
            if name != "since":
                label, _, unit = (
                    name.rpartition("_") if name.endswith(("_usdc", "_usd", "_pct")) else (name, "", "")
                )
                self.say(
                    f"  {label.replace('_', ' '):<14} {'–' if value in ('', None) else value} {UNITS[unit]}".rstrip()
                )
        return results
