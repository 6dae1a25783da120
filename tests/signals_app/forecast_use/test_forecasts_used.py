"""A signal says in words which forecasts its decision used, and why it used none."""

from typing import Any

import pytest

from signals_app.forecast_use.forecasts_used import forecasts_used

DIRECTION = {
    "mean": "-0.0123",
    "sigma": "0.031",
    "horizon_hours": 24,
    "model": 7,
    "at": "2026-03-02T10:00:00.000Z",
}
STOP = {
    "basis": "forecast",
    "model": 3,
    "at": "2026-03-02T10:00",
    "sigma_pct": "3.0000",
    "wanted_pct": "4.50",
}

SIZE = {
    "scale": "0.625", "target_pct": "3", "sigma_pct": "4.8000", "horizon_hours": 24, "model": 3,
    "at": "2026-03-02T10:00",
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "size", "lines"),
    [
        ({}, {"posts": 1}, []),
        ({"inputs": {"calls": []}}, {}, []),
        (
            {"inputs": {"forecast": DIRECTION}},
            {"volatility": {"scale": "1", "target_pct": "3", "reason": "stale_forecast"}},
            [
                "Direction forecast: −1.23 % over 24 h, standard deviation 3.10 %, by model 7 at "
                "2026-03-02T10:00:00.000Z",
                "Size: that of the preset, without a forecast (stale_forecast: the newest forecast of the token is "
                "too old)",
            ],
        ),
        (
            {"inputs": {"forecast": {"reason": "no_model"}}, "stop": STOP},
            {"volatility": SIZE},
            [
                "Direction forecast: none, counts as 0 (no_model: no trained model of the purpose and horizon serves)",
                "Stop loss: 4.5 % wanted by forecast volatility of 3.0000 %, by model 3 at 2026-03-02T10:00",
                "Size: 62.5 % of that of the preset: target volatility 3 %, forecast 4.8000 % over 24 h, by model 3 at "
                "2026-03-02T10:00",
            ],
        ),
        (
            {"stop": {"basis": "fixed", "reason": "of_an_older_release"}},
            {},
            ["Stop loss: the fixed percent, without a forecast (of_an_older_release)"],
        ),
        (
            {"risk_inputs": {"forecast": DIRECTION | {"q10": "-0.05", "q90": "0.06"}, "correlations": {}}},
            {},
            [
                "Risk score: forecast volatility 3.10 %, 80 % of the returns from −5.00 to +6.00 % over 24 h, by "
                "model 7 at 2026-03-02T10:00:00.000Z"
            ],
        ),
        (
            {"risk_inputs": {"forecast": {"reason": "no_forecast"}}},
            {},
            [
                "Risk score: without its parts of volatility and expected shortfall (no_forecast: the model that "
                "serves has no forecast of the token yet)"
            ],
        ),
    ],
)
def test_each_forecast_that_was_used_or_lacking_is_named(
    model: dict[str, Any], size: dict[str, Any], lines: list[str]
) -> None:
    assert forecasts_used(model, size) == lines
