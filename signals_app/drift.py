"""Drift of the reader that reads posts now: calls, failures and confidence of 24 hours against the days before.

A day is 24 hours back from now, by the time of the post. The band of a figure is the mean of the days before, more or
less `sigmas` standard deviations of a day; not narrower than chance alone makes it at the number of posts of the day.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import sqrt
from statistics import fmean, pstdev

from django.db import connection

from maxxit.core import clock
from signals_app.policy import Drift, policy

DAYS = """
SELECT floor(extract(epoch FROM %(now)s - posted_at) / 86400)::int AS age,
       count(*) FILTER (WHERE confidence IS NOT NULL) AS read,
       count(*) FILTER (WHERE is_signal_candidate) AS calls,
       count(*) FILTER (WHERE state = 'quarantined' OR starts_with(outcome, 'unread:')) AS failed,
       coalesce(sum(confidence) FILTER (WHERE is_signal_candidate), 0)::float AS confidence
FROM ct_posts WHERE posted_at > %(since)s AND posted_at <= %(now)s GROUP BY age ORDER BY age
"""


@dataclass(frozen=True, slots=True)
class Day:
    """What a reader did with the posts of 24 hours."""

    age: int
    """Days before now; 0 is the newest."""
    read: int
    calls: int
    failed: int
    """Posts without a usable answer: quarantined, or waiting after a failure."""
    confidence: float
    """Sum over the calls."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that is watched."""

    name: str
    of: Callable[[Day], float]
    """Value of a day."""
    count: Callable[[Day], int]
    """Number of posts that the value is a mean of."""
    least: Callable[[Drift], int] = lambda rules: rules.min_posts
    """Posts that a day needs."""
    only_above: bool = False
    """Whether a low value is no drift."""


FIGURES = (
    Figure("share of calls", lambda day: day.calls / day.read, lambda day: day.read),
    Figure(
        "share of posts without a usable answer",
        lambda day: day.failed / (day.read + day.failed),
        lambda day: day.read + day.failed,
        only_above=True,
    ),
    Figure(
        "mean confidence of calls",
        lambda day: day.confidence / day.calls,
        lambda day: day.calls,
        least=lambda rules: rules.min_calls,
    ),
)


@dataclass(frozen=True, slots=True)
class Drifted:
    """A figure of the newest day with its band."""

    figure: str
    value: float
    low: float
    high: float
    posts: int
    """That the value is a mean of."""
    days: int
    """That the band is made of."""

    @property
    def outside(self) -> bool:
        """Whether the value has left its band."""
        return not self.low <= self.value <= self.high

    def __str__(self) -> str:
        return (
            f"{self.figure} is {self.value:.1%} ({self.posts} posts), the band of {self.days} days before is "
            f"{self.low:.1%} to {self.high:.1%}"
        )


def days() -> list[Day]:
    """Return the newest days with posts, those of `classify.drift.days` in config/signals.yaml."""
    now = clock.now()
    since = now - timedelta(days=policy().classify.drift.days + 1)
    with connection.cursor() as cursor:
        cursor.execute(DAYS, {"now": now, "since": since})
        return [Day(*row) for row in cursor.fetchall()]


def bands(rows: Sequence[Day], rules: Drift) -> list[Drifted]:
    """Return each figure of the newest day with its band; a figure without enough posts or days is left out. Pure."""
    found = []
    for figure in FIGURES:
        full = [day for day in rows if figure.count(day) >= figure.least(rules)]
        newest = next((day for day in full if day.age == 0), None)
        before = [figure.of(day) for day in full if day.age > 0]
        if newest is None or len(before) < rules.min_days:
            continue
        count, mean = figure.count(newest), fmean(before)
        chance = sqrt(max(mean * (1 - mean), 0.0) / count)
        reach = float(rules.sigmas) * max(pstdev(before), chance)
        low = 0.0 if figure.only_above else max(mean - reach, 0.0)
        found.append(Drifted(figure.name, figure.of(newest), low, min(mean + reach, 1.0), count, len(before)))
    return found


def drifted() -> list[str]:
    """Return what has left its band, in words, for the health check."""
    return [str(one) for one in bands(days(), policy().classify.drift) if one.outside]
