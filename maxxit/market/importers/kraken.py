"""Kraken's downloadable OHLCVT files (XBTUSD_5.csv): no header; time in seconds, four prices, volume, trades."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Row, row
from maxxit.market.importers.csv_rows import cells, is_number

COLUMNS = 7


class Kraken:
    """Seven columns of numbers."""

    def sniff(self, head: str) -> bool:
        """Return whether the first line has seven numbers."""
        first = head.split("\n")[0].split(",")
        return len(first) == COLUMNS and all(map(is_number, first))

    def rows(self, path: Path) -> Iterator[Row]:
        """Yield the candles in file order; Kraken omits candles without trades."""
        for line, found in cells(path, COLUMNS):
            yield row(path, line, found[0], found[1:5], found[5])
