"""Evidence in words: what each piece is, its value, weight and effect."""

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from agents.evidence import EVIDENCE, POSTS
from maxxit.core.terms import Side
from signals_app.evidence.effects import effects
from signals_app.score import MAX_CONFIDENCE, MIN_CONFIDENCE, score
from tests.signals_app.test_score import some_market


def test_each_piece_is_named_with_its_value_weight_and_effect() -> None:
    evidence = {"tweet": 0.7, "rsi": -0.2, "volatility": 0.4, "macd": 0.0, "momentum": 0.3, "funding": 0.5}
    weights = {"tweet": 100, "rsi": 50, "volatility": 30, "macd": 10, "funding": 10}
    assert [str(row) for row in effects(evidence, weights, Side.LONG)] == [
        "What the followed accounts say: +0.70, weight 100 of 200 in all, speaks for this long",
        "The relative strength index: −0.20, weight 50 of 200 in all, speaks against this long,"
        " takes 2.5 points of confidence",
        "The MACD histogram: +0.00, weight 10 of 200 in all, speaks for neither side",
        "Volatility: +0.40, weight 30 of 200 in all, speaks against any trade, takes 3.0 points of confidence",
        "Funding (no longer in use): +0.50, weight 10 of 200 in all, speaks for this long",
    ]


def test_a_short_reads_the_same_values_the_other_way() -> None:
    [row] = effects({"rsi": -0.2}, {"rsi": 40}, Side.SHORT)
    assert row.speaks == "speaks for this short"
    assert row.points is not None
    assert round(row.points, 9) == 10


@given(
    some_market,
    st.dictionaries(st.sampled_from([one for one in EVIDENCE if one != POSTS]), st.integers(0, 100)),
)
def test_the_points_add_up_to_the_confidence(seen: Any, weights: dict[str, int]) -> None:
    scored = score(weights, (), seen)
    assume(scored is not None and MIN_CONFIDENCE < scored.confidence < MAX_CONFIDENCE)
    assert scored is not None
    points = [row.points for row in effects(scored.evidence, weights, scored.side)]
    assert (
        abs(50 + sum(value for value in points if value is not None) - float(scored.confidence) * 100) < 0.001
    )
