"""Runs the live pipeline over recorded posts and prices with a recorded clock.

The driver has no trading logic. It sets the clock, feeds the recorded prices and runs the scheduled passes in order,
with the tasks that they wake: the same functions that the workers call.
"""

import gc
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from agents import seed
from agents.models import CtAccount
from maxxit.core import clock
from maxxit.events import wake
from maxxit.market import candles, quotes
from maxxit.market.feeds.base import Tick
from maxxit.market.feeds.file import BAR
from maxxit.market.venues import venues
from maxxit.pipeline.runs import Counts, announce
from maxxit.pipeline.schedule import schedule
from maxxit.pipeline.stages import EXITS, STAGES
from positions.tasks import book_pass, equity_pass, exit_pass, margin_pass, snapshot_pass
from signals_app import ingest, tasks
from signals_app.inputs import Inputs, check_followed, read_inputs
from signals_app.sources.base import PostSource
from signals_app.sources.jsonl import OVERLAP, JsonlSource
from trading import gate
from trading.deployments.funding import fund
from trading.tasks import entry_pass, settle_pass
from trading.wiring import liquidating_venues

SOURCE = "jsonl"
PIPELINE_RUN = "maxxit.pipeline.tasks.run_pipeline"
GUARD = "positions.tasks.watch_risk"
"""Of it a replay runs what books funding and liquidations, where a venue has them; no trigger of the kill switch."""
T = TypeVar("T")


class Playback:
    """A recorded span that `play` runs: its sources of posts, prices and scheduled tasks."""

    start: datetime
    """UTC, inclusive."""
    end: datetime
    """UTC, exclusive; the last pass runs at this time."""
    seconds: dict[str, float]
    """Stage -> seconds spent."""

    def sources(self) -> dict[str, PostSource]:
        """Return the sources of posts by name."""
        raise NotImplementedError

    def ticks(self) -> dict[datetime, list[Tick]]:
        """Return the ticks by moment: the close of each bar when it became known."""
        raise NotImplementedError

    def due(self) -> dict[datetime, list[str]]:
        """Return the scheduled tasks by moment: the pipeline run first, then in the order of the stages."""
        known = [PIPELINE_RUN, *self.passes()]
        due: dict[datetime, list[str]] = defaultdict(list)
        for entry in schedule().values():
            if entry.task in known:
                for moment in entry.moments(self.start - timedelta(microseconds=1), self.end, BAR):
                    due[moment].append(entry.task)
        for tasks_due in due.values():
            tasks_due.sort(key=known.index)
        return due

    def passes(self) -> dict[str, tuple[str, Callable[[], Counts]]]:
        """Return task name -> (stage name, the function that its worker calls)."""
        sources = self.sources()

        def ingest_pass() -> Counts:
            done = ingest.ingest(sources)
            return Counts(done.offered, done.new)

        functions: dict[str, Callable[[], Counts]] = {
            "ingest": ingest_pass,
            "classify": partial(tasks.classify_pass, one_at_a_time=True),
            "generate": partial(tasks.generate_pass, one_at_a_time=True),
            "execute": entry_pass,
            "monitor": book_pass,
        }
        stages = {stage.task: (stage.name, functions[stage.name]) for stage in STAGES}
        margin = {GUARD: ("margin", margin_pass)} if liquidating_venues() else {}
        return {
            **margin,
            **stages,
            EXITS.task: (EXITS.name, exit_pass),
            "trading.tasks.settle": ("settle", settle_pass),
            "positions.tasks.take_points": ("equity", equity_pass),
            "positions.tasks.take_snapshots": ("snapshots", snapshot_pass),
            "signals_app.tasks.update_authors": ("authors", tasks.authors_pass),
        }


@dataclass
class Recorded(Playback):
    """The files, time span and measurements of one replay."""

    posts: Path
    candles: Path
    start: datetime
    end: datetime
    inputs: Inputs | None = None
    """The validated files; set by `prepare`."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def sources(self) -> dict[str, PostSource]:
        """Return the post file as a source."""
        return {SOURCE: JsonlSource([str(self.posts)])}

    def ticks(self) -> dict[datetime, list[Tick]]:
        """Return the closes of the candle files."""
        ticks: dict[datetime, list[Tick]] = defaultdict(list)
        for symbol, bars in self.inputs.bars.items() if self.inputs else ():
            for bar in bars:
                if self.start <= bar.known_at <= self.end:
                    ticks[bar.known_at].append(Tick(symbol, bar.close, bar.known_at, "file"))
        return ticks


def prepare(recorded: Recorded) -> Inputs:
    """Load accounts, agents, deployments and candles, and open the paper gates.

    Raises `Misconfigured` where the files have nothing to replay.
    """
    source = JsonlSource([str(recorded.posts)])
    recorded.inputs = read_inputs(recorded.posts, recorded.candles, recorded.start, recorded.end)
    names = source.usernames()
    # Collected and dropped: a replay has no workers, and without Redis each wake would wait six seconds for it
    with clock.frozen(recorded.start), wake.collected():
        for deployment in seed.assemble(SOURCE, sorted(names, key=str.lower)):
            fund(deployment)
        followed = CtAccount.objects.filter(subscriptions__isnull=False).values_list("x_username", flat=True)
        check_followed(names, set(followed), recorded.posts)
        # As if every post before the span had been read: none of them is replayed.
        CtAccount.objects.update(last_seen_at=recorded.start - timedelta(microseconds=1) + OVERLAP)
        open_paper_gates(recorded.end)
    for symbol, own in recorded.inputs.bars.items():
        candles.store(symbol, own)
    return recorded.inputs


def open_paper_gates(end: datetime) -> None:
    """Let the paper venues of this database trade until a day after `end`."""
    for name in [name for name, venue in venues().items() if venue.paper]:
        gate.set_dry_run(name, False, by="replay", reason="a replay trades on paper")
        gate.approve(name, by="replay", until=end + timedelta(days=1), reason="a replay trades on paper")


def play(recorded: Playback, progress: Callable[[datetime], None]) -> None:
    """Run the recorded span. `progress` is called with each moment when it is done; what it raises ends the run."""
    passes = recorded.passes()
    ticks = recorded.ticks()
    due = recorded.due()
    gc.freeze()  # the recorded posts and prices stay: searching them for garbage again and again takes 2 %
    with wake.collected() as woken:
        for moment in sorted(set(ticks) | set(due)):
            with clock.frozen(moment):
                if moment in ticks:
                    _timed(recorded, "quotes", partial(quotes.accept, ticks[moment]))
                scheduled = due.get(moment, [])
                if GUARD in scheduled:  # liquidations come before anything that is decided at this moment
                    _run(recorded, passes, GUARD)
                if PIPELINE_RUN in scheduled:
                    for stage in STAGES:
                        _run(recorded, passes, stage.task)
                woken.update(task for task in scheduled if task not in (PIPELINE_RUN, GUARD))
                while task := next((one for one in passes if one in woken), None):
                    woken.discard(task)
                    _run(recorded, passes, task)
                woken.clear()  # what is left notifies people, which a replay does not
            progress(moment)


def _run(recorded: Playback, passes: dict[str, tuple[str, Callable[[], Counts]]], task: str) -> None:
    name, function = passes[task]
    counts = _timed(recorded, name, function)
    announce(name, counts)


def _timed(recorded: Playback, name: str, function: Callable[[], T]) -> T:
    begun = perf_counter()
    try:
        return function()
    finally:
        recorded.seconds[name] += perf_counter() - begun
