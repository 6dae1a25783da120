"""What a decision on a trade used, stored with its signal, so that the same functions can decide again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from maxxit.market.bars import Snapshot
from signals_app import score
from signals_app.evidence.base import Call, SocialFigures
from signals_app.reading.proposal import Proposal
from signals_app.score import Declined, Limits, Proposed, RiskRules


def as_json(
    limits: Limits, calls: Sequence[Call], social: SocialFigures | None, review: Proposal | None
) -> dict[str, Any]:
    """Return what a decision used as JSON, its numbers as text. `review`: the answer of the model, where one was asked.

    The agent's weights and the indicators are not repeated: they are the signal's `risk_model["weights"]` and snapshot.
    """
    of_agent = {name: value for name, value in asdict(limits).items() if name != "weights"}
    return {
        "calls": [_texts(asdict(call)) for call in calls],
        "limits": _texts(of_agent | {"risk": _texts(of_agent["risk"])}),
        "social": None if social is None else _texts(asdict(social)),
        "review": None if review is None else review.model_dump(mode="json", exclude={"reasoning"}),
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
    social = inputs["social"]
    decision = score.decide(
        limits,
        [_call(call) for call in inputs["calls"]],
        market,
        None if social is None else SocialFigures(**_numbers(social, SocialFigures, ("alt_rank",))),
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
