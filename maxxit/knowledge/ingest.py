"""Store documents of the configured sources as chunks with embeddings.

`store` stores one document as the current version, `sweep` does so for every due item of the configured sources,
`forget` deletes a document with its versions and chunks. Text is redacted before it is hashed, split, embedded or
stored.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Any

import structlog
from django.db import connection, transaction

from maxxit.core import clock, redact
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable
from maxxit.core.untrusted import storable
from maxxit.events.record import record
from maxxit.knowledge import chunks
from maxxit.knowledge.embedders import EMBEDDERS
from maxxit.knowledge.embedders.base import Embedder, Vector
from maxxit.knowledge.models import Chunk, Document, Item
from maxxit.knowledge.policy import KnowledgePolicy, policy
from maxxit.knowledge.sources import SOURCES
from maxxit.knowledge.sources.base import Offer, Text

log = structlog.get_logger(__name__)
MAX_RETRY_DELAY = timedelta(days=1)


@dataclass(frozen=True)
class Scope:
    """The source of a document, the tokens it is about and the agents that may see it."""

    source: str
    tokens: tuple[str, ...] = ()
    """Symbols; empty: all tokens."""
    agents: tuple[str, ...] = ()
    """Names; empty: all agents."""


@dataclass
class SweepReport:
    """The result of one sweep, as shown by `--json` and returned by the task."""

    looked: int = 0
    """Items read."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Outcome -> number of items."""
    embedded_anew: int = 0
    """Chunks embedded again after a change of the embedder."""
    failed: dict[str, str] = field(default_factory=dict)
    """Source, item or `embedder` -> error."""
    over_time: bool = False
    """True when the limit of time or items was reached; the next sweep reads the rest."""


def document_key(uri: str) -> str:
    """Return the SHA-256 of `uri`, which identifies its document: two redacted URIs may be equal."""
    return sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()


def embedder(name: str = "") -> Embedder:
    """Return an embedder of the configuration, the one in use where none is named.

    Raises `Misconfigured` naming the missing setting.
    """
    settings = policy()
    name = name or settings.embedder
    if name not in settings.embedders:
        raise Misconfigured(
            f"no embedder {name!r} in config/knowledge.yaml: {', '.join(sorted(settings.embedders))}"
        )
    stanza = settings.embedders[name]
    return EMBEDDERS.open(stanza.adapter, **stanza.options(name))


def store(uri: str, content: Text, scope: Scope, *, known_at: datetime | None = None) -> str:
    """Store `content` as the current version of the document at `uri`; return the outcome.

    The outcome is `stored`, `unchanged`, `duplicate` or `empty`; the last two end the current version. A changed text
    is a new version with `known_at` now, whatever age its source states, because no decision could have used it
    earlier.

    Args:
        uri: address of the document.
        content: its text, title and optional `known_at`.
        scope: source, tokens and agents.
        known_at: UTC; for the first version it takes precedence over `content.known_at`.

    Raises:
        Rejected: the text is too long or `known_at` is in the future.
        Whatever the embedder raises.
    """
    redact.know_environment()
    settings, now = policy(), clock.now()
    known_at = known_at or content.known_at or now
    if known_at > now:
        raise Rejected(f"{uri}: known_at {known_at.isoformat()} is in the future", code="known_at_ahead")
    text = chunks.normalize_whitespace(redact.text(storable(content.text)))
    if len(text) > settings.ingest.max_document_chars:
        raise Rejected(
            f"{uri} has {len(text)} characters, more than ingest.max_document_chars "
            f"({settings.ingest.max_document_chars}) of config/knowledge.yaml: split the document or raise the limit",
            code="too_long",
        )
    if not text:
        return _end_current_version(uri, now, "empty")
    digest = sha256(text.encode()).hexdigest()
    same_content = Document.objects.filter(
        content_sha256=digest, superseded_at=None, tokens=list(scope.tokens), agents=list(scope.agents)
    )
    if same_content.filter(key=document_key(uri)).exists():
        return "unchanged"
    if same_content.exists():
        return _end_current_version(uri, now, "duplicate")
    by = embedder()
    parts = chunks.split(text, settings.chunking.chars, settings.chunking.overlap)
    vectors = _embed(by, parts, settings)
    with transaction.atomic():
        _lock(uri)
        current = Document.objects.filter(key=document_key(uri), superseded_at=None).first()
        if (
            current
            and current.content_sha256 == digest
            and current.tokens == list(scope.tokens)
            and current.agents == list(scope.agents)
        ):
            return "unchanged"
        if Document.objects.filter(key=document_key(uri)).exists():
            known_at = now
        if current:
            Document.objects.filter(pk=current.pk).update(superseded_at=now)
        document = Document.objects.create(
            key=document_key(uri),
            uri=redact.text(storable(uri))[:2000],
            source=scope.source[:40],
            title=redact.text(storable(content.title))[:300],
            content_sha256=digest,
            tokens=list(scope.tokens),
            agents=list(scope.agents),
            known_at=known_at,
            created_at=now,
        )
        Chunk.objects.bulk_create(
            [
                Chunk(document=document, place=place, text=part, embedder=by.identity, embedding=vector)
                for place, (part, vector) in enumerate(zip(parts, vectors, strict=True))
            ],
            batch_size=200,
        )
        record("knowledge.stored", document, uri=document.uri, source=document.source, chunks=len(parts))
    return "stored"


