"""What the evaluator measured, as typed objects. The gates read these and nothing else.

A field that is missing, unknown, or not a finite number is refused where the object is made: a gate never sees a metric
under another name (checklist F8).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maxxit.core.errors import InvalidInput

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
FOLDS = 4


class _Metrics(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Days with data, training included: hours in which a price is known, divided by 24; not the span of the data."""
    rows: Annotated[int, Field(ge=1)]
    """Forecasts in the test folds."""


class Comparison(BaseModel):
    """The comparison with the model that served when this one was evaluated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[int, Field(ge=1)]
    """Its id."""
    low_pct: Finite
    """Lower end of the 95 % interval of the percent by which the pinball loss is below its."""
    qlike: Finite


class VolatilityMetrics(_Metrics):
    """How well a model forecasts how far prices move."""

    purpose: Literal["volatility"] = "volatility"
    baseline: str
    """The forecaster that the skill is measured against."""
    pinball: Finite
    baseline_pinball: Finite
    skill_pct: Finite
    """Percent by which the pinball loss is below the baseline's."""
    skill_low_pct: Finite
    """Lower end of the 95 % interval."""
    skill_high_pct: Finite
    qlike: Finite
    incumbent: Comparison | None
    """None where no model served."""
    coverage_80: Annotated[tuple[Share, ...], Field(min_length=FOLDS, max_length=FOLDS)]
    """Fraction of returns inside the 80 % interval, for each fold."""
    coverage_90: Annotated[tuple[Share, ...], Field(min_length=FOLDS, max_length=FOLDS)]


class DirectionMetrics(_Metrics):
    """How well a model forecasts the side, and what trading on it would have paid."""

    purpose: Literal["direction"] = "direction"
    location_skill: Finite
    """Mean pinball loss with the median set to 0, minus that of the forecast."""
    location_low: Finite
    """Lower end of its 95 % interval."""
    threshold: Finite
    """Least forecast, in standard deviations, that is traded; the best of those tried."""
    candidates: Annotated[int, Field(ge=1)]
    """Configurations scored in this run."""
    periods: Annotated[int, Field(ge=0)]
    trades: Annotated[int, Field(ge=0)]
    sharpe_per_period: Finite
    """After costs; not annualised."""
    deflated_sharpe: Share
    """With `counted_candidates`."""
    counted_candidates: Annotated[int, Field(ge=1)]
    """Of this run and of all stored models on overlapping data; what `evaluate` scored is not stored."""
    fold_returns: Annotated[tuple[Finite, ...], Field(min_length=FOLDS, max_length=FOLDS)]
    """Sum of the returns of each fold after costs, entered one bar late; fractions."""
    total_return: Finite
    """Sum of the simple returns of all trades after costs, each with the same stake; a fraction of it."""
    static_return: Finite
    """The same for holding one side, the better one, with the same mean exposure."""
    max_drawdown: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Of that sum, as a fraction of the stake."""


class ReadingMetrics(BaseModel):
    """How well a reader finds the calls in labelled posts. Shares have 95 % Wilson intervals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: Literal["reading"] = "reading"
    posts: Annotated[int, Field(ge=1)]
    found: Annotated[int, Field(ge=0)]
    """Calls that were read as calls."""
    false: Annotated[int, Field(ge=0)]
    """Other posts that were read as calls."""
    missed: Annotated[int, Field(ge=0)]
    precision: Share
    """0 where the reader finds no call at all: it then has shown none."""
    precision_95: tuple[Share, Share]
    recall: Share
    recall_95: tuple[Share, Share]
    side_accuracy: Share
    """Among the tokens that both label and reading call; 0 without any."""
    side_accuracy_95: tuple[Share, Share]
    calibration_error: Share
    """Over the calls read, in tenths of confidence: mean of |confidence - share of calls|, weighted by calls.

    1 without any.
    """
    calibration_error_95: tuple[Share, Share]
    """Interval by bootstrap over the calls read."""
    calibration_error_of_posts: Share
    """The same over all posts, with the confidence that a post is a call."""

    @property
    def calls(self) -> int:
        """Labelled calls."""
        return self.found + self.missed


Metrics = VolatilityMetrics | DirectionMetrics | ReadingMetrics
KINDS: dict[str, type[Metrics]] = {
    "volatility": VolatilityMetrics,
    "direction": DirectionMetrics,
    "reading": ReadingMetrics,
}


def parse(purpose: str, stored: Mapping[str, Any]) -> Metrics:
    """Return the typed metrics of a stored object. Raises InvalidInput naming each field that is missing or wrong."""
    if purpose not in KINDS:
        raise InvalidInput({"purpose": f"{purpose!r} is not one of {', '.join(KINDS)}"})
    try:
        return KINDS[purpose].model_validate(dict(stored))
    except ValidationError as error:
        problems = {
            ".".join(map(str, one["loc"])) or "metrics": f"{one['msg']}: evaluate the model again"
            for one in error.errors()
        }
        raise InvalidInput(problems) from None
