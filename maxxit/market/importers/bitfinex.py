"""Bitfinex candles (https://docs.bitfinex.com/reference/rest-public-candles): arrays [MTS, OPEN, CLOSE, HIGH, LOW,
VOLUME] with the close before high and low, times in milliseconds; or the same as CSV with a header that begins with
`mts`."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Found
from maxxit.market.importers.csv_rows import by_header, candles, first_lines, names_of
from maxxit.market.importers.json_rows import first_number, items, load, row

MILLISECONDS = 13
"""Digits of a time in milliseconds; Coinbase's arrays have seconds."""


class Bitfinex:
    """JSON or CSV."""

    def sniff(self, head: str) -> bool:
        """Return whether the file is a list of arrays with times in milliseconds, or has a column `mts`."""
        bare = "".join(head.split())
        return len(first_number(bare)) == MILLISECONDS or names_of(head.split("\n")[0])[:1] == ["mts"]

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order."""
        header = first_lines(path)[0]
        if not header.lstrip().startswith("["):
            return candles(path, by_header(path, header, ("mts",), 2))
        return (row(place, one, 0, (1, 3, 4, 2), 5) for place, one in items(path, load(path)))
