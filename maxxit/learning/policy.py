"""Typed settings of `config/models.yaml`."""

from functools import cache
from typing import Annotated

from pydantic import Field

from maxxit.core.config import Count, Policy, load

Horizon = Annotated[int, Field(ge=1, le=168)]


class Train(Policy):
    """What `manage.py models train` and `evaluate` use."""

    horizons_hours: tuple[Horizon, ...] = Field(min_length=1)
    """Those that `evaluate` measures."""
    history_days: Count
    """Of stored bars, at most."""
    seed: int = Field(ge=0)
    """Of the bootstrap."""


class ModelsPolicy(Policy):
    """The whole file."""

    train: Train


@cache
def policy() -> ModelsPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("models", ModelsPolicy)
