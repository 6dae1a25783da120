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


class Rl(Policy):
    """How the agents `dqn` and `ppo` are trained."""

    features: tuple[str, ...] = ()
    """Of the feature table: what the state has besides the change of the price, the position and 1."""
    discount: float = Field(default=0.9, ge=0, lt=1)
    """Of the reward of the next decision (gamma)."""
    learning_rate: float = Field(default=0.01, gt=0, le=1)
    """Of `dqn`; `ppo` has that of stable-baselines3."""
    epsilon_first: float = Field(default=0.2, ge=0, le=1)
    """Share of random actions of `dqn` at the start of its training."""
    epsilon_last: float = Field(default=0.01, ge=0, le=1)
    epsilon_decay: float = Field(default=0.995, gt=0, le=1)
    """By which that share is multiplied after each decision."""


class ModelsPolicy(Policy):
    """The whole file."""

    train: Train
    serve: Serve
    rl: Rl = Field(default_factory=Rl)


@cache
def policy() -> ModelsPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("models", ModelsPolicy)
