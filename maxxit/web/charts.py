"""Lay out SVG charts on the server: axes and stacked bars; no script, colours from the style sheet. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

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


@dataclass(frozen=True)
class Whisker:
    """A point with its interval on a decay curve; `low` and `high` are None without an interval."""

    x: float
    y: float
    low: float | None
    high: float | None
    label: str
    """Under the axis."""
    text: str
    """What the point says, for its title."""


@dataclass(frozen=True)
class Decay:
    """Coordinates of a decay curve: the mean excess return by horizon."""

    width: int
    height: int
    left: int
    right: int
    zero: float
    line: str
    points: list[Whisker]
    rows: list[Tick]


class Measured(Protocol):
    """A figure with its interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class AtHorizon(Protocol):
    """The figures of one horizon."""

    @property
    def text(self) -> str: ...
    @property
    def calls(self) -> int: ...
    @property
    def excess(self) -> Measured: ...


def decay(horizons: Sequence[AtHorizon]) -> Decay | None:
    """Lay out the mean excess return in percent by horizon, with intervals; None with fewer than two horizons."""
    if len(horizons) < 2:
        return None
    ends = [bound for one in horizons for bound in (one.excess.low, one.excess.high, one.excess.value)]
    values = [0.0, *(bound for bound in ends if bound is not None)]
    low, high = min(values), max(values)
    room = (high - low) * 0.1 or 1.0
    low, high = low - room, high + room
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    step = (right - LEFT) / len(horizons)

    def y(value: float) -> float:
        return round(bottom - (value - low) / (high - low) * (bottom - TOP), 1)

    points = []
    for number, one in enumerate(horizons):
        figure = one.excess
        interval = (
            "too few days"
            if figure.low is None or figure.high is None
            else f"{figure.low:+.2f} to {figure.high:+.2f}"
        )
        points.append(
            Whisker(
                x=round(LEFT + step * (number + 0.5), 1),
                y=y(figure.value),
                low=None if figure.low is None else y(figure.low),
                high=None if figure.high is None else y(figure.high),
                label=one.text,
                text=f"{one.text}: {figure.value:+.2f} % over the benchmark, 95 %: {interval}, {one.calls} calls",
            )
        )
    return Decay(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=right,
        zero=y(0),
        line=" ".join(f"{point.x},{point.y}" for point in points),
        points=points,
        rows=[Tick(y(value), f"{value:+.1f} %") for value in levels(low, high)],
    )


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
