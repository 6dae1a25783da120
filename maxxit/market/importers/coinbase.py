"""Coinbase candles: Exchange's arrays [time, low, high, open, close, volume], and Advanced Trade's objects under
`candles` (start, low, high, open, close, volume); both newest first."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Row, row
from maxxit.market.importers.json_rows import field, items, load


class Coinbase:
    """JSON of either API."""

    def sniff(self, head: str) -> bool:
        """Return whether the file has a list of lists, or objects with `start` under `candles`."""
        bare = "".join(head.split())
        return bare.startswith("[[") or ('"candles"' in bare and '"start"' in bare)

    def rows(self, path: Path) -> Iterator[Row]:
        """Yield the candles in file order."""
        found = load(path)
        arrays = isinstance(found, list)
        time, names, volume = (
            (0, (3, 2, 1, 4), 5) if arrays else ("start", ("open", "high", "low", "close"), "volume")
        )
        for place, one in items(path, found) if arrays else items(path, found, "candles"):
            prices = [field(path, place, one, name) for name in names]
            yield row(path, place, field(path, place, one, time), prices, field(path, place, one, volume))
