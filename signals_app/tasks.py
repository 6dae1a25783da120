"""Celery tasks of the stages ingest, classify and generate, and of the authors' impact factors."""

from dataclasses import asdict
from functools import partial
from typing import Any

import structlog
from celery import Task, shared_task

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable
from maxxit.events import wake
from maxxit.llm.budget import calls_left
from maxxit.llm.slots import width
from maxxit.market.instruments import all_instruments
from maxxit.pipeline.runs import Counts, run_stage
from signals_app import classify, generate, inbound, ingest, shadow, shadow_reading
from signals_app.policy import policy
from signals_app.social import SOCIAL, store
from signals_app.sources import NAMED
from signals_app.sources.base import PostSource, Unmetered
from signals_app.sources.configured import sources

log = structlog.get_logger(__name__)
UNMETERED_TASK = "signals_app.tasks.ingest_unmetered"
ARRIVED_TASK = "signals_app.tasks.ingest_arrived"


def one() -> int:
    """Return the number of model calls in flight where their order decides, as in a replay."""
    return 1


def ingest_pass() -> Counts:
    """Run one pass of the ingest stage."""
    done = ingest.ingest(sources(), policy().ingest.pass_seconds)
    return Counts(done.offered, done.new, asdict(done))


def unmetered_pass() -> Counts:
    """Ingest from the sources whose reading costs nothing."""
    free: dict[str, PostSource] = {
        name: source for name, source in sources().items() if isinstance(source, Unmetered)
    }
    done = ingest.ingest(free, policy().ingest.pass_seconds, rest="feeds.waiting")
    return Counts(done.offered, done.new, asdict(done))


def arrived_pass() -> Counts:
    """Store what providers have sent; no feed, channel or account of X is asked."""
    configured = policy().ingest.sources.items()
    due = inbound.accounts(name for name, stanza in configured if stanza.get("adapter") in NAMED)
    arrivals = {name: inbound.Arrivals(name) for name in due}
    done = ingest.ingest(arrivals, policy().ingest.pass_seconds, only=due, rest=inbound.ARRIVED)
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


@shared_task(name=UNMETERED_TASK)
def ingest_unmetered() -> int:
    """Ingest from feeds, channels and what was sent to us; returns how many posts are new."""
    wake.started(UNMETERED_TASK)
    return unmetered_pass().out


@shared_task(name=ARRIVED_TASK)
def ingest_arrived() -> int:
    """Ingest what was sent to us; returns how many posts are new."""
    wake.started(ARRIVED_TASK)
    return arrived_pass().out


@shared_task(name="signals_app.tasks.classify", bind=True)
def run_classify(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: classify every new post."""
    return run_stage("classify", classify_pass, run_id=run_id, task=self)


@shared_task(name="signals_app.tasks.generate", bind=True)
def run_generate(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: decide on signals of the present bucket from every waiting candidate."""
    return run_stage("generate", generate_pass, run_id=run_id, task=self)


@shared_task
def tidy() -> int:
    """Delete what was sent to us, refused posts, social metrics and shadow readings past their retention."""
    now = clock.now()
    refused = ingest.prune_refused(now - ingest.REFUSED_KEPT)
    shadows = shadow.prune(shadow.KEPT)
    return inbound.prune(now - inbound.KEPT) + store.prune(now - store.KEPT) + refused + shadows


@shared_task
def read_shadow() -> int:
    """Let the second reader of each comparison read what is due; returns how many readings were stored."""
    return shadow_reading.read_shadows()


@shared_task
def refresh_social() -> int:
    """Read the social metrics of every token where a source is configured; returns how many were stored."""
    stanza = policy().social.source
    if stanza is None:
        return 0
    try:
        return store.keep(SOCIAL.open(**stanza).readings(frozenset(all_instruments())))
    except (Retryable, Rejected) as error:  # without it no agent counts them; the next hour tries again
        log.warning("social_metrics_away", error=str(error))
        return 0


@shared_task
def update_authors() -> int:
    """Update each author's impact factor from the calls of the window; returns how many changed."""
    return authors_pass().out
