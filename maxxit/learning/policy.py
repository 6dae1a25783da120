"""Typed settings of `config/models.yaml`."""

from functools import cache
from typing import Annotated

from pydantic import Field

from maxxit.core.config import Count, Policy, load

Horizon = Annotated[int, Field(ge=1, le=168)]


class Train(Policy):
    """What the night trainer fits."""

    kinds: tuple[str, ...] = Field(min_length=1)
    """Forecasters (maxxit/learning/forecasters.py)."""
    horizons_hours: tuple[Horizon, ...] = Field(min_length=1)
    history_days: Count
    """Bars that it reads, at most."""
    seed: int = Field(ge=0)


class Serve(Policy):
    """When a forecast is used."""

    stale_minutes: Count
    """A forecast whose newest hour ended longer ago is not used."""
    keep_days: int = Field(ge=60)
    """Forecasts older than this are deleted; a direction model's shadow needs 30 days of them."""


class ModelsPolicy(Policy):
    """The whole file."""

    train: Train
    serve: Serve


@cache
def policy() -> ModelsPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("models", ModelsPolicy)
