"""Celery's side of posts and signals: what happens is in `ingest`, `classify` and `generate`."""

from dataclasses import asdict
from functools import cache
from typing import Any

from celery import Task, shared_task
from django.conf import settings

from maxxit.core.config import ROOT
from maxxit.pipeline.runs import Counts, run_stage
from signals_app import classify, generate, ingest
from signals_app.policy import policy
from signals_app.sources import SOURCES
from signals_app.sources.base import PostSource


@cache
def sources() -> dict[str, PostSource]:
    """The configured post sources. Raises `Misconfigured` for one that cannot be opened."""
    return {name: SOURCES.open(**_placed(stanza)) for name, stanza in policy().ingest.sources.items()}


def _placed(stanza: dict[str, Any]) -> dict[str, Any]:
    """The stanza with `{data_dir}` in its paths filled in; other relative paths start at the project."""
    if "paths" not in stanza:
        return stanza
    paths = [str(ROOT / path.format(data_dir=settings.DATA_DIR)) for path in stanza["paths"]]
    return stanza | {"paths": paths}


def ingest_pass() -> Counts:
    """One pass of the first stage."""
    done = ingest.ingest(sources())
    return Counts(done.offered, done.new, asdict(done))


def classify_pass() -> Counts:
    """One pass of the second stage."""
    done = classify.classify(policy().classify)
    return Counts(done.due, done.read, asdict(done))


def generate_pass() -> Counts:
    """One pass of the third stage."""
    done = generate.generate(policy().generate)
    return Counts(done.considered, done.signals, vars(done) | {"declined": dict(done.declined)})


def authors_pass() -> Counts:
    """Each author's impact factor from the calls of the window."""
    from signals_app.authors import record  # numpy: ten megabytes that no other task of any process needs

    changed = record.update(policy().authors)
    return Counts(changed, changed)


@shared_task(name="signals_app.tasks.ingest", bind=True)
def run_ingest(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: fetch new posts of every followed account."""
    return run_stage("ingest", ingest_pass, run_id=run_id, task=self)


@shared_task(name="signals_app.tasks.classify", bind=True)
def run_classify(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: read every post that is still new."""
    return run_stage("classify", classify_pass, run_id=run_id, task=self)


@shared_task(name="signals_app.tasks.generate", bind=True)
def run_generate(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: signals for the present bucket from every candidate that waits."""
    return run_stage("generate", generate_pass, run_id=run_id, task=self)


@shared_task
def update_authors() -> int:
    """Each author's impact factor from the calls of the window; returns how many changed."""
    return authors_pass().out
