"""The demo's invented authors, posts and prices. What becomes of the posts is not invented: the pipeline trades them.

An author is described by how often a call has the direction that the sample price then takes: the good one mostly, the
bad one seldom. One calls a thin token when its price has just been pumped, and two mostly chat.
"""

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from maxxit.core.config import ROOT
from maxxit.market.feeds.file import BAR, Bar
from maxxit.market.instruments import instrument

SAMPLE = ROOT / "config" / "demo"
START_PRICES = {"BTC": 64_000.0, "ETH": 3_100.0, "SOL": 148.0, "LTC": 82.0, "XRP": 0.61, "EOS": 0.74}
"""USD."""
DAY = 288
"""Five-minute bars."""
SIGMA = 0.0022
"""Standard deviation of a five-minute log return."""
THIN = "EOS"
"""The token that is pumped: `illiquid` in config/markets.yaml, so that one author's call alone is no signal."""
PUMP_RISE, PUMP_FALL, PUMP_HEIGHT = 5, 30, 0.22
"""Bars up and down, and the log return of the rise."""
PUMPS_EVERY = 230
"""Bars between two pumps of the past."""
SHORT, LONG = 48, DAY
"""Bars over which a call is right or wrong: the longest holding time of the demo's agents, and the day of a record."""
SEED = "maxxit"


@dataclass(frozen=True, slots=True)
class Author:
    """Somebody who posts in the demo."""

    name: str
    share: int
    """Of all posts, in relation to the others."""
    calls: float = 0.0
    """Fraction of the posts that call a token."""
    right: float = 0.5
    """Fraction of the calls whose direction is that of the sample price afterwards (`_move`)."""
    tokens: tuple[str, ...] = ()


AUTHORS = (
    Author("satsumi", 26, calls=0.85, right=0.9, tokens=("BTC", "ETH", "SOL")),
    Author("chartowl", 16, calls=0.7, right=0.55, tokens=("ETH", "LTC", "SOL", "XRP")),
    Author("bearclaw", 18, calls=0.85, right=0.15, tokens=("BTC", "LTC", "XRP")),
    Author("lofi_trader", 12, calls=0.35, right=0.5, tokens=("BTC", "ETH", "LTC", "SOL", "XRP")),
    Author("gmgang", 12),
    Author("nodewhisper", 10),
)
PUMPER = "gemrocket"
"""Calls `THIN` at the top of each pump."""


@dataclass(frozen=True, slots=True)
class Written:
    """A post of the demo."""

    at: datetime
    author: str
    text: str


def names() -> list[str]:
    """Return the names of all authors."""
    return sorted({PUMPER, *(author.name for author in AUTHORS)})


def texts(path: Path = SAMPLE / "posts.txt") -> dict[str, list[str]]:
    """Return the sample texts by kind: long, short, chat and pump."""
    kinds: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            kind, _, text = line.partition("|")
            kinds.setdefault(kind, []).append(text)
    return kinds


# -- prices


def walk(symbol: str, count: int, end: float, peaks: Iterable[int] = (), seed: str = SEED) -> list[float]:
    """Return `count` closes in USD of a seeded random walk that ends at `end`.

    Args:
        peaks: places at which a pump has its top.
    """
    dice = random.Random(f"{seed} {symbol} {count}")  # noqa: S311 (invented prices, not secrets)
    level, levels = 0.0, []
    for _ in range(count):
        levels.append(level)
        level += dice.gauss(0, SIGMA)
    levels = [value + sum(_bump(place - peak) for peak in peaks) for place, value in enumerate(levels)]
    return [end * math.exp(value - levels[-1]) for value in levels]


def _bump(distance: int) -> float:
    """Return the log price that a pump adds, `distance` bars after its top."""
    if -PUMP_RISE < distance <= 0:
        return PUMP_HEIGHT * (1 + distance / PUMP_RISE)
    return PUMP_HEIGHT * (1 - distance / PUMP_FALL) if 0 < distance < PUMP_FALL else 0.0


def past_peaks(count: int) -> list[int]:
    """Return the places of the pumps among `count` past bars."""
    return list(range(PUMPS_EVERY // 2, count - PUMP_FALL - PUMP_RISE, PUMPS_EVERY))


def bars(symbol: str, closes: Sequence[float], first: datetime) -> Iterator[Bar]:
    """Yield the bars of these closes, the first of them opened at `first`."""
    dice = random.Random(f"{SEED} bars {symbol}")  # noqa: S311
    token, before = instrument(symbol), closes[0]
    for number, close in enumerate(closes):
        low, high = min(before, close), max(before, close)
        low, high = low * (1 - abs(dice.gauss(0, SIGMA / 3))), high * (1 + abs(dice.gauss(0, SIGMA / 3)))
        opening, highest, lowest, closing = (
            token.round_price(Decimal(value)) for value in (before, high, low, close)
        )
        volume = Decimal(f"{dice.lognormvariate(4, 0.6):.3f}")
        yield Bar(first + number * BAR, opening, highest, lowest, closing, volume)
        before = close


# -- posts


def write(
    closes: Mapping[str, Sequence[float]],
    slots: Iterable[tuple[datetime, int]],
    tops: Iterable[datetime] = (),
    *,
    loop: bool = False,
) -> list[Written]:
    """Write one post for each slot, and one of the pumper for each top of a pump; oldest first.

    Args:
        closes: token -> sample closes in order of time.
        slots: (time, place in `closes` that is current then).
        loop: the closes begin again after their end.
    """
    dice = random.Random(f"{SEED} posts {loop}")  # noqa: S311
    known = texts()
    posts = [_post(dice, known, at, place, closes, loop=loop) for at, place in slots]
    posts += [Written(at, PUMPER, dice.choice(known["pump"]).format(token=THIN)) for at in tops]
    return sorted(posts, key=lambda post: (post.at, post.author))


def first_call(at: datetime, place: int, closes: Mapping[str, Sequence[float]]) -> Written:
    """Write a call to buy ETH: the good author's where the sample price rises, the bad one's where it falls."""
    author = "satsumi" if _move(closes["ETH"], place, loop=True) > 0 else "bearclaw"
    return Written(at, author, texts()["long"][0].format(token="ETH"))  # noqa: S106 (a token that is traded)


def _post(
    dice: random.Random,
    known: Mapping[str, Sequence[str]],
    at: datetime,
    place: int,
    closes: Mapping[str, Sequence[float]],
    *,
    loop: bool,
) -> Written:
    author = dice.choices(AUTHORS, [one.share for one in AUTHORS])[0]
    if dice.random() >= author.calls:
        return Written(at, author.name, dice.choice(known["chat"]))
    moves = {token: _move(closes[token], place, loop=loop) for token in author.tokens}
    token = max(moves, key=lambda one: abs(moves[one])) if dice.random() < 0.7 else dice.choice(author.tokens)
    up = (moves[token] > 0) == (dice.random() < author.right)
    return Written(at, author.name, dice.choice(known["long" if up else "short"]).format(token=token))


def _move(closes: Sequence[float], place: int, *, loop: bool) -> float:
    """Return how the sample price moves from `place` on: the log return over `SHORT` and half of that over `LONG`."""

    def after(bars: int) -> float:
        end = (place + bars) % len(closes) if loop else min(place + bars, len(closes) - 1)
        return math.log(closes[end] / closes[place])

    return after(SHORT) + after(LONG) / 2
