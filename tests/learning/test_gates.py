"""The gates: what they promote of noise and of planted worlds, and that they read complete metrics only."""

from typing import Any

import numpy as np
import pytest

from maxxit.core.errors import InvalidInput, Rejected
from maxxit.learning import evaluate, gate_test, gates, statistics, worlds
from maxxit.learning.metrics import DirectionMetrics, VolatilityMetrics, parse

DIRECTION: dict[str, Any] = {
    "purpose": "direction", "days": 200, "rows": 900, "location_skill": 1e-4, "location_low": 1e-5, "threshold": 0.1,
    "candidates": 10, "periods": 500, "trades": 300, "sharpe_per_period": 0.3, "deflated_sharpe": 0.99,
    "counted_candidates": 10, "fold_returns": (0.1, 0.1, 0.1, -0.1), "total_return": 0.2, "static_return": 0.1,
    "max_drawdown": 0.1,
}  # fmt: skip
VOLATILITY: dict[str, Any] = {
    "purpose": "volatility", "days": 200, "rows": 900, "baseline": "ewma", "pinball": 1, "baseline_pinball": 1.1,
    "skill_pct": 1, "skill_low_pct": 0.2, "skill_high_pct": 2, "qlike": 0.3, "incumbent": None,
    "coverage_80": (0.8,) * 4, "coverage_90": (0.9,) * 4,
}  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_random_walks_are_not_promoted_and_planted_edges_are(part: int) -> None:
    """Together 100 random walks and 30 planted worlds, as `manage.py models gate-test` counts them."""
    found = gate_test.run(25, 8 if part < 2 else 7, seed=50 + part)
    assert found.noise_promoted == 0
    assert found.planted_promoted == found.planted_worlds
    assert found.volatility_passed == found.volatility_models == 3
    assert found.volatility_as_direction == 0
    assert found.missing_fields_refused == found.missing_fields == len(DIRECTION) - 1
    assert found.holds


def test_a_gate_that_promotes_noise_does_not_hold() -> None:
    assert not gate_test.GateTest(
        noise_worlds=100, noise_promoted=1, planted_worlds=30, planted_promoted=30
    ).holds
    assert not gate_test.GateTest(noise_worlds=100, planted_worlds=30, planted_promoted=28).holds
    assert gate_test.GateTest(noise_worlds=100, planted_worlds=30, planted_promoted=29).holds
    assert not gate_test.GateTest(noise_worlds=25, planted_worlds=8, planted_promoted=7).holds
    assert not gate_test.GateTest(noise_worlds=200, planted_worlds=31, planted_promoted=29).holds


@pytest.mark.parametrize("name", sorted(DIRECTION.keys() - {"purpose"}))
def test_metrics_without_a_field_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        parse("direction", {key: value for key, value in DIRECTION.items() if key != name})


@pytest.mark.parametrize("wrong", [{"sharpe": 1.0}, {"days": float("nan")}, {"fold_returns": (0.1, 0.2)}])
def test_metrics_with_an_unknown_or_impossible_field_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        parse("direction", DIRECTION | wrong)


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"days": 179}, "insufficient_history"),
        ({"trades": 99}, "insufficient_history"),
        ({"location_low": 0.0}, "location_skill"),
        ({"deflated_sharpe": 0.949}, "deflated_sharpe"),
        ({"fold_returns": (0.1, 0.1, -0.1, 0.0)}, "positive_folds"),
        ({"total_return": 0.1}, "static_side"),
    ],
)
def test_each_check_of_a_direction_model_alone_holds_it_back(changed: dict[str, Any], check: str) -> None:
    assert gates.judge(DirectionMetrics(**DIRECTION), "direction").passed
    assert gates.judge(DirectionMetrics(**DIRECTION | changed), "direction").reason == check


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"skill_low_pct": 0.0}, "skill_over_ewma"),
        ({"incumbent": {"model": 3, "low_pct": 0.0, "qlike": 1}}, "skill_over_incumbent"),
        ({"coverage_80": (0.8, 0.8, 0.8, 0.74)}, "coverage_80"),
        ({"coverage_90": (0.9, 0.96, 0.9, 0.9)}, "coverage_90"),
        ({"incumbent": {"model": 3, "low_pct": 0.1, "qlike": 0.29}}, "qlike"),
    ],
)
def test_each_check_of_a_volatility_model_alone_holds_it_back(changed: dict[str, Any], check: str) -> None:
    assert gates.judge(VolatilityMetrics(**VOLATILITY), "volatility").passed
    assert (
        gates.judge(
            VolatilityMetrics(**VOLATILITY | changed),
            "volatility",
            serving=3 if "incumbent" in changed else None,
        ).reason
        == check
    )


def test_a_volatility_model_is_never_a_direction_model() -> None:
    found = gates.judge(VolatilityMetrics(**VOLATILITY), "direction")
    assert (found.passed, found.reason) == (False, "purpose")


def test_a_volatility_model_is_compared_with_the_one_that_serves() -> None:
    found = gates.judge(VolatilityMetrics(**VOLATILITY), "volatility", serving=3)
    assert found.reason == "skill_over_incumbent"
    newer = VolatilityMetrics(**VOLATILITY | {"incumbent": {"model": 3, "low_pct": -0.5, "qlike": 0.3}})
    assert gates.judge(newer, "volatility", refresh=True, serving=3).passed
    assert not gates.judge(newer, "volatility", serving=3).passed


def test_a_comparison_with_a_model_that_serves_no_longer_does_not_count() -> None:
    better = VolatilityMetrics(**VOLATILITY | {"incumbent": {"model": 3, "low_pct": 0.5, "qlike": 1}})
    found = gates.judge(better, "volatility", serving=4)
    assert [(one.value, one.limit) for one in found.checks if not one.passed] == [
        ("compared with model 3", "compared with model 4, which serves: train again on newer data")
    ]
    worse = VolatilityMetrics(**VOLATILITY | {"incumbent": {"model": 3, "low_pct": -5, "qlike": 0.1}})
    assert gates.judge(worse, "volatility").passed  # none serves


def test_the_deflated_sharpe_ratio_falls_with_the_number_of_candidates() -> None:
    random = np.random.default_rng(0)
    returns = random.standard_normal(500) + 0.15
    few, many = (statistics.deflated_sharpe(returns, count) for count in (1, 1000))
    assert many < few
    # the best of N random strategies exceeds the expected best of luck about half of the time
    best = [max(statistics.sharpe(random.standard_normal(250)) for _ in range(20)) for _ in range(200)]
    assert np.mean(best) == pytest.approx(statistics.best_of_luck(20, 250), rel=0.05)


def test_no_training_row_reaches_into_its_fold() -> None:
    data = evaluate.gather(worlds.world(1, 60), 6)
    for training, test in evaluate.folds(data.ends, 6):
        assert data.ends[training].max() + 6 + evaluate.EMBARGO <= data.ends[test].min()


def test_too_little_history_is_refused() -> None:
    with pytest.raises(Rejected, match="too little data") as caught:
        evaluate.gather(worlds.world(1, 8), 24)
    assert caught.value.code == "insufficient_history"


def test_the_pinball_loss_is_least_at_the_true_quantiles() -> None:
    actual = np.random.default_rng(0).standard_normal(20_000)
    true = np.tile(statistics.empirical(actual, symmetric=False), (len(actual), 1))
    assert statistics.pinball(actual, true).mean() < statistics.pinball(actual, true * 1.3).mean()
    assert statistics.pinball(actual, true).mean() < statistics.pinball(actual, true + 0.1).mean()
