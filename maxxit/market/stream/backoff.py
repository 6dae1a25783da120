"""Compute retry delays: exponential backoff with jitter, or what the source asks for."""

import random

from maxxit.core.errors import Retryable

LONGEST = 900.0
"""Maximum of a delay that a source asks for, seconds."""


def delay(failures: int, *, base: float = 0.5, most: float = 60.0) -> float:
    """Return seconds: doubled with each failure up to `most`, with 50 % jitter against simultaneous retries."""
    longest = min(most, base * 2.0 ** min(failures, 16))
    return longest * random.uniform(0.5, 1)  # noqa: S311 (no secret)


def wait_after(error: Exception, failures: int) -> float:
    """Return seconds: what the source asks for (`Retryable.after`) up to `LONGEST`, else `delay`."""
    asked = error.after if isinstance(error, Retryable) else None
    return min(asked, LONGEST) if asked else delay(failures)
