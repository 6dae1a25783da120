"""What strangers send: their JSON, and what a database takes of it.

Python's decoder recurses as deep as the interpreter's limit allows, and the Ethereum packages raise that limit to
100,000: from then on a line of opening brackets ends the process. So nesting is checked before anything is decoded.
"""

import json
from decimal import Decimal
from math import isfinite
from typing import Any

from pydantic_core import from_json


def loads(raw: str | bytes, *, decimals: bool = False) -> Any:
    """`json.loads` for what strangers send. `decimals`: numbers with a fraction, NaN and infinities become Decimal.

    Raises ValueError for what is not JSON and for what nests deeper than 200 levels (pydantic's parser counts them).
    """
    text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    check_depth(text)
    if decimals:
        return json.loads(text, parse_float=_decimal, parse_constant=Decimal)
    return json.loads(text)


def _decimal(text: str) -> Decimal:
    """The exact number. One beyond the range of a float is infinite or zero, as other readers of JSON have it: whole
    numbers are made of these, and one with an exponent of a billion would take all memory."""
    size = float(text)
    return Decimal(text) if size and isfinite(size) else Decimal(size)


def check_depth(text: str) -> None:
    """Raise ValueError when JSON text nests deeper than 200 levels. Whether it is JSON is not checked."""
    try:
        from_json(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        if "recursion limit" in str(error):
            raise ValueError("nested too deep") from None


def storable(value: Any) -> Any:
    """`value` as Postgres takes it: without NUL, without halves of surrogate pairs, without infinities."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