def forget(uri: str) -> dict[str, int]:
    """Delete every version of the document at `uri` with its chunks; return the number of each.

    Raises Rejected when there is no such document.
    """
    with transaction.atomic():
        _lock(uri)
        rows = Document.objects.filter(key=document_key(uri))
        if not rows:
            raise Rejected(
                f"no document at {uri}: `manage.py knowledge stats` lists the newest documents",
                code="unknown_document",
            )
        record("knowledge.forgotten", rows[0], uri=rows[0].uri)
        deleted = rows.delete()[1]
        Item.objects.filter(key=document_key(uri)).delete()
    return {"documents": deleted.get("knowledge.Document", 0), "chunks": deleted.get("knowledge.Chunk", 0)}


def sweep() -> SweepReport:
    """Read and store every due item, then embed chunks of a previous embedder again; return the report.

    A failing item is retried with backoff and does not affect other items. A failing source is skipped until the next
    sweep.
    """
    settings, report = policy(), SweepReport()
    deadline = time.monotonic() + settings.ingest.max_seconds
    for scope, offer in _due(settings, report):
        if report.looked >= settings.ingest.max_items or time.monotonic() > deadline:
            report.over_time = True
            return report
        if scope.source in report.failed:
            continue
        report.looked += 1
        try:
            _read_item(offer, scope, settings, report)
        except MaxxitError as error:
            _skip_source(scope.source, error, report)
    _embed_outdated_chunks(settings, report, deadline)
    return report


def open_source(name: str, stanza: dict[str, Any]) -> tuple[Scope, Iterable[Offer]]:
    """Return the scope and the items of a configured source. Raises `Misconfigured`."""
    options = dict(stanza)
    tokens, agents = options.pop("tokens", []), options.pop("agents", [])
    if not isinstance(tokens, list) or not isinstance(agents, list) or "adapter" not in options:
        raise Misconfigured(
            f"config/knowledge.yaml: sources.{name} needs an adapter; tokens and agents are lists"
        )
    scope = Scope(name, tuple(sorted(map(str, tokens))), tuple(sorted(map(str, agents))))
    return scope, SOURCES.open(**options).offers()


def _due(settings: KnowledgePolicy, report: SweepReport) -> list[tuple[Scope, Offer]]:
    """Return the due items of all sources: items never read first, then by due time.

    The order spans all sources, so that a source with more items than a sweep reads starves neither itself nor the
    others. Quarantined items are never due.
    """
    now, never = clock.now(), datetime.min.replace(tzinfo=UTC)
    due_items: list[tuple[datetime, Scope, Offer]] = []
    for name, stanza in settings.sources.items():
        try:
            scope, offers = open_source(name, stanza)
            due_times = dict(Item.objects.filter(source=name).values_list("key", "due_at"))
            for offer in offers:
                due = due_times.get(document_key(offer.uri), never)
                if due is not None and due <= now:
                    due_items.append((due, scope, offer))
        except MaxxitError as error:
            _skip_source(name, error, report)
    return [(scope, offer) for _, scope, offer in sorted(due_items, key=itemgetter(0))]


