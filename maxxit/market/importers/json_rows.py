"""Read JSON files as items with their positions."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from maxxit.core import untrusted
from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines
from maxxit.market.importers.base import BadRow, Found, Row, opened_at


def load(path: Path) -> Any:
    """Parse the whole file; numbers with a fraction as Decimal. Raises `Misconfigured` for invalid JSON."""
    try:
        return untrusted.loads("\n".join(text for _, text in lines(path)), decimals=True)
    except ValueError as error:
        raise Misconfigured(f"{path}: not JSON: {str(error)[:200]}") from None


def items(path: Path, found: Any, *names: str) -> Iterator[tuple[int, Any]]:
    """Iterate (position from 1, item) of the list under the keys `names`. Raises `Misconfigured` without a list."""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise Misconfigured(f"{path}: there is no list under {'.'.join(names) or 'the top level'}")
    return iter(list(enumerate(found, start=1)))


def row(place: int, item: Any, time: str | int, prices: Sequence[str | int], volume: str | int) -> Found:
    """Return the candle of an item by keys or indices (prices: open, high, low, close). A bad row names the field."""
    try:
        opened = opened_at(_field(item, time))
        open_, high, low, close = (_field(item, name) for name in prices)
        return Row(place, opened, open_, high, low, close, _field(item, volume))
    except ValueError as error:
        return BadRow(place, str(error))


def _field(item: Any, name: str | int) -> str:
    """Return a number of an item as text, by key or index. Raises ValueError naming it."""
    try:
        value = item[name]
    except (KeyError, IndexError, TypeError):
        value = None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"it has no number {name!r}: {str(item)[:120]!r}")
    if not (text := str(value)).isascii() or "," in text or "\n" in text:
        raise ValueError(f"{name!r} is not a number: {text[:40]!r}")
    return text


def first_number(bare: str) -> str:
    """Return the first number of a list of lists without spaces, as text; empty for anything else."""
    found = re.match(r"\[\[(\d+),", bare)
    return found[1] if found else ""
