"""How long to wait before the next try."""

import random

from maxxit.core.errors import Retryable

LONGEST = 900.0
"""Seconds that a source may ask for; one that asks for more is asked again after this anyway."""


def delay(failures: int, *, base: float = 0.5, most: float = 60.0) -> float:
    """Seconds: doubling with each failure up to `most`, spread by half so that many clients do not come at once."""
    longest = min(most, base * 2.0 ** min(failures, 16))
    return longest * random.uniform(0.5, 1)  # noqa: S311 (no secret)


def wait_after(error: Exception, failures: int) -> float:
    """Seconds: what the source asks for (`Retryable.after`) up to `LONGEST`; where it asks for nothing, `delay`."""
    asked = error.after if isinstance(error, Retryable) else None
    return min(asked, LONGEST) if asked else delay(failures)
