"""A cue: one phrase that speaks for a side, written with a few shorthands.

`§` is a listed token, `TOKENS` one with small words before it, `PRICE` a price, and `GERUND` refuses what would make
"buying §" the subject of a sentence.
"""

import re
from dataclasses import dataclass

UP, DOWN = 1, -1
_PRICE = r"(?:\$ ?)?\d[\d,.]*(?: ?(?:k|usd|btc|sats|dollars))?\+?"
_TOKENS = r"(?:(?:some|more|my|the|your|a|this|these|that|all|of|up|on|into|in|to|little|bit|few) )*§"

_NO_SUBJECT = (
    r"(?! (?:is|isn't|are|was|for|took|takes|like|makes?|means|can|will|with|via|at \w+ is|because))"
)
"""After "buying §": what would make it the subject of a sentence and no deed of the author."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One phrase that speaks for a side."""

    name: str
    side: int
    weight: int
    pattern: re.Pattern[str]


def cue(name: str, side: int, weight: int, *phrases: str) -> Cue:
    """Make one of phrases in that notation."""
    joined = (
        "|".join(phrases).replace("PRICE", _PRICE).replace("TOKENS", _TOKENS).replace("GERUND", _NO_SUBJECT)
    )
    return Cue(name, side, weight, re.compile(rf"(?<![\w-])(?:{joined})(?!\w)"))
