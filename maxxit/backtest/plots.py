"""Plots of stored runs as SVG: equity of one or two runs, heat map of a sweep, windows of a walk-forward. Pure.

The pages show the SVG inside the document, where their style sheet colours it; `manage.py backtest plot` writes a file
with a style of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from typing import Any

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 84, 12, 14, 34
"""Margins in the units of the SVG view box."""
CELL = 34
"""Height of a row of a heat map."""
LABELS = 8
"""Labels of an axis at most."""
UNITS = Decimal(1_000_000)
STYLE = (
    "<style>svg{font:14px sans-serif;background:#fff;color:#1f2937}text:not(.in){fill:currentColor}"
    ".grid{stroke:#e5e7eb}.zero{stroke:#6b7280;stroke-dasharray:4 4}.luck{stroke:#b45309;stroke-width:2;"
    "stroke-dasharray:6 4;fill:none}.one{stroke:#0369a1;fill:none;stroke-width:2}"
    ".two{stroke:#b45309;fill:none;stroke-width:2;stroke-dasharray:7 3}.bar-one{fill:#94a3b8}.bar-two{fill:#0369a1}"
    ".above{stroke:#111827;stroke-width:3}</style>"
)
CURVES = ("one", "two")
"""CSS classes of the first and the second curve."""


def standalone(svg: str) -> str:
    """Return an SVG as the contents of a file: with its own colours, and its title below."""
    height = float(svg.partition(f'viewBox="0 0 {WIDTH} ')[2].partition('"')[0])
    title = svg.partition("<title>")[2].partition("</title>")[0]
    head, _, rest = svg.partition(">")
    head = head.replace(f'viewBox="0 0 {WIDTH} {height:g}"', f'viewBox="0 0 {WIDTH} {height + 24:g}"')
    below = f'<text x="{LEFT}" y="{height + 14:g}">{title}</text>'
    return f"{head}>{STYLE}{rest.removesuffix('</svg>')}{below}</svg>\n"


def page(title: str, parts: Sequence[str]) -> str:
    """Return an HTML page without scripts that holds SVGs and other elements."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>{STYLE}'
        "<style>body{font:16px sans-serif;max-width:60rem;margin:1rem auto;padding:0 1rem}svg{width:100%;height:auto}"
        "figure{margin:0 0 1rem}table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0}"
        "</style></head><body>"
        f"<h1>{escape(title)}</h1>{''.join(_captioned(part) for part in parts)}</body></html>\n"
    )


def _captioned(part: str) -> str:
    """Return an element of a page; an SVG with its title below."""
    title = part.partition("<title>")[2].partition("</title>")[0]
    return f"<figure>{part}<figcaption>{title}</figcaption></figure>" if part.startswith("<svg") else part


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return an HTML table."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _svg(title: str, parts: Iterator[str] | Sequence[str], height: float = HEIGHT) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mx-plot" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{name}"><title>{name}</title>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "") -> str:
    fill = f' fill="{colour}" class="in"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{escape(text)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values from `low` to `high` to heights of the view box."""

    low: float
    high: float
    bottom: float = HEIGHT - BOTTOM

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - TOP)

    def rows(self, form: str, count: int = 4) -> Iterator[str]:
        """Yield grid lines with their labels."""
        for number in range(count):
            value = self.low + (self.high - self.low) * (number + 0.5) / count
            yield _line("grid", LEFT, self.y(value), WIDTH - RIGHT, self.y(value))
            yield _text(LEFT - 8, self.y(value) + 5, format(value, form), "end")


def _scale(values: Sequence[float]) -> _Scale:
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high) * 0.01, 0.5)
    return _Scale(low - room, high + room)


