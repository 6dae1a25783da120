"""Pydantic validators for numbers and words as LLMs write them; ambiguous values are rejected.

`AS_FRACTION` reads 0.7, "0.7", "70%" and 70 as 0.7. A bare number above 1 and up to 10 is rejected: 7 may mean 7 of 10
or 7 percent. `AS_PERCENT` reads 5, "5" and "5%" as 5; `AS_MULTIPLE` reads 3, "3" and "3x" as 3.
"""

import re
from decimal import Decimal
from typing import Any

from pydantic import BeforeValidator

_NUMBER = re.compile(r"[+-]?\d{1,12}(\.\d{1,18})?")
AMBIGUOUS_TO = Decimal(10)


def _number(value: Any, unit: str = "") -> tuple[Decimal | None, bool]:
    """Return (the number, whether `unit` followed it); None for anything but a plain number."""
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
        raise ValueError(f"{number:f} is ambiguous: use a fraction between 0 and 1, or a percentage with %")
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
    return value  # pydantic reports the error


def folded(value: Any) -> Any:
    """Lower-case a word."""
    return value.strip().lower() if isinstance(value, str) else value


def _words(value: Any) -> Any:
    """Turn null into an empty list and a single word into a list of one."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return "" if value is None else value


def _identifier(value: Any) -> Any:
    """Return an id as text, also where the model wrote a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


AS_FRACTION, AS_PERCENT = BeforeValidator(_fraction), BeforeValidator(_percent)
AS_MULTIPLE = BeforeValidator(_multiple)
AS_WORDS, AS_TEXT = BeforeValidator(_words), BeforeValidator(_text)
AS_IDENTIFIER = BeforeValidator(_identifier)
