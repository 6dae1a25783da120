"""Demo data: authors, posts and prices, ten past days that the pipeline traded, agents on paper and on a local chain.

The past days are played by the functions of a replay (`maxxit.replay.run`) into the demo's own database, once. After
them the sample day runs in a loop, sixty times as fast as the clock, and the workers trade it live.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model

from agents import seed
from agents.models import Deployment
from maxxit.core import clock
from maxxit.events import wake
from maxxit.market import candles
from maxxit.market.feeds.base import Tick
from maxxit.market.feeds.file import BAR, HEADER, Bar, candle_file, read_bars
from maxxit.market.quotes import open_feeds
from maxxit.market.tasks import refresh_quotes
from maxxit.market.venues import venues
from maxxit.ops import demo_story as story
from maxxit.ops.devchain import local as local_chain
from maxxit.pipeline.models import PipelineRun
from maxxit.pipeline.runs import start_run
from maxxit.pipeline.stages import STAGES
from maxxit.replay.run import PIPELINE_RUN, Playback, play
from positions.performance import roll_up
from positions.performance.points import take_points
from signals_app.models import CtPost
from signals_app.sources.base import PostSource
from signals_app.sources.jsonl import JsonlSource
from trading import gate
from trading.deployments import confirmation
from trading.deployments.funding import fund
from trading.models import Gate

SOURCE = "jsonl"
PAST = timedelta(days=10)
WARM_UP = timedelta(days=6)
"""Candles before the past days: indicators need 120 hours."""
STEP = timedelta(minutes=15)
"""Between two prices of the past days."""
BETWEEN, LIVE_BETWEEN = timedelta(minutes=90), timedelta(minutes=2)
"""Between two posts of the past days, a multiple of STEP, and between two live ones."""
LIVE = timedelta(days=1)
"""For how long posts are written ahead."""
FEED, EQUITY = "demo", "positions.tasks.take_points"
DAILY = ("signals_app.tasks.update_authors", "positions.tasks.take_snapshots")
SPEED = 60
"""Sample time passes so much faster than the clock: `speed` of the demo's feed."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
"""`starts_at` and `plays_from` of the demo's feed."""
CONFIRMS = "Ask Me First"
"""The agent whose deployments ask their owner before each entry, from the present on."""


def load() -> dict[str, int]:
    """Load what is missing, play the past days, start the first pipeline run; return counts. Safe to repeat."""
    now = clock.now()
    past = Past.before(now)
    posts = _write_posts(posts_file(), past.posts(), now)
    new = not CtPost.objects.exists()
    with clock.frozen(past.start if new else now):
        _open_paper()
        funded = _assemble()
    stored = sum(candles.store(symbol, past.bars(symbol)) for symbol in past.closes)
    if new:
        logging.disable(logging.WARNING)  # the events have what the steps log
        try:
            play(past, lambda moment: None)
        finally:
            logging.disable(logging.NOTSET)
        roll_up.roll_up()
        _ask_before_entries()
    refresh_quotes()
    local_chain.set_up_demo()
    _give_to_first_superuser()
    take_points()
    if not PipelineRun.objects.exists():
        start_run("command", asked_by="demo")
    return {"posts": posts, "candles": stored, "deployments": funded}


def posts_file() -> Path:
    """Return the file that holds all posts of the demo."""
    return Path(settings.DATA_DIR) / "demo" / "posts.jsonl"


def _assemble() -> int:
    """Create agents, accounts and deployments, and fund those; return how many were funded now."""
    with wake.collected():
        return sum(fund(deployment) for deployment in seed.assemble(SOURCE, story.names()))


# -- prices


def sample_closes(symbol: str) -> list[float]:
    """Return the closes of the sample day that the feed plays."""
    path = candle_file(story.SAMPLE, symbol)
    return [] if path is None else [float(bar.close) for bar in read_bars(path)]


# -- posts


