"""Typed settings of `config/backups.yaml`."""

from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from maxxit.core.config import Count, Policy, load

Part = Literal["config", "keys", "recordings"]


class Keep(Policy):
    """How many backups are kept: the newest of each of so many days, weeks and months."""

    daily: Count
    weekly: Annotated[int, Field(ge=0)]
    monthly: Annotated[int, Field(ge=0)]


class BackupPolicy(Policy):
    """What a backup holds besides the database, how long it is kept, and at which age a missing one is an alert."""

    include: list[Part]
    keep: Keep
    max_age_hours: Count
    drill_max_age_days: Count


@cache
def policy() -> BackupPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("backups", BackupPolicy)
