"""Read JSON files as items with their positions."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from maxxit.core import untrusted
from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines


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


def field(path: Path, place: int, item: Any, name: str | int) -> str:
    """Return a number of an item as text, by key or index. Raises `Misconfigured` naming it."""
    try:
        value = item[name]
    except (KeyError, IndexError, TypeError):
        value = None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise Misconfigured(f"{path}:{place}: item {place} has no number {name!r}: {str(item)[:120]!r}")
    return str(value)