def _live_posts(now: datetime) -> list[story.Written]:
    """Return the posts of the next day, one every two minutes, on the sample day that the feed plays in a loop."""
    closes = {symbol: sample_closes(symbol) for symbol in story.START_PRICES}
    moments = [now + number * LIVE_BETWEEN for number in range(1, LIVE // LIVE_BETWEEN)]
    slots = [(at, _place(at)) for at in moments]
    turn = BAR * story.DAY / SPEED
    top = BEGAN + (now - BEGAN) // turn * turn + BAR * _live_peak(closes[story.THIN]) / SPEED
    tops = [top + turn * number for number in range(1, LIVE // turn)]
    # So that the Safe, which buys BTC and ETH alone, has something to do at once
    return [story.first_call(now, _place(now), closes), *story.write(closes, slots, tops, loop=True)]


def _place(at: datetime) -> int:
    """Return the place of the sample day's bar that the feed plays at `at`."""
    return int((at - BEGAN) * SPEED / BAR) % story.DAY


def _live_peak(closes: Sequence[float]) -> int:
    return max(range(len(closes)), key=lambda place: closes[place])


def _write_posts(path: Path, past: list[story.Written], now: datetime) -> int:
    """Write the demo's posts, once: those of the past days, then one every two minutes; return how many."""
    if path.exists():
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    posts = [*past, *_live_posts(now)]
    with path.open("w") as out:
        for number, post in enumerate(posts):
            line = {"id": f"demo-{number:05d}", "username": post.author, "created_at": post.at.isoformat()}
            out.write(json.dumps(line | {"text": post.text}) + "\n")
    return len(posts)


# -- past days


@dataclass
class Past(Playback):
    """The demo's past days. Prices come every quarter of an hour, and posts are written at these moments."""

    start: datetime
    end: datetime
    first_bar: datetime
    """Open time of the first bar of the warm-up."""
    closes: dict[str, list[float]]
    """Token -> closes from the first bar of the warm-up up to the newest one."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @classmethod
    def before(cls, now: datetime) -> "Past":
        """Return the past days that end now, with prices that end at those of the feed."""
        end, newest = clock.bucket(now, STEP), clock.bucket(now, BAR)
        first_bar = end - PAST - WARM_UP
        count = (newest - first_bar) // BAR
        quotes = {
            name: quote
            for feed in open_feeds()
            for name, quote in feed.quotes(list(story.START_PRICES)).items()
        }
        closes = {
            name: story.walk(
                name,
                count,
                float(quote.price),
                story.past_peaks(count) if name == story.THIN else (),
                f"{end:%Y-%m-%d}",
            )
            for name, quote in quotes.items()
        }
        return cls(end - PAST, end, first_bar, closes)

    def bars(self, symbol: str) -> Iterator[Bar]:
        """Yield the bars of one token, the warm-up included."""
        return story.bars(symbol, self.closes[symbol], self.first_bar)

    def posts(self) -> list[story.Written]:
        """Return the posts of these days."""
        slots = [self.start + step * BETWEEN for step in range(PAST // BETWEEN)]
        count = (self.end - self.first_bar) // BAR
        tops = [self.first_bar + (place + 1) * BAR for place in story.past_peaks(count)]
        return story.write(
            self.closes,
            [(at, (at - self.first_bar) // BAR - 1) for at in slots],
            [at - (at - self.end) % -STEP for at in tops if self.start <= at],
        )

    def sources(self) -> dict[str, PostSource]:
        """Return the post file as a source."""
        return {SOURCE: JsonlSource([str(posts_file())])}

    def ticks(self) -> dict[datetime, list[Tick]]:
        """Return the closes of every quarter of an hour."""
        ticks: dict[datetime, list[Tick]] = defaultdict(list)
        for symbol in self.closes:
            for bar in self.bars(symbol):
                if self.start <= bar.known_at <= self.end and not (bar.known_at - self.end) % STEP:
                    ticks[bar.known_at].append(Tick(symbol, bar.close, bar.known_at, FEED))
        return ticks

    def due(self) -> dict[datetime, list[str]]:
        """Return the tasks by moment: posts are ingested when they were written, equity is stored every hour.

        The demo's schedule runs the pipeline every two minutes, because its clock is fast; the past days were not.
        """
        left_out = {PIPELINE_RUN, *(stage.task for stage in STAGES)}
        due: dict[datetime, list[str]] = {}
        for moment, tasks in super().due().items():
            quarter = not (moment - self.end) % STEP
            due[moment] = [task for task in tasks if task not in left_out and (quarter or task in DAILY)]
            if moment.minute:
                due[moment] = [task for task in due[moment] if task != EQUITY]
        for post in self.posts():
            if post.at < self.end:
                due.setdefault(post.at, []).insert(0, STAGES[0].task)
        return {moment: tasks for moment, tasks in due.items() if tasks}


# -- owners and gates


def _ask_before_entries() -> None:
    """Let the deployments of one agent ask their owner before each entry."""
    for deployment in Deployment.objects.filter(agent__name=CONFIRMS, agent__owner=None):
        confirmation.ask(deployment, True, by="demo")


def _give_to_first_superuser() -> None:
    """Give deployments without an owner to the login that `manage.py setup` made, so that its pages show them."""
    person: Any = get_user_model().objects.filter(is_superuser=True).order_by("pk").first()
    if person is not None:
        Deployment.objects.filter(owner=None).update(owner=person)


def _open_paper() -> None:
    """Open the gates of the paper venues that have no gate row yet."""
    for name, venue in venues().items():
        if venue.paper and not Gate.objects.filter(venue=name).exists():
            until = clock.now() + timedelta(days=365)
            gate.set_dry_run(name, False, by="demo", reason="the demo trades on paper")
            gate.approve(name, by="demo", until=until, reason="the demo trades on paper")


def write_sample() -> None:
    """Regenerate the sample day: a seeded random walk per symbol that ends where it began."""
    for symbol, price in story.START_PRICES.items():
        peaks = [story.DAY // 2] if symbol == story.THIN else []
        walked = story.walk(symbol, story.DAY, price, peaks)
        drift = (walked[-1] / walked[0]) ** (1 / (story.DAY - 1))
        closes = [value / drift ** (number - story.DAY + 1) for number, value in enumerate(walked)]
        rows = [",".join(HEADER)]
        rows += [
            f"{int(b.open_time.timestamp() * 1000)},{b.open},{b.high},{b.low},{b.close},{b.volume}"
            for b in story.bars(symbol, closes, BEGAN)
        ]
        (story.SAMPLE / f"candles-{symbol}-USD-5m.csv").write_text("\n".join(rows) + "\n")