def equity(curves: Sequence[tuple[str, Sequence[Sequence[int]]]]) -> str:
    """Draw the equity of one or two runs over time; empty where none has two points.

    Args:
        curves: name and [seconds, USDC base units] of each point, in order of time.
    """
    shown = [
        (name, [(at, float(value / UNITS)) for at, value in rows]) for name, rows in curves if len(rows) > 1
    ]
    if not shown:
        return ""
    times = [at for _, points in shown for at, _ in points]
    values = [value for _, points in shown for _, value in points]
    scale, first, span = _scale(values), min(times), max(max(times) - min(times), 1)

    def x(at: float) -> float:
        return LEFT + (at - first) / span * (WIDTH - RIGHT - LEFT)

    lines = ("", " (dashed)")
    title = "; ".join(
        f"{name}{how}: {points[0][1]:,.2f} to {points[-1][1]:,.2f} USDC"
        for (name, points), how in zip(shown, lines, strict=False)
    )
    parts = list(scale.rows(",.0f" if scale.high - scale.low >= 20 else ",.2f"))
    for number in range(4):
        at = first + span * (number + 0.5) / 4
        parts.append(_text(x(at), HEIGHT - 10, f"{datetime.fromtimestamp(at, UTC):%d %b %Y}"))
    for kind, (_, points) in zip(CURVES, shown, strict=False):
        corners = " ".join(f"{x(at):.1f},{scale.y(value):.1f}" for at, value in points)
        parts.append(f'<polyline class="{kind}" points="{corners}"/>')
    return _svg(title, parts)


@dataclass(frozen=True, slots=True)
class Measure:
    """The figure by which settings are shown."""

    name: str
    label: str
    form: str


SHARPE, NET = Measure("sharpe", "Sharpe ratio", ".2f"), Measure("net", "net USDC", ",.0f")


def measure_of(tried: Sequence[Mapping[str, Any]]) -> Measure:
    """Return the Sharpe ratio where one is stated of any setting; else what they earned."""
    return SHARPE if any(one["sharpe"] is not None for one in tried) else NET


def _number(one: Mapping[str, Any], measure: Measure) -> float | None:
    value = one[measure.name]
    return None if value is None else float(value)


def _order(value: str) -> tuple[int, Decimal, str]:
    try:
        return 0, Decimal(value), ""
    except ArithmeticError:
        return 1, Decimal(0), value


def best_by_cell(
    tried: Sequence[Mapping[str, Any]], across: str, down: str, measure: Measure
) -> dict[tuple[str, str], float]:
    """Return the best value of each pair of values of two keys (`down` empty: of one key), over all other keys."""
    cells: dict[tuple[str, str], float] = {}
    for one in tried:
        value, changes = _number(one, measure), one["changes"]
        if value is None or across not in changes:
            continue
        cell = (changes[across], changes.get(down, "") if down else "")
        cells[cell] = max(value, cells.get(cell, value))
    return cells


def sweep(tried: Sequence[Mapping[str, Any]], across: str, down: str = "", luck: float | None = None) -> str:
    """Draw the settings of a sweep: a heat map of two keys, or bars of one; empty without a value.

    Args:
        luck: Sharpe ratio that the best of as many settings without skill is expected to reach: a line, or a frame
            around the cells above it.
    """
    measure = measure_of(tried)
    cells = best_by_cell(tried, across, down, measure)
    if not cells:
        return ""
    line = luck if measure is SHARPE else None
    return _heat_map(cells, across, down, measure, line) if down else _bars(cells, across, measure, line)


