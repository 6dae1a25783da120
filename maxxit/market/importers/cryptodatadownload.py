"""CryptoDataDownload CSV: a first line with its address, then a header (`unix,date,symbol,open,high,low,close,Volume
BTC,Volume USD`), newest first; times in seconds or milliseconds."""

from collections.abc import Iterator
from pathlib import Path

from maxxit.core.errors import Misconfigured
from maxxit.market.importers.base import Row, row
from maxxit.market.importers.csv_rows import cells, columns

PRICES = ("open", "high", "low", "close")
WANTED = {"unix": ("unix", "unix timestamp", "timestamp"), **{name: (name,) for name in PRICES}}


class CryptoDataDownload:
    """One pair of one exchange."""

    def sniff(self, head: str) -> bool:
        """Return whether the file has the site's URL in its first line, or its header."""
        first, _, rest = head.lower().partition("\n")
        header = rest.split("\n")[0] if "cryptodatadownload" in first else first
        return header.startswith("unix") and "symbol" in header

    def rows(self, path: Path) -> Iterator[Row]:
        """Yield the candles in file order."""
        found = cells(path, 1)
        where: dict[str, int] = {}
        volume = -1
        for line, one in found:
            if not where:
                if "cryptodatadownload" in one[0].lower():
                    continue
                where = columns(path, one, WANTED)
                names = [name.strip().lower() for name in one]
                volume = next((place for place, name in enumerate(names) if name.startswith("volume")), -1)
                if volume < 0:
                    raise Misconfigured(
                        f"{path}:{line}: the header has no column for volume: {','.join(one)[:200]!r}"
                    )
                continue
            if len(one) <= max(*where.values(), volume):
                raise Misconfigured(
                    f"{path}:{line}: {len(one)} fields, more expected: {','.join(one)[:120]!r}"
                )
            yield row(path, line, one[where["unix"]], [one[where[name]] for name in PRICES], one[volume])
