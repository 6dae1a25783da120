"""Measure the promotion gate: how many models it promotes in simulated markets without and with something to find."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from maxxit.core.errors import InvalidInput
from maxxit.learning import evaluate, gates, worlds
from maxxit.learning.metrics import parse

DAYS, HORIZON, COEFFICIENT = 180, 6, 0.30
LEAST_FOUND, OF_PLANTED = 29, 30
"""Planted worlds that the gate has to find: at least 29 of 30, rounded up for another number."""
VOLATILITY_EVERY = 10
"""Every tenth noise world also trains a volatility model, which must pass its own gate and no other."""


@dataclass
class GateTest:
    """Counts of a run."""

    noise_worlds: int = 0
    noise_promoted: int = 0
    planted_worlds: int = 0
    planted_promoted: int = 0
    volatility_models: int = 0
    volatility_passed: int = 0
    """Of the volatility models, passed by the gate for volatility."""
    volatility_as_direction: int = 0
    """Of the volatility models, passed by the gate for direction models."""
    missing_fields: int = 0
    missing_fields_refused: int = 0
    """Metrics with one field left out, each once."""
    failed_checks: Counter[str] = field(default_factory=Counter)
    """Check -> planted worlds that it held back."""

    @property
    def holds(self) -> bool:
        """Whether the gate promoted no noise, found what was planted, and refused incomplete metrics."""
        return (
            self.noise_promoted == 0
            and self.planted_promoted * OF_PLANTED >= self.planted_worlds * LEAST_FOUND
            and self.volatility_as_direction == 0
            and self.missing_fields_refused == self.missing_fields
        )


def run(noise: int, planted: int, seed: int, progress: Callable[[int], None] = lambda done: None) -> GateTest:
    """Train and judge a direction model in each world. Deterministic for a seed."""
    result = GateTest(noise_worlds=noise, planted_worlds=planted)
    for number in range(noise + planted):
        is_noise = number < noise
        world = worlds.world(seed * 100_000 + number, DAYS, 0.0 if is_noise else COEFFICIENT)
        data = evaluate.gather(world, HORIZON, step=HORIZON)
        measured = evaluate.direction("ridge", data, seed=seed)
        found = gates.judge(measured, "direction")
        if is_noise:
            result.noise_promoted += found.passed
            if number % VOLATILITY_EVERY == 0:
                _volatility(world, seed, result)
        else:
            result.planted_promoted += found.passed
            result.failed_checks.update(check.name for check in found.checks if not check.passed)
        if number == 0:
            _missing_fields(measured.model_dump(mode="json"), result)
        progress(number + 1)
    return result


def _volatility(world: Any, seed: int, result: GateTest) -> None:
    measured = evaluate.volatility("har", evaluate.gather(world, HORIZON), seed=seed)
    result.volatility_models += 1
    result.volatility_passed += gates.judge(measured, "volatility").passed
    result.volatility_as_direction += gates.judge(measured, "direction").passed


def _missing_fields(stored: dict[str, Any], result: GateTest) -> None:
    for name in stored.keys() - {"purpose"}:
        result.missing_fields += 1
        try:
            parse("direction", {key: value for key, value in stored.items() if key != name})
        except InvalidInput:
            result.missing_fields_refused += 1
