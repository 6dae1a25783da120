"""On which side of a price a target lies. Pure."""

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from maxxit.llm.rules.grammar import DOWN, UP

_NUMBER = re.compile(r"(\$ ?)?(\d[\d,.]*)( ?(?:k|million|m)(?!\w))?( ?(?:sats?|satoshis?|%))?")
_SCALE = {"k": Decimal(1000), "m": Decimal(1_000_000), "million": Decimal(1_000_000)}
FURTHER = re.compile(r"(?: ?(?:-|–|/|,|&|to|and|or|then) ?\$? ?\d[\d,.]*k?)*")
"""The rest of a range or a list of targets, after the first."""
NEAR = Decimal("0.003")
"""Fraction of the price within which a target says nothing."""
FARTHEST = Decimal(20)
"""A number more than so many times above or below the price is no target in USD."""


def words_of(text: str, start: int, end: int) -> str:
    """The target that stands at [start, end) of a sentence, with the other ends of its range."""
    rest = FURTHER.match(text, end)
    return text[start : rest.end() if rest else end]


def side(words: str, price: Decimal | None) -> int:
    """1 for a target above `price` (USD), -1 below, 0 where it cannot be said.

    Words that name no number speak of a rise ("targets are higher", "to the moon"). Of a range every end must lie on
    one side.
    """
    if not re.search(r"\d", words):
        return UP
    if price is None or price <= 0:
        return 0
    sides = {_of(number, price) for number in _numbers(words, price)}
    return sides.pop() if len(sides) == 1 else 0


def _of(number: Decimal, price: Decimal) -> int:
    if abs(number - price) <= price * NEAR:
        return 0
    return UP if number > price else DOWN


def _numbers(words: str, price: Decimal) -> Iterator[Decimal]:
    for _, digits, scale, unit in _NUMBER.findall(words):
        if unit:
            continue
        for plain in _spellings(digits.strip(".,")):
            number = plain * _SCALE.get(scale.strip(), Decimal(1))
            if price / FARTHEST <= number <= price * FARTHEST:
                yield number
                break


def _spellings(digits: str) -> Iterator[Decimal]:
    """The number with comma or point as thousands separators, the usual reading first."""
    for text in (digits.replace(",", ""), digits.replace(".", "").replace(",", "."), digits.replace(".", "")):
        try:
            yield Decimal(text)
        except InvalidOperation:
            continue
