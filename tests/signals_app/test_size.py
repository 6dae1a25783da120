"""A signal states the tier and size of its order."""

from decimal import Decimal

import pytest

from signals_app.size import size_model, tier
from trading.entries import sizing
from trading.risk.policy import policy

D = Decimal


@pytest.mark.parametrize(
    ("confidence", "posts", "name"),
    [
        *[("0.7", 0, "high"), ("0.6999", 0, "medium"), ("0.5", 0, "medium"), ("0.4999", 0, "low")],
        *[("0.65", 1, "high"), ("0.45", 1, "medium"), ("0.3", 4, "medium"), ("0.3", 100, "medium")],
    ],
)
def test_the_tier_follows_confidence_plus_five_points_a_post_twenty_at_most(
    confidence: str, posts: int, name: str
) -> None:
    assert tier(D(confidence), posts) == name


@pytest.mark.parametrize("preset", ["conservative", "moderate", "aggressive"])
@pytest.mark.parametrize("confidence", ["0.2", "0.5", "0.9"])
def test_the_size_is_that_of_an_order_that_nothing_else_bounds(preset: str, confidence: str) -> None:
    told = size_model(preset, D(confidence), 0)
    rules = policy().sizing[preset].model_copy(update={"max_usd": D(10**9)})  # type: ignore[index]  # a name of the file
    found = sizing.size(rules, equity=D(1000), exposure=D(0), confidence=D(confidence), posts=0)

    assert told["tier"] == found.tier
    assert D(told["size"]) * 1000 == found.notional


def test_the_size_model_names_preset_posts_tier_and_size() -> None:
    assert size_model("moderate", D("0.55"), 3) == {
        "preset": "moderate", "posts": 3, "tier": "high", "size": "0.08",
    }  # fmt: skip
