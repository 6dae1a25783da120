"""Celery task of the knowledge sweep (`maxxit.knowledge.ingest`)."""

from dataclasses import asdict
from typing import Any

from celery import shared_task

from maxxit.knowledge import ingest


@shared_task(name="maxxit.knowledge.tasks.sweep")
def sweep() -> dict[str, Any]:
    """Read every due item of the configured sources; return the sweep's report."""
    return asdict(ingest.sweep())
