"""Import candle files into a data folder: rows of any order and format become one file of five-minute bars a token.

Memory does not grow with the files: rows are sorted into temporary files, one a week, and each week is validated,
sorted and made into bars by itself. A bad row costs only itself, a bad file only itself.
"""

import gzip
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, groupby, islice
from pathlib import Path

from maxxit.core import data_folder, file_imports
from maxxit.core.data_folder import CANDLES, Entry, Manifest
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.money import plain
from maxxit.market.candles import Gap
from maxxit.market.feeds.bars import Bar
from maxxit.market.feeds.file import HEADER, candle_file, read_bars
from maxxit.market.importers import IMPORTERS
from maxxit.market.importers.base import (
    BAR_SECONDS,
    WIDTH_ROWS,
    BadRow,
    Found,
    Numbers,
    Row,
    checked,
    combined,
    off_grid,
    width_of,
)
from maxxit.market.importers.detect import format_of, is_pair_of
from maxxit.market.instruments import Instrument

SPAN = 7 * 86_400
"""Seconds of rows that are held in memory at once."""
BUFFERED = 5_000
"""Rows that are buffered before they are written to a temporary file."""
LEVEL = 4
"""Of gzip: half as slow as the default, and 3 % larger."""
SUFFIXES = (".csv", ".json", ".zip", ".gz")
Progress = Callable[[int], None]
"""Called with the number of rows read since the last call."""


@dataclass
class FileReport(file_imports.FileReport):
    """What an import found in one file of candles.

    `rows` are the candles that were used, equal ones once; `counts` are rejected, duplicates, empty (minutes without a
    trade), zero_volume and incomplete.
    """

    width: int = 0
    """Of its candles, seconds."""
    sorted: int = 0
    """Candles that were read, before their numbers were validated."""


@dataclass
class TokenReport:
    """What an import gave for one token."""

    symbol: str
    files: list[FileReport]
    bars: int = 0
    """Bars that the token's file has now."""
    added: int = 0
    begins: str = ""
    ends: str = ""
    conflicts: int = 0
    """Bars that differ from those that the folder held; the held ones are kept unless `replace` is set."""


def import_token(
    folder: Path,
    token: Instrument,
    paths: Sequence[Path],
    *,
    form: str = "",
    replace: bool = False,
    progress: Progress = lambda rows: None,
) -> TokenReport:
    """Add the candles of `paths` to the token's file in `folder` and to the manifest; return what was found.

    Args:
        form: the format of all files; detected from each where it is empty.
        replace: bars of the files replace different ones that the folder holds.

    Call it within `data_folder.locked`. Nothing is written where no file has a usable candle. Raises `Misconfigured`
    where the token's file in the folder was changed after its import, or is damaged.
    """
    report = TokenReport(token.symbol, [FileReport(path) for path in paths])
    manifest = data_folder.read_or_empty(folder)
    held = candle_file(folder, token.symbol)
    path = held or folder / f"candles-{token.feed_symbol}-USD-5m.csv.gz"
    if held is not None and held.name in manifest and data_folder.sha256(held) != manifest[held.name].sha256:
        raise Misconfigured(f"{held} was changed after its import: delete it and import its sources again")
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as where:
        spans = _Spans(Path(where))
        for number, one in enumerate(report.files):
            _read(one, number, token, form, spans, progress)
        spans.close()
        part = Path(where) / path.name
        _write(part, _merged(held, _bars(spans, report.files), report, replace=replace), report)
        if any(one.rows for one in report.files):
            os.replace(part, path)
            _state(folder, manifest, path, report)
    return report


