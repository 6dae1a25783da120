"""Binance Vision klines (https://github.com/binance/binance-public-data): twelve columns, in files since 2025 times in
microseconds, before in milliseconds; with or without a header."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Row, row
from maxxit.market.importers.csv_rows import cells, is_number

COLUMNS = 12


class BinanceVision:
    """open time, open, high, low, close, volume, close time, quote volume, trades, taker volumes, ignored."""

    def sniff(self, head: str) -> bool:
        """Return whether the first line has twelve columns, the first a time or `open_time`."""
        first = head.split("\n")[0].split(",")
        return len(first) == COLUMNS and (is_number(first[0]) or first[0].strip() == "open_time")

    def rows(self, path: Path) -> Iterator[Row]:
        """Yield the klines in file order."""
        for line, found in cells(path, COLUMNS):
            if line > 1 or is_number(found[0]):
                yield row(path, line, found[0], found[1:5], found[5])
