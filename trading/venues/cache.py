"""Keep what a venue answered for some seconds, in this process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from maxxit.core import clock

T = TypeVar("T")


@dataclass
class Cache:
    """What was read, for some seconds each."""

    kept: dict[tuple[str, str], tuple[datetime, Any]] = field(default_factory=dict)

    def read(self, key: tuple[str, str], seconds: int, ask: Callable[[], T]) -> T:
        """Return what is kept under `key`, or ask anew."""
        kept = self.kept.get(key)
        if kept and clock.now() < kept[0]:
            return cast(T, kept[1])
        value = ask()
        self.kept[key] = (clock.now() + timedelta(seconds=seconds), value)
        return value
