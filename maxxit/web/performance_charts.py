"""Lay out the charts of the performance page as SVG coordinates: index, equity with deposits, drawdown, bars. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from maxxit.web.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Tick, levels, moments, usd

MONEY, PERCENT = "USD", "%"


@dataclass(frozen=True, slots=True)
class Marker:
    """A deposit or withdrawal on the equity curve."""

    x: float
    y: float
    kind: str
    """`deposit` or `withdrawal`."""
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a bar chart."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    """`up` or `down`."""
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Coordinates and labels that the template draws."""

    title: str
    rows: list[Tick]
    columns: list[Tick]
    tone: str
    """`up`, `down` or empty: the CSS class of the line."""
    line: str = ""
    """The points of a polyline."""
    area: str = ""
    """The points of the polygon between the line and `zero`."""
    zero: float | None = None
    """Height of the line of zero, or of the beginning."""
    markers: tuple[Marker, ...] = ()
    bars: tuple[Bar, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class _Axes:
    """Maps times and values to the view box."""

    first: datetime
    last: datetime
    low: float
    high: float

    def x(self, at: datetime) -> float:
        span = max((self.last - self.first).total_seconds(), 1.0)
        return LEFT + (at - self.first).total_seconds() / span * (WIDTH - RIGHT - LEFT)

    def y(self, value: float) -> float:
        bottom = HEIGHT - BOTTOM
        return bottom - (value - self.low) / (self.high - self.low) * (bottom - TOP)


def _axes(times: Sequence[datetime], values: Sequence[float], room: float = 0.08) -> _Axes:
    low, high = min(values), max(values)
    margin = (high - low) * room or max(abs(high) * 0.01, 0.5)
    return _Axes(times[0], times[-1], low - margin, high + margin)


def _steps(axes: _Axes, times: Sequence[datetime], values: Sequence[float]) -> str:
    """Return a step line: a value holds until the next point."""
    corners: list[tuple[float, float]] = []
    for at, value in zip(times, values, strict=True):
        if corners:
            corners.append((axes.x(at), corners[-1][1]))
        corners.append((axes.x(at), axes.y(value)))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _text(value: float, unit: str, span: float) -> str:
    return (
        _money(value, span) if unit == MONEY else f"{value:.{0 if span >= 20 else 1 if span >= 2 else 2}f} %"
    )


def _money(value: float, span: float) -> str:
    """Format USD for an axis: thousands from 100,000 on, so that it fits beside the plot."""
    return f"{value / 1000:,.{0 if span >= 20_000 else 2}f}k" if abs(value) >= 100_000 else usd(value, span)


def _line(
    title: str, times: Sequence[datetime], values: Sequence[float], *, unit: str, tone: str, base: float
) -> tuple[Chart, _Axes]:
    axes = _axes(times, [*values, base])
    line, zero = _steps(axes, times, values), axes.y(base)
    span = axes.high - axes.low
    chart = Chart(
        title=title,
        rows=[
            Tick(round(axes.y(value), 1), _text(value, unit, span)) for value in levels(axes.low, axes.high)
        ],
        columns=moments(times[0], times[-1]),
        tone=tone,
        line=line,
        area=f"{LEFT},{zero:.1f} {line} {WIDTH - RIGHT},{zero:.1f}",
        zero=round(zero, 1),
    )
    return chart, axes


def _tone(change: float | Decimal) -> str:
    return "up" if change > 0 else "down" if change < 0 else ""


def index_chart(times: Sequence[datetime], index: Sequence[float]) -> Chart | None:
    """Lay out the deposit-neutral index as percent since its beginning; None with fewer than two points."""
    if len(times) < 2:
        return None
    start = index[0] or 1.0
    change = [(value / start - 1) * 100 for value in index]
    title = f"Return without deposits, from 0 % to {change[-1]:+.2f} %"
    return _line(title, times, change, unit=PERCENT, tone=_tone(change[-1]), base=0.0)[0]


def pnl_chart(times: Sequence[datetime], pnl: Sequence[Decimal]) -> Chart | None:
    """Lay out the PnL in USD since the first point, which deposits do not move; None with fewer than two points."""
    if len(times) < 2:
        return None
    values = [float(value) for value in pnl]
    title = f"PnL without deposits, from 0.00 to {values[-1]:+,.2f} USD"
    return _line(title, times, values, unit=MONEY, tone=_tone(pnl[-1]), base=0.0)[0]


def equity_chart(
    times: Sequence[datetime], equity: Sequence[Decimal], flows: Sequence[Decimal], pnl: Decimal
) -> Chart | None:
    """Lay out the equity in USD, with deposits and withdrawals as markers; None with fewer than two points.

    Args:
        flows: deposited (+) or withdrawn (-) at each point; the first is the opening equity, and no marker.
        pnl: of the span; its sign gives the colour, so that a deposit does not turn a loss green.
    """
    if len(times) < 2:
        return None
    values = [float(value) for value in equity]
    title = f"Equity from {values[0]:,.2f} to {values[-1]:,.2f} USD, PnL {pnl:+,.2f}"
    chart, axes = _line(title, times, values, unit=MONEY, tone=_tone(pnl), base=min(values))
    markers = tuple(
        Marker(
            round(axes.x(at), 1),
            round(axes.y(value), 1),
            "deposit" if flow > 0 else "withdrawal",
            f"{'deposit' if flow > 0 else 'withdrawal'} {abs(flow):,.2f} USD, {at:%Y-%m-%d %H:%M} UTC",
        )
        for at, value, flow in zip(times[1:], values[1:], flows[1:], strict=True)
        if flow
    )
    bottom = HEIGHT - BOTTOM
    return Chart(
        title=title, rows=chart.rows, columns=chart.columns, tone=chart.tone, line=chart.line, markers=markers,
        area=f"{LEFT},{bottom} {chart.line} {WIDTH - RIGHT},{bottom}",
    )  # fmt: skip


def underwater_chart(times: Sequence[datetime], below: Sequence[float]) -> Chart | None:
    """Lay out how far the index is below its highest value so far, percent (zero or negative); None for two points."""
    if len(times) < 2:
        return None
    title = f"Below the highest value so far, deepest {-min(below):.2f} %"
    return _line(title, times, below, unit=PERCENT, tone="down" if min(below) < 0 else "", base=0.0)[0]


def bar_chart(title: str, bars: Sequence[tuple[str, float, str, str]], labels: int = 6) -> Chart | None:
    """Lay out bars up and down from zero; None without a bar.

    Args:
        bars: (label on the axis, value, text when pointed at, CSS class).
        labels: at most this many labels are drawn.
    """
    if not bars:
        return None
    values = [bar[1] for bar in bars]
    low, high = min(0.0, *values), max(0.0, *values)
    margin = (high - low) * 0.08 or 1.0
    low, high = low - (margin if low else 0), high + (margin if high else 0)
    if low == high:
        high = 1.0
    top, bottom = TOP, HEIGHT - BOTTOM
    slot = (WIDTH - RIGHT - LEFT) / len(bars)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    drawn = tuple(
        Bar(
            x=round(LEFT + slot * (number + 0.1), 1),
            y=round(min(y(value), y(0)), 1),
            width=round(slot * 0.8, 1),
            height=round(max(abs(y(value) - y(0)), 0.5 if value else 0.0), 1),
            tone=tone,
            text=text,
        )
        for number, (_, value, text, tone) in enumerate(bars)
    )
    every = -(-len(bars) // labels)
    columns = [
        Tick(round(LEFT + slot * (number + 0.5), 1), label)
        for number, (label, *_) in enumerate(bars)
        if number % every == 0
    ]
    rows = [Tick(round(y(value), 1), _money(value, high - low)) for value in levels(low, high)]
    return Chart(title=title, rows=rows, columns=columns, tone="", zero=round(y(0), 1), bars=drawn)


def daily_chart(days: Sequence[tuple[date, Decimal]]) -> Chart | None:
    """Lay out the PnL of UTC days as bars."""
    bars = [(f"{day:%d %b}", float(pnl), f"{day}: {pnl:+,.2f} USD", _tone(pnl)) for day, pnl in days]
    return bar_chart("PnL of each UTC day, USD", bars)


BINS = 21
"""Bars of the distribution: an odd number, so that the middle one is around zero."""


def distribution_chart(results: Sequence[Decimal]) -> Chart | None:
    """Lay out how many trades ended with which result (USD), in equal bins around zero; None without trades."""
    if not results:
        return None
    widest = max(abs(result) for result in results) or Decimal(1)
    width = float(widest) * 2 / BINS
    counts = [0] * BINS
    for result in results:
        counts[min(int((float(result) + float(widest)) / width), BINS - 1)] += 1
    bars = []
    for number, count in enumerate(counts):
        low = -float(widest) + number * width
        middle, text = low + width / 2, f"{count} trades from {low:+,.2f} to {low + width:+,.2f} USD"
        tone = "" if number == BINS // 2 else _tone(middle)
        bars.append((_money(middle, 2 * float(widest)), float(count), text, tone))
    return bar_chart("Number of trades by result, USD", bars, labels=7)
