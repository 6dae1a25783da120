"""All calls of all authors against the bars: one record for each author. Pure.

What an author adds is measured against the tide: the excess of a call is its return minus the mean return of
entering the same token on the same side at any time of the same span, with the same exits and costs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from zlib import crc32

from signals_app.authors import impact
from signals_app.authors.backtest import DAY, Outcome, Series, Side, Terms, outcomes, pumped
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
"""The horizon by which authors are compared: the longest of which a month holds enough independent days."""
IMPACT_HORIZON = timedelta(days=7)
"""Checklist A61."""
REPEAT = timedelta(hours=6)
"""The same author, token and side again within the same bucket of this width is the same call."""
TIDE_STEP = timedelta(hours=4)
"""How often the entries of the tide are."""
PUMP_CALLS, PUMP_CHANCE = 3, 0.01
"""An author is flagged from so many pumps on, when the tide alone would make as many less often than this."""


@dataclass(frozen=True, slots=True)
class Call:
    """One post's call on one token."""

    author: str
    post_id: str
    token: str
    side: Side
    known_at: datetime
    """UTC: when we held the post; nothing before this moment could be traded on it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """An author at one horizon; returns in percent of the entry, after costs."""

    calls: int
    """Ended within the bars."""
    hit_rate: Estimate
    """Fraction of calls that earned more than their costs."""
    mean: Estimate
    excess: Estimate
    """Over the tide."""


@dataclass
class Record:
    """One author."""

    author: str
    calls: int
    """Without repeats."""
    repeats: int
    untraded: int
    """Calls for which no bar opened within an hour."""
    horizons: dict[timedelta, Figures]
    impact_calls: int
    """Whose seven days have ended."""
    mean_score: float
    """Of those, -1.5 to 1.5."""
    impact_factor: float
    """Fraction; 0.5 is unknown."""
    pumps: int
    pump_flag: bool
    q_value: float | None = None
    """Of the headline excess, corrected over all authors: the share of false finds among those at or below it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What every call is held against."""

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
class Tide:
    """What entering at any time of the span came to: (token, side) -> horizon -> mean net percent."""

    means: dict[tuple[str, Side], dict[timedelta, float]] = field(default_factory=dict)
    pumps: dict[tuple[str, Side], float] = field(default_factory=dict)
    """Share of entries that looked like a pump."""


def measure(calls: Iterable[Call], series: Mapping[str, Series], by: Measure) -> list[Record]:
    """The records, by author's name; the same inputs give the same digits."""
    kept, repeats = _without_repeats(calls)
    tide = _tide(kept, series, by)
    own: dict[str, list[Call]] = defaultdict(list)
    for call in kept:
        own[call.author].append(call)
    records = [_record(author, own[author], repeats[author], series, tide, by) for author in sorted(own)]
    headline = [record.horizons.get(HEADLINE) for record in records]
    q_values = benjamini_hochberg([figures.excess.p_value if figures else None for figures in headline])
    for record, q_value in zip(records, q_values, strict=True):
        record.q_value = q_value
    return records


def pooled(calls: Iterable[Call], series: Mapping[str, Series], by: Measure) -> dict[timedelta, Figures]:
    """The decay curve: all authors as if they were one."""
    kept, _ = _without_repeats(calls)
    tide = _tide(kept, series, by)
    return _figures("", [one for call in kept if (one := _trade(call, series, by))], tide, by)


def _without_repeats(calls: Iterable[Call]) -> tuple[list[Call], dict[str, int]]:
    seen: set[tuple[str, str, Side, int]] = set()
    kept, repeats = [], defaultdict[str, int](int)
    for call in sorted(calls, key=lambda one: (one.known_at, one.author, one.post_id, one.token)):
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
    made = outcomes(bars, place, call.side, by.horizons, by.terms)
    return _Traded(call, int(bars.opened[place]), made, pumped(bars, place, call.side))


def _tide(calls: Sequence[Call], series: Mapping[str, Series], by: Measure) -> Tide:
    """Entries at every step between the first call and the last, on each token and side that was called."""
    tide = Tide()
    if not calls:
        return tide
    first, last = (int(calls[place].known_at.timestamp()) for place in (0, -1))
    moments = range(first, last + 1, int(TIDE_STEP.total_seconds()))
    for token, side in sorted({(call.token, call.side) for call in calls if call.token in series}):
        bars = series[token]
        places = [place for moment in moments if (place := bars.entry(moment)) is not None]
        nets: dict[timedelta, list[float]] = defaultdict(list)
        for place in places:
            for horizon, outcome in outcomes(bars, place, side, by.horizons, by.terms).items():
                nets[horizon].append(outcome.net_pct)
        tide.means[token, side] = {horizon: sum(made) / len(made) for horizon, made in nets.items()}
        known = [found for place in places if (found := pumped(bars, place, side)) is not None]
        tide.pumps[token, side] = sum(known) / len(known) if known else 0.0
    return tide


def _record(
    author: str, calls: Sequence[Call], repeats: int, series: Mapping[str, Series], tide: Tide, by: Measure
) -> Record:
    traded = [one for call in calls if (one := _trade(call, series, by))]
    ended = [one.outcomes[IMPACT_HORIZON] for one in traded if IMPACT_HORIZON in one.outcomes]
    scores = [impact.score(one.exit_by, one.gross_pct, one.favourable_pct, one.adverse_pct) for one in ended]
    seen = [one for one in traded if one.pump is not None]
    pumps = sum(bool(one.pump) for one in seen)
    chance = sum(tide.pumps[one.call.token, one.call.side] for one in seen) / len(seen) if seen else 0.0
    return Record(
        author=author,
        calls=len(calls),
        repeats=repeats,
        untraded=len(calls) - len(traded),
        horizons=_figures(author, traded, tide, by),
        impact_calls=len(scores),
        mean_score=sum(scores) / len(scores) if scores else 0.0,
        impact_factor=impact.factor(scores, by.prior_calls),
        pumps=pumps,
        pump_flag=pumps >= PUMP_CALLS and binomial_tail(pumps, len(seen), chance) < PUMP_CHANCE,
    )


def _figures(author: str, traded: Sequence[_Traded], tide: Tide, by: Measure) -> dict[timedelta, Figures]:
    """Each horizon at which some call ended. Calls of one day, or of one horizon's length, are one cluster."""
    made = {}
    for horizon in by.horizons:
        ended = [one for one in traded if horizon in one.outcomes]
        if not ended:
            continue
        width = int(max(DAY, horizon).total_seconds())
        nets = [one.outcomes[horizon].net_pct for one in ended]
        # a call after the tide's last whole step of this horizon has none to be held against but itself
        usual = [tide.means[one.call.token, one.call.side].get(horizon, 0.0) for one in ended]
        seed = [by.seed, crc32(author.encode()), int(horizon.total_seconds())]
        of = partial(estimate, clusters=[one.entered // width for one in ended], seed=seed, draws=by.draws)
        made[horizon] = Figures(
            calls=len(ended),
            hit_rate=_within_one(of([float(net > 0) for net in nets])),
            mean=of(nets),
            excess=of([net - mean for net, mean in zip(nets, usual, strict=True)]),
        )
    return made


def _within_one(found: Estimate) -> Estimate:
    """A fraction's interval ends at 0 and 1, and that it is not zero says nothing."""
    if found.low is None or found.high is None:
        return found
    return Estimate(found.mean, max(0.0, found.low), min(1.0, found.high), None, found.clusters)
