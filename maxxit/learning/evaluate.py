"""Evaluate forecasters by purged walk-forward: each fold is forecast by parameters fitted to what came before it. Pure.

A training row is left out where its horizon, or the 24 hours after it (embargo), reach into the fold.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxxit.core.errors import Rejected
from maxxit.learning import features, statistics
from maxxit.learning.forecasters import FORECASTERS, Forecasts, Rows
from maxxit.learning.gates import COST
from maxxit.learning.hours import Floats, Hours
from maxxit.learning.metrics import FOLDS, Comparison, DirectionMetrics, VolatilityMetrics

EMBARGO = 24
"""Hours."""
FIRST_TRAINING = 0.2
"""Fraction of the time before the first fold, at least `LEAST_TRAINING`."""
LEAST_TRAINING = 24 * 7
"""Hours with features before the first fold."""
SHORTEST_DIRECTION = 2
"""Hours: with a horizon of one, an entry one hour late would leave when it enters."""
THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""Least forecast in standard deviations that is traded: the candidates of a direction model."""


@dataclass(frozen=True)
class Data:
    """Rows of all symbols for one horizon, ordered by time, with the bar that a late entry misses."""

    rows: Rows
    ends: NDArray[np.int64]
    """Hour number at which each row was known."""
    symbols: NDArray[np.int64]
    """Place of the symbol in the series."""
    first_step: Floats
    """Log return of the first hour after each row."""
    days: float
    """Days with data: the hours in which a price of any symbol is known, divided by 24."""

    def where(self, chosen: Any) -> "Data":
        """Return the rows that a mask selects."""
        return Data(
            self.rows.where(chosen),
            self.ends[chosen],
            self.symbols[chosen],
            self.first_step[chosen],
            self.days,
        )


def gather(series: Sequence[Hours], horizon: int, step: int = 1) -> Data:
    """Return the rows with features and outcome at every hour that is a multiple of `step`.

    Raises Rejected where the series are too short for any.
    """
    parts, tables = [], list[Floats]()
    names: tuple[str, ...] = ()
    for place, hours in enumerate(series):
        columns = features.table(hours)
        names = tuple(columns)
        matrix = np.column_stack(list(columns.values()))
        before = sum(len(one) for one in tables)
        tables.append(matrix)
        returns, volatility = features.target(hours, horizon)
        one, _ = features.target(hours, 1)
        ewma, ends = features.ewma(hours), hours.ends()
        kept = (
            np.isfinite(matrix).all(axis=1)
            & np.isfinite(returns)
            & np.isfinite(volatility)
            & np.isfinite(ewma)
        )
        kept &= ends % step == 0
        parts.append((matrix[kept], ewma[kept], returns[kept], volatility[kept], ends[kept],
                      np.full(int(kept.sum()), place), one[kept], before + np.flatnonzero(kept)))  # fmt: skip
    columns_of = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else []
    if not columns_of or len(columns_of[0]) < LEAST_TRAINING // step:
        raise Rejected(
            f"too little data for a horizon of {horizon} h: every symbol needs more than "
            f"{features.WARM_UP + LEAST_TRAINING + FOLDS * (horizon + EMBARGO)} hours of bars without long gaps",
            code="insufficient_history",
        )
    matrix, ewma, returns, volatility, ends, symbols, first, places = columns_of
    order = np.lexsort((symbols, ends))
    known = np.unique(np.concatenate([hours.ends()[np.isfinite(hours.close)] for hours in series]))
    rows = Rows(
        names, matrix[order], ewma[order], horizon, returns[order], volatility[order],
        np.concatenate(tables), places[order],
    )  # fmt: skip
    return Data(rows, ends[order], symbols[order], first[order], len(known) / 24)


