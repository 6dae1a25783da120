"""The permission card of an agent key lists what the key limits and what has no limit."""

from dataclasses import replace
from decimal import Decimal as D

from tests.trading.venues.hyperliquid.test_signer import POLICY
from trading.venues.hyperliquid.card import key_card
from trading.venues.hyperliquid.wire import Builder


def test_the_limits_of_the_signer_are_on_the_card() -> None:
    card = key_card(replace(POLICY, builder=Builder("0xfee", 50)))
    assert card.can[0].startswith("trade perpetual futures in ETH")
    assert card.can[0].endswith("leverage of at most 5")
    assert "10,000 USD in any 24 hours, each within 1.5 %" in card.can[1]
    assert "within 10 % of the quote" in card.can[2]
    assert "pay 0.05 % to 0xfee" in card.can[3], "50 tenths of a basis point"
    changed = key_card(replace(POLICY, max_leverage=3, price_band=D("0.02")))
    assert "leverage of at most 3" in changed.can[0]
    assert len(changed.can) == 3, "no builder, no fee"


def test_what_a_thief_could_do_is_said() -> None:
    card = key_card(POLICY)
    assert any("withdraw" in line for line in card.cannot)
    assert "The whole account can be lost" in card.not_bounded[0]
    assert "not by Hyperliquid" in card.bounded_by
