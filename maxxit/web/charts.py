"""Lay out SVG charts on the server, equity curve and stacked bars: no script, colours from the style sheet. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils import timezone

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 26
"""Margins in the units of the SVG view box."""


@dataclass(frozen=True)
class Tick:
    """A label on an axis."""

    place: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Coordinates and labels that the template draws."""

    width: int
    height: int
    left: int
    right: int
    bottom: int
    line: str
    """The points of a polyline."""
    area: str
    """The points of the polygon between the line and the bottom."""
    rows: list[Tick]
    columns: list[Tick]
    rising: bool
    first: str
    last: str


def equity(points: Sequence[tuple[datetime, Decimal]]) -> Plot | None:
    """Lay out the equity curve as a step line of USD over time; None with fewer than two points."""
    if len(points) < 2:
        return None
    times, values = [at for at, _ in points], [float(value) for _, value in points]
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high) * 0.01, 1.0)
    low, high = low - room, high + room
    span = max((times[-1] - times[0]).total_seconds(), 1.0)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(at: datetime) -> float:
        return LEFT + (at - times[0]).total_seconds() / span * (right - LEFT)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - TOP)

    corners: list[tuple[float, float]] = []
    for at, value in zip(times, values, strict=True):
        if corners:
            corners.append((x(at), corners[-1][1]))
        corners.append((x(at), y(value)))
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return Plot(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=right,
        bottom=bottom,
        line=line,
        area=f"{LEFT},{bottom} {line} {right},{bottom}",
        rows=[Tick(round(y(value), 1), _usd(value, high - low)) for value in _levels(low, high)],
        columns=_moments(times[0], times[-1]),
        rising=values[-1] >= values[0],
        first=f"{values[0]:,.2f}",
        last=f"{values[-1]:,.2f}",
    )


def _levels(low: float, high: float, count: int = 4) -> list[float]:
    return [low + (high - low) * (number + 0.5) / count for number in range(count)]


def _usd(value: float, span: float) -> str:
    return f"{value:,.0f}" if span >= 20 else f"{value:,.2f}"


def _moments(first: datetime, last: datetime, count: int = 4) -> list[Tick]:
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
