"""The campaign finds what it is for, repeats an input by its number, and finds nothing in the product."""

import json

import pytest
from django.test import override_settings

from maxxit.core.errors import Rejected
from tests.fuzz import campaign
from tests.fuzz.door import Outcome, Target

ROWS = b'{"rows": [{"price": "1"}, {"price": "2"}, {"price": "3"}]}'
INPUTS = 2_500
"""Of all targets, within seconds; `python -m tests.fuzz` runs a million."""


def rows(data: bytes) -> list[dict[str, str]]:
    """Every row that is an object with a price as text. Raises Rejected for another shape of the whole."""
    try:
        return list(json.loads(data)["rows"])
    except (ValueError, TypeError, KeyError) as error:
        raise Rejected("no rows") from error


def good(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("price"), str)


def sound(data: bytes) -> Outcome:
    found = rows(data)
    read = sum(good(row) for row in found)
    return Outcome(read, len(found) - read, len(found))


def crashes(data: bytes) -> Outcome:
    return Outcome(len([row["price"] for row in rows(data)]))


def loses(data: bytes) -> Outcome:
    found = rows(data)
    return Outcome(sum(good(row) for row in found), 0, len(found))


def result_of(target: Target) -> campaign.Result:
    return campaign.one_target("planted", target, range(300), 1)


def test_a_sound_reader_has_no_violation() -> None:
    result = result_of(Target([ROWS], sound))
    assert result.violations == 0
    assert min(result.whole, result.read, result.refused) > 20  # each way is taken


def test_a_reader_that_crashes_is_found() -> None:
    result = result_of(Target([ROWS], crashes))
    assert result.violations
    assert any(kind.startswith(("KeyError", "TypeError")) for kind in result.kinds)


def test_a_reader_that_loses_a_row_is_found() -> None:
    result = result_of(Target([ROWS], loses))
    assert result.violations
    assert all(kind.startswith("read ") for kind in result.kinds)


@pytest.mark.parametrize("name", ["pyth prices", "posts: json lines", "keystores"])
def test_an_input_is_repeated_by_its_seed_and_number(name: str) -> None:
    target = campaign.TARGETS[name]
    make = campaign.inputs_of(name, target, 1)
    made = [make(number) for number in range(200)]
    again = campaign.inputs_of(name, target, 1)
    assert [again(number) for number in reversed(range(200))] == made[::-1]
    assert made[: len(target.samples)] == list(target.samples)
    assert len(set(made)) > 150
    other = campaign.inputs_of(name, target, 2)
    assert [other(number) for number in range(200)] != made


def test_parts_make_up_the_whole() -> None:
    whole = [one.row() for one in campaign.run(400, 1, "pyth")]
    parts = [one.row() for part in (1, 2) for one in campaign.run(400, 1, "pyth", (part, 2))]
    assert [tuple(sum(column) for column in zip(*parts, strict=True))] == whole


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
def test_no_reader_of_the_product_crashes_or_loses_a_row() -> None:
    results = list(campaign.run(INPUTS, 1))
    assert {one.target: one.kinds for one in results if one.violations} == {}
    assert sum(one.inputs for one in results) >= INPUTS
    assert {one.target for one in results if not one.read} <= REFUSALS


REFUSALS = {
    "x refusals", "openai refusals", "anthropic refusals", "refused transactions", "refused ranges", "reverted calls",
}  # fmt: skip
"""Targets whose samples are refusals: nothing is read of them."""
