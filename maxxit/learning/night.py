"""The night trainer: fit each configured kind and horizon to the candles up to midnight UTC, and store the candidates.

A pass trains what the night still lacks and can be killed at any moment: the data end at midnight and the registry
stores a fit once, so that the next pass resumes. The model that serves is not touched.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

import structlog
from django.db.models import F

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.learning import registry, sources
from maxxit.learning.evaluate import LEAST_TRAINING
from maxxit.learning.features import WARM_UP
from maxxit.learning.hours import Hours
from maxxit.learning.models import TrainingRun
from maxxit.learning.policy import policy
from maxxit.pipeline.interrupts import ends_the_pass

log = structlog.get_logger(__name__)

Outcome = TrainingRun.Outcome
ATTEMPTS = 3
"""Tries of one training in a night."""
PASS_SECONDS = 180.0
"""After this a pass starts no further training; well below the task time limit (CELERY_TASK_SOFT_TIME_LIMIT)."""
LEAST_HOURS = WARM_UP + LEAST_TRAINING
MOST_MISSING_PCT = 5
"""Percent of a symbol's hours without a bar."""
MOST_AGE_HOURS = 6
"""From a symbol's last bar to midnight."""


@dataclass
class Night:
    """What a pass did."""

    night: str
    trained: list[int] = field(default_factory=list)
    """Models stored or found."""
    refused: dict[str, str] = field(default_factory=dict)
    """Training -> why its data were refused."""
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    """Trainings for the next pass."""


def run() -> Night:
    """Train what this night still lacks, one after the other; a failure of one does not stop the others."""
    rules, night = policy().train, clock.now().date()
    until = datetime.combine(night, time_of_day(0), UTC)
    done = Night(night.isoformat())
    due = _due(night)
    if not due:
        return done
    begun = time.monotonic()
    read = sources.stored(sources.tradable(), until - timedelta(days=rules.history_days), until)
    series, left_out = fit_for_training(read, until)
    left_out |= {
        symbol: "no candles are stored"
        for symbol in set(sources.tradable()) - {hours.symbol for hours in read}
    }
    for number, (kind, horizon) in enumerate(due):
        if time.monotonic() - begun > PASS_SECONDS:
            done.left = len(due) - number
            break
        _train(night, kind, horizon, series, left_out, done)
    return done


def _due(night: date) -> list[tuple[str, int]]:
    """Return the kinds and horizons without a result. A training whose process died `ATTEMPTS` times has failed."""
    rows = TrainingRun.objects.filter(night=night)
    rows.filter(outcome=Outcome.RUNNING, attempts__gte=ATTEMPTS).update(
        outcome=Outcome.FAILED,
        reason=f"the process died {ATTEMPTS} times: see the log of the worker of queue default, and its memory",
        ended_at=clock.now(),
    )
    over = {
        (row.kind, row.horizon_hours)
        for row in rows
        if row.outcome in (Outcome.TRAINED, Outcome.REFUSED) or row.attempts >= ATTEMPTS
    }
    rules = policy().train
    return [
        (kind, horizon)
        for kind in rules.kinds
        for horizon in rules.horizons_hours
        if (kind, horizon) not in over
    ]


def fit_for_training(series: Sequence[Hours], until: datetime) -> tuple[list[Hours], dict[str, str]]:
    """Return the symbols whose data suffice, and symbol -> reason of the others."""
    reasons = {hours.symbol: problem for hours in series if (problem := data_problem(hours, until))}
    return [hours for hours in series if hours.symbol not in reasons], reasons


def data_problem(hours: Hours, until: datetime) -> str:
    """Return why the hours of a symbol do not suffice for training, with value and limit; empty where they do."""
    if len(hours) < LEAST_HOURS:
        return f"{len(hours)} hours of bars, at least {LEAST_HOURS} are needed"
    age = (until - hours.end(len(hours) - 1)) / timedelta(hours=1)
    if age > MOST_AGE_HOURS:
        return f"the last bar is {age:.0f} h old, at most {MOST_AGE_HOURS} h are allowed"
    missing = hours.missing_pct()
    if missing > MOST_MISSING_PCT:
        return f"{missing:.1f} % of the hours have no bar, at most {MOST_MISSING_PCT} % are allowed"
    return ""


def _train(
    night: date, kind: str, horizon: int, series: list[Hours], left_out: dict[str, str], done: Night
) -> None:
    """Train one kind and horizon, and store what became of it."""
    name = f"{kind} {horizon} h"
    row, new = TrainingRun.objects.get_or_create(
        night=night, kind=kind, horizon_hours=horizon, defaults={"started_at": clock.now()}
    )
    if not new:
        TrainingRun.objects.filter(pk=row.pk).update(
            attempts=F("attempts") + 1, outcome=Outcome.RUNNING, started_at=clock.now()
        )
    result: dict[str, Any]
    try:
        if not series:
            raise Rejected("no symbol has enough data: see left_out", code="insufficient_history")
        model = registry.train(kind, horizon, series, policy().train.seed).model
        result = {"outcome": Outcome.TRAINED, "model": model, "reason": ""}
        done.trained.append(model.pk)
    except Rejected as error:
        result = {"outcome": Outcome.REFUSED, "reason": str(error)}
        done.refused[name] = str(error)
    except Exception as error:
        if ends_the_pass(error):  # the row stays `running`; the next pass tries again
            raise
        log.exception("training_failed", kind=kind, horizon_hours=horizon)
        result = {"outcome": Outcome.FAILED, "reason": f"{type(error).__name__}: {error}"[:500]}
        done.failed[name] = result["reason"]
    TrainingRun.objects.filter(pk=row.pk).update(**result, left_out=left_out, ended_at=clock.now())
