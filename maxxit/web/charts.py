"""Lay out SVG charts on the server: axes and stacked bars; no script, colours from the style sheet. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 26
"""Margins in the units of the SVG view box."""


@dataclass(frozen=True)
class Tick:
    """A label on an axis."""

    place: float
    text: str


SPARK_WIDTH, SPARK_HEIGHT, SPARK_POINTS = 240, 48, 120


@dataclass(frozen=True)
class Sparkline:
    """Coordinates of a small curve without axes."""

    line: str
    rising: bool


def sparkline(points: Sequence[tuple[datetime, float]]) -> Sparkline | None:
    """Lay out a small curve of at most SPARK_POINTS points; None with fewer than two points."""
    if len(points) < 2:
        return None
    step = max(len(points) // SPARK_POINTS, 1)
    shown = [*points[:-1:step], points[-1]]
    low, high = min(value for _, value in shown), max(value for _, value in shown)
    span, first = max((shown[-1][0] - shown[0][0]).total_seconds(), 1.0), shown[0][0]
    room = SPARK_HEIGHT - 4
    corners = (
        (
            (at - first).total_seconds() / span * SPARK_WIDTH,
            2 + room - ((value - low) / (high - low) if high > low else 0.5) * room,
        )
        for at, value in shown
    )
    return Sparkline(" ".join(f"{x:.1f},{y:.1f}" for x, y in corners), shown[-1][1] >= shown[0][1])


def levels(low: float, high: float, count: int = 4) -> list[float]:
    """Return evenly spread values for the labels of an axis."""
    return [low + (high - low) * (number + 0.5) / count for number in range(count)]


def usd(value: float, span: float) -> str:
    """Format USD for an axis that spans `span`."""
    return f"{value:,.0f}" if span >= 20 else f"{value:,.2f}"


def moments(first: datetime, last: datetime, count: int = 4) -> list[Tick]:
    """Return evenly spread times as labels of an axis."""
    span = last - first
    form = "%H:%M:%S" if span < timedelta(minutes=10) else "%H:%M" if span < timedelta(days=2) else "%d %b"
    step = (WIDTH - RIGHT - LEFT) / count
    return [
        Tick(
            round(LEFT + step * (number + 0.5), 1),
            timezone.localtime(first + span * (number + 0.5) / count).strftime(form),
        )
        for number in range(count)
    ]


BAR_WIDTH, BAR_LEAST = 1000, 6
"""Width of a stacked bar, and of its smallest segment, in units of the SVG view box."""


@dataclass(frozen=True)
class Segment:
    """One part of a stacked bar."""

    name: str
    count: int
    left: float
    width: float


def stacked_bar(parts: Sequence[tuple[str, int]]) -> list[Segment]:
    """Lay out counts side by side over the whole width, each wide enough to be seen."""
    shown = [(name, count) for name, count in parts if count > 0]
    total, room = sum(count for _, count in shown), BAR_WIDTH - BAR_LEAST * len(shown)
    segments, left = [], 0.0
    for name, count in shown:
        width = BAR_LEAST + room * count / total
        segments.append(Segment(name, count, round(left, 1), round(width, 1)))
        left += width
    return segments
