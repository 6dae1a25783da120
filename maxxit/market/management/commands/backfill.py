"""`manage.py backfill`: fetch historical candles from a feed and store them."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.core.terminal import Console
from maxxit.market import candles
from maxxit.market.backfill import backfill, candle_feed
from maxxit.market.instruments import all_instruments, instrument


class Command(BaseCommand):
    help = "Load past five-minute candles. After a stop or a failure the same command resumes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--symbols", default="", help="for example BTC,ETH (default: every instrument)")
        parser.add_argument("--from", dest="start", required=True, help="first day, or ISO time, UTC")
        parser.add_argument(
            "--to", dest="end", default="", help="day or ISO time to stop before, UTC (default: now)"
        )
        parser.add_argument(
            "--feed", default="", help="name in config/feeds.yaml (default: the first with candles)"
        )
        parser.add_argument("--replace", action="store_true", help="also replace stored bars")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the backfill with a progress bar, then report gaps."""
        start, end = _time(options["start"]), _time(options["end"]) if options["end"] else clock.now()
        if start >= end:
            raise CommandError(f"--from {start} is not before --to {end}")
        bar = Progress(
            TextColumn("{task.description:>6}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(), console=Console(file=self.stdout._out),  # type: ignore[arg-type]  # any text stream
        )  # fmt: skip
        try:
            symbols = [instrument(name).symbol for name in options["symbols"].split(",") if name]
            symbols = symbols or list(all_instruments())
            feed = candle_feed(options["feed"])
            with bar:
                lines = {one: bar.add_task(one, total=(end - start).total_seconds()) for one in symbols}

                def progress(symbol: str, until: datetime) -> None:
                    bar.update(lines[symbol], completed=(until - start).total_seconds())

                stored = backfill(feed, symbols, start, end, replace=options["replace"], progress=progress)
        except MaxxitError as error:
            raise CommandError(f"{error}; run the same command again to resume") from None
        missing = candles.gaps(symbols, start, end)
        bars = sum(gap.bars for gap in missing)
        self.stdout.write(f"{stored:,} candles from {feed.name}; {bars:,} missing in {len(missing):,} gaps")


def _time(text: str) -> datetime:
    try:
        return clock.day(text)
    except ValueError:
        raise CommandError(f"{text!r} is no date: write 2026-03-01 or 2026-03-01T12:00") from None