def _read(
    one: FileReport, number: int, token: Instrument, form: str, spans: "_Spans", progress: Progress
) -> None:
    """Sort the rows of a file into the temporary files of their weeks; a file that cannot be read is refused alone."""
    try:
        one.sha256 = _checksum(one.path)
        one.format = form or format_of(one.path)
        rows = IMPORTERS.open(one.format).rows(one.path)
        first = list(islice(rows, WIDTH_ROWS))
        one.width = width_of(one.path, [row for row in first if isinstance(row, Row)])
        _sort(one, number, token, chain(first, rows), spans, progress)
        if not one.sorted:
            why = one.rejected[0] if one.rejected else f"{one.path}: there is no candle in it"
            raise Misconfigured(f"{why}; no line of the file could be used")
    except (MaxxitError, OSError) as error:
        one.refuse(error)


def _checksum(path: Path) -> str:
    """Return the SHA-256; where Binance's FILE.CHECKSUM lies beside the file it has to be the same."""
    found = data_folder.sha256(path)
    stated = path.with_name(f"{path.name}.CHECKSUM")
    if stated.is_file() and found not in stated.read_text(errors="replace").lower():
        raise Misconfigured(f"{path}: its SHA-256 is not the one in {stated.name}: download it again")
    return found


def _sort(
    one: FileReport,
    number: int,
    token: Instrument,
    rows: Iterator[Found],
    spans: "_Spans",
    progress: Progress,
) -> None:
    width, pair = one.width, ""
    count = 0
    for row in rows:
        count += 1
        if not count % BUFFERED:
            progress(BUFFERED)
        if isinstance(row, BadRow):
            if row.reason:
                one.reject(f"{one.path}:{row.line}", row.reason)
            else:
                one.counts["empty"] += 1
            continue
        if row.opened % width:
            one.reject(f"{one.path}:{row.line}", off_grid(row.opened, width))
            continue
        symbol = row.symbol
        if symbol != pair:
            if not is_pair_of(token, symbol):
                one.reject(
                    f"{one.path}:{row.line}",
                    f"it is of {symbol.strip()[:20]}, not of {token.symbol} in dollars",
                )
                continue
            pair = symbol
        spans.add(number, row)
        one.sorted += 1
    progress(count % BUFFERED)


