"""What the permission card promises, against what the contract lets through."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.chain.lab import USDC, Lab, reverts
from trading.venues.safe.card import PermissionCard, WorstCase, permission_card, worst_case

pytestmark = pytest.mark.chain

D = Decimal
FEED_AHEAD, FEED_BEHIND = D("1.005"), D("0.995")
"""As far as a feed with a deviation threshold of 50 bps may be from the market."""


def card_of(lab: Lab, **changes: Any) -> PermissionCard:
    return permission_card(lab.world.policy(**changes), lab.world.rules(), lab.world.contracts().tokens)


def test_the_card_states_limits_and_the_most_that_can_be_lost(lab: Lab) -> None:
    card = card_of(lab)
    text = card.as_text()
    assert (card.most_lost_per_day, card.most_lost_in_total) == (150 * USDC, 25_500 * USDC)
    for words in (
        "buy ETH, BTC with", "1,000.00 USDC", "20 % of profit", "1 % worse", "UNAUDITED",
        "in any 24 hours: 150.00 USDC: 50.00 USDC at the price feeds, 100.00 USDC by feeds up to 0.5 % away",
        "until you sign again: 25,500.00 USDC, never more than the Safe holds: 500.00 USDC at the price feeds",
        "over 250 days at least", "traded on until it is 60 min old",
    ):  # fmt: skip
        assert words in text
    assert card.as_json()["most_lost_per_day"] == 150 * USDC


def test_the_page_about_the_contract_shows_the_card_of_the_demo(lab: Lab) -> None:
    page = (Path(__file__).parents[2] / "docs/contract.md").read_text()
    shown = page.partition("For the demo policy:\n")[2].partition("\nThe module measures")[0]
    text = card_of(lab).as_text()
    for role in ("fee_receiver", "profit_receiver"):
        text = text.replace(lab.world.accounts[role], f"<{role.replace('_', ' ')}>")
    assert " ".join(shown.split()) == " ".join(text.split())


def test_a_feed_whose_deviation_is_not_known_is_named(lab: Lab) -> None:
    card = permission_card(lab.world.policy(), lab.world.rules(), {})
    assert card.most_lost_per_day == 50 * USDC
    assert any(
        f"{lab.world.address_of('WETH')}, {lab.world.address_of('WBTC')} deviate: not known" in line
        for line in card.not_bounded
    )


def test_without_a_fee_only_the_balance_bounds_the_total(lab: Lab) -> None:
    free = lab.world.policy(trade_fee=0)
    assert worst_case(free, 50) == WorstCase(150 * USDC, None, 0)
    assert worst_case(free, 0) == WorstCase(50 * USDC, 500 * USDC, 0)
    assert "all that the Safe holds" in card_of(lab, trade_fee=0).as_text()


def test_a_thief_takes_more_than_the_loss_budget_and_less_than_the_card_says(lab: Lab) -> None:
    """He owns the market that the Safe trades with: he sells to it while the feed is ahead of the market and buys from
    it while the feed is behind, each time near the module's price floor."""
    limits: dict[str, Any] = {"loss_budget": 40 * USDC, "daily_notional": 2_000 * USDC}
    lab.set_policy(**limits)
    worst = card_of(lab, **limits)

    def trade_at(market: Decimal, feed_factor: Decimal, pool_factor: str) -> None:
        lab.world.set_feed("WETH", market * feed_factor)
        lab.world.set_pool_price("WETH", market * feed_factor * D(pool_factor))

    market, lost = D(2_500), D(0)
    trade_at(market, FEED_AHEAD, "1.0092")
    for name in ("a", "b"):
        opened = lab.open(name).args
        lost += opened["usdc_in"] + opened["fee"] - D(opened["quantity"]).scaleb(-12) * market
        lab.advance(2)
    with reverts("DAILY_NOTIONAL"):
        lab.open("c")
    market = D(2_600)  # so that no loss is realised: only the shortfall against the feed counts
    trade_at(market, FEED_BEHIND, "0.9915")
    for name in ("a", "b"):
        closed = lab.close(name).args
        lost += D(closed["quantity"]).scaleb(-12) * market - closed["usdc_out"]

    assert limits["loss_budget"] < lost <= worst.most_lost_per_day == 60 * USDC
    assert lost > D("0.9") * worst.most_lost_per_day, "the bound is not far away"


def test_the_fee_bounds_how_often_a_total_budget_can_be_traded(lab: Lab) -> None:
    limits: dict[str, Any] = {"total_loss_budget": 1 * USDC, "loss_budget": 1 * USDC}
    lab.set_policy(**limits)
    most = limits["total_loss_budget"] // lab.world.policy().trade_fee
    opened = 0
    with reverts("TOTAL_LOSS_BUDGET|LOSS_BUDGET"):
        for opened in range(most + 1):
            lab.open(f"t{opened}", usdc=10 * USDC)
            lab.close(f"t{opened}")
            lab.advance(86_400 * 2)
    assert 0 < opened <= most


def test_the_profit_share_is_never_taken_of_what_was_paid_in(lab: Lab) -> None:
    before = lab.usdc("profit_receiver")
    lab.open("a")
    assert lab.close("a").args["share"] == 0
    lab.advance(2)
    lab.open("b")
    lab.move("WETH", "1.1")
    closed = lab.close("b").args
    assert lab.usdc("profit_receiver") - before == closed["share"]
    assert 0 < closed["share"] <= closed["profit"] // 5


@pytest.mark.parametrize(
    ("delay", "words"),
    [(0, "NO delay"), (3_600, "60 min"), (86_400, "24 hours"), (30 * 86_400, "30 days"), (61, "61 s")],
)
def test_the_card_states_the_delay_of_a_loosening(lab: Lab, delay: int, words: str) -> None:
    card = permission_card(lab.world.policy(loosen_delay=delay), lab.world.rules(), {})
    assert words in card.loosening
    assert card.loosening in card.as_text()
