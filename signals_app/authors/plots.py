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
"""Calls from which an author is named in the picture of impact factors."""
BLUE, GREY, RED = "#2563eb", "#9ca3af", "#dc2626"


def spoken(horizon: timedelta) -> str:
    """15m, 4h, 30d."""
    minutes = int(horizon.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes}m"
    return f"{minutes // 60}h" if minutes < 1440 else f"{minutes // 1440}d"


def draw(records: Sequence[Record], pooled: Mapping[timedelta, Figures], folder: Path) -> list[Path]:
    """Write the three pictures (PNG) into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "authors-excess.png": _excess(records),
        "authors-decay.png": _decay(pooled),
        "authors-impact.png": _impact(records),
    }
    for name, picture in made.items():
        picture.savefig(folder / name, format="png", dpi=110, metadata={"Software": None})
    return [folder / name for name in made]


def _excess(records: Sequence[Record]) -> "Figure":
    """Each author's excess at the headline horizon with its interval; hollow where there are too few days."""
    shown = sorted(
        (record for record in records if HEADLINE in record.horizons),
        key=lambda record: record.horizons[HEADLINE].excess.mean,
    )
    picture = new_figure(8, 1.5 + 0.28 * len(shown))
    axes = picture.subplots()
    axes.axvline(0, color=GREY, linewidth=1)
    for row, record in enumerate(shown):
        found = record.horizons[HEADLINE].excess
        sure = record.q_value is not None and record.q_value < 0.05
        colour = RED if sure else BLUE
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2)
        fill = colour if found.low is not None else "white"
        axes.scatter([found.mean], [row], s=28, facecolor=fill, edgecolor=colour, zorder=3)
    axes.set_yticks(
        range(len(shown)),
        [f"{record.author}  ({record.horizons[HEADLINE].calls})" for record in shown],
    )
    axes.set_xlabel(
        f"mean return of a call over {spoken(HEADLINE)} minus the tide's, percent;"
        " bars: 95 % interval, hollow: too few days, red: q < 0.05",
        fontsize=8,
    )
    axes.set_title("What each author adds (number of calls in brackets)")
    return picture


def _decay(pooled: Mapping[timedelta, Figures]) -> "Figure":
    """All calls together over the horizons: the return, and what is left without the tide."""
    picture = new_figure(8, 4.5)
    axes = picture.subplots()
    places = range(len(pooled))
    for name, colour, shift in (("mean", GREY, -0.06), ("excess", BLUE, 0.06)):
        found = [getattr(figures, name) for figures in pooled.values()]
        label = "return after costs" if name == "mean" else "the same minus the tide"
        axes.plot([place + shift for place in places], [one.mean for one in found], color=colour, label=label)
        for place, one in zip(places, found, strict=True):
            fill = "white" if one.low is None else colour
            axes.scatter([place + shift], [one.mean], facecolor=fill, edgecolor=colour, s=30, zorder=3)
            if one.low is not None:
                axes.plot([place + shift] * 2, [one.low, one.high], color=colour, linewidth=2)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(
        places, [f"{spoken(horizon)}\n{figures.calls} calls" for horizon, figures in pooled.items()]
    )
    axes.set_ylabel("percent of the entry")
    axes.set_title("How a call decays: all authors together (hollow: too few independent periods)", size=10)
    axes.legend(loc="upper left")
    return picture


def _impact(records: Sequence[Record]) -> "Figure":
    """The impact factor against the number of calls it rests on."""
    picture = new_figure(7, 4.5)
    axes = picture.subplots()
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
    axes.set_title("Few calls stay near 0.5 (red: pump flag)", size=10)
    return picture
