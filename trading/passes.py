"""Time budgets of worker passes and retry delays of failing orders: `config/passes.yaml`, typed."""

import time
from datetime import timedelta
from functools import cache
from typing import Annotated

from pydantic import Field

from maxxit.core.config import Count, Policy, Seconds, load
from maxxit.pipeline.interrupts import ends_the_pass as ends_the_pass


class ExitPasses(Policy):
    """How one pass of the exits worker runs closing orders in parallel."""

    lanes: Count
    pass_seconds: Seconds
    sweep_milliseconds: Count
    idle_seconds: Seconds
    late_seconds: Seconds
    entries_wait_seconds: Annotated[int, Field(ge=0, le=60)]

    @property
    def sweep_seconds(self) -> float:
        """Seconds between two searches for exits that are due."""
        return self.sweep_milliseconds / 1000


class Quarantine(Policy):
    """When a quarantined order is retried, and how often staff is alerted again."""

    first_rest_seconds: Seconds
    longest_rest_seconds: Seconds
    alert_again_minutes: Count

    def retry_delay(self, failures: int) -> timedelta:
        """Return the delay before the next try, exponential from `first_rest_seconds`.

        `failures` counts from 1 at the failure that quarantined the order.
        """
        doublings = min(failures - 1, 20)
        return timedelta(seconds=min(self.first_rest_seconds << doublings, self.longest_rest_seconds))


class ReconcilePasses(Policy):
    """How often accounts are compared with their venues, and how failing ones are retried."""

    orders_seconds: Seconds
    positions_seconds: Seconds
    backoff_seconds: tuple[Count, ...] = Field(min_length=1)
    lanes: Count
    pass_seconds: Seconds
    batch: Count

    def retry_delay(self, failures: int) -> timedelta:
        """Return the delay after the `failures`-th failed read in a row, counted from 1; the last one repeats."""
        place = min(max(failures, 1), len(self.backoff_seconds)) - 1
        return timedelta(seconds=self.backoff_seconds[place])


class PassPolicy(Policy):
    """The contents of config/passes.yaml."""

    pass_seconds: Seconds
    batch: Count
    shards: Annotated[int, Field(ge=1, le=64)]
    exits: ExitPasses
    quarantine: Quarantine
    reconcile: ReconcilePasses
    approval_warning_hours: tuple[Count, ...] = Field(min_length=1)


@cache
def policy() -> PassPolicy:
    """Return the validated file. Raises `Misconfigured` naming the missing or wrong key."""
    return load("passes", PassPolicy)


class TimeBudget:
    """The seconds in which a pass may start rows, well below the task time limit that would abort one halfway."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.cut = False
        """Whether rows were left over because the time was used up."""

    def left(self) -> bool:
        """Return whether another row may be started."""
        self.cut = self.cut or time.monotonic() >= self._end
        return not self.cut
