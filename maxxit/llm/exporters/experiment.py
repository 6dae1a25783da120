"""The results of an evaluation as exporters take them: the items of a data set, what a reader said, and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any


@dataclass(frozen=True, slots=True)
class Item:
    """One item with what was expected and what was said."""

    ident: str
    """Within the data set: the same item has the same in each run."""
    text: str
    expected: Mapping[str, str]
    output: Mapping[str, Any]
    right: bool
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One run over a data set."""

    dataset: str
    run: str
    description: str
    at: datetime
    items: Sequence[Item]
    score: str
    """Name of the score of each item: 1 where it is right, 0 where it is not."""
    figures: Mapping[str, float]
    """Scores of the whole run by name."""
    metadata: Mapping[str, Any]

    def key(self, item: Item | None = None, digits: int = 32) -> str:
        """Return the hexadecimal id of this run, or of an item in it: a run that is sent twice has the same."""
        named = (self.dataset, self.run, item.ident if item else "")
        return sha256("\n".join(named).encode()).hexdigest()[:digits]

    def item_key(self, item: Item) -> str:
        """Return the id of an item of the data set, the same in each run."""
        return sha256(f"{self.dataset}\n{item.ident}".encode()).hexdigest()[:32]
