"""`manage.py import-candles FILE…`: convert candle files of other tools for replays, backtests and feeds."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.core.errors import Misconfigured
from maxxit.core.money import plain
from maxxit.market import candles
from maxxit.market.feeds.bars import Bar
from maxxit.market.feeds.file import HEADER
from maxxit.market.importers import IMPORTERS
from maxxit.market.importers.base import CandleImporter, bars
from maxxit.market.importers.detect import format_of, instrument_of
from maxxit.market.instruments import Instrument, instrument


class Command(OpsCommand):
    help = "Import candles of Binance Vision, Kraken, Bitstamp, Coinbase or CryptoDataDownload."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "files", nargs="+", type=Path, help="CSV or JSON, also .gz or .zip; oldest file first"
        )
        parser.add_argument("--symbol", default="", help="for example BTC (default: from the file's name)")
        parser.add_argument(
            "--format",
            default="",
            help=f"{', '.join(sorted(IMPORTERS))} (default: detected from the file's first lines)",
        )
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--out", type=Path, help="folder to write candles-<SYMBOL>-USD-5m.csv.gz into")
        where.add_argument(
            "--store", action="store_true", help="store in the database; existing bars are kept"
        )

    def run(self, **options: Any) -> Any:
        """Import the files. On an error nothing is written; exit code 1 with file, line and reason."""
        files: Sequence[Path] = options["files"]
        if missing := [str(path) for path in files if not path.is_file()]:
            raise Misconfigured(f"no such file: {', '.join(missing)}")
        token = instrument(options["symbol"].upper()) if options["symbol"] else instrument_of(files[0])
        read: dict[Any, Bar] = {}
        for path in files:
            name = options["format"] or format_of(path)
            importer: CandleImporter = IMPORTERS.open(name)
            found = bars(path, importer.rows(path))
            read |= {bar.open_time: bar for bar in found}
            self.say(f"{path.name}: {name}, {len(found):,} five-minute bars")
        whole = [read[opened] for opened in sorted(read)]
        where = self._store(token, whole) if options["store"] else _write(options["out"], token, whole)
        first, last = whole[0].open_time, whole[-1].open_time
        span = f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
        self.say(f"{token.symbol}: {len(whole):,} bars from {span}: {where}")
        return {"symbol": token.symbol, "bars": len(whole), "from": first, "to": last, "where": where}

    def _store(self, token: Instrument, whole: Sequence[Bar]) -> str:
        return f"{candles.store(token.symbol, whole):,} offered to the database"


def _write(folder: Path, token: Instrument, whole: Sequence[Bar]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"candles-{token.feed_symbol}-USD-5m.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8", newline="\n") as out:
        out.write(",".join(HEADER) + "\n")
        for bar in whole:
            numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
            out.write(f"{int(bar.open_time.timestamp() * 1000)},{','.join(map(plain, numbers))}\n")
    return str(path)
