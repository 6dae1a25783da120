"""Money: numbers that know what they count."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.money import COLUMN, USDC_UNIT, brief, exactly, plain, split, usdc

amounts = st.decimals(min_value=-(10**12), max_value=10**12, places=12)


@given(amounts)
def test_rounding_to_usdc_moves_a_number_by_half_a_unit_at_most(number: Decimal) -> None:
    rounded = usdc(number)

    assert abs(rounded - number) <= USDC_UNIT / 2
    assert rounded == rounded.quantize(USDC_UNIT)


@given(amounts)
def test_rounding_to_usdc_twice_changes_nothing(number: Decimal) -> None:
    assert usdc(usdc(number)) == usdc(number)


@pytest.mark.parametrize(
    ("number", "rounded"),
    [("0.0000005", "0"), ("0.0000015", "0.000002"), ("0.0000025", "0.000002"), ("-0.0000015", "-0.000002")],
)
def test_halves_go_to_the_even_neighbour(number: str, rounded: str) -> None:
    assert usdc(Decimal(number)) == Decimal(rounded)


weights = st.lists(st.decimals(0, 1, places=6), min_size=1, max_size=8)


@given(st.decimals(-(10**6), 10**6, places=6), weights)
def test_parts_add_up_to_the_amount_in_whole_units_each_near_its_share(
    amount: Decimal, given: list[Decimal]
) -> None:
    parts = split(amount, given)

    total = sum(given)
    with exactly():
        assert sum(parts) == amount
        for part, weight in zip(parts, given, strict=True):
            assert part == usdc(part)
            share = amount * weight if total else amount
            assert abs(part * (total or len(parts)) - share) < USDC_UNIT * (total or len(parts))


@given(st.decimals(-10, 10, places=18), weights)
def test_parts_add_up_to_an_amount_that_is_no_whole_unit(amount: Decimal, given: list[Decimal]) -> None:
    assert sum(split(amount, given)) == amount


@given(amounts)
def test_plain_text_reads_back_as_the_same_number_without_an_exponent(number: Decimal) -> None:
    text = plain(number)

    assert Decimal(text) == number
    assert "E" not in text.upper()
    assert "." not in text or not text.endswith(("0", "."))


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("3012.123456789012345678", "3012.1235"),
        ("64012.350000000000000000", "64012.35"),
        ("0.000012345678912345", "0.000012345679"),
        ("123456789012.5", "123456789012"),
        ("-0.331234567890123456", "-0.33123457"),
        ("0E-18", "0"),
        ("1200", "1200"),
    ],
)
def test_a_long_number_is_brief_where_people_look_at_it(number: str, shown: str) -> None:
    assert brief(Decimal(number)) == shown


def test_a_money_column_holds_eighteen_decimals() -> None:
    assert COLUMN == {"max_digits": 38, "decimal_places": 18}
