"""Measure the test for drift on simulated trades: how soon it finds a shift, and how often it alarms without one.

The noise of a trade is what the market does between the decision and the fill. Its forms: normal; Student's t with
three degrees of freedom (heavy tails); exponential (skewed: rarely much worse, often a little better); GARCH(1,1)
(quiet and wild spells). All have mean zero.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np

from positions.twin.drift import Rule, State, advance

WITHIN = 30
"""Trades within which the shift shall be found."""
CALM = 1_000
"""Trades without a shift in each run, in which every alarm is a false one."""
BEFORE = 200
"""Trades before the shift, where it does not begin with the first one."""
LEAST_FOUND = 0.95
"""Part of the runs in which the shift has to be found in time."""
MOST_FALSE = 1 / 20_000
"""False alarms a trade at most."""

Noise = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(0, 1, count)


def student(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_t(3, count) / sqrt(3)


def skewed(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.exponential(1, count) - 1


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return GARCH(1,1) noise: variance = 0.05 + 0.15 × the last square + 0.8 × the last variance."""
    drawn, values, variance = rng.normal(0, 1, count), np.empty(count), 1.0
    for place in range(count):
        values[place] = sqrt(variance) * drawn[place]
        variance = 0.05 + 0.15 * values[place] ** 2 + 0.8 * variance
    return values


FORMS: tuple[tuple[str, Noise, float], ...] = (
    ("normal, 10 bp", normal, 10.0),
    ("normal, 15 bp", normal, 15.0),
    ("heavy tails, 15 bp", student, 15.0),
    ("skewed, 10 bp", skewed, 10.0),
    ("clustered, 10 bp", clustered, 10.0),
)
"""Name, noise, its standard deviation in basis points."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the test did under one form of noise."""

    noise: str
    runs: int
    found: int
    """Runs in which a shift from the first trade on was found within `WITHIN`."""
    found_later: int
    """The same where it began after `BEFORE` trades without it."""
    median: float
    """Trades until it was found, from the first trade on."""
    calm_trades: int
    false_alarms: int

    @property
    def ok(self) -> bool:
        """Whether it finds the shift in time and alarms rarely without it."""
        least = LEAST_FOUND * self.runs
        found = self.found >= least and self.found_later >= least
        return found and self.false_alarms <= MOST_FALSE * self.calm_trades

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


def measure(name: str, noise: Noise, scale: float, rule: Rule, *, runs: int, seed: int) -> Measured:
    """Run the test `runs` times under one noise of standard deviation `scale`, each with its own seed."""
    waits, later, false = [], 0, 0
    for run in range(runs):
        rng = np.random.default_rng((seed, run))
        false += len(alarms(noise(rng, CALM) * scale, rule))
        shifted = noise(rng, 2 * WITHIN) * scale + rule.shift
        waits.append(next(iter(alarms(shifted, rule)), 2 * WITHIN + 1))
        values = noise(rng, BEFORE + WITHIN) * scale
        values[BEFORE:] += rule.shift
        later += any(at > BEFORE for at in alarms(values, rule))
    found = sum(wait <= WITHIN for wait in waits)
    return Measured(name, runs, found, later, float(np.median(waits)), runs * CALM, false)


def alarms(values: np.ndarray, rule: Rule) -> list[int]:
    """Return after how many values each alarm is raised."""
    state, raised = State(), []
    for number, value in enumerate(values, start=1):
        before, state = state.alarm, advance(state, float(value), rule)
        if state.alarm and not before:
            raised.append(number)
    return raised
