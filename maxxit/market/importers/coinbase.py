"""Coinbase candles: Exchange's arrays [time, low, high, open, close, volume], and Advanced Trade's objects under
`candles` (start, low, high, open, close, volume); both newest first."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Found
from maxxit.market.importers.json_rows import first_number, items, load, row

SECONDS = 10
"""Digits of a time in seconds; Bitfinex's arrays have milliseconds."""


class Coinbase:
    """JSON of either API."""

    def sniff(self, head: str) -> bool:
        """Return whether it is a list of lists with times in seconds, or objects with `start` under `candles`."""
        bare = "".join(head.split())
        return len(first_number(bare)) == SECONDS or ('"candles"' in bare and '"start"' in bare)

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order."""
        found = load(path)
        if isinstance(found, list):
            return (row(place, one, 0, (3, 2, 1, 4), 5) for place, one in items(path, found))
        listed = items(path, found, "candles")
        return (row(place, one, "start", ("open", "high", "low", "close"), "volume") for place, one in listed)
