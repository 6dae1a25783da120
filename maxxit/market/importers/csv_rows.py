"""Cells of CSV files with their line numbers."""

import csv
from collections.abc import Iterator
from pathlib import Path

from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines


def cells(path: Path, least: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not empty. Raises `Misconfigured` for one with fewer than `least`."""
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
    """Whether a cell is a plain number, as in a file without a header."""
    return text.strip().replace(".", "", 1).isdecimal()


def columns(path: Path, header: list[str], wanted: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Name -> column, by the first of its spellings that the header has. Raises `Misconfigured` naming the missing."""
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
