"""First cut; the grammar follows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

VERSION = "rules-0"
UP = re.compile(r"\b(buy|buying|long|bullish|moon|breakout|accumulate|pump|higher)\b|🚀", re.I)
DOWN = re.compile(r"\b(sell|selling|short|bearish|dump|crash|lower)\b", re.I)


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules read in one text."""

    candidate: bool
    tokens: tuple[str, ...]
    sentiment: str
    confidence: str
    reasoning: str
    sides: Mapping[str, str] = field(default_factory=dict)

    def as_json(self, post_id: str) -> dict[str, Any]:
        """As `maxxit.llm.reading.Reading` wants it."""
        return {
            "post_id": post_id,
            "candidate": self.candidate,
            "tokens": list(self.tokens),
            "sentiment": self.sentiment,
            "confidence": self.confidence,
            "reasoning": self.reasoning,
            "sides": dict(self.sides),
        }


@dataclass(frozen=True)
class Reader:
    """Reads texts about a fixed list of tokens."""

    words: Mapping[str, re.Pattern[str]]

    @classmethod
    def of(cls, tokens: Mapping[str, Sequence[str]]) -> "Reader":
        """A reader for symbol -> words that mean it."""
        made = {
            k: re.compile(r"(?<!\w)(" + "|".join(map(re.escape, v)) + r")(?!\w)", re.I)
            for k, v in tokens.items()
        }
        return cls(made)

    def read(self, text: str) -> Found:
        """The reading of one text."""
        tokens = tuple(symbol for symbol, pattern in self.words.items() if pattern.search(text))
        up, down = bool(UP.search(text)), bool(DOWN.search(text))
        call = bool(tokens) and up != down and not text.startswith("RT @") and "?" not in text
        side = ("bullish" if up else "bearish") if call else "neutral"
        return Found(call, tokens if call else (), side, "0.7" if call else "0.1", "first cut")
