"""Celery tasks of trained models, on the queue `default`. They import numpy only when they run."""

from dataclasses import asdict
from typing import Any

from celery import shared_task

from maxxit.learning import forecasts


@shared_task(name="maxxit.learning.tasks.train")
def train() -> dict[str, Any]:
    """Sweep: train what this night still lacks; return what was trained, refused and left."""
    from maxxit.learning import night

    return asdict(night.run())


@shared_task(name="maxxit.learning.tasks.deploy")
def deploy() -> list[dict[str, Any]]:
    """Retire models whose live skill is lost and move candidates on; return the decisions."""
    from maxxit.learning import morning

    return [decision.as_json() for decision in morning.deploy()]


@shared_task(name="maxxit.learning.tasks.forecast")
def forecast() -> dict[str, int]:
    """Sweep: store the forecasts of the newest hour; return the counts."""
    from maxxit.learning import live

    return live.record_forecasts()


@shared_task(name="maxxit.learning.tasks.tidy")
def tidy() -> int:
    """Delete forecasts past their retention; return how many."""
    return forecasts.tidy()
