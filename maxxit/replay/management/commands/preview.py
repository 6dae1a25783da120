"""`manage.py preview`: what accounts, a capital and presets would have traded on what the platform recorded."""

import argparse
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandError, CommandParser

from maxxit.core.commands import OpsCommand, count, decimal_number
from maxxit.core.config import lay_over
from maxxit.core.errors import InvalidInput
from maxxit.core.terms import ExitPreset, Preset
from maxxit.replay.progress import ProgressBar


class Command(OpsCommand):
    help = (
        "Preview what accounts would have traded on recorded posts and prices. Plays them with a capital and presets "
        "through the pipeline in a scratch database; no model is asked."
    )
    epilog = (
        "examples:\n  manage.py preview --accounts satsumi,chartowl --capital 500 --preset moderate --days 30"
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--accounts", default="", metavar="A,B", help="names on X, separated by commas")
        parser.add_argument(
            "--capital", type=decimal_number, default=Decimal(1000), help="USDC (default 1000)"
        )
        parser.add_argument(
            "--preset",
            default=Preset.MODERATE.value,
            choices=list(Preset),
            help="size of orders (default: moderate)",
        )
        parser.add_argument(
            "--exits",
            default=ExitPreset.SIGNAL.value,
            choices=list(ExitPreset),
            help="exit preset (default: signal)",
        )
        parser.add_argument("--days", type=count, help="recorded days (default: config/previews.yaml)")
        # For the process that computes the preview of a user.
        parser.add_argument("--run", dest="stored", type=count, help=argparse.SUPPRESS)
        parser.add_argument("--attempt", type=count, help=argparse.SUPPRESS)

    def run(self, **options: Any) -> Any:
        lay_over("preview")
        if options["stored"]:
            from maxxit.replay.process import compute

            return {"done": compute(options["stored"], options["attempt"] or 1)}
        from maxxit.replay.previews import plan_of
        from maxxit.replay.rehearsal import rehearse

        names = options["accounts"].replace(",", " ").split()
        try:
            plan = plan_of(names, options["capital"], options["preset"], options["exits"], options["days"])
        except InvalidInput as error:
            raise CommandError(str(error), returncode=2) from None
        with ProgressBar(plan.start, plan.end, quiet=self.quiet) as progress:
            result = rehearse(plan, progress)
        self._show(result)
        return plan.as_json() | {"result": result}

    def _show(self, result: dict[str, Any]) -> None:
        rate, fall = result["win_rate"], result["max_drawdown"]
        percent = "{:+.2f} %".format
        self.table(
            ["figure", "value"],
            [
                ("posts", f"{result['posts']}, {result['calls']} read as a call by {result['reader']}"),
                ("signals", f"{result['signals']}"),
                ("trades", f"{result['trades']} closed, {result['open']} open"),
                ("blocked", f"{sum(row['count'] for row in result['blocked'])}"),
                ("PnL after costs", f"{Decimal(result['pnl']):+,.2f} USDC"),
                ("costs", f"{Decimal(result['costs']['total']):,.2f} USDC"),
                ("TWR", percent(float(result["twr"]) * 100) if result["twr"] is not None else "–"),
                ("max drawdown", f"{float(fall) * 100:.2f} %" if fall is not None else "–"),
                (
                    "win rate",
                    f"{float(rate['value']):.0%}, 95 %: {float(rate['low']):.0%} to {float(rate['high']):.0%}"
                    if rate
                    else "–",
                ),
            ],
        )
        self.say()
        self.table(
            ["account", "posts", "calls", "trades", "PnL"],
            [
                ("@" + row["name"] if row["name"] else "no post", row["posts"], row["calls"], row["trades"],
                 f"{Decimal(row['pnl']):+,.2f}")
                for row in result["by_account"]
            ],
        )  # fmt: skip
        for what in ("blocked", "declined"):
            if result[what]:
                self.say()
                self.table(
                    [what, "count", "it means"],
                    [(r["reason"], r["count"], r["meaning"]) for r in result[what]],
                )
        self.say()
        for note in (*result["notes"], "What happened is no promise of what will happen."):
            self.say(note)
