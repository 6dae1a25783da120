"""Sequential test of a deployment's drift from its paper twin: Page's CUSUM with a noise that it measures itself.

Each value is live minus twin, positive where the live account did worse. With normal noise of standard deviation `s`
and a shift to be found `d`, the score adds the logarithm of the likelihood ratio of "shifted by d" against "not
shifted", `d / s² × (value - d / 2)`, and never falls below zero. The alarm is raised at `log(values_per_false_alarm)`:
with normal noise the mean number of values to a false alarm is then at least that many (Lorden, Procedures for reacting
to a change in distribution, 1971). It is over once the score has come back to zero.

Floats: nothing here is money.
"""

from dataclasses import dataclass
from math import log, pi, sqrt

STEP = 5
"""One value moves the score by at most this part of the threshold: no fewer values raise an alarm, or end it."""
OUTLIER = 4.0
"""A change from one value to the next beyond so many standard deviations counts as this many in the noise."""
MEMORY = 30
"""Values over which the noise is averaged, with falling weights."""
PRIOR = 15
"""The prior noise counts as much as this many values."""
PER_CHANGE = sqrt(pi) / 2
"""Standard deviation of normal values per mean absolute change from one to the next; a lasting shift hardly counts."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is looked for in one measure."""

    shift: float
    """The mean drift that shall be found, above zero, in the measure's unit."""
    noise: float
    """Standard deviation before any value was seen."""
    least_noise: float
    """A measured noise below this is not believed."""
    values_per_false_alarm: int

    @property
    def threshold(self) -> float:
        """The score that raises the alarm."""
        return log(self.values_per_false_alarm)


@dataclass(frozen=True, slots=True)
class State:
    """What the values so far have left. Every field is stored, so that each value is read once."""

    count: int = 0
    """Values so far."""
    noise: float | None = None
    """Standard deviation as measured; None: the rule's."""
    last: float | None = None
    """The value before."""
    score: float = 0.0
    run: int = 0
    """Values since the score was last zero."""
    run_sum: float = 0.0
    """Their sum."""
    alarm: bool = False


def advance(state: State, value: float, rule: Rule) -> State:
    """Return the state after one more value. Pure function.

    The noise that weighs a value is that of the values before it.
    """
    noise = max(state.noise if state.noise is not None else rule.noise, rule.least_noise)
    limit = rule.threshold / STEP
    gain = rule.shift / noise**2 * (value - rule.shift / 2)
    score = min(max(state.score + max(min(gain, limit), -limit), 0.0), rule.threshold)
    alarm = score >= rule.threshold or (state.alarm and score > 0)
    run, run_sum = (state.run + 1, state.run_sum + value) if score > 0 else (0, 0.0)
    return State(
        state.count + 1,
        _noise(state, value, rule, noise),
        value,
        score,
        run,
        run_sum,
        alarm,
    )


def _noise(state: State, value: float, rule: Rule, used: float) -> float:
    before = state.noise if state.noise is not None else rule.noise
    if state.last is None:
        return before
    change = min(abs(value - state.last) * PER_CHANGE, OUTLIER * used)
    weight = 1 / min(state.count + PRIOR, MEMORY)
    return before + weight * (change - before)
