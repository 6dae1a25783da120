"""Describe in words which forecasts a decision used, and why it used none where it wanted one. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from maxxit.learning.reasons import NoForecast


def forecasts_used(risk_model: Mapping[str, Any], size_model: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each forecast that a signal's decision used or lacked; empty where it wanted none.

    Args:
        risk_model: as stored with the signal.
        size_model: the same.
    """
    found = []
    if direction := risk_model.get("inputs", {}).get("forecast"):
        found.append(f"Direction forecast: {_direction(direction)}")
    if stop := risk_model.get("stop"):
        found.append(f"Stop loss: {_stop(stop)}")
    if size := size_model.get("volatility"):
        found.append(f"Size: {_size(size)}")
    if risk := risk_model.get("risk_inputs"):
        found.append(f"Risk score: {_risk(risk['forecast'])}")
    return found


def _direction(used: Mapping[str, Any]) -> str:
    if "reason" in used:
        return f"none, counts as 0 ({_why(used)})"
    mean, sigma = (Decimal(used[name]) * 100 for name in ("mean", "sigma"))
    return (
        f"{mean:+.2f} % over {used['horizon_hours']} h, standard deviation {sigma:.2f} %, by model {used['model']} "
        f"at {used['at']}"
    ).replace("-", "−", int(mean < 0))


def _stop(used: Mapping[str, Any]) -> str:
    if "reason" in used:
        return f"the fixed percent, without a forecast ({_why(used)})"
    return (
        f"{Decimal(used['wanted_pct']).normalize():f} % wanted by forecast volatility of {used['sigma_pct']} %, "
        f"by model {used['model']} at {used['at']}"
    )


def _size(used: Mapping[str, Any]) -> str:
    if "reason" in used:
        return f"that of the preset, without a forecast ({_why(used)})"
    return (
        f"{Decimal(used['scale']) * 100:.1f} % of that of the preset: target volatility {used['target_pct']} %, "
        f"forecast {used['sigma_pct']} % over {used['horizon_hours']} h, by model {used['model']} at {used['at']}"
    )


def _risk(used: Mapping[str, Any]) -> str:
    if "reason" in used:
        return f"without its parts of volatility and expected shortfall ({_why(used)})"
    sigma, low, high = (Decimal(used[name]) * 100 for name in ("sigma", "q10", "q90"))
    return (
        (
            f"forecast volatility {sigma:.2f} %, 80 % of the returns from {low:+.2f} to {high:+.2f} % over "
            f"{used['horizon_hours']} h, by model {used['model']} at {used['at']}"
        )
        .replace("from -", "from −")
        .replace("to -", "to −")
    )


def _why(used: Mapping[str, Any]) -> str:
    code = str(used["reason"])
    return next((f"{code}: {reason.text}" for reason in NoForecast if reason == code), code)
