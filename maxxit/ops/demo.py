"""Demo data: sample posts and prices, agents on paper, and gates open for paper and the local chain."""

import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from django.conf import settings

from agents import seed
from maxxit.core import clock
from maxxit.core.config import ROOT
from maxxit.market import candles
from maxxit.market.feeds.file import BAR, HEADER, Bar, candle_file, read_bars
from maxxit.market.instruments import instrument
from maxxit.market.quotes import open_feeds
from maxxit.market.tasks import refresh_quotes
from maxxit.market.venues import venues
from maxxit.ops.devchain import local as local_chain
from maxxit.pipeline.models import PipelineRun
from maxxit.pipeline.runs import start_run
from positions.performance.points import take_points
from trading import gate
from trading.deployments.funding import fund
from trading.models import Gate

SAMPLE = ROOT / "config" / "demo"
START_PRICES = {"BTC": 64_000.0, "ETH": 3_100.0, "SOL": 148.0, "LTC": 82.0, "XRP": 0.61}
"""USD."""
BARS = 288
SIGMA = 0.0022
"""Standard deviation of a five-minute log return."""
PAST_POSTS, MINUTES_BETWEEN, POSTS = 20, 2, 740


def load() -> dict[str, int]:
    """Load the missing demo data and start the first pipeline run; returns counts. Safe to repeat."""
    posts = _write_posts(Path(settings.DATA_DIR) / "demo" / "posts.jsonl")
    usernames = sorted({name for name, _ in _lines()})
    funded = sum(fund(deployment) for deployment in seed.assemble("jsonl", usernames))
    stored = sum(candles.store(symbol, _history(symbol, clock.now())) for symbol in START_PRICES)
    _open_paper()
    refresh_quotes()
    local_chain.set_up_demo()
    take_points()  # the curve of /performance begins with the deposits
    if not PipelineRun.objects.exists():
        start_run("command", asked_by="demo")
    return {"posts": posts, "candles": stored, "deployments": funded}


def _lines() -> Iterator[tuple[str, str]]:
    for line in (SAMPLE / "posts.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, text = line.partition("|")
            yield name, text


def _write_posts(path: Path) -> int:
    """Write the demo's posts around the present time, once: some in the past, then one every two minutes."""
    if path.exists():
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = list(_lines())
    first = clock.now() - timedelta(minutes=PAST_POSTS)
    with path.open("w") as out:
        for number in range(POSTS):
            name, text = samples[number % len(samples)]
            minutes = number if number < PAST_POSTS else PAST_POSTS + (number - PAST_POSTS) * MINUTES_BETWEEN
            at = (first + timedelta(minutes=minutes)).isoformat()
            out.write(
                json.dumps({"id": f"demo-{number:05d}", "username": name, "created_at": at, "text": text})
                + "\n"
            )
    return POSTS


def _history(symbol: str, now: datetime) -> Iterator[Bar]:
    """Yield two rounds of the sample day, shifted to end now at the price that the demo's feed gives."""
    path = candle_file(SAMPLE, symbol)
    if path is None:
        return
    day = list(read_bars(path))
    price = next(feed.quotes([symbol])[symbol].price for feed in open_feeds())
    current = min(range(len(day)), key=lambda index: abs(day[index].close - price))
    newest = clock.bucket(now, BAR) - BAR
    for back in range(2 * BARS - 1, -1, -1):
        bar = day[(current - back) % len(day)]
        yield Bar(newest - back * BAR, bar.open, bar.high, bar.low, bar.close, bar.volume)


def _open_paper() -> None:
    """Open the gates of the paper venues that have no gate row yet."""
    for name, venue in venues().items():
        if venue.paper and not Gate.objects.filter(venue=name).exists():
            until = clock.now() + timedelta(days=365)
            gate.set_dry_run(name, False, by="demo", reason="the demo trades on paper")
            gate.approve(name, by="demo", until=until, reason="the demo trades on paper")


def write_sample() -> None:
    """Regenerate the sample day: a seeded random walk per symbol that ends at its start price."""
    for symbol, price in START_PRICES.items():
        rows = [",".join(HEADER)]
        rows += [
            f"{int(b.open_time.timestamp() * 1000)},{b.open},{b.high},{b.low},{b.close},{b.volume}"
            for b in _walk(symbol, price)
        ]
        (SAMPLE / f"candles-{symbol}-USD-5m.csv").write_text("\n".join(rows) + "\n")


def _walk(symbol: str, start: float) -> Iterator[Bar]:
    dice = random.Random(f"maxxit {symbol}")  # noqa: S311 (invented prices, not secrets)
    steps = [dice.gauss(0, SIGMA) for _ in range(BARS)]
    drift = sum(steps) / BARS
    token, opened, level = instrument(symbol), datetime(2026, 1, 1, tzinfo=UTC), math.log(start)
    for step in steps:
        ends = level + step - drift
        low, high = (math.exp(end) for end in (min(level, ends), max(level, ends)))
        low, high = low * (1 - abs(dice.gauss(0, SIGMA / 3))), high * (1 + abs(dice.gauss(0, SIGMA / 3)))
        opening, highest, lowest, closing = (
            token.round_price(Decimal(value)) for value in (math.exp(level), high, low, math.exp(ends))
        )
        volume = Decimal(f"{dice.lognormvariate(4, 0.6):.3f}")
        yield Bar(opened, opening, highest, lowest, closing, volume)
        opened, level = opened + BAR, ends
