"""Celery tasks of the stages ingest, classify and generate, and of the authors' impact factors."""

from dataclasses import asdict
from functools import cache, partial
from typing import Any

from celery import Task, shared_task
from django.conf import settings

from maxxit.core.config import ROOT
from maxxit.llm.budget import calls_left
from maxxit.llm.slots import width
from maxxit.pipeline.runs import Counts, run_stage
from signals_app import classify, generate, ingest
from signals_app.policy import policy
from signals_app.sources import SOURCES
from signals_app.sources.base import PostSource


@cache
def sources() -> dict[str, PostSource]:
    """Open the configured post sources. Raises `Misconfigured` for one that cannot be opened."""
    return {name: SOURCES.open(**_resolved(stanza)) for name, stanza in policy().ingest.sources.items()}


def _resolved(stanza: dict[str, Any]) -> dict[str, Any]:
    """Fill in `{data_dir}` in the stanza's paths; other relative paths start at the project root."""
    if "paths" not in stanza:
        return stanza
    paths = [str(ROOT / path.format(data_dir=settings.DATA_DIR)) for path in stanza["paths"]]
    return stanza | {"paths": paths}


def one() -> int:
    """Return the number of model calls in flight where their order decides, as in a replay."""
    return 1


def ingest_pass() -> Counts:
    """Run one pass of the ingest stage."""
    done = ingest.ingest(sources(), policy().ingest.pass_seconds)
    return Counts(done.offered, done.new, asdict(done))


def classify_pass(*, one_at_a_time: bool = False) -> Counts:
    """Run one pass of the classify stage; as many model calls at once as there are slots, or one (a replay)."""
    concurrency = one if one_at_a_time else partial(width, "classify")
    done = classify.classify(policy().classify, concurrency, partial(calls_left, "classify"))
    return Counts(done.due, done.read, asdict(done))


def generate_pass(*, one_at_a_time: bool = False) -> Counts:
    """Run one pass of the generate stage; as many model calls at once as there are slots, or one (a replay)."""
    concurrency = one if one_at_a_time else partial(width, "generate")
    done = generate.generate(policy().generate, concurrency=concurrency)
    return Counts(done.considered, done.signals, vars(done) | {"declined": dict(done.declined)})


def authors_pass() -> Counts:
    """Update each author's impact factor from the calls of the window."""
    from signals_app.authors import record  # imports numpy (10 MB), which no other task needs

    changed = record.update(policy().authors)
    return Counts(changed, changed)


@shared_task(name="signals_app.tasks.ingest", bind=True)
def run_ingest(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: fetch new posts of every followed account."""
    return run_stage("ingest", ingest_pass, run_id=run_id, task=self)


@shared_task(name="signals_app.tasks.classify", bind=True)
def run_classify(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: classify every new post."""
    return run_stage("classify", classify_pass, run_id=run_id, task=self)


@shared_task(name="signals_app.tasks.generate", bind=True)
def run_generate(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: decide on signals of the present bucket from every waiting candidate."""
    return run_stage("generate", generate_pass, run_id=run_id, task=self)


@shared_task
def update_authors() -> int:
    """Update each author's impact factor from the calls of the window; returns how many changed."""
    return authors_pass().out
