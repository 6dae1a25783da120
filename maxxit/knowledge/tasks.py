"""Celery's side of knowledge: what happens is in `ingest`."""

from dataclasses import asdict
from typing import Any

from celery import shared_task

from maxxit.knowledge import ingest


@shared_task(name="maxxit.knowledge.tasks.sweep")
def sweep() -> dict[str, Any]:
    """Sweep: look at every item of every source that is due; returns what became of them."""
    return asdict(ingest.sweep())
