"""Kraken's downloadable OHLCVT files (XBTUSD_1.csv,
https://support.kraken.com/articles/360047124832): no header; time in seconds, four prices, volume, trades."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Found
from maxxit.market.importers.csv_rows import Layout, candles, is_number

COLUMNS = 7


class Kraken:
    """Seven columns of numbers."""

    def sniff(self, head: str) -> bool:
        """Return whether the first line has seven numbers."""
        first = head.split("\n")[0].split(",")
        return len(first) == COLUMNS and all(map(is_number, first))

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order; Kraken omits candles without trades."""
        return candles(path, Layout(0, 1, 2, 3, 4, 5))
