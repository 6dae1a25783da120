"""How models write numbers and words that a schema wants typed. Pure; only what has one meaning is accepted.

`AS_FRACTION` reads 0.7, "0.7", "70%" and 70 as 0.7. A bare number above 1 and up to 10 is refused: 7 may be 7 of 10 or
7 percent. `AS_PERCENT` reads 5, "5" and "5%" as 5; `AS_MULTIPLE` reads 3, "3" and "3x" as 3.
"""

import re
from decimal import Decimal
from typing import Any

from pydantic import BeforeValidator

_NUMBER = re.compile(r"[+-]?\d{1,12}(\.\d{1,18})?")
AMBIGUOUS_TO = Decimal(10)


def _number(value: Any, unit: str = "") -> tuple[Decimal | None, bool]:
    """(the number, whether `unit` stood behind it); None for what is no plain number."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None, False
    text = str(value).strip() if isinstance(value, str) else str(Decimal(str(value)))
    bare = text.removesuffix(unit).rstrip() if unit else text
    if isinstance(value, str) and not _NUMBER.fullmatch(bare):
        return None, False
    number = Decimal(bare)
    return (number, bare != text) if number.is_finite() else (None, False)


def _fraction(value: Any) -> Any:
    number, percent = _number(value, "%")
    if number is None:
        return _refused(value)
    if percent:
        return number / 100
    if 1 < number <= AMBIGUOUS_TO:
        raise ValueError(f"{number:f} is ambiguous: say a fraction between 0 and 1, or percent with its sign")
    return number / 100 if AMBIGUOUS_TO < number <= 100 else number


def _percent(value: Any) -> Any:
    number, _ = _number(value, "%")
    return _refused(value) if number is None else number


def _multiple(value: Any) -> Any:
    number, _ = _number(value.lower() if isinstance(value, str) else value, "x")
    return _refused(value) if number is None else number


def _refused(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("not a plain number")
    return value  # pydantic says what is wrong with it


def folded(value: Any) -> Any:
    """A word in the schema's own case."""
    return value.strip().lower() if isinstance(value, str) else value


def _words(value: Any) -> Any:
    """Null is no word at all, and a word alone is a list of one."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return "" if value is None else value


def _identifier(value: Any) -> Any:
    """An id is text, also where a model wrote its digits as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


AS_FRACTION, AS_PERCENT = BeforeValidator(_fraction), BeforeValidator(_percent)
AS_MULTIPLE = BeforeValidator(_multiple)
AS_WORDS, AS_TEXT = BeforeValidator(_words), BeforeValidator(_text)
AS_IDENTIFIER = BeforeValidator(_identifier)
