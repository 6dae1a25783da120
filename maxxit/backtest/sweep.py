"""Try many settings on one tape, and say how good the best of so many would be by luck alone.

Settings are compared by the Sharpe ratio of the daily equity. It is stated from `returns.MIN_DAYS` days on, as on the
page Performance; with fewer days it only orders them. `best_of_luck` is what the best of N settings without any
skill is expected to reach; the deflated Sharpe ratio is the probability that the true ratio is above it (Bailey and
López de Prado, 2014).
"""

import itertools
import multiprocessing
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxxit.backtest.figures import Figures, equity_curve, figures_of
from maxxit.backtest.run import Backtest
from maxxit.core.errors import Misconfigured
from maxxit.learning.statistics import best_of_luck, deflated_sharpe
from positions.performance import returns
from positions.performance.returns import Curve

Changes = Mapping[str, str]
MOST_VALUES = 1_000
"""Of one key."""
LARGEST_GRID = 10_000_000
CHUNK = 20
"""Settings that a process is given at a time."""
LUCK = 0.95
"""A deflated Sharpe ratio from here on is more than luck."""


def values_of(text: str) -> list[str]:
    """Return the values of `1,2,3` or of `1..3..0.5` (first, last, step). Raises `Misconfigured` for another text."""
    if ".." not in text:
        return [value.strip() for value in text.split(",")]
    try:
        first, last, step = (Decimal(part) for part in text.split(".."))
        if step <= 0 or last < first or (last - first) / step > MOST_VALUES:
            raise ValueError
    except (ValueError, InvalidOperation):
        raise Misconfigured(
            f"{text!r} is not FIRST..LAST..STEP with at most {MOST_VALUES} values, for example 0.5..3..0.5"
        ) from None
    return [f"{(first + step * n).normalize():f}" for n in range(int((last - first) / step) + 1)]


def grid(varied: Mapping[str, Sequence[str]], most: int, seed: int) -> list[Changes]:
    """Return each combination of values, or `most` of them drawn at random (by `seed`) where there are more."""
    keys, lists = list(varied), list(varied.values())
    total = 1
    for values in lists:
        total *= len(values)
    if total > LARGEST_GRID:
        raise Misconfigured(f"{total:,} combinations: give fewer values, at most {LARGEST_GRID:,}")
    if total <= most:
        return [dict(zip(keys, values, strict=True)) for values in itertools.product(*lists)]
    chosen = sorted(random.Random(seed).sample(range(total), most))  # noqa: S311 (no secret)
    return [_combination(keys, lists, number) for number in chosen]


def _combination(keys: Sequence[str], lists: Sequence[Sequence[str]], number: int) -> Changes:
    found = {}
    for key, values in zip(reversed(keys), reversed(lists), strict=True):
        number, place = divmod(number, len(values))
        found[key] = values[place]
    return dict(reversed(found.items()))


@dataclass(frozen=True)
class Tried:
    """One setting of a sweep."""

    changes: Changes
    figures: Figures
    daily: NDArray[np.float64]
    """Returns by UTC day; 0 on days after all capital was lost, so that all settings of a tape have as many."""


@dataclass(frozen=True)
class Sweep:
    """The settings that were tried, the best by Sharpe ratio first."""

    tried: list[Tried]
    refused: dict[str, int] = field(default_factory=dict)
    """Why settings were refused -> how many."""

    @property
    def days(self) -> int:
        """Number of daily returns."""
        return len(self.tried[0].daily) if self.tried else 0

    @property
    def luck(self) -> float | None:
        """Annualised Sharpe ratio that the best of as many settings without skill is expected to reach.

        None with too few days.
        """
        if self.days < returns.MIN_DAYS:
            return None
        return best_of_luck(len(self.tried), self.days) * sqrt(returns.DAYS_A_YEAR)

    @property
    def deflated(self) -> float | None:
        """Probability that the best setting's true Sharpe ratio is above `luck`; None with too few days."""
        if self.days < returns.MIN_DAYS:
            return None
        return deflated_sharpe(self.tried[0].daily, len(self.tried))

    def verdict(self) -> str:
        """Return in a sentence whether the best is more than luck."""
        if not self.tried:
            return "No setting could be run."
        tried = f"{len(self.tried)} settings tried on {self.days} days"
        luck, deflated = self.luck, self.deflated
        if luck is None or deflated is None:
            return f"{tried}: with fewer than {returns.MIN_DAYS} the best cannot be told from luck."
        text = (
            f"{tried}: the best has a Sharpe ratio of {_ratio(self.tried[0].daily):.2f}, the "
            f"best of as many without skill is expected at {luck:.2f}; deflated Sharpe ratio {deflated:.2f}"
        )
        if deflated >= LUCK:
            return f"{text}, which is more than luck."
        return f"{text}, below {LUCK}: this may well be luck."


def _ratio(daily: NDArray[np.float64]) -> float:
    """Return the annualised Sharpe ratio by which settings are ordered; 0 where it is undefined."""
    return returns.sharpe(daily) or 0.0


def _stated(daily: NDArray[np.float64]) -> float | None:
    """Return the annualised Sharpe ratio; None with too few days."""
    return returns.sharpe(daily) if len(daily) >= returns.MIN_DAYS else None


Progress = Callable[[int], None]
"""Is called with how many settings were tried since the last call."""


def sweep(
    backtest: Backtest, settings: Sequence[Changes], processes: int = 1, progress: Progress | None = None
) -> Sweep:
    """Run every setting. With `processes` above 1 they are shared among forked processes; the result is the same."""
    return sweep_of(try_each(backtest, settings, processes, progress))