def _thinned(values: Sequence[str]) -> dict[int, str]:
    every = -(-len(values) // LABELS)
    return {place: value for place, value in enumerate(values) if place % every == 0}


def _bars(cells: Mapping[tuple[str, str], float], across: str, measure: Measure, luck: float | None) -> str:
    values = sorted({cell[0] for cell in cells}, key=_order)
    scale = _scale([0.0, *cells.values(), *([luck] if luck is not None else [])])
    slot = (WIDTH - RIGHT - LEFT) / len(values)
    parts = list(scale.rows(measure.form))
    for place, value in enumerate(values):
        found = cells[(value, "")]
        top, bottom = sorted((scale.y(found), scale.y(0)))
        name = escape(f"{across}={value}: {measure.label} {found:{measure.form}}")
        parts.append(
            f'<rect class="bar-two" x="{LEFT + slot * (place + 0.15):.1f}" y="{top:.1f}" width="{slot * 0.7:.1f}" '
            f'height="{max(bottom - top, 0.5):.1f}"><title>{name}</title></rect>'
        )
    parts += [
        _text(LEFT + slot * (place + 0.5), HEIGHT - 10, value) for place, value in _thinned(values).items()
    ]
    parts.append(_line("zero", LEFT, scale.y(0), WIDTH - RIGHT, scale.y(0)))
    if luck is not None:
        parts.append(_line("luck", LEFT, scale.y(luck), WIDTH - RIGHT, scale.y(luck)))
    return _svg(f"{measure.label} by {across}", parts)


def _heat_map(
    cells: Mapping[tuple[str, str], float], across: str, down: str, measure: Measure, luck: float | None
) -> str:
    columns = sorted({cell[0] for cell in cells}, key=_order)
    rows = sorted({cell[1] for cell in cells}, key=_order, reverse=True)
    slot, left = (WIDTH - RIGHT - LEFT) / len(columns), LEFT
    most = max(max(abs(value) for value in cells.values()), 1e-9)
    parts = [_text(left - 8, TOP + CELL * (place + 0.6), value, "end") for place, value in enumerate(rows)]
    for (one, other), value in sorted(cells.items()):
        x, y = left + slot * columns.index(one), TOP + CELL * rows.index(other)
        colour, ink = _colour(value / most)
        above = ' class="above"' if luck is not None and value > luck else ""
        name = escape(f"{across}={one}, {down}={other}: {measure.label} {value:{measure.form}}")
        parts.append(
            f'<rect x="{x + 2:.1f}" y="{y + 2:.1f}" width="{slot - 4:.1f}" height="{CELL - 4}" fill="{colour}"{above}>'
            f"<title>{name}</title></rect>"
        )
        if slot >= 44:
            parts.append(_text(x + slot / 2, y + CELL * 0.64, format(value, measure.form), colour=ink))
    bottom = TOP + CELL * len(rows)
    parts += [_text(left + slot * (n + 0.5), bottom + 20, value) for n, value in _thinned(columns).items()]
    return _svg(f"{measure.label} by {across} (across) and {down} (down)", parts, bottom + BOTTOM)


def _colour(share: float) -> tuple[str, str]:
    """Return fill and text colour of a value from -1 to 1: orange below zero, blue above."""
    hue, light = (210 if share >= 0 else 20), round(94 - 58 * min(abs(share), 1))
    return f"hsl({hue} 75% {light}%)", "#fff" if light < 52 else "#111827"


def windows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw for each window of a walk-forward the return on its training days and on its test days; empty of none."""
    if not rows:
        return ""
    pairs = [(float(one["train_return"]) * 100, float(one["test_return"]) * 100) for one in rows]
    scale = _scale([0.0, *(value for pair in pairs for value in pair)])
    slot = (WIDTH - RIGHT - LEFT) / len(rows)
    parts = list(scale.rows(".2f"))
    for place, (row, pair) in enumerate(zip(rows, pairs, strict=True)):
        for number, (value, what) in enumerate(zip(pair, ("training", "test"), strict=True)):
            top, bottom = sorted((scale.y(value), scale.y(0)))
            x = LEFT + slot * (place + 0.15 + 0.35 * number)
            name = escape(f"test from {row['test_from'][:10]}: {value:+.2f} % on the {what} days")
            parts.append(
                f'<rect class="bar-{CURVES[number]}" x="{x:.1f}" y="{top:.1f}" width="{slot * 0.33:.1f}" '
                f'height="{max(bottom - top, 0.5):.1f}"><title>{name}</title></rect>'
            )
    begins = _thinned([row["test_from"][:10] for row in rows])
    parts += [_text(LEFT + slot * (n + 0.5), HEIGHT - 10, text[5:]) for n, text in begins.items()]
    parts.append(_line("zero", LEFT, scale.y(0), WIDTH - RIGHT, scale.y(0)))
    return _svg(
        "Return in percent on the training days (grey) and on the test days (blue) of each window", parts
    )
