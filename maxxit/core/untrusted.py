"""Parse JSON from untrusted sources safely, and make values storable in Postgres.

Python's JSON decoder recurses up to the interpreter's recursion limit, which the Ethereum packages raise to 100,000:
a line of opening brackets would then crash the process. So nesting is checked before anything is decoded.
"""

import json
from decimal import Decimal
from math import isfinite
from typing import Any

from pydantic_core import from_json


def loads(raw: str | bytes, *, decimals: bool = False) -> Any:
    """Parse untrusted JSON. `decimals`: numbers with a fraction, NaN and infinities become Decimal.

    Raises ValueError for invalid JSON and for nesting deeper than 200 levels (the limit of pydantic's parser).
    """
    text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    check_depth(text)
    if decimals:
        return json.loads(text, parse_float=_decimal, parse_constant=Decimal)
    return json.loads(text)


def _decimal(text: str) -> Decimal:
    """Parse a number exactly; one beyond the range of a float becomes infinite or zero, as in other JSON parsers.

    Otherwise an exponent of a billion would take all memory when converted to an integer.
    """
    size = float(text)
    return Decimal(text) if size and isfinite(size) else Decimal(size)


def check_depth(text: str) -> None:
    """Raise ValueError when JSON text nests deeper than 200 levels; other syntax is not checked."""
    try:
        from_json(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        if "recursion limit" in str(error):
            raise ValueError("nested too deep") from None


def storable(value: Any) -> Any:
    """Return `value` as Postgres accepts it: no NUL characters, no lone surrogates, no infinities."""
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
