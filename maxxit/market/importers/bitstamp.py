"""Bitstamp candles: answers of its API (`/api/v2/ohlc/<pair>/`), and the widespread one-minute CSV files
(https://www.kaggle.com/datasets/mczielinski/bitcoin-historical-data): `Timestamp,Open,High,Low,Close,Volume`, times as
1325412060.0, or formerly `Volume_(BTC),…` with NaN in minutes without a trade."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Found
from maxxit.market.importers.csv_rows import by_header, candles, first_lines
from maxxit.market.importers.json_rows import items, load, row

PRICES = ("open", "high", "low", "close")


class Bitstamp:
    """JSON or CSV."""

    def sniff(self, head: str) -> bool:
        """Return whether the file begins with the field names of either form."""
        low = head.lower()
        return '"ohlc"' in low or low.startswith("timestamp,open,high,low,close,volume")

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order."""
        header = first_lines(path)[0]
        if not header.lstrip().startswith(("{", "[")):
            return candles(path, by_header(path, header, ("timestamp",), 2))
        found = items(path, load(path), "data", "ohlc")
        return (row(place, one, "timestamp", PRICES, "volume") for place, one in found)
