"""Text of CSV cells: exact, and never a formula."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core import csv_text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_no_cell_runs_as_a_formula(text: str) -> None:
    assert csv_text.cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (-2, "-2"),
        (Decimal("-1.50"), "-1.5"),
        (Decimal("1E+3"), "1000"),
        (datetime(2026, 3, 2, 10, tzinfo=UTC), "2026-03-02T10:00:00.000Z"),
        ([1], "[1]"),
        ({"a": Decimal(1)}, '{"a": "1"}'),
        ("paper:1", "paper:1"),
    ],
)
def test_values_are_exact(value: Any, text: str) -> None:
    assert csv_text.cell(value) == text


def test_lines_quote_what_has_commas_quotes_or_newlines() -> None:
    assert csv_text.lines([("a,b", 'c"d', "e\nf"), ("=1", None, 2)]) == '"a,b","c""d","e\nf"\r\n\'=1,,2\r\n'
