"""How long to wait before the next try."""

import random


def delay(failures: int, *, base: float = 0.5, most: float = 60.0) -> float:
    """Seconds: doubling with each failure up to `most`, spread by half so that many clients do not come at once."""
    longest = min(most, base * 2.0 ** min(failures, 16))
    return longest * random.uniform(0.5, 1)  # noqa: S311 (no secret)
