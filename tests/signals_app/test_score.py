"""The score of a signal, and the bounds it sets on a model's proposal."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agents.evidence import EVIDENCE
from signals_app.evidence.base import Call
from signals_app.evidence.posts import crowd, social_strength
from signals_app.reading.proposal import Proposal
from signals_app.reasons import CandidateReason
from signals_app.score import (
    LEVERAGE_BOUNDS,
    Declined,
    Limits,
    Proposed,
    RiskRules,
    RiskTier,
    bound,
    bound_levels,
    decide,
    leverage,
    risk_tier,
    score,
)
from tests.builders import NO_TWEETS, TWEETS_ONLY, market
from trading.perps import isolated

D = Decimal
fractions = st.decimals(min_value=0, max_value=1, places=4)
some_weights = st.fixed_dictionaries({name: st.integers(0, 100) for name in EVIDENCE})
some_calls = st.lists(
    st.builds(
        Call,
        post=st.integers(1, 10_000),
        side=st.sampled_from(["long", "short"]),
        confidence=fractions,
        impact=fractions,
        author=st.integers(1, 5),
    ),
    max_size=6,
)
some_market = st.builds(
    market,
    close=st.floats(1e-6, 1e6),
    rsi=st.floats(0, 100),
    macd_histogram=st.floats(-1e4, 1e4),
    bollinger_b=st.floats(-3, 4),
    volume_z=st.floats(-50, 50),
    fast_average=st.floats(1e-6, 1e6),
    slow_average=st.floats(1e-6, 1e6),
    momentum_pct=st.floats(-99, 1000),
    atr_pct=st.floats(0, 100),
    volatility_pct=st.floats(0, 100),
    ewma_pct=st.floats(0, 100),
)
percents = st.decimals(min_value=D("0.01"), max_value=100, places=2)


def call(
    side: str = "long", confidence: str = "0.9", impact: str = "0.5", post: int = 1, author: int = 1
) -> Call:
    return Call(post, side, D(confidence), D(impact), author)


def rules(**fields: Any) -> Limits:
    values: dict[str, Any] = {
        "weights": TWEETS_ONLY,
        "min_confidence": D("0.5"),
        "shorts": True,
        "max_leverage": D(10),
        "stop_loss_pct": D(6),
        "take_profit_pct": D(18),
        "illiquid": False,
        "risk": RiskRules(D("0.75"), D(2)),
    }
    return Limits(**values | fields)


def proposal(**fields: Any) -> Proposal:
    values: dict[str, Any] = {
        "take": True,
        "confidence": D("0.6"),
        "stop_loss_pct": D(5),
        "take_profit_pct": D(15),
        "leverage": D(2),
        "reasoning": "because",
    }
    return Proposal(**values | fields)


def proposed(calls: Sequence[Call] = (call(),), **fields: Any) -> Proposed:
    made = decide(rules(**fields), calls, market())
    assert isinstance(made, Proposed)
    return made


@given(some_weights, some_calls, some_market)
def test_the_confidence_is_always_within_0_3_and_0_95(
    weights: dict[str, int], calls: list[Call], seen: Any
) -> None:
    found = score(weights, calls, seen)
    assume(found is not None)
    assert found is not None

    assert D("0.3") <= found.confidence <= D("0.95")
    assert found.side in {"long", "short"}


@given(
    st.lists(
        st.builds(call, side=st.just("short"), confidence=fractions.map(str), impact=fractions.map(str))
    ),
    some_market,
)
def test_bearish_posts_never_make_a_long_where_only_tweets_count(calls: list[Call], seen: Any) -> None:
    found = score(TWEETS_ONLY, calls, seen)

    assert found is None or found.side == "short"


@given(
    st.lists(st.builds(call, side=st.just("long"), confidence=fractions.map(str), impact=fractions.map(str))),
    some_market,
)
def test_bullish_posts_never_make_a_short_where_only_tweets_count(calls: list[Call], seen: Any) -> None:
    found = score(TWEETS_ONLY, calls, seen)

    assert found is None or found.side == "long"


@given(some_weights, some_calls, some_market)
def test_reversing_every_call_reverses_the_evidence_of_posts(
    weights: dict[str, int], calls: list[Call], seen: Any
) -> None:
    other = {"long": "short", "short": "long"}
    turned = [replace(one, side=other[one.side]) for one in calls]

    assert crowd(turned) == -crowd(calls)


@given(some_calls, some_market)
def test_a_weight_that_is_missing_is_a_weight_of_0(calls: list[Call], seen: Any) -> None:
    assert score({"rsi": 50}, calls, seen) == score(dict.fromkeys(EVIDENCE, 0) | {"rsi": 50}, calls, seen)


@given(some_market, some_calls)
def test_an_agent_with_no_tweet_weight_does_not_hear_the_posts(seen: Any, calls: list[Call]) -> None:
    assert score(NO_TWEETS, calls, seen) == score(NO_TWEETS, [], seen)


@given(some_weights, some_market)
def test_an_agent_with_a_tweet_weight_does_nothing_without_a_call(weights: dict[str, int], seen: Any) -> None:
    assert score(weights | {"tweet": 1}, [], seen) is None


@given(some_calls, some_market)
def test_weights_of_zero_decide_nothing(calls: list[Call], seen: Any) -> None:
    assert score(dict.fromkeys(EVIDENCE, 0), calls, seen) is None


@given(some_weights, some_calls, some_market)
def test_the_calls_behind_a_score_share_its_side_the_strongest_first(
    weights: dict[str, int], calls: list[Call], seen: Any
) -> None:
    found = score(weights, calls, seen)
    assume(found is not None)
    assert found is not None

    assert {one.side for one in found.calls} <= {found.side}
    assert [one.confidence for one in found.calls] == sorted(
        (one.confidence for one in found.calls), reverse=True
    )


@given(some_market)
def test_a_wilder_market_never_raises_the_confidence(seen: Any) -> None:
    weights = {**TWEETS_ONLY, "volatility": 100}
    calm, wild = (score(weights, [call()], replace(seen, atr_pct=atr)) for atr in (0.5, 50.0))
    assert calm is not None
    assert wild is not None

    assert wild.confidence <= calm.confidence


@pytest.mark.parametrize(
    ("confidence", "impact", "side", "rsi", "strength"),
    [
        ("0.9", "0.5", "long", 50.0, "0.72"),  # × 0.8
        ("0.9", "0.71", "long", 50.0, "0.864"),  # a good author: × 1.2
        ("0.9", "0.7", "long", 50.0, "0.72"),  # 0.7 is not above 0.7
        ("1", "0.8", "long", 50.0, "0.95"),  # held to 0.95
        ("0.9", "0.5", "long", 39.9, "0.792"),  # oversold: × 1.1
        ("0.9", "0.5", "long", 40.0, "0.72"),
        ("0.9", "0.5", "long", 70.0, "0.72"),
        ("0.9", "0.5", "long", 70.1, "0.576"),  # overbought: × 0.8
        ("0.9", "0.5", "short", 39.9, "0.72"),  # the RSI rule is for longs
        ("0.1", "0.5", "long", 50.0, "0.3"),  # never below 0.3
        ("0.9", "0.5", "long", None, "0.72"),
    ],
)
def test_the_posts_strength_follows_the_seeds_formula(
    confidence: str, impact: str, side: str, rsi: float | None, strength: str
) -> None:
    assert social_strength([call(side, confidence, impact)], side, rsi) == D(strength)


def test_posts_of_the_other_side_lend_no_strength() -> None:
    assert social_strength([call("short")], "long", 50.0) == 0


BY_CONFIDENCE = {"0.95": 5, "0.81": 5, "0.8": 3, "0.61": 3, "0.6": 2, "0.3": 2}
"""Checklist A32."""


@pytest.mark.parametrize(("confidence", "wanted"), BY_CONFIDENCE.items())
def test_leverage_is_by_confidence_within_the_bounds_of_the_risk(confidence: str, wanted: int) -> None:
    """A31: low risk 5 to 10, medium 3 to 5, high 1 to 2."""
    sure = D(confidence)
    assert leverage(sure, RiskTier.LOW, D(50)) == 5
    assert leverage(sure, RiskTier.MEDIUM, D(50)) == max(wanted, 3)
    assert leverage(sure, RiskTier.HIGH, D(50)) == 2


tiers = st.sampled_from(RiskTier)


@given(fractions, tiers, st.decimals(min_value=1, max_value=50, places=1))
def test_leverage_is_never_above_the_venues_nor_outside_the_tier(
    confidence: Decimal, risk: RiskTier, most: Decimal
) -> None:
    made = leverage(confidence, risk, most)
    low, high = LEVERAGE_BOUNDS[risk]
    assert 1 <= made <= max(most, D(1))
    assert made <= high
    assert made >= min(low, most)


@given(fractions, fractions, tiers, st.decimals(min_value=1, max_value=50, places=1))
def test_more_confidence_never_means_less_leverage_nor_more_risk_more(
    one: Decimal, other: Decimal, risk: RiskTier, most: Decimal
) -> None:
    less, more = sorted((one, other))
    assert leverage(less, risk, most) <= leverage(more, risk, most)
    by_risk = [leverage(one, tier, most) for tier in (RiskTier.LOW, RiskTier.MEDIUM, RiskTier.HIGH)]
    assert by_risk == sorted(by_risk, reverse=True)


@given(st.floats(allow_nan=True, allow_infinity=True), st.booleans())
def test_what_is_illiquid_or_unknown_is_of_high_risk(volatility: float, illiquid: bool) -> None:
    risk = risk_tier(volatility, illiquid, rules().risk)
    if illiquid or not volatility < 2:
        assert risk == RiskTier.HIGH
    else:
        assert risk == (RiskTier.LOW if volatility < 0.75 else RiskTier.MEDIUM)


@given(fractions, tiers, st.integers(2, 50).map(D), percents, st.sampled_from([1, -1]))
def test_the_stop_comes_before_the_liquidation(
    confidence: Decimal, risk: RiskTier, most: Decimal, stop: Decimal, sign: int
) -> None:
    """At a venue whose maintenance margin is half of the initial margin at its most leverage."""
    used = leverage(confidence, risk, most)
    stop_pct, _ = bound_levels(stop, D(12), used)
    held = isolated.traded(isolated.FLAT, D(sign), D(1000), used)
    level = isolated.liquidation_price(held, isolated.maintenance(most))
    assert level is None or sign * (1000 * (1 - sign * stop_pct / 100) - level) > 0


@given(
    percents,
    st.decimals(min_value=D("0.01"), max_value=1000, places=2),
    st.decimals(min_value=1, max_value=50),
)
def test_the_target_is_at_least_twice_the_stop_and_the_stop_within_its_bounds(
    stop: Decimal, take: Decimal, used: Decimal
) -> None:
    held, target = bound_levels(stop, take, used)

    assert target >= 2 * held
    assert (3 if used <= 1 else 2 if used >= 5 else 5) <= held <= (7 if used <= 1 else 5 if used >= 5 else 10)


@given(
    percents,
    st.decimals(min_value=D("0.01"), max_value=1000, places=2),
    st.decimals(min_value=1, max_value=50),
)
def test_no_target_is_further_than_the_column_and_a_short_can_hold(
    stop: Decimal, take: Decimal, used: Decimal
) -> None:
    assert bound_levels(stop, take, used)[1] <= 100


@given(some_calls, some_market)
def test_a_decision_is_bounded_whatever_is_seen(calls: list[Call], seen: Any) -> None:
    made = decide(rules(), calls, seen)

    if isinstance(made, Proposed):
        assert made.take_profit_pct >= 2 * made.stop_loss_pct
        assert made.scored.confidence >= D("0.5")
        assert 1 <= made.leverage <= 10
    else:
        assert made.reason == "below_threshold"


def test_without_indicators_nothing_is_decided() -> None:
    assert decide(rules(), [call()], None) == Declined(CandidateReason.NO_MARKET_DATA)


def test_a_short_where_the_venue_has_none_is_declined() -> None:
    assert decide(rules(shorts=False), [call("short")], market()) == Declined(
        CandidateReason.SHORTS_NOT_SUPPORTED, "short", "long only"
    )


def test_an_illiquid_token_needs_two_authors_not_two_posts() -> None:
    alone = decide(rules(illiquid=True), [call(post=1), call(post=2)], market())
    together = decide(rules(illiquid=True), [call(post=1), call(post=2, author=2)], market())

    assert alone == Declined(CandidateReason.UNCORROBORATED, "1", "2")
    assert isinstance(together, Proposed)


def test_a_weak_signal_is_declined_with_what_was_measured() -> None:
    assert decide(rules(min_confidence=D("0.8")), [call()], market()) == Declined(
        CandidateReason.BELOW_THRESHOLD, "0.720000", "0.8"
    )


some_proposals = st.builds(
    Proposal,
    take=st.booleans(),
    confidence=fractions,
    stop_loss_pct=percents,
    take_profit_pct=st.decimals(min_value=D("0.01"), max_value=1000, places=2),
    leverage=st.decimals(min_value=1, max_value=50, places=1),
    reasoning=st.just("because"),
)


@given(st.lists(st.builds(call), min_size=1, max_size=4), some_proposals)
def test_a_models_proposal_never_raises_confidence_or_leverage_nor_changes_the_side(
    calls: list[Call], model: Proposal
) -> None:
    formula = proposed(calls)
    made = bound(formula, model, rules())

    if isinstance(made, Proposed):
        assert model.take
        assert made.scored.confidence <= formula.scored.confidence
        assert 1 <= made.leverage <= formula.leverage
        assert made.leverage <= leverage(made.scored.confidence, made.risk, D(10))
        assert made.risk == formula.risk
        assert made.scored.side == formula.scored.side
        assert made.take_profit_pct >= 2 * made.stop_loss_pct


def test_a_model_that_would_not_take_the_trade_stops_it() -> None:
    made = bound(proposed(), proposal(take=False), rules())

    assert made == Declined(CandidateReason.MODEL_DISAGREES, "0.6", "0.5")


def test_a_model_that_is_less_sure_than_the_agent_asks_for_stops_it() -> None:
    assert bound(proposed(), proposal(confidence=D("0.4")), rules()) == Declined(
        CandidateReason.BELOW_THRESHOLD, "0.4", "0.5"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": D("1.01")},
        {"confidence": D("NaN")},
        {"stop_loss_pct": D(0)},
        {"take_profit_pct": D(1001)},
        {"leverage": D(51)},
        {"leverage": D("0.5")},
        {"reasoning": "x" * 1001},
        {"token": "BTC"},
        {"side": "short"},
    ],
)
def test_a_proposal_outside_the_schema_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        proposal(**wrong)
