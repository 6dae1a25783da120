"""How large an entry is."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.terms import Preset
from trading.entries.sizing import notional, size
from trading.risk.policy import policy

D = Decimal
usd = st.decimals(min_value=-10_000, max_value=10_000_000, places=2)
fractions = st.decimals(min_value=0, max_value=1, places=4)
presets = st.sampled_from(["conservative", "moderate", "aggressive"])


@given(presets, usd, usd.map(abs), fractions, st.integers(0, 50))
def test_a_size_keeps_every_bound_of_its_preset(
    preset: Any, equity: Decimal, exposure: Decimal, confidence: Decimal, posts: int
) -> None:
    rules = policy().sizing[preset]
    found = size(rules, equity=equity, exposure=exposure, confidence=confidence, posts=posts).notional
    available = max(equity - exposure, D(0))

    assert 0 <= found <= rules.max_usd
    assert found <= available * rules.max_pct / 100
    assert found == 0 or equity - exposure - found >= equity * rules.reserve_pct / 100 - D("0.000001")


@given(presets, usd, usd.map(abs), fractions, fractions)
def test_more_confidence_never_makes_a_smaller_size(
    preset: Any, equity: Decimal, exposure: Decimal, one: Decimal, other: Decimal
) -> None:
    small, large = (
        size(
            policy().sizing[preset], equity=equity, exposure=exposure, confidence=confidence, posts=0
        ).notional
        for confidence in sorted((one, other))
    )

    assert small <= large


@pytest.mark.parametrize(
    ("preset", "shares"),
    [("conservative", ("4", "2", "1")), ("moderate", ("8", "5", "2")), ("aggressive", ("15", "10", "5"))],
)
def test_the_tiers_shares_are_the_seeds(preset: Any, shares: tuple[str, ...]) -> None:
    rules = policy().sizing[preset]
    sizes = [
        size(rules, equity=D(1000), exposure=D(0), confidence=D(c), posts=0).notional
        for c in ("0.7", "0.5", "0.3")
    ]

    assert sizes == [D(share) * 10 for share in shares]


def test_a_deployment_that_is_used_up_gets_nothing() -> None:
    assert (
        size(
            policy().sizing[Preset.MODERATE], equity=D(1000), exposure=D(1000), confidence=D(1), posts=4
        ).notional
        == 0
    )


@given(
    st.decimals(0, 100_000, places=6), st.decimals(1, 50, places=2), st.decimals("0.01", 100_000, places=2)
)
def test_leverage_enlarges_an_entry_up_to_the_limit_of_one_trade(
    sized: Decimal, leverage: Decimal, most: Decimal
) -> None:
    wanted = notional(sized, leverage, most)
    assert sized <= wanted <= sized * leverage
    assert wanted == sized or wanted <= most