def try_each(
    backtest: Backtest, settings: Sequence[Changes], processes: int = 1, progress: Progress | None = None
) -> "list[Tried | str]":
    """Return for each setting what it gave, or why it is refused, in the order given."""
    tell = progress or (lambda count: None)
    parts = [settings[start : start + CHUNK] for start in range(0, len(settings), CHUNK)]
    found: list[Tried | str] = []
    if processes == 1 or len(parts) == 1:
        for part in parts:
            found += _try(backtest, part)
            tell(len(part))
    else:
        forked = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, forked, _take, (backtest,)) as pool:
            for part_of in pool.map(_try_taken, parts):
                found += part_of
                tell(len(part_of))
    return found


def sweep_of(found: "Sequence[Tried | str]") -> Sweep:
    """Return what `try_each` found, the best first, and the refusals counted."""
    tried = [one for one in found if isinstance(one, Tried)]
    refused: dict[str, int] = {}
    for one in found:
        if isinstance(one, str):
            refused[one] = refused.get(one, 0) + 1
    tried.sort(key=lambda one: (-_ratio(one.daily), -one.figures.net, _name(one)))
    return Sweep(tried, refused)


def _name(one: Tried) -> list[tuple[str, str]]:
    """Return the keys and values of a setting in a fixed order."""
    return sorted(one.changes.items())


_taken: list[Backtest] = []
"""In a forked process: the backtest that it was forked with."""


def _take(backtest: Backtest) -> None:
    _taken[:] = [backtest]


def _try_taken(settings: Sequence[Changes]) -> list[Tried | str]:
    return _try(_taken[0], settings)


def _try(backtest: Backtest, settings: Sequence[Changes]) -> list[Tried | str]:
    """Run settings one by one; one that is refused stops no other."""
    found: list[Tried | str] = []
    for changes in settings:
        try:
            found.append(_tried(backtest, changes))
        except Misconfigured as error:
            found.append(str(error))
    return found


def _tried(backtest: Backtest, changes: Changes) -> Tried:
    outcome = backtest.run(changes)
    curve = equity_curve(outcome, backtest.market)
    return Tried(changes, figures_of(outcome, backtest.market, curve), returns_by_day(curve))


def returns_by_day(curve: Curve) -> NDArray[np.float64]:
    """Return the return of each UTC day of a curve from its first capital on; 0 on days without capital."""
    of_days = returns.daily(curve)
    every = np.zeros(len(of_days.with_capital))
    every[of_days.with_capital] = of_days.returns
    return every


@dataclass(frozen=True)
class Window:
    """One step of a walk-forward: the setting that was best before, and what it did afterwards."""

    train_from: datetime
    test_from: datetime
    test_to: datetime
    changes: Changes
    train_return: float
    """Fraction, of the days before."""
    train_sharpe: float | None
    """Annualised, of the days before; None with too few days."""
    test_return: float
    """Fraction, of the days of the test."""


@dataclass(frozen=True)
class WalkForward:
    """The steps of a walk-forward, and the returns of all tests joined."""

    windows: list[Window]
    out_of_sample: NDArray[np.float64]
    """Daily returns of the tests."""
    tried: int

    @property
    def test_sharpe(self) -> float | None:
        """Annualised Sharpe ratio of all tests; None with too few days."""
        return _stated(self.out_of_sample)

    @property
    def test_return(self) -> float:
        """Compounded return of all tests, a fraction."""
        return _compounded(self.out_of_sample)


def _compounded(daily: NDArray[np.float64]) -> float:
    return float(np.prod(1 + daily) - 1)


def walk_forward(done: Sweep, start: int, train: int, test: int, embargo: int = 1) -> WalkForward:
    """Choose in each window the setting with the best Sharpe ratio of `train` days, and take its next `test` days.

    `embargo` days between both are left out, because positions that are open then belong to both. Where several
    settings are equally good, the first by its keys and values as text is taken: the order of `done.tried` depends on
    the days of the tests.

    Args:
        start: seconds since 1970 UTC of the first day.
    """
    if not done.tried:
        raise Misconfigured("no setting could be run: there is nothing to walk forward with")
    tried = sorted(done.tried, key=_name)
    daily = np.array([one.daily for one in tried])
    windows: list[Window] = []
    parts: list[NDArray[np.float64]] = []
    for begins in _begins(daily.shape[1], train, test, embargo):
        trained = daily[:, begins : begins + train]
        best = int(np.argmax([_ratio(row) for row in trained]))
        tested = daily[best, begins + train + embargo : begins + train + embargo + test]
        parts.append(tested)
        days = [begins, begins + train + embargo, begins + train + embargo + test]
        moments = [datetime.fromtimestamp(start + day * returns.DAY, UTC) for day in days]
        windows.append(
            Window(
                moments[0], moments[1], moments[2], tried[best].changes, _compounded(trained[best]),
                _stated(trained[best]), _compounded(tested),
            )
        )  # fmt: skip
    if not windows:
        raise Misconfigured(
            f"the tape has {daily.shape[1]} days: too few for {train} of training, {embargo} between and {test} of test"
        )
    return WalkForward(windows, np.concatenate(parts), len(done.tried))


def _begins(days: int, train: int, test: int, embargo: int) -> Iterator[int]:
    """Yield the first day of each window; the tests follow one another."""
    return iter(range(0, days - train - embargo - test + 1, test))


def row_of(one: Tried) -> dict[str, Any]:
    """Return a setting with its figures for programs."""
    return {"changes": dict(one.changes), "figures": one.figures.as_json()}
