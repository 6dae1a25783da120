"""What a decision on a trade used, stored with its signal, so that the same functions can decide again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from maxxit.core.clock import iso_utc
from maxxit.learning.forecasts import Direction
from maxxit.learning.reasons import NoForecast
from maxxit.market.bars import Snapshot
from signals_app import score
from signals_app.evidence.base import Call, ReturnForecast, SocialFigures
from signals_app.reading.proposal import Proposal
from signals_app.score import Declined, Limits, Proposed, RiskRules


def as_json(
    limits: Limits,
    calls: Sequence[Call],
    social: SocialFigures | None,
    review: Proposal | None,
    forecast: Direction | NoForecast | None = None,
) -> dict[str, Any]:
    """Return what a decision used as JSON, its numbers as text.

    The agent's weights and the indicators are not repeated: they are the signal's `risk_model["weights"]` and snapshot.

    Args:
        review: the answer of the language model, where one was asked.
        forecast: of the direction model that serves, or why there is none; None where the agent does not weigh it.
    """
    of_agent = {name: value for name, value in asdict(limits).items() if name != "weights"}
    return {
        "calls": [_texts(asdict(call)) for call in calls],
        "limits": _texts(of_agent | {"risk": _texts(of_agent["risk"])}),
        "social": None if social is None else _texts(asdict(social)),
        "review": None if review is None else review.model_dump(mode="json", exclude={"reasoning"}),
        **({} if forecast is None else {"forecast": _forecast_json(forecast)}),
    }


def return_forecast(found: Direction | NoForecast | None) -> ReturnForecast | None:
    """Return a forecast as evidence takes it; None where there is none."""
    if not isinstance(found, Direction):
        return None
    return ReturnForecast(Decimal(repr(found.mean)), Decimal(repr(found.sigma)))


def _forecast_json(found: Direction | NoForecast) -> dict[str, Any]:
    if isinstance(found, NoForecast):
        return {"reason": found.value}
    return {
        "mean": repr(found.mean),
        "sigma": repr(found.sigma),
        "horizon_hours": found.horizon_hours,
        "model": found.model,
        "at": iso_utc(found.at),
    }


def decide_again(
    inputs: Mapping[str, Any], weights: Mapping[str, int], market: Snapshot
) -> Proposed | Declined:
    """Decide on what `as_json` stored."""
    of_agent = inputs["limits"]
    limits = Limits(
        weights=weights,
        risk=RiskRules(**{name: Decimal(value) for name, value in of_agent["risk"].items()}),
        shorts=of_agent["shorts"],
        illiquid=of_agent["illiquid"],
        **{
            name: Decimal(of_agent[name])
            for name in ("min_confidence", "max_leverage", "stop_loss_pct", "take_profit_pct")
        },
    )
    social, forecast = inputs["social"], inputs.get("forecast", {})
    decision = score.decide(
        limits,
        [_call(call) for call in inputs["calls"]],
        market,
        None if social is None else SocialFigures(**_numbers(social, SocialFigures, ("alt_rank",))),
        ReturnForecast(**_numbers(forecast, ReturnForecast, ())) if "mean" in forecast else None,
    )
    if (review := inputs["review"]) is not None and isinstance(decision, Proposed):
        return score.bound(decision, Proposal(**review, reasoning=""), limits)
    return decision


def _call(stored: Mapping[str, Any]) -> Call:
    return Call(**_numbers(stored, Call, ("post", "side", "author", "reactions")))


def _numbers(stored: Mapping[str, Any], kind: type[Any], other: Sequence[str]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    return {name: stored[name] if name in other else Decimal(stored[name]) for name in names}


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values.items()}
