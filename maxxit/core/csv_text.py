"""Text of CSV cells and lines: exact amounts, UTC times, and no text that a spreadsheet runs as a formula."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from maxxit.core.clock import iso_utc
from maxxit.core.money import plain

CHUNK = 2_000
"""Rows that an export reads from the database at a time."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet computes a cell that begins with one of these (OWASP, CSV injection): text gets an apostrophe."""


def cell(value: Any) -> str:
    """Return a value as the text of a cell: amounts without exponent, times in UTC, lists and objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return iso_utc(value)
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def lines(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV lines, each value as `cell` formats it."""
    text = io.StringIO()
    csv.writer(text).writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()
