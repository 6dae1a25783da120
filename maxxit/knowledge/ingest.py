"""sources -> documents -> chunks with vectors

`store` puts one document into force, `sweep` does it for all that the configured sources offer, `forget` takes one out
with everything that was made of it. Text is redacted before it is hashed, cut, embedded or stored.
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
MAX_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Scope:
    """Who may see a document, for what."""

    source: str
    tokens: tuple[str, ...] = ()
    """What it is about; none: everything."""
    agents: tuple[str, ...] = ()
    """By name; none: all."""


@dataclass
class Swept:
    """What one sweep did."""

    looked: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    """What became of how many items."""
    embedded_anew: int = 0
    """Chunks whose vectors came from another embedder."""
    failed: dict[str, str] = field(default_factory=dict)
    """Source or item -> why."""
    over_time: bool = False
    """The time or the number of items was used up; the rest is the next sweep's."""


def key_of(uri: str) -> str:
    """What a document is found by: redaction may make two addresses look alike."""
    return sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()


def embedder() -> Embedder:
    """The one in force. Raises `Misconfigured` naming what it lacks."""
    rules = policy()
    stanza = rules.embedders[rules.embedder]
    return EMBEDDERS.open(stanza.adapter, **stanza.options(rules.embedder))


def store(uri: str, found: Text, scope: Scope, *, known_at: datetime | None = None) -> str:
    """Put `found` into force as what stands at `uri`; says `stored`, `unchanged`, `duplicate` or `empty`.

    A changed text is a new version, known from now on, whatever its source says of its age: nobody could have decided
    by it earlier. `known_at` overrules the source's word for the first version. Raises Rejected for a text that is too
    long or a moment that lies ahead, and what the embedder raises.
    """
    redact.know_environment()
    rules, now = policy(), clock.now()
    known_at = known_at or found.known_at or now
    if known_at > now:
        raise Rejected(f"{uri}: known_at {known_at.isoformat()} lies ahead", code="known_at_ahead")
    text = chunks.tidied(redact.text(storable(found.text)))
    if len(text) > rules.ingest.max_document_chars:
        raise Rejected(
            f"{uri} has {len(text)} characters, more than ingest.max_document_chars "
            f"({rules.ingest.max_document_chars}) of config/knowledge.yaml: split it or raise that",
            code="too_long",
        )
    if not text:
        return _end(uri, now, "empty")
    digest = sha256(text.encode()).hexdigest()
    alike = Document.objects.filter(
        content_sha256=digest, superseded_at=None, tokens=list(scope.tokens), agents=list(scope.agents)
    )
    if alike.filter(key=key_of(uri)).exists():
        return "unchanged"
    if alike.exists():
        return _end(uri, now, "duplicate")
    by = embedder()
    passages = chunks.cut(text, rules.chunking.chars, rules.chunking.overlap)
    vectors = _embed(by, passages, rules)
    with transaction.atomic():
        _lock(uri)
        before = Document.objects.filter(key=key_of(uri), superseded_at=None).first()
        if (
            before
            and before.content_sha256 == digest
            and before.tokens == list(scope.tokens)
            and before.agents == list(scope.agents)
        ):
            return "unchanged"
        if Document.objects.filter(key=key_of(uri)).exists():
            known_at = now
        if before:
            Document.objects.filter(pk=before.pk).update(superseded_at=now)
        made = Document.objects.create(
            key=key_of(uri),
            uri=redact.text(storable(uri))[:2000],
            source=scope.source[:40],
            title=redact.text(storable(found.title))[:300],
            content_sha256=digest,
            tokens=list(scope.tokens),
            agents=list(scope.agents),
            known_at=known_at,
            created_at=now,
        )
        Chunk.objects.bulk_create(
            [
                Chunk(document=made, place=place, text=passage, embedder=by.identity, embedding=vector)
                for place, (passage, vector) in enumerate(zip(passages, vectors, strict=True))
            ],
            batch_size=200,
        )
        record("knowledge.stored", made, uri=made.uri, source=made.source, chunks=len(passages))
    return "stored"


def forget(uri: str) -> dict[str, int]:
    """Take every version of the document at `uri` out, with chunks and vectors; how many of each went.

    Raises Rejected when there is none.
    """
    with transaction.atomic():
        _lock(uri)
        rows = Document.objects.filter(key=key_of(uri))
        if not rows:
            raise Rejected(
                f"no document {uri!r}: `manage.py knowledge stats` lists them", code="unknown_document"
            )
        record("knowledge.forgotten", rows[0], uri=rows[0].uri)
        gone = rows.delete()[1]
        Item.objects.filter(key=key_of(uri)).delete()
    return {"documents": gone.get("knowledge.Document", 0), "chunks": gone.get("knowledge.Chunk", 0)}


def sweep() -> Swept:
    """One pass over all that is due. One item's failure is its own; it is looked at again later, each time later."""
    rules, done = policy(), Swept()
    until = time.monotonic() + rules.ingest.max_seconds
    for scope, offer in _due(rules, done):
        if done.looked >= rules.ingest.max_items or time.monotonic() > until:
            done.over_time = True
            return done
        if scope.source in done.failed:
            continue
        done.looked += 1
        try:
            _look(offer, scope, rules, done)
        except MaxxitError as error:
            _give_up(scope.source, error, done)
    _embed_anew(rules, done, until)
    return done


