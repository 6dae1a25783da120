"""Typed settings of `config/signals.yaml`."""

from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from maxxit.core.config import BasisPoints, Count, Percent, Policy, load

PassSeconds = Annotated[int, Field(gt=0, le=240)]
"""Well below the task time limit (CELERY_TASK_SOFT_TIME_LIMIT), so that calls in flight can end."""


class Ingest(Policy):
    """The configured post sources."""

    sources: dict[str, dict[str, Any]]
    pass_seconds: PassSeconds = 180


class Drift(Policy):
    """When the reader in use counts as drifted (`signals_app.drift`)."""

    days: Annotated[int, Field(ge=7, le=90)] = 28
    """Days before the newest that the band is made of."""
    min_days: Annotated[int, Field(ge=3)] = 7
    min_posts: Count = 50
    """Posts read that a day needs to be compared."""
    min_calls: Count = 10
    """Calls that a day needs for their confidence to be compared."""
    sigmas: Annotated[Decimal, Field(gt=0, le=20)] = Decimal(4)


class Screening(Policy):
    """Which posts a paid model is asked about (`signals_app.screening`)."""

    reader: str = ""
    """The trained reader that expects a call or none: a name of docs/reading.md or a file; empty: off."""
    least_chance: Annotated[Decimal, Field(gt=0, lt=1)] = Decimal("0.015")
    """Probability of a call from which the model is asked; a reader gives posts without a listed token 0.01."""
    audit_share: Annotated[Decimal, Field(gt=0, le=1)] = Decimal("0.05")
    """Share of the other posts that the model is asked about all the same."""
    most_lost: Annotated[Decimal, Field(gt=0, le=1)] = Decimal("0.10")
    """Share of the calls: staff is alerted where certainly more are lost."""
    days: Annotated[int, Field(ge=1, le=90)] = 28
    """That the audit looks back."""


class Classify(Policy):
    """Batch sizes, time and attempts of the classify stage."""

    batch_size: int = Field(gt=0, le=200)
    pass_seconds: PassSeconds = 180
    max_batches: Count | None = None
    """Calls of a pass; None: as many as its time allows."""
    max_batches_per_author: Count = 10
    max_attempts: Count
    drift: Drift = Drift()
    screening: Screening = Screening()


class Levels(Policy):
    """Stop and target, percent from the entry; the target is at least twice the stop."""

    stop_loss_pct: Percent
    take_profit_pct: Percent


class PerpsLevels(Levels):
    """The same with leverage, and from which volatility (percent per bar) on the risk is medium, and high."""

    medium_risk_from_pct: Percent = Decimal("0.75")
    high_risk_from_pct: Percent = Decimal(2)

    @model_validator(mode="after")
    def _in_order(self) -> "PerpsLevels":
        if self.medium_risk_from_pct >= self.high_risk_from_pct:
            raise ValueError("medium_risk_from_pct is below high_risk_from_pct")
        return self


class VolatilityStop(Policy):
    """Stop loss of agents with the exit preset `volatility`."""

    horizon_hours: Annotated[int, Field(ge=1, le=168)] = 24
    """Of the volatility model (`horizons_hours` in config/models.yaml)."""
    multiple: Annotated[Decimal, Field(gt=0, le=10)] = Decimal("1.5")
    """Standard deviations of the return over the horizon."""


class DirectionForecast(Policy):
    """Which direction model the evidence `forecast` takes."""

    horizon_hours: Annotated[int, Field(ge=2, le=168)] = 24
    """Of the model; the gate lets none of one hour pass."""


class VolatilitySize(Policy):
    """Sizes of agents with a volatility target."""

    horizon_hours: Annotated[int, Field(ge=1, le=168)] = 24
    """Of the volatility model, and of the agents' targets."""


class Generate(Policy):
    """Buckets, windows, levels and caps of the generate stage."""

    bucket_hours: Count
    lookback_hours: Count
    max_post_age_hours: Count
    bar_minutes: Count
    bars: Count
    warm_up_bars: int = Field(ge=40)
    spot: Levels
    perps: PerpsLevels
    volatility_stop: VolatilityStop = VolatilityStop()
    volatility_size: VolatilitySize = VolatilitySize()
    direction_forecast: DirectionForecast = DirectionForecast()
    signal_ttl_hours: Count
    max_signals_per_author_per_day: Count
    max_signals_per_token_per_day: Count
    proposer: Literal["formula", "model"]
    social_hours: Count = 6
    """Older social metrics are not used."""


class Authors(Policy):
    """How authors' calls are backtested."""

    window_days: int = Field(gt=7)
    take_profit_pct: Percent
    stop_loss_pct: Percent
    cost_bps: BasisPoints
    prior_calls: Count
    ingest_delay_minutes: int = Field(ge=0)
    seed: int = Field(ge=0)


class Social(Policy):
    """Where social metrics come from."""

    source: dict[str, Any] | None = None


class SignalsPolicy(Policy):
    """The whole file."""

    ingest: Ingest
    classify: Classify
    generate: Generate
    authors: Authors
    social: Social = Social()


@cache
def policy() -> SignalsPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("signals", SignalsPolicy)
