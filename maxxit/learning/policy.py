"""Typed settings of `config/models.yaml`."""

from functools import cache
from typing import Annotated

from pydantic import Field

from maxxit.core.config import Count, Policy, load

Horizon = Annotated[int, Field(ge=1, le=168)]


class Train(Policy):
    """What the night trainer, `manage.py models train` and `evaluate` use."""

    kinds: tuple[str, ...] = Field(min_length=1)
    """Forecasters (maxxit/learning/forecasters.py) that the night trainer fits."""
    horizons_hours: tuple[Horizon, ...] = Field(min_length=1)
    """Those that the night trainer fits and `evaluate` measures."""
    history_days: Count
    """Of stored bars, at most."""
    seed: int = Field(ge=0)
    """Of the bootstrap."""


class Serve(Policy):
    """When a forecast is used."""

    stale_minutes: Count
    """A forecast whose newest hour ended longer ago is not used."""
    keep_days: int = Field(ge=60)
    """Forecasts older than this are deleted; the shadow of a direction model needs 30 days of them."""


class ModelsPolicy(Policy):
    """The whole file."""

    train: Train
    serve: Serve


@cache
def policy() -> ModelsPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("models", ModelsPolicy)