def folds(ends: NDArray[np.int64], horizon: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield (training, test) masks of each fold, in the order of time, purged by the horizon and the embargo.

    Raises Rejected where the data do not suffice for `FOLDS` folds.
    """
    first, last = int(ends.min()), int(ends.max()) + 1
    begin = first + max(round((last - first) * FIRST_TRAINING), LEAST_TRAINING + horizon + EMBARGO)
    edges = np.linspace(begin, last, FOLDS + 1).round().astype(np.int64)
    if last - begin < FOLDS * horizon:
        raise Rejected(
            f"{last - first} hours with features do not suffice for {FOLDS} folds of a horizon of {horizon} h",
            code="insufficient_history",
        )
    for start, stop in pairwise(edges):
        training = ends + horizon + EMBARGO <= start
        # the outcome of the last rows of a fold may lie in the next one: they are forecasts all the same
        yield training, (ends >= start) & (ends < stop)


@dataclass(frozen=True)
class Tested:
    """Out-of-sample forecasts of all folds, in the order of time."""

    data: Data
    forecasts: Forecasts
    fold: NDArray[np.int64]


def walk_forward(name: str, data: Data) -> Tested:
    """Fit and forecast each fold with the forecaster `name`."""
    forecaster = FORECASTERS.open(name)
    chosen, made, numbers = [], [], []
    for number, (training, test) in enumerate(folds(data.ends, data.rows.horizon)):
        parameters = forecaster.fit(data.rows.where(training))
        rows = np.flatnonzero(test)
        chosen.append(rows)
        made.append(forecaster.forecast(parameters, data.rows.where(rows)))
        numbers.append(np.full(len(rows), number))
    parts = ("sigma", "mean", "quantiles")
    joined = Forecasts(*(np.concatenate([getattr(one, part) for one in made]) for part in parts))
    return Tested(data.where(np.concatenate(chosen)), joined, np.concatenate(numbers))


@dataclass(frozen=True)
class Incumbent:
    """The model that serves."""

    model: int
    """Its id."""
    kind: str
    parameters: Mapping[str, Any]


def volatility(name: str, data: Data, *, seed: int, incumbent: Incumbent | None = None) -> VolatilityMetrics:
    """Return the metrics of a volatility model, against EWMA for `har` and against `har` for every other.

    Args:
        incumbent: the model that serves, which it is compared with as well.
    """
    tested = walk_forward(name, data)
    baseline = "ewma" if name in ("har", "ewma") else "har"
    rows, block = tested.data.rows, max(24, 2 * data.rows.horizon)
    loss = statistics.pinball(rows.returns, tested.forecasts.quantiles)

    def compared(other: Forecasts) -> tuple[float, float, float, float]:
        others = statistics.pinball(rows.returns, other.quantiles)
        better = statistics.mean_by(tested.data.ends, others - loss)
        scale = 100 / float(others.mean())
        low, high = statistics.bootstrap(better, block, seed)
        return float(others.mean()), float((others - loss).mean()) * scale, low * scale, high * scale

    base_loss, skill, low, high = compared(walk_forward(baseline, data).forecasts)
    against = None
    if incumbent is not None:
        theirs = FORECASTERS.open(incumbent.kind).forecast(incumbent.parameters, rows)
        against = Comparison(
            model=incumbent.model,
            low_pct=compared(theirs)[2],
            qlike=statistics.qlike(rows.volatility, theirs.sigma / np.sqrt(rows.horizon)),
        )
    quantiles = tested.forecasts.quantiles
    inside = [(rows.returns >= quantiles[:, a]) & (rows.returns <= quantiles[:, -1 - a]) for a in (1, 0)]
    return VolatilityMetrics(
        days=data.days,
        rows=len(rows),
        baseline=baseline,
        pinball=float(loss.mean()),
        baseline_pinball=base_loss,
        skill_pct=skill,
        skill_low_pct=low,
        skill_high_pct=high,
        qlike=statistics.qlike(rows.volatility, tested.forecasts.sigma / np.sqrt(rows.horizon)),
        incumbent=against,
        coverage_80=_by_fold(inside[0], tested.fold),
        coverage_90=_by_fold(inside[1], tested.fold),
    )


def _by_fold(values: NDArray[Any], fold: NDArray[np.int64]) -> tuple[float, ...]:
    return tuple(float(np.mean(values[fold == number])) for number in range(FOLDS))


def direction(name: str, data: Data, *, seed: int, counted_before: int = 0) -> DirectionMetrics:
    """Return the metrics of a direction model at the best of `THRESHOLDS`; of several that are equal, the lowest.

    `data` has one row a horizon (step = horizon), so that trades do not overlap. Each trade has the same stake, so that
    results are sums of simple returns.

    Args:
        counted_before: candidates of earlier runs on overlapping data; those of this run are added.

    Raises Rejected for a horizon below `SHORTEST_DIRECTION`.
    """
    if data.rows.horizon < SHORTEST_DIRECTION:
        raise Rejected(
            f"a direction model needs a horizon of at least {SHORTEST_DIRECTION} h, not {data.rows.horizon} h: its "
            "trades are also judged when they are entered one hour late",
            code="horizon_too_short",
        )
    tested = walk_forward(name, data)
    rows, made = tested.data.rows, tested.forecasts
    centred = made.quantiles - made.quantiles[:, [3]]
    gain = statistics.mean_by(
        tested.data.ends,
        statistics.pinball(rows.returns, centred) - statistics.pinball(rows.returns, made.quantiles),
    )
    low, _ = statistics.bootstrap(gain, max(1, 24 // rows.horizon), seed)
    strength = made.mean / made.sigma
    _, first = np.unique(tested.data.ends, return_index=True)
    fold = tested.fold[first]
    counted = counted_before + len(THRESHOLDS)
    earned, earned_late = np.expm1(rows.returns), np.expm1(rows.returns - tested.data.first_step)

    def scored(threshold: float) -> tuple[float, Floats, Floats, NDArray[Any]]:
        sides = np.where(np.abs(strength) > threshold, np.sign(strength), 0.0)
        on_time = statistics.mean_by(tested.data.ends, sides * earned - np.abs(sides) * COST)
        late = statistics.mean_by(tested.data.ends, sides * earned_late - np.abs(sides) * COST)
        return statistics.sharpe(on_time), on_time, late, sides

    best = max(THRESHOLDS, key=lambda threshold: scored(threshold)[0])
    ratio, paid, late, sides = scored(best)
    exposure = float(np.mean(np.abs(sides)))
    held = float(statistics.mean_by(tested.data.ends, earned).sum()) * exposure
    return DirectionMetrics(
        days=data.days,
        rows=len(rows),
        location_skill=float(gain.mean()),
        location_low=low,
        threshold=best,
        candidates=len(THRESHOLDS),
        periods=len(paid),
        trades=int(np.count_nonzero(sides)),
        sharpe_per_period=ratio,
        deflated_sharpe=statistics.deflated_sharpe(paid, counted),
        counted_candidates=counted,
        fold_returns=tuple(float(late[fold == number].sum()) for number in range(FOLDS)),
        total_return=float(paid.sum()),
        static_return=abs(held) - exposure * COST,
        max_drawdown=statistics.worst_fall(paid),
    )
