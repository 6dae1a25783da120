"""The tables of docs/fees.md are computed."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from agents.fee_terms import fee_problem
from agents.fees import Occasion, rule_of, share_profit

PAGE = (Path(__file__).parents[2] / "docs/fees.md").read_text()
CHARGES = re.findall(r"^\| `(\w+ [^`]+)` \| ([\d.,]+) \| ([\d.]+) \|$", PAGE, re.M)
SHARES = re.findall(r"^\| (-?\d+) \| (\d+) \| (\d+) \|$", PAGE, re.M)
OCCASIONS: dict[str, Occasion] = {
    "percentage": "trade",
    "subscription": "month",
    "profit_share": "profit",
    "tiered": "profit",
}


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


@pytest.mark.parametrize(("rule", "base", "fee"), CHARGES)
def test_each_charge_of_the_page_is_what_the_rule_says_and_allowed(rule: str, base: str, fee: str) -> None:
    assert rule_of(rule).charge(number(base)) == number(fee)
    assert not fee_problem(OCCASIONS.get(rule.split()[0], "trade"), rule)


def test_the_carried_losses_of_the_page() -> None:
    rule, carried = rule_of("profit_share rate_pct=20 minimum_usdc=0"), Decimal(0)
    for earned, share, left in SHARES:
        shared = share_profit(rule, number(earned), carried)
        carried = shared.carried_loss
        assert (shared.share, carried) == (number(share), number(left))


def test_every_model_has_an_example() -> None:
    assert len(CHARGES) == 10
    assert len(SHARES) == 4
    assert {rule.split()[0] for rule, _, _ in CHARGES} == {
        "flat", "percentage", "profit_share", "tiered", "subscription",
    }  # fmt: skip
