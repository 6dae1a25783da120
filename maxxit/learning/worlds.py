"""Simulated markets with and without something to find: what the gates promote in them is known in advance. Pure.

`noise`: prices are random walks whose volatility is persistent (GARCH) and follows the hour of the day, so that a
volatility model has much to learn and a direction model nothing. `planted`: the sentiment of posts correlates with the
return of the next six hours, with a stated information coefficient; nothing else differs.
"""

import numpy as np

from maxxit.learning.hours import Hours

TOKENS, STEP = 4, 6
DAILY_VOLATILITY = 0.045
"""Fraction a day, as altcoins had in 2017 to 2019."""
FIRST = 430_002
"""Hour number at which a world begins."""


def world(seed: int, days: int, coefficient: float = 0.0) -> list[Hours]:
    """Return the hours of four tokens. `coefficient`: correlation of sentiment and the next six hours' return."""
    random = np.random.default_rng(seed)
    count = days * 24
    made = []
    for token in range(TOKENS):
        variance = _variances(random, count)
        blocks = -(-count // STEP)
        shock = random.standard_normal((blocks, STEP))
        signal = random.standard_normal(blocks)
        if coefficient:
            # the mean of a block's shocks has the standard deviation 1/sqrt(STEP): replace that part by the signal
            mean = shock.mean(axis=1, keepdims=True)
            part = coefficient * signal[:, None] + np.sqrt(1 - coefficient**2) * mean * np.sqrt(STEP)
            shock = shock - mean + part / np.sqrt(STEP)
        steps = np.sqrt(variance) * shock.ravel()[:count]
        close = 100 * np.exp(np.cumsum(steps))
        reach = np.sqrt(variance) * random.uniform(0.2, 0.8, count)
        posts = random.poisson(3, count).astype(np.float64) + 1
        sides = np.zeros(count)
        # the signal of a block is known at its start: it is in the posts of the hour before
        sides[STEP - 1 :: STEP] = np.tanh(np.roll(signal, -1)[: len(sides[STEP - 1 :: STEP])])
        posts[STEP - 1 :: STEP] = 1
        noise = random.chisquare(11, count) / 11
        made.append(
            Hours(
                f"T{token}", FIRST, close, close * np.exp(reach), close * np.exp(-reach),
                random.lognormal(5, 1, count), variance * noise, posts, sides,
            )
        )  # fmt: skip
    return made


def _variances(random: np.random.Generator, count: int) -> np.ndarray:
    """Return hourly variances of a GARCH(1,1) with a daily pattern."""
    mean = DAILY_VOLATILITY**2 / 24
    omega, alpha, beta = 0.03, 0.07, 0.90
    level, levels = 1.0, np.empty(count)
    shocks = random.standard_normal(count) ** 2
    for hour in range(count):
        levels[hour] = level
        level = omega + level * (beta + alpha * shocks[hour])
    pattern = 1 + 0.4 * np.sin(2 * np.pi * np.arange(count) / 24)
    variances: np.ndarray = mean * levels * pattern
    return variances
