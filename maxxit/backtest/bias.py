"""Checks for the mistakes that make a backtest too good: lookahead, too short warm-up, an edge that posts do not have.

Lookahead and warm-up compute the indicators of a tape again from the candle files, without the database that the replay
computed them in. They look at indicators alone, not at decisions, posts or impact factors.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from maxxit.backtest.figures import figures_of
from maxxit.backtest.market import moment_of
from maxxit.backtest.run import Backtest
from maxxit.core import clock
from maxxit.core.errors import Misconfigured
from maxxit.market.bars import Bars, Snapshot
from maxxit.market.feeds.bars import Bar
from maxxit.market.indicators import snapshot
from maxxit.replay.tape import Tape

MOMENTS = 200
"""Moments at which the data are cut."""
MOST_DRIFT = 0.01
"""Of an indicator's standard deviation: a warm-up that leaves more is too short."""
WARM_UPS = (2, 4)
"""Times the configured number of bars that indicators are compared with."""
NAMES = tuple(field.name for field in fields(Snapshot))


class Series:
    """The bars of one symbol as arrays, oldest first."""

    def __init__(self, symbol: str, bars: Sequence[Bar]) -> None:
        self.symbol = symbol
        self.opened = np.array([int(bar.open_time.timestamp()) for bar in bars], dtype=np.int64)
        self.high, self.low, self.close, self.volume = (
            np.array([float(getattr(bar, name)) for bar in bars])
            for name in ("high", "low", "close", "volume")
        )

    def until(self, at: datetime) -> "Series":
        """Return the bars that had closed by `at`."""
        cut = Series.__new__(Series)
        cut.symbol = self.symbol
        stop = int(np.searchsorted(self.opened, int(at.timestamp()) - 300, side="right"))
        cut.opened = self.opened[:stop]
        cut.high, cut.low, cut.close, cut.volume = (
            values[:stop] for values in (self.high, self.low, self.close, self.volume)
        )
        return cut


Read = Callable[[Series, datetime, timedelta, int], Bars]
"""(series, at, width, count) -> the last `count` bars of `width` that had closed by `at`."""


