"""Backtests all calls of all authors into one record per author. Pure.

An author's excess return is measured against a benchmark: the return of a call minus the mean return of entering the
same token on the same side at any time of the same span, with the same exits and costs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from zlib import crc32

import numpy as np

from signals_app.authors import impact
from signals_app.authors.backtest import DAY, Entries, Outcome, Series, Side, Terms, outcomes, pumped
from signals_app.authors.statistics import Estimate, benjamini_hochberg, binomial_tail, estimate

HORIZONS = (
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(days=1),
    timedelta(days=3),
    timedelta(days=7),
    timedelta(days=30),
)
HEADLINE = timedelta(days=1)
"""The horizon by which authors are compared: the longest with enough independent periods in a month."""
IMPACT_HORIZON = timedelta(days=7)
"""The horizon of the impact factor (checklist A61)."""
REPEAT = timedelta(hours=6)
"""A call of the same author, token and side within the same bucket of this width is a repeat."""
BENCHMARK_STEP = timedelta(hours=4)
"""Distance between the entries of the benchmark."""
PUMP_CALLS, PUMP_CHANCE = 3, 0.01
"""An author is flagged with at least PUMP_CALLS pumps that the benchmark would produce with less than PUMP_CHANCE."""


@dataclass(frozen=True, slots=True)
class Call:
    """A post's call on one token."""

    author: str
    post_id: str
    token: str
    side: Side
    known_at: datetime
    """When the post was stored, UTC; no trade on it could be earlier."""


@dataclass(frozen=True, slots=True)
class Figures:
    """An author's results at one horizon; returns in percent of the entry, after costs."""

    calls: int
    """Calls whose horizon ended within the bars."""
    hit_rate: Estimate
    """Fraction of calls with a positive return after costs."""
    mean: Estimate
    excess: Estimate
    """Return over the benchmark."""


@dataclass
class Record:
    """The backtest results of one author."""

    author: str
    calls: int
    """Without repeats."""
    repeats: int
    untraded: int
    """Calls for which no bar opened within an hour."""
    horizons: dict[timedelta, Figures]
    impact_calls: int
    """Calls whose seven days have ended."""
    mean_score: float
    """Mean score of those calls, -1.5 to 1.5."""
    impact_factor: float
    """Fraction; 0.5 is neutral."""
    pumps: int
    pump_flag: bool
    q_value: float | None = None
    """q-value of the headline excess, corrected for the number of authors (Benjamini-Hochberg)."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Settings of the measurement."""

    terms: Terms
    prior_calls: int
    seed: int
    horizons: tuple[timedelta, ...] = HORIZONS
    draws: int = 2000


@dataclass(frozen=True)
class _Traded:
    call: Call
    entered: int
    """Seconds since 1970."""
    outcomes: dict[timedelta, Outcome]
    pump: bool | None


@dataclass
class Benchmark:
    """Mean results of entries at regular times: (token, side) -> horizon -> mean net percent."""

    means: dict[tuple[str, Side], dict[timedelta, float]] = field(default_factory=dict)
    pumps: dict[tuple[str, Side], float] = field(default_factory=dict)
    """(token, side) -> fraction of entries that look like a pump."""


def measure(calls: Iterable[Call], series: Mapping[str, Series], by: Measure) -> list[Record]:
    """Backtest the calls; returns the records by author's name. The same inputs give the same digits."""
    kept, repeats = _without_repeats(calls)
    benchmark = _benchmark(kept, series, by)
    own: dict[str, list[Call]] = defaultdict(list)
    for call in kept:
        own[call.author].append(call)
    records = [_record(author, own[author], repeats[author], series, benchmark, by) for author in sorted(own)]
    headline = [record.horizons.get(HEADLINE) for record in records]
    q_values = benjamini_hochberg([figures.excess.p_value if figures else None for figures in headline])
    for record, q_value in zip(records, q_values, strict=True):
        record.q_value = q_value
    return records


def pooled(calls: Iterable[Call], series: Mapping[str, Series], by: Measure) -> dict[timedelta, Figures]:
    """Backtest all authors together, for the decay curve over the horizons."""
    kept, _ = _without_repeats(calls)
    benchmark = _benchmark(kept, series, by)
    traded = [trade for call in kept if (trade := _trade(call, series, by))]
    return _figures("", traded, benchmark, by)


