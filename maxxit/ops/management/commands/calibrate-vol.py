"""`manage.py calibrate-vol`: compare the methods of volatility bands on candles, and say which to use."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, count
from maxxit.core.errors import Rejected
from maxxit.learning.policy import policy as models_policy
from maxxit.market.instruments import instrument
from trading.risk.policy import VolatilityBand, policy

OF_THE_FILE = get_args(VolatilityBand.model_fields["method"].annotation)
"""Methods that `volatility_band.method` takes."""


class Command(OpsCommand):
    help = "Compare the methods of volatility bands (std, ewma, atr, garch, har) on stored bars. Changes nothing."
    epilog = """Coverage and QLIKE are of the last 40 percent of the bars; the others give parameters and multipliers.

examples:
  manage.py calibrate-vol
  manage.py calibrate-vol --symbol BTC --symbol ETH --days 120
  manage.py calibrate-vol --candles ../shared/data --json"""

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--symbol", action="append", help="repeatable (default: all but stablecoins)")
        parser.add_argument(
            "--candles", type=Path, help="folder of candle files (default: the stored candles)"
        )
        parser.add_argument(
            "--days", type=count, help="of stored candles, the newest (default: history_days)"
        )

    def run(self, **options: Any) -> Any:
        from maxxit.learning import bands, sources

        symbols = [instrument(name.upper()).symbol for name in options["symbol"] or sources.tradable()]
        if options["candles"]:
            series = [one for one in sources.from_files(options["candles"]) if one.symbol in symbols]
        else:
            days = options["days"] or models_policy().train.history_days
            series = sources.stored(symbols, clock.now() - timedelta(days=days), clock.now())
        in_use, fits, left_out = policy().volatility_band, {}, {}
        for hours in series:
            try:
                fits[hours.symbol] = bands.compare(hours, float(in_use.multiplier))
            except Rejected as refused:  # a symbol with too little history stops no other
                left_out[hours.symbol] = str(refused)
        left_out |= {
            name: f"{name}: no hour of bars" for name in symbols if name not in fits and name not in left_out
        }
        for reason in left_out.values():
            self.say(reason, "WARNING")
        if not fits:
            raise Rejected(
                "no symbol has enough hours of bars: load more with `manage.py backfill`, or give --candles",
                code="insufficient_history",
            )
        self.table(
            ("symbol", "method", "QLIKE", f"within × {in_use.multiplier}", "× for 95 %", "within it"),
            [
                (
                    symbol,
                    fit.method,
                    f"{fit.qlike:.3f}",
                    f"{fit.coverage:.1%}",
                    f"{fit.multiplier:.2f}",
                    f"{fit.fitted_coverage:.1%}",
                )
                for symbol, of_symbol in fits.items()
                for fit in of_symbol
            ],
        )
        best, of_file = bands.best(fits), bands.best(fits, OF_THE_FILE.__contains__)
        wanted = [fit.multiplier for of_symbol in fits.values() for fit in of_symbol if fit.method == of_file]
        multiplier = round(sum(wanted) / len(wanted), 2)
        self.say(
            f"{best} has the least QLIKE. Of what config/risk.yaml takes, use volatility_band: {{method: {of_file}, "
            f"multiplier: {multiplier}}} for 95 % of the bars; it has {in_use.method} and {in_use.multiplier}.",
            "SUCCESS",
        )
        return {
            "symbols": {symbol: [asdict(fit) for fit in of_symbol] for symbol, of_symbol in fits.items()},
            "left_out": left_out,
            "best": best,
            "volatility_band": {"method": of_file, "multiplier": multiplier},
            "in_use": {"method": in_use.method, "multiplier": str(in_use.multiplier)},
        }
