"""Binance public data (https://github.com/binance/binance-public-data): klines of twelve columns, with or without a
header; times in milliseconds, in spot files since 2025 in microseconds."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Found
from maxxit.market.importers.csv_rows import Layout, candles, first_lines, is_number, names_of

COLUMNS = 12


class Binance:
    """open time, open, high, low, close, volume, close time, quote volume, trades, taker volumes, ignored."""

    def sniff(self, head: str) -> bool:
        """Return whether the first line has twelve columns, the first a time or `open_time`."""
        first = names_of(head.split("\n")[0])
        return len(first) == COLUMNS and (is_number(first[0]) or first[0].replace(" ", "_") == "open_time")

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the klines in file order."""
        has_header = names_of(first_lines(path)[0])[:1] in (["open_time"], ["open time"])
        return candles(path, Layout(0, 1, 2, 3, 4, 5, begins=1 + has_header))
