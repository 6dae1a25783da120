"""How long a pass may take: `config/passes.yaml`, and the time budget that a pass works in."""

import time
from datetime import timedelta
from functools import cache

from pydantic import Field

from maxxit.core.config import Count, Policy, Seconds, load


class ExitPasses(Policy):
    """How closing orders run side by side."""

    lanes: Count
    pass_seconds: Seconds
    sweep_milliseconds: Count
    idle_seconds: Seconds
    late_seconds: Seconds

    @property
    def sweep_seconds(self) -> float:
        """Seconds between two looks for new exits."""
        return self.sweep_milliseconds / 1000


class Quarantine(Policy):
    """When an order that failed unexpectedly three times is tried again, and staff told again."""

    first_rest_seconds: Seconds
    longest_rest_seconds: Seconds
    alert_again_minutes: Count

    def rest(self, failures: int) -> timedelta:
        """How long an order rests after its `failures`-th failure beyond the free ones (from 1)."""
        doublings = min(failures - 1, 20)
        return timedelta(seconds=min(self.first_rest_seconds << doublings, self.longest_rest_seconds))


class PassPolicy(Policy):
    """The whole file."""

    pass_seconds: Seconds
    exits: ExitPasses
    quarantine: Quarantine
    approval_warning_hours: tuple[Count, ...] = Field(min_length=1)


@cache
def policy() -> PassPolicy:
    """The file as it stands. Raises `Misconfigured` naming the missing or wrong key."""
    return load("passes", PassPolicy)


class TimeBudget:
    """The time in which a pass takes new rows, far inside Celery's limit, so that no row is ever cut off by it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.cut = False
        """Whether rows were left because the time was over."""

    def left(self) -> bool:
        """Whether another row may be taken."""
        self.cut = self.cut or time.monotonic() >= self._end
        return not self.cut