def last_bars(series: Series, at: datetime, width: timedelta, count: int) -> Bars:
    """Return up to `count` bars of `width` that had closed by `at`, as `maxxit.market.candles.last_bars` does."""
    seconds = int(width.total_seconds())
    until = int(clock.bucket(at, width).timestamp())
    since = until - count * seconds
    first, stop = np.searchsorted(series.opened, [since, until])
    opened = series.opened[first:stop]
    empty: NDArray[np.float64] = np.empty(0)
    if not len(opened):
        return Bars(series.symbol, empty, empty, empty, empty, 0, True)
    slots = opened // seconds * seconds
    begins = np.flatnonzero(np.append(True, slots[1:] != slots[:-1]))
    ends = np.append(begins[1:], len(slots)) - 1
    return Bars(
        series.symbol,
        np.maximum.reduceat(series.high[first:stop], begins),
        np.minimum.reduceat(series.low[first:stop], begins),
        series.close[first:stop][ends],
        np.add.reduceat(series.volume[first:stop], begins),
        missing=int((until - slots[0]) // seconds) - len(begins),
        last_missing=bool(slots[-1] + seconds < until),
    )


@dataclass(frozen=True)
class Found:
    """The result of a check."""

    looked_at: int
    problems: list[str]
    """Each names token, moment and values; the first ones only."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found in something."""
        return self.looked_at > 0 and not self.problems


def samples(tape: Tape, seed: int, most: int = MOMENTS) -> list[tuple[int, str, Snapshot]]:
    """Draw (moment, token, indicators on the tape) of generation passes. Raises `Misconfigured` without any."""
    rows = [(one.at, token, place) for one in tape.passes for token, place in sorted(one.markets.items())]
    if not rows:
        raise Misconfigured(
            "no pass on the tape has indicators, so there is nothing to check: replay more days"
        )
    chosen = random.Random(seed).sample(rows, min(most, len(rows)))  # noqa: S311 (no secret)
    return [(at, token, Snapshot(*tape.figures[place])) for at, token, place in sorted(chosen)]


def lookahead(tape: Tape, bars: Mapping[str, Sequence[Bar]], seed: int = 1, read: Read = last_bars) -> Found:
    """Compute indicators from data cut at their moment and from whole data; both have to be those of the tape.

    An indicator that uses a later bar differs, because the cut data lack it.

    Raises `Misconfigured` naming a token without candles.
    """
    chosen = samples(tape, seed)
    series, problems = _series(chosen, bars), []
    for at, token, recorded in chosen:
        moment = moment_of(at)
        whole = _figures(tape, series[token], moment, read)
        cut = _figures(tape, series[token].until(moment), moment, read)
        if not _same(whole, cut):
            problems.append(f"{_named(token, moment)}: {_difference(whole, cut)} with and without later bars")
        elif not _same(cut, recorded):
            problems.append(
                f"{_named(token, moment)}: {_difference(cut, recorded)} in the files and on the tape"
            )
    return Found(len(chosen), problems)


def recursive(
    tape: Tape, bars: Mapping[str, Sequence[Bar]], seed: int = 1, count: int | None = None
) -> tuple[Found, dict[str, float]]:
    """Compute indicators with more bars of warm-up; return what drifts, and the largest drift of each indicator.

    A drift is a share of the indicator's standard deviation over the moments.

    Args:
        count: bars of warm-up, by default those of the tape.

    Raises `Misconfigured` naming a token without candles, or where they do not reach back far enough for any moment.
    """
    width = timedelta(minutes=tape.generate["bar_minutes"])
    base = count or tape.generate["bars"]
    least = min(tape.generate["warm_up_bars"], base)
    chosen = samples(tape, seed)
    series = _series(chosen, bars)
    found: dict[int, list[list[float]]] = {times: [] for times in (1, *WARM_UPS)}
    for at, token, _ in chosen:
        moment = moment_of(at)
        rows = {
            times: snapshot(last_bars(series[token], moment, width, base * times), warm_up=least)
            for times in found
        }
        longest = last_bars(series[token], moment, width, base * max(WARM_UPS))
        if len(longest) < base * max(WARM_UPS) or not all(rows.values()):
            continue  # the files do not reach back far enough
        for times, made in rows.items():
            if made is not None:
                found[times].append(_relative(made))
    values = {times: np.array(rows) for times, rows in found.items()}
    if not len(values[1]):
        raise Misconfigured(
            f"the candles do not reach back {base * max(WARM_UPS)} bars before any moment: take a later span"
        )
    spread = np.maximum(values[1].std(axis=0), 1e-12)
    drift = np.max([np.abs(values[times] - values[1]).max(axis=0) / spread for times in WARM_UPS], axis=0)
    by_name = dict(zip(NAMES, (float(value) for value in drift), strict=True))
    problems = [
        f"{name} drifts by {value:.1%} of its spread with more than {base} bars of warm-up"
        for name, value in by_name.items()
        if value > MOST_DRIFT
    ]
    return Found(len(values[1]), problems), by_name


def _series(
    chosen: Sequence[tuple[int, str, Snapshot]], bars: Mapping[str, Sequence[Bar]]
) -> dict[str, Series]:
    """Return the bars of each token that was drawn. Raises `Misconfigured` naming those without."""
    tokens = sorted({token for _, token, _ in chosen})
    if missing := [token for token in tokens if not bars.get(token)]:
        raise Misconfigured(
            f"there are no candles of {', '.join(missing)}, which the tape has: give the folder that was replayed"
        )
    return {token: Series(token, bars[token]) for token in tokens}


def _relative(made: Snapshot) -> list[float]:
    return [getattr(made, name) / (made.close if name in PRICED else 1) for name in NAMES]


PRICED = frozenset({"close", "macd_histogram", "fast_average", "slow_average"})
"""Indicators in USD, compared as shares of the price."""


@dataclass(frozen=True)
class Placebo:
    """The real result beside those of the same posts at other times."""

    real: float
    """Net result, USDC."""
    shifted: list[float]
    """Of each shift, ascending."""

    @property
    def percentile(self) -> float:
        """Share of shifts with a lower result, percent."""
        return 100 * sum(value < self.real for value in self.shifted) / len(self.shifted)


def placebo(
    backtest: Backtest, shifts: int, seed: int = 1, changes: Mapping[str, str] | None = None
) -> Placebo:
    """Run the posts shifted in time by whole buckets, around the end of the tape, and compare the net result.

    Where posts carry no information about prices, the real result is at a random percentile.
    """
    tape = backtest.tape
    bucket = tape.generate["bucket_hours"] * 3600
    buckets = (tape.end - tape.start) // bucket
    if buckets < shifts + 1:
        raise Misconfigured(f"the tape has {buckets} buckets: too few for {shifts} different shifts")
    chosen = random.Random(seed).sample(range(1, buckets), shifts)  # noqa: S311 (no secret)
    found = []
    for number in chosen:
        moved = Backtest(_shifted(tape, number * bucket, buckets * bucket))
        found.append(_net(moved, changes))
    return Placebo(_net(backtest, changes), sorted(found))


def _net(backtest: Backtest, changes: Mapping[str, str] | None) -> float:
    return float(figures_of(backtest.run(changes), backtest.market).net)


def _shifted(tape: Tape, by: int, span: int) -> Tape:
    def moved(at: float) -> float:
        return tape.start + (at - tape.start + by) % span

    calls = []
    for call in tape.calls:
        known = int(moved(call.known_at))
        delta = known - call.known_at
        calls.append(
            replace(
                call, known_at=known, posted_at=call.posted_at + delta, ingested_at=call.ingested_at + delta
            )
        )
    calls.sort(key=lambda call: (call.known_at, call.id))
    numbered = [replace(call, id=number) for number, call in enumerate(calls, start=1)]
    return replace(tape, calls=numbered)


def _figures(tape: Tape, series: Series, at: datetime, read: Read) -> Snapshot | None:
    width = timedelta(minutes=tape.generate["bar_minutes"])
    return snapshot(read(series, at, width, tape.generate["bars"]), warm_up=tape.generate["warm_up_bars"])


def _named(token: str, moment: datetime) -> str:
    return f"{token} at {moment:%Y-%m-%d %H:%M}"


def _same(one: Snapshot | None, other: Snapshot | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.isclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9) for name in NAMES)


def _difference(one: Snapshot | None, other: Snapshot | None) -> str:
    if one is None or other is None:
        return f"{'no indicators' if one is None else 'indicators'} and {'none' if other is None else 'some'}"
    name = next(n for n in NAMES if not np.isclose(getattr(one, n), getattr(other, n), rtol=1e-9, atol=1e-9))
    return f"{name} is {getattr(one, name):.8g} and {getattr(other, name):.8g}"
