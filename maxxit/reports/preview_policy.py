"""Typed settings of `config/previews.yaml`."""

from functools import cache
from typing import Annotated

from pydantic import Field

from maxxit.core.config import Count, Policy, Seconds, load


class PreviewPolicy(Policy):
    """How much previews may compute, and how long their results are kept."""

    days: Count
    """Recorded days that a preview plays unless it names a number."""
    max_days: Annotated[int, Field(gt=0, le=366)]
    max_accounts: Count
    max_posts: Count
    at_once: Count
    per_user_per_day: Count
    max_seconds: Seconds
    silent_seconds: Annotated[int, Field(ge=30)]
    attempts: Count
    keep_days: Count


@cache
def policy() -> PreviewPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("previews", PreviewPolicy)