def _skip_source(source: str, error: MaxxitError, report: SweepReport) -> None:
    """Log and report the error of a source; the sweep skips its other items."""
    log.error("knowledge_source_failed", source=source, error=str(error))
    report.failed[source] = str(error)[:300]


def _read_item(offer: Offer, scope: Scope, settings: KnowledgePolicy, report: SweepReport) -> None:
    """Read and store one item; on failure schedule its retry or quarantine it.

    The attempt is saved before the read, so that an item that kills its worker is counted too.
    """
    now, key = clock.now(), document_key(offer.uri)
    row = Item.objects.filter(key=key).first() or Item(key=key)
    row.uri, row.source, row.checked_at = redact.text(storable(offer.uri))[:2000], scope.source, now
    row.attempts += 1
    row.outcome, row.last_error = "begun", "the worker was stopped while it read this item"
    delay = timedelta(minutes=settings.ingest.retry_minutes) * 2 ** min(row.attempts - 1, 10)
    row.due_at = None if row.attempts >= settings.ingest.max_attempts else now + min(delay, MAX_RETRY_DELAY)
    row.save()
    try:
        row.outcome = store(offer.uri, offer.read(), scope)
        row.attempts, row.last_error = 0, ""
        row.due_at = now + (offer.refresh or timedelta(0))
    except Misconfigured:  # not the item's failure: its attempt is not counted
        row.delete()
        raise
    except (Retryable, Rejected) as error:
        row.outcome = getattr(error, "code", "away")[:60]
        row.last_error = redact.text(storable(str(error)))[:2000]
        if isinstance(error, Rejected):
            row.due_at = None
        report.failed[row.uri] = row.last_error[:300]
        log.warning("knowledge_item_failed", uri=row.uri, attempts=row.attempts, error=row.last_error[:300])
    row.save()
    report.outcomes[row.outcome] = report.outcomes.get(row.outcome, 0) + 1


def _end_current_version(uri: str, now: datetime, outcome: str) -> str:
    """Supersede the current version at `uri` without a successor; return `outcome`."""
    with transaction.atomic():
        _lock(uri)
        Document.objects.filter(key=document_key(uri), superseded_at=None).update(superseded_at=now)
    return outcome


def _embed(by: Embedder, texts: Sequence[str], settings: KnowledgePolicy) -> list[Vector]:
    size = settings.embedders[settings.embedder].batch
    batches = (texts[start : start + size] for start in range(0, len(texts), size))
    return [vector for batch in batches for vector in by.embed(batch)]


def _embed_outdated_chunks(settings: KnowledgePolicy, report: SweepReport, deadline: float) -> None:
    """Embed chunks of any other embedder again, in batches, until `deadline` (monotonic seconds)."""
    if not Chunk.objects.exists():
        return
    try:
        by = embedder()
        size = settings.embedders[settings.embedder].batch
        while time.monotonic() < deadline:
            batch = list(Chunk.objects.exclude(embedder=by.identity).order_by("pk").defer("embedding")[:size])
            if not batch:
                return
            for chunk, vector in zip(batch, by.embed([chunk.text for chunk in batch]), strict=True):
                chunk.embedding, chunk.embedder = vector, by.identity
            report.embedded_anew += Chunk.objects.bulk_update(batch, ["embedding", "embedder"])
    except MaxxitError as error:
        log.error("knowledge_embedding_failed", error=str(error))
        report.failed["embedder"] = str(error)[:300]


def _lock(uri: str) -> None:
    """Take the advisory lock of the document at `uri`, held until the transaction ends."""
    lock = f"knowledge:{document_key(uri)}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [lock])
