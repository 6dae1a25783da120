"""Read CSV files as cells with line numbers."""

import csv
from collections.abc import Iterator
from pathlib import Path

from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines


def cells(path: Path, least: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each non-empty line. Raises `Misconfigured` for fewer than `least` cells."""
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            found = next(csv.reader([line]))
        except csv.Error as error:
            raise Misconfigured(f"{path}:{number}: no line of CSV: {error}: {line[:120]!r}") from None
        if len(found) < least:
            raise Misconfigured(
                f"{path}:{number}: {len(found)} fields, at least {least} expected: {line[:120]!r}"
            )
        yield number, found


def is_number(text: str) -> bool:
    """Return whether a cell is a plain number, as in a file without a header."""
    return text.strip().replace(".", "", 1).isdecimal()


def columns(path: Path, header: list[str], wanted: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Return name -> column by the first spelling in the header. Raises `Misconfigured` naming missing columns."""
    names = [name.strip().lower() for name in header]
    found = {
        name: next((names.index(one) for one in spellings if one in names), -1)
        for name, spellings in wanted.items()
    }
    if missing := [name for name, place in found.items() if place < 0]:
        raise Misconfigured(
            f"{path}: the header has no column for {', '.join(missing)}: {','.join(header)[:200]!r}"
        )
    return found
