"""The candle files of this project: `open_time_ms,open,high,low,close,volume` (`maxxit.market.feeds.file`)."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.feeds.file import HEADER
from maxxit.market.importers.base import Found
from maxxit.market.importers.csv_rows import Layout, candles, names_of


class Ours:
    """CSV with the header of `maxxit.market.feeds.file`."""

    def sniff(self, head: str) -> bool:
        """Return whether the first line is that header."""
        return names_of(head.split("\n")[0]) == HEADER

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order."""
        return candles(path, Layout(0, 1, 2, 3, 4, 5, begins=2))
