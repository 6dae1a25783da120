"""Determines whether a price target lies above or below the current price, in USD or in bitcoin. Pure."""

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from signals_app.reading.rules.grammar import DOWN, UP

BITCOIN = "BTC"
"""The token that other tokens' targets may be given in."""
SATOSHIS = Decimal(100_000_000)
"""Satoshis in one bitcoin."""
_NUMBER = re.compile(r"(\$ ?)?(\d[\d,.]*)( ?(?:k|million|m)(?!\w))?(?: ?(?:(sats?|satoshis?)|(%)))?")
_SCALE = {"k": Decimal(1000), "m": Decimal(1_000_000), "million": Decimal(1_000_000)}
FURTHER = re.compile(r"(?: ?(?:-|–|/|,|&|to|and|or|then) ?\$? ?\d[\d,.]*k?)*")
"""The rest of a range or list of targets, after the first."""
NEAR = Decimal("0.003")
"""Fraction of the price within which a target has no side."""
FARTHEST = Decimal(20)
"""A number more than this factor away from the price is not a target in that unit."""


def words_of(text: str, start: int, end: int) -> str:
    """Return the target at [start, end) of a sentence, with the rest of its range or list."""
    rest = FURTHER.match(text, end)
    return text[start : rest.end() if rest else end]


def side(words: str, price: Decimal | None, bitcoin: Decimal | None = None) -> int:
    """Return 1 for a target above `price` (USD), -1 below, 0 where it is unknown.

    With `bitcoin`, its price in USD, satoshis and numbers without a dollar sign that cannot be USD are compared with
    the price in bitcoin. Words without a number mean a rise ("targets are higher", "to the moon"). All ends of a range
    must lie on one side.
    """
    if not re.search(r"\d", words):
        return UP
    if price is None or price <= 0:
        return 0
    in_bitcoin = price / bitcoin if bitcoin else None
    sides = {_of(number, known) for number, known in _numbers(words, price, in_bitcoin)}
    return sides.pop() if len(sides) == 1 else 0


def _of(number: Decimal, price: Decimal) -> int:
    if abs(number - price) <= price * NEAR:
        return 0
    return UP if number > price else DOWN


def _numbers(words: str, price: Decimal, in_bitcoin: Decimal | None) -> Iterator[tuple[Decimal, Decimal]]:
    """Yield (target, price) in the first unit in which the number can be a target."""
    for dollar, digits, scale, satoshis, percent in _NUMBER.findall(words):
        if percent:
            continue
        numbers = [one * _SCALE.get(scale.strip(), Decimal(1)) for one in _spellings(digits.strip(".,"))]
        for known in _units(price, in_bitcoin, dollar=bool(dollar), satoshis=bool(satoshis)):
            near = [one for one in numbers if known / FARTHEST <= one <= known * FARTHEST]
            if near:
                yield near[0], known
                break


def _units(price: Decimal, in_bitcoin: Decimal | None, *, dollar: bool, satoshis: bool) -> list[Decimal]:
    """Return the price in each possible unit of a number, the likelier first."""
    if satoshis:
        return [in_bitcoin * SATOSHIS] if in_bitcoin else []
    return [price] if dollar or not in_bitcoin else [price, in_bitcoin]


def _spellings(digits: str) -> Iterator[Decimal]:
    """Yield the number with comma or point as thousands separator, the usual one first."""
    for text in (digits.replace(",", ""), digits.replace(".", "").replace(",", "."), digits.replace(".", "")):
        try:
            yield Decimal(text)
        except InvalidOperation:
            continue
