"""`manage.py bench sweep`: benchmark the sweep over N open positions on this machine."""

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, count, whole
from maxxit.core.errors import Rejected
from maxxit.embedded.scratch import scratch_database
from maxxit.events import wake
from maxxit.ops import sweep_bench


class Command(OpsCommand):
    help = (
        "Benchmark the sweep of open positions. Uses a scratch database with fsync on; the live one is not touched. "
        "Compared with one UPDATE of the known hits and with a loop over all rows; medians of interleaved rounds."
    )
    subcommands = {"sweep": "N open positions, one price per symbol: milliseconds of sweep, floor and loop"}

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--positions", type=count, default=100_000, metavar="N", help="open positions (default 100000)"
        )
        parser.add_argument(
            "--symbols", type=count, default=200, metavar="S", help="over so many symbols (default 200)"
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--hits", type=whole, default=0, metavar="K", help="prices that hit exactly K stops (default 0)"
        )
        what.add_argument(
            "--prices", type=Path, metavar="FILE", help="a JSON list of S prices in USD; entries are at 100"
        )
        parser.add_argument(
            "--rounds", type=count, default=7, metavar="R", help="of each, interleaved (default 7)"
        )
        parser.add_argument("--no-loop", action="store_true", help="skip the slow loop")

    def run(self, **options: Any) -> Any:
        world = sweep_bench.World(options["positions"], options["symbols"])
        prices = _read(options["prices"]) if options["prices"] else None
        world.check(prices, 0 if prices else options["hits"])
        with scratch_database(durable=True), wake.collected():
            sweep_bench.build(world)
            if prices is None:
                prices = sweep_bench.prices_for(world, options["hits"])
            times = sweep_bench.measure(prices, rounds=options["rounds"], loop=not options["no_loop"])
        figures = {
            "positions": world.count,
            "symbols": world.symbols,
            **times.as_json(),
            "rounds": options["rounds"],
        }
        self.say(f"{world.count:,} open positions, {world.symbols} symbols, {figures['hits']:,} hits")
        rows = [
            ("sweep", figures["sweep_ms"], "1"),
            ("floor", figures["floor_ms"], _times(figures["sweep_ms"], figures["floor_ms"])),
        ]
        if figures["loop_ms"]:
            rows.append(("loop", figures["loop_ms"], _times(figures["sweep_ms"], figures["loop_ms"])))
        self.table(("what", "ms", "sweep ÷ this"), rows)
        return figures


def _times(sweep: float, other: float) -> str:
    return f"{sweep / other:.3g}" if other else "–"


def _read(path: Path) -> list[Decimal]:
    try:
        given = json.loads(path.read_text(), parse_float=str, parse_int=str)
        prices = [Decimal(price) for price in given]
    except (OSError, ValueError, TypeError, InvalidOperation) as error:
        raise Rejected(
            f"{path}: expected a JSON list of prices, for example [99.5, 100.2]: {error}", code="bad_prices"
        ) from error
    if not all(price.is_finite() and price > 0 for price in prices):
        raise Rejected(f"{path}: every price must be a positive number", code="bad_prices")
    return prices
