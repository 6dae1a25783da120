"""Verifies a model's reading against the post itself. Pure.

A model only selects from the text and the allow-list: a token counts when it is listed and the text contains it as a
whole word; a stablecoin never counts; a side is long or short. A side that contradicts what the author says of their
own position ("adding to my short") does not count, and closing a position opens nothing. A post that calls more than
three tokens counts as no call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from maxxit.core.terms import SIGN, Side
from signals_app.prefilter import mentions
from signals_app.reading.rules.read import CHECKED_VERSION, Reader
from signals_app.reading.schema import Reading, Sentiment
from signals_app.reasons import PostReason

MAX_TOKENS = 3
"""Of 2,148 labelled posts none calls more than two tokens; a longer list is likely to be stuffed."""
SIDE: dict[Sentiment, str] = {"bullish": Side.LONG, "bearish": Side.SHORT}


@dataclass(frozen=True, slots=True)
class Verified:
    """The verified part of a reading."""

    candidate: bool
    tokens: tuple[str, ...]
    """Listed tokens in the text with a side, in the order of the reading."""
    sides: dict[str, str]
    """Token -> long or short."""
    outcome: str
    """not_candidate, no_listed_token, side_contradicted, too_many_tokens or candidate."""


def verify(
    reading: Reading, text: str, words_by_token: Mapping[str, Sequence[str]], stablecoins: frozenset[str]
) -> Verified:
    """Return the part of `reading` that the text and the allow-list support."""
    if not reading.candidate or reading.confidence <= Decimal(0):
        return Verified(False, (), {}, PostReason.NOT_CANDIDATE)
    own = {_symbol(token): sentiment for token, sentiment in reading.sides.items()}
    sides = {}
    for token in dict.fromkeys(map(_symbol, reading.tokens)):
        side = SIDE.get(own.get(token, reading.sentiment))
        listed = token in words_by_token and token not in stablecoins
        if side and listed and mentions(text, list(words_by_token[token])):
            sides[token] = side
    if not sides:
        neutral = reading.sentiment == "neutral" and not reading.sides
        return Verified(False, (), {}, PostReason.NOT_CANDIDATE if neutral else PostReason.NO_LISTED_TOKEN)
    stated = Reader.of(words_by_token, CHECKED_VERSION).positions(text)
    sides = {token: side for token, side in sides.items() if SIGN[side] in stated.get(token, SIGN.values())}
    if not sides:
        return Verified(False, (), {}, PostReason.SIDE_CONTRADICTED)
    if len(sides) > MAX_TOKENS:
        return Verified(False, (), {}, PostReason.TOO_MANY_TOKENS)
    return Verified(True, tuple(sides), sides, "candidate")


def _symbol(token: str) -> str:
    return token.upper().lstrip("$#")
