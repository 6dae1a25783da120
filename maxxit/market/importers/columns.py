"""CSV files of other tools whose header names the columns: a time, open, high, low, close and volume, in any order."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Found
from maxxit.market.importers.csv_rows import PRICES, by_header, candles, first_lines, names_of

TIMES = ("open_time", "open time", "opentime", "timestamp", "datetime", "time", "unix", "date")


class Columns:
    """CSV by its header."""

    def sniff(self, head: str) -> bool:
        """Return whether the first line names a time and the four prices."""
        names = set(names_of(head.split("\n")[0]))
        return names.issuperset(PRICES) and not names.isdisjoint(TIMES)

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order."""
        return candles(path, by_header(path, first_lines(path)[0], TIMES, 2))