def opened(name: str, stanza: dict[str, Any]) -> tuple[Scope, Iterable[Offer]]:
    """A configured source: who may see what it has, and what that is. Raises `Misconfigured`."""
    options = dict(stanza)
    tokens, agents = options.pop("tokens", []), options.pop("agents", [])
    if not isinstance(tokens, list) or not isinstance(agents, list) or "adapter" not in options:
        raise Misconfigured(
            f"config/knowledge.yaml: sources.{name} needs an adapter; tokens and agents are lists"
        )
    scope = Scope(name, tuple(sorted(map(str, tokens))), tuple(sorted(map(str, agents))))
    return scope, SOURCES.open(**options).offers()


def _due(rules: KnowledgePolicy, done: Swept) -> list[tuple[Scope, Offer]]:
    """What is to be looked at now: what nobody has looked at yet, then what has waited longest, of all sources
    together, so that one with more than a sweep's number of items starves neither itself nor the others.

    Items that were set aside wait for a person.
    """
    now, never = clock.now(), datetime.min.replace(tzinfo=UTC)
    found: list[tuple[datetime, Scope, Offer]] = []
    for name, stanza in rules.sources.items():
        try:
            scope, offers = opened(name, stanza)
            waits = dict(Item.objects.filter(source=name).values_list("key", "due_at"))
            for offer in offers:
                due = waits.get(key_of(offer.uri), never)
                if due is not None and due <= now:
                    found.append((due, scope, offer))
        except MaxxitError as error:
            _give_up(name, error, done)
    return [(scope, offer) for _, scope, offer in sorted(found, key=itemgetter(0))]


def _give_up(source: str, error: MaxxitError, done: Swept) -> None:
    """Nothing more of this source in this sweep."""
    log.error("knowledge_source_failed", source=source, error=str(error))
    done.failed[source] = str(error)[:300]


def _look(offer: Offer, scope: Scope, rules: KnowledgePolicy, done: Swept) -> None:
    """Read and store one item. The attempt is written down before: one that ends its worker is counted, too."""
    now, key = clock.now(), key_of(offer.uri)
    row = Item.objects.filter(key=key).first() or Item(key=key)
    row.uri, row.source, row.checked_at = redact.text(storable(offer.uri))[:2000], scope.source, now
    row.attempts += 1
    row.outcome, row.last_error = "begun", "it was begun and not ended: its worker was stopped"
    wait = timedelta(minutes=rules.ingest.retry_minutes) * 2 ** min(row.attempts - 1, 10)
    row.due_at = None if row.attempts >= rules.ingest.max_attempts else now + min(wait, MAX_WAIT)
    row.save()
    try:
        row.outcome = store(offer.uri, offer.read(), scope)
        row.attempts, row.last_error = 0, ""
        row.due_at = now + (offer.refresh or timedelta(0))
    except Misconfigured:  # no fault of the item
        row.delete()
        raise
    except (Retryable, Rejected) as error:
        row.outcome = getattr(error, "code", "away")[:60]
        row.last_error = redact.text(storable(str(error)))[:2000]
        if isinstance(error, Rejected):
            row.due_at = None
        done.failed[row.uri] = row.last_error[:300]
        log.warning("knowledge_item_failed", uri=row.uri, attempts=row.attempts, error=row.last_error[:300])
    row.save()
    done.outcomes[row.outcome] = done.outcomes.get(row.outcome, 0) + 1


def _end(uri: str, now: datetime, outcome: str) -> str:
    """What stood at `uri` stands there no more."""
    with transaction.atomic():
        _lock(uri)
        Document.objects.filter(key=key_of(uri), superseded_at=None).update(superseded_at=now)
    return outcome


def _embed(by: Embedder, texts: Sequence[str], rules: KnowledgePolicy) -> list[Vector]:
    size = rules.embedders[rules.embedder].batch
    return [one for start in range(0, len(texts), size) for one in by.embed(texts[start : start + size])]


def _embed_anew(rules: KnowledgePolicy, done: Swept, until: float) -> None:
    """Vectors of an embedder that is no longer in force are made again, a batch at a time."""
    if not Chunk.objects.exists():
        return
    try:
        by = embedder()
        size = rules.embedders[rules.embedder].batch
        while time.monotonic() < until:
            batch = list(Chunk.objects.exclude(embedder=by.identity).order_by("pk").defer("embedding")[:size])
            if not batch:
                return
            for chunk, vector in zip(batch, by.embed([chunk.text for chunk in batch]), strict=True):
                chunk.embedding, chunk.embedder = vector, by.identity
            done.embedded_anew += Chunk.objects.bulk_update(batch, ["embedding", "embedder"])
    except MaxxitError as error:
        log.error("knowledge_embedding_failed", error=str(error))
        done.failed["embedder"] = str(error)[:300]


def _lock(uri: str) -> None:
    """One writer per document until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"knowledge:{key_of(uri)}"])
