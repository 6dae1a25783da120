"""What is stored of a decision is enough to decide again."""

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from maxxit.learning.forecasts import Direction
from maxxit.learning.reasons import NoForecast
from signals_app.decision_inputs import as_json, decide_again, return_forecast
from signals_app.evidence.base import Call, SocialFigures
from signals_app.score import Proposed, bound, decide
from tests.builders import T0
from tests.signals_app.test_score import (
    fractions,
    percents,
    proposal,
    rules,
    some_calls,
    some_market,
    some_weights,
)

some_social = st.none() | st.builds(
    SocialFigures,
    galaxy_score=st.decimals(0, 100, places=4),
    sentiment_pct=st.decimals(0, 100, places=4),
    volume_change_pct=st.decimals(-100, 1000, places=20),
    price_change_pct=st.decimals(-99, 1000, places=4),
    alt_rank=st.integers(1, 5000),
)
fractions_of_returns = st.floats(-1, 1, allow_nan=False)
some_forecast = st.sampled_from([None, *NoForecast]) | st.builds(
    Direction,
    mean=fractions_of_returns,
    sigma=st.floats(1e-6, 2),
    horizon_hours=st.integers(2, 168),
    model=st.integers(1, 9),
    at=st.just(T0),
)
some_limits = st.builds(
    rules,
    weights=some_weights,
    min_confidence=fractions,
    shorts=st.booleans(),
    max_leverage=st.decimals(1, 50, places=2),
    stop_loss_pct=percents,
    take_profit_pct=percents,
    illiquid=st.booleans(),
)


@given(
    some_limits,
    some_calls,
    some_market,
    some_social,
    st.none() | st.builds(proposal, confidence=fractions),
    some_forecast,
)
def test_stored_inputs_give_the_same_decision(
    limits: Any, calls: list[Call], seen: Any, social: SocialFigures | None, model: Any, forecast: Any
) -> None:
    decided = decide(limits, calls, seen, social, return_forecast(forecast))
    if model is not None and isinstance(decided, Proposed):
        decided = bound(decided, model, limits)
    stored = json.loads(json.dumps(as_json(limits, calls, social, model, forecast)))
    assert decide_again(stored, limits.weights, seen) == decided


def test_money_is_stored_as_text_and_weights_are_not_repeated() -> None:
    stored = as_json(rules(), [Call(1, "long", Decimal("0.9000"), Decimal("0.5"), 7, 3)], None, None)
    assert stored["calls"] == [
        {"post": 1, "side": "long", "confidence": "0.9000", "impact": "0.5", "author": 7, "reactions": 3}
    ]
    assert stored["limits"]["min_confidence"] == "0.5"
    assert "weights" not in stored["limits"]