class _Spans:
    """Temporary files of rows, one for each span of `SPAN` seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[int, list[str]] = {}
        self._held = 0

    def add(self, number: int, row: Row) -> None:
        """Keep a row of the file `number`."""
        line, opened, open_, high, low, close, volume, _ = row
        text = f"{opened},{number},{line},{open_},{high},{low},{close},{volume}\n"
        self._rows.setdefault(opened // SPAN, []).append(text)
        self._held += 1
        if self._held >= BUFFERED:
            self.close()

    def close(self) -> None:
        """Write what is buffered."""
        for span, texts in self._rows.items():
            with (self._folder / str(span)).open("a", newline="\n") as out:
                out.writelines(texts)
        self._rows, self._held = {}, 0

    def rows(self) -> Iterator[list[tuple[int, int, Row]]]:
        """Yield the rows of each span: (opened, file, row), by time and then in the order of files and lines."""
        for span in sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal()):
            with (self._folder / str(span)).open(newline="\n") as lines:
                found = [_row(line) for line in lines]
            found.sort(key=lambda one: one[:2])
            yield found


def _row(line: str) -> tuple[int, int, Row]:
    opened, number, place, *cells = line[:-1].split(",")
    at = int(opened)
    return at, int(number), Row(int(place), at, *cells)


def _bars(spans: _Spans, files: Sequence[FileReport]) -> Iterator[Bar]:
    """Yield five-minute bars, oldest first, without an unfinished first or last one."""
    begun = False
    waiting: tuple[Bar, int, FileReport] | None = None
    for rows in spans.rows():
        used = _once([one for one in rows if not files[one[1]].refused], files)
        for opened, part in groupby(used, key=lambda one: one[0] - one[0] % BAR_SECONDS):
            if waiting is not None:
                yield waiting[0]
            rows_of_bar = list(part)
            last, number, _ = rows_of_bar[-1]
            if not begun and rows_of_bar[0][0] != opened:
                files[rows_of_bar[0][1]].counts["incomplete"] += 1
                begun = True
                continue
            begun = True
            bar = combined(opened, [numbers for _, _, numbers in rows_of_bar])
            waiting = bar, last + files[number].width, files[number]
    if waiting is not None:
        bar, ends, one = waiting
        if ends < bar.known_at.timestamp():
            one.counts["incomplete"] += 1
        else:
            yield bar


def _once(
    rows: Sequence[tuple[int, int, Row]], files: Sequence[FileReport]
) -> Iterator[tuple[int, int, Numbers]]:
    """Yield (opened, file, numbers) of the valid rows, each time once; what is left out is counted with its file."""
    before, held, first = -1, None, None
    for opened, number, row in rows:
        one = files[number]
        numbers = checked(row)
        if isinstance(numbers, str):
            one.reject(f"{one.path}:{row.line}", numbers)
            continue
        if opened == before and first is not None:
            if numbers == held:
                one.counts["duplicates"] += 1
            else:
                at = datetime.fromtimestamp(opened, UTC)
                where = (
                    f"{files[first[0]].path.name}:{first[1]}" if first[0] != number else f"line {first[1]}"
                )
                one.reject(f"{one.path}:{row.line}", f"candle {at:%Y-%m-%d %H:%M} contradicts {where}")
            continue
        before, held, first = opened, numbers, (number, row.line)
        one.rows += 1
        if not numbers[4]:
            one.counts["zero_volume"] += 1
        if one.begins is None or opened < one.begins:
            one.begins = opened
        one.ends = max(one.ends or 0, opened + one.width)
        yield opened, number, numbers


def _merged(held: Path | None, bars: Iterator[Bar], report: TokenReport, *, replace: bool) -> Iterator[Bar]:
    """Yield the bars of the token's present file and the new ones, oldest first, each time once."""
    old = iter(read_bars(held)) if held is not None else iter(())
    present = next(old, None)
    for bar in bars:
        while present is not None and present.open_time < bar.open_time:
            yield present
            present = next(old, None)
        if present is not None and present.open_time == bar.open_time:
            report.conflicts += present != bar
            yield bar if replace else present
            present = next(old, None)
        else:
            report.added += 1
            yield bar
    while present is not None:
        yield present
        present = next(old, None)


def _write(path: Path, bars: Iterator[Bar], report: TokenReport) -> None:
    """Write a candle file; the same bars give the same bytes."""
    packed = path.suffix == ".gz"
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) if packed else nullcontext(raw) as out,
    ):
        out.write(f"{','.join(HEADER)}\n".encode())
        while some := list(islice(bars, BUFFERED)):
            out.write("".join(map(_line, some)).encode())
            report.begins = report.begins or some[0].open_time.isoformat()
            report.ends = some[-1].known_at.isoformat()
            report.bars += len(some)


def _line(bar: Bar) -> str:
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    return f"{int(bar.open_time.timestamp())}000,{','.join(map(plain, numbers))}\n"


def _state(folder: Path, manifest: Manifest, path: Path, report: TokenReport) -> None:
    """Write the manifest with the token's file; a source that is imported again is stated once."""
    before = manifest[path.name].sources if path.name in manifest else []
    new = [one.source() for one in report.files if one.rows]
    sources = list({one.sha256: one for one in (*before, *new)}.values())
    entry = Entry(
        CANDLES,
        data_folder.sha256(path),
        report.bars,
        report.begins,
        report.ends,
        report.symbol,
        sources=sources,
    )
    data_folder.write(folder, manifest | {path.name: entry})


def gaps(path: Path, symbol: str) -> Iterator[Gap]:
    """Yield the gaps between the bars of a candle file, oldest first. Raises `Misconfigured` as `read_bars`."""
    before: Bar | None = None
    for bar in read_bars(path):
        if before is not None and bar.open_time > before.known_at:
            yield Gap(symbol, before.known_at, bar.open_time)
        before = bar
