"""Bitstamp candles: answers of its API (`/api/v2/ohlc/<pair>/`), and the widespread one-minute CSV files
(`Timestamp,Open,High,Low,Close,Volume_(BTC),…`, NaN in minutes without a trade)."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines
from maxxit.market.importers.base import Row, row
from maxxit.market.importers.csv_rows import cells, columns
from maxxit.market.importers.json_rows import field, items, load

PRICES = ("open", "high", "low", "close")
WANTED = {
    "timestamp": ("timestamp",),
    **{name: (name,) for name in PRICES},
    "volume": ("volume_(btc)", "volume", "volume_(currency)"),
}


class Bitstamp:
    """JSON or CSV."""

    def sniff(self, head: str) -> bool:
        """Return whether the file begins with the field names of either form."""
        low = head.lower()
        return '"ohlc"' in low or low.startswith("timestamp,open,high,low,close,volume")

    def rows(self, path: Path) -> Iterator[Row]:
        """Yield the candles in file order, without minutes without trades."""
        return self._csv(path) if _is_csv(path) else self._json(path)

    def _json(self, path: Path) -> Iterator[Row]:
        for place, one in items(path, load(path), "data", "ohlc"):
            prices = [field(path, place, one, name) for name in PRICES]
            yield row(
                path, place, field(path, place, one, "timestamp"), prices, field(path, place, one, "volume")
            )

    def _csv(self, path: Path) -> Iterator[Row]:
        rows = cells(path, len(WANTED))
        where = columns(path, next(rows, (1, [""]))[1], WANTED)
        for line, found in rows:
            if len(found) <= max(where.values()):
                raise Misconfigured(
                    f"{path}:{line}: {len(found)} fields, more expected: {','.join(found)[:120]!r}"
                )
            prices = [found[where[name]] for name in PRICES]
            if all(price.strip().lower() == "nan" for price in prices):
                continue
            yield row(path, line, found[where["timestamp"]], prices, found[where["volume"]])


def _is_csv(path: Path) -> bool:
    """Return whether the file does not begin with `{` or `[`."""
    return not next((text for _, text in lines(path) if text.strip()), "").lstrip().startswith(("{", "["))