def _without_repeats(calls: Iterable[Call]) -> tuple[list[Call], dict[str, int]]:
    seen: set[tuple[str, str, Side, int]] = set()
    kept, repeats = [], defaultdict[str, int](int)
    for call in sorted(calls, key=lambda call: (call.known_at, call.author, call.post_id, call.token)):
        bucket = int(call.known_at.timestamp() // REPEAT.total_seconds())
        key = (call.author, call.token, call.side, bucket)
        repeats[call.author] += key in seen
        if key not in seen:
            seen.add(key)
            kept.append(call)
    return kept, repeats


def _trade(call: Call, series: Mapping[str, Series], by: Measure) -> _Traded | None:
    bars = series.get(call.token)
    place = bars.entry(call.known_at.timestamp()) if bars else None
    if bars is None or place is None:
        return None
    results = outcomes(bars, place, call.side, by.horizons, by.terms)
    return _Traded(call, int(bars.opened[place]), results, pumped(bars, place, call.side))


def _benchmark(calls: Sequence[Call], series: Mapping[str, Series], by: Measure) -> Benchmark:
    """Backtest entries at every step between the first and the last call, on each token and side that was called."""
    benchmark = Benchmark()
    if not calls:
        return benchmark
    first, last = (int(calls[place].known_at.timestamp()) for place in (0, -1))
    moments = np.arange(first, last + 1, int(BENCHMARK_STEP.total_seconds()))
    for token, side in sorted({(call.token, call.side) for call in calls if call.token in series}):
        entries = Entries(series[token], series[token].entries(moments), side)
        nets = entries.nets(by.horizons, by.terms)
        benchmark.means[token, side] = {horizon: sum(net) / len(net) for horizon, net in nets.items() if net}
        known = entries.pumped()
        benchmark.pumps[token, side] = sum(known) / len(known) if known else 0.0
    return benchmark


def _record(
    author: str,
    calls: Sequence[Call],
    repeats: int,
    series: Mapping[str, Series],
    benchmark: Benchmark,
    by: Measure,
) -> Record:
    traded = [trade for call in calls if (trade := _trade(call, series, by))]
    ended = [trade.outcomes[IMPACT_HORIZON] for trade in traded if IMPACT_HORIZON in trade.outcomes]
    scores = [
        impact.score(result.exit_by, result.gross_pct, result.favourable_pct, result.adverse_pct)
        for result in ended
    ]
    known = [trade for trade in traded if trade.pump is not None]
    pumps = sum(bool(trade.pump) for trade in known)
    chances = [benchmark.pumps[trade.call.token, trade.call.side] for trade in known]
    chance = sum(chances) / len(known) if known else 0.0
    return Record(
        author=author,
        calls=len(calls),
        repeats=repeats,
        untraded=len(calls) - len(traded),
        horizons=_figures(author, traded, benchmark, by),
        impact_calls=len(scores),
        mean_score=sum(scores) / len(scores) if scores else 0.0,
        impact_factor=impact.factor(scores, by.prior_calls),
        pumps=pumps,
        pump_flag=pumps >= PUMP_CALLS and binomial_tail(pumps, len(known), chance) < PUMP_CHANCE,
    )


def _figures(
    author: str, traded: Sequence[_Traded], benchmark: Benchmark, by: Measure
) -> dict[timedelta, Figures]:
    """Compute the figures of each horizon with ended calls. Calls of one day, or one longer horizon, are a cluster."""
    figures = {}
    for horizon in by.horizons:
        ended = [trade for trade in traded if horizon in trade.outcomes]
        if not ended:
            continue
        width = int(max(DAY, horizon).total_seconds())
        nets = [trade.outcomes[horizon].net_pct for trade in ended]
        # 0 where no benchmark entry of this horizon ended within the bars
        usual = [benchmark.means[trade.call.token, trade.call.side].get(horizon, 0.0) for trade in ended]
        seed = [by.seed, crc32(author.encode()), int(horizon.total_seconds())]
        clusters = [trade.entered // width for trade in ended]
        of = partial(estimate, clusters=clusters, seed=seed, draws=by.draws)
        figures[horizon] = Figures(
            calls=len(ended),
            hit_rate=_within_one(of([float(net > 0) for net in nets])),
            mean=of(nets),
            excess=of([net - mean for net, mean in zip(nets, usual, strict=True)]),
        )
    return figures


def _within_one(fraction: Estimate) -> Estimate:
    """Clip a fraction's interval to [0, 1], and drop its p-value: a fraction differs from zero anyway."""
    if fraction.low is None or fraction.high is None:
        return fraction
    low, high = max(0.0, fraction.low), min(1.0, fraction.high)
    return Estimate(fraction.mean, low, high, None, fraction.clusters)
