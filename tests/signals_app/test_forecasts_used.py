"""A signal says in words which forecasts its decision used, and why it used none."""

from typing import Any

import pytest

from signals_app.forecasts_used import forecasts_used

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


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        ({}, []),
        ({"inputs": {"calls": []}}, []),
        (
            {"inputs": {"forecast": DIRECTION}},
            [
                "Direction forecast: −1.23 % over 24 h, standard deviation 3.10 %, by model 7 at "
                "2026-03-02T10:00:00.000Z"
            ],
        ),
        (
            {"inputs": {"forecast": {"reason": "no_model"}}, "stop": STOP},
            [
                "Direction forecast: none, counts as 0 (no_model: no trained model of the purpose and horizon serves)",
                "Stop loss: 4.5 % wanted by forecast volatility of 3.0000 %, by model 3 at 2026-03-02T10:00",
            ],
        ),
        (
            {"stop": {"basis": "fixed", "reason": "of_an_older_release"}},
            ["Stop loss: the fixed percent, without a forecast (of_an_older_release)"],
        ),
    ],
)
def test_each_forecast_that_was_used_or_lacking_is_named(model: dict[str, Any], lines: list[str]) -> None:
    assert forecasts_used(model) == lines
