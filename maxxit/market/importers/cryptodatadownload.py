"""CryptoDataDownload CSV: a first line with its address, then a header (`unix,date,symbol,open,high,low,close,Volume
BTC,Volume USD`, also `Unix Timestamp,Date,…`, or without the first column), newest first. Times are in seconds or
milliseconds; without them the date counts (`2020-01-01 00:13:00`, `2019-10-17 09-AM`)."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.market.importers.base import Found
from maxxit.market.importers.csv_rows import by_header, candles, first_lines, names_of

TIMES = ("unix", "unix timestamp", "timestamp", "date")


class CryptoDataDownload:
    """One pair of one exchange."""

    def sniff(self, head: str) -> bool:
        """Return whether the file has the site's URL in its first line, or its header."""
        first = head.lower().partition("\n")[0]
        if "cryptodatadownload" in first:
            return True
        names = names_of(first)
        return names[:1] in (["unix"], ["unix timestamp"], ["date"]) and "symbol" in names[:3]

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order."""
        lines = first_lines(path)
        place = 1 if "cryptodatadownload" in lines[0].lower() and len(lines) > 1 else 0
        return candles(path, by_header(path, lines[place], TIMES, place + 2))
