"""JSON from strangers: the usual values, and nothing that could end the process."""

import json
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import untrusted

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_wrote_comes_back(value: object) -> None:
    assert untrusted.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_refused_however_deep_python_would_recurse(opening: str) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)  # what importing web3's packages does in kind
    try:
        with pytest.raises(ValueError, match="nested too deep"):
            untrusted.loads(opening * 100_000)
    finally:
        sys.setrecursionlimit(before)


def test_fractions_become_decimals_when_asked() -> None:
    assert untrusted.loads('{"price": 0.1, "n": NaN}', decimals=True)["price"] == Decimal("0.1")


@pytest.mark.parametrize("exponent", [400, 999_999_999, 10**20])
def test_a_number_beyond_the_range_of_a_float_is_infinite_or_zero(exponent: int) -> None:
    """Decimal refuses the last exponent, and a whole number of the second takes all memory."""
    text = f"[1.5e{exponent}, -1e{exponent}, 1e-{exponent}]"
    assert untrusted.loads(text, decimals=True) == [Decimal("Infinity"), Decimal("-Infinity"), 0]


@pytest.mark.parametrize("broken", [b"", b"{", b"\xff", b"nope"])
def test_what_is_not_json_is_a_value_error(broken: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (each broken form has its own words)
        untrusted.loads(broken)
