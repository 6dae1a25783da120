"""Plots of an author backtest: excess return per author, decay of a call, impact factors."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from signals_app.authors.measure import HEADLINE, Figures, Record
from signals_app.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELLED = 3
"""Minimum number of calls for an author's label in the plot of impact factors."""
BLUE, GREY, RED = "#2563eb", "#9ca3af", "#dc2626"


def short_text(horizon: timedelta) -> str:
    """Format a horizon as 15m, 4h or 30d."""
    minutes = int(horizon.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes}m"
    return f"{minutes // 60}h" if minutes < 1440 else f"{minutes // 1440}d"


def draw(records: Sequence[Record], pooled: Mapping[timedelta, Figures], folder: Path) -> list[Path]:
    """Write the three plots (PNG) into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "authors-excess.png": _excess(records),
        "authors-decay.png": _decay(pooled),
        "authors-impact.png": _impact(records),
    }
    for name, plot in plots.items():
        plot.savefig(folder / name, format="png", dpi=110, metadata={"Software": None})
    return [folder / name for name in plots]


def _excess(records: Sequence[Record]) -> "Figure":
    """Plot each author's excess return at the headline horizon with its interval; hollow: too few days."""
    shown = sorted(
        (record for record in records if HEADLINE in record.horizons),
        key=lambda record: record.horizons[HEADLINE].excess.mean,
    )
    plot = new_figure(8, 1.5 + 0.28 * len(shown))
    axes = plot.subplots()
    axes.axvline(0, color=GREY, linewidth=1)
    for row, record in enumerate(shown):
        excess = record.horizons[HEADLINE].excess
        significant = record.q_value is not None and record.q_value < 0.05
        colour = RED if significant else BLUE
        if excess.low is not None and excess.high is not None:
            axes.plot([excess.low, excess.high], [row, row], color=colour, linewidth=2)
        fill = colour if excess.low is not None else "white"
        axes.scatter([excess.mean], [row], s=28, facecolor=fill, edgecolor=colour, zorder=3)
    axes.set_yticks(
        range(len(shown)),
        [f"{record.author}  ({record.horizons[HEADLINE].calls})" for record in shown],
    )
    axes.set_xlabel(
        f"mean return of a call over {short_text(HEADLINE)} minus the benchmark's, %;"
        " bars: 95 % interval, hollow: too few days, red: q < 0.05",
        fontsize=8,
    )
    axes.set_title("Excess return by author (number of calls in brackets)")
    return plot


def _decay(pooled: Mapping[timedelta, Figures]) -> "Figure":
    """Plot return and excess return of all calls together over the horizons."""
    plot = new_figure(8, 4.5)
    axes = plot.subplots()
    places = range(len(pooled))
    for name, colour, shift in (("mean", GREY, -0.06), ("excess", BLUE, 0.06)):
        estimates = [getattr(figures, name) for figures in pooled.values()]
        label = "return after costs" if name == "mean" else "excess over the benchmark"
        means = [estimate.mean for estimate in estimates]
        axes.plot([place + shift for place in places], means, color=colour, label=label)
        for place, estimate in zip(places, estimates, strict=True):
            fill = "white" if estimate.low is None else colour
            axes.scatter([place + shift], [estimate.mean], facecolor=fill, edgecolor=colour, s=30, zorder=3)
            if estimate.low is not None:
                axes.plot([place + shift] * 2, [estimate.low, estimate.high], color=colour, linewidth=2)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(
        places, [f"{short_text(horizon)}\n{figures.calls} calls" for horizon, figures in pooled.items()]
    )
    axes.set_ylabel("percent of the entry")
    axes.set_title("Decay of a call, all authors together (hollow: too few independent periods)", size=10)
    axes.legend(loc="upper left")
    return plot


def _impact(records: Sequence[Record]) -> "Figure":
    """Plot each author's impact factor against the number of calls behind it."""
    plot = new_figure(7, 4.5)
    axes = plot.subplots()
    axes.axhline(0.5, color=GREY, linewidth=1)
    for record in records:
        axes.scatter(
            [record.impact_calls], [record.impact_factor], color=RED if record.pump_flag else BLUE, s=24
        )
        if record.impact_calls >= LABELLED:
            axes.annotate(
                record.author,
                (record.impact_calls, record.impact_factor),
                textcoords="offset points",
                xytext=(5, 3),
                fontsize=7,
            )
    axes.margins(x=0.2, y=0.15)
    axes.set_xlabel("calls whose seven days had ended")
    axes.set_ylabel("impact factor")
    axes.set_title("Impact factor by number of calls (red: pump flag)", size=10)
    return plot
