"""question, moment, token, agent -> passages that were known then, each with its source

Without documents it costs one look for any row, and no embedder is asked.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from pgvector.django import CosineDistance

from maxxit.core import redact
from maxxit.core.untrusted import storable
from maxxit.knowledge.embedders.base import Vector
from maxxit.knowledge.ingest import embedder
from maxxit.knowledge.models import Chunk, Document
from maxxit.knowledge.policy import policy

MAX_QUESTION = 4000
"""Characters that are embedded."""
COPIES = 10
"""Rows read for each passage wanted: the same text may stand in several documents, and is quoted once."""


@dataclass(frozen=True)
class Passage:
    """What may be quoted."""

    text: str
    uri: str
    title: str
    known_at: datetime
    content_sha256: str
    """Of the whole document."""
    place: int
    """Of the passage in it."""
    similarity: float
    """Cosine, 1 is alike."""

    def as_data(self) -> dict[str, str]:
        """As a prompt quotes it: the same in every copy of the data."""
        return {
            "source": self.uri,
            "title": self.title,
            "known_at": self.known_at.isoformat(),
            "ref": f"{self.content_sha256[:16]}/{self.place}",
            "text": self.text,
        }


def passages(
    question: str,
    *,
    at: datetime,
    token: str | None = None,
    agent: str | None = None,
    limit: int | None = None,
) -> list[Passage]:
    """The passages nearest to `question` that were known `at` that moment, the nearest first.

    `token` and `agent` leave out what is about other tokens or for other agents; None leaves out nothing. `limit` is
    by default search.passages of config/knowledge.yaml. Raises what the embedder raises.
    """
    rules = policy().search
    limit = rules.passages if limit is None else limit
    if not limit or not question.strip() or not Document.objects.exists():
        return []
    by = embedder()
    redact.know_environment()
    [vector] = by.embed([redact.text(storable(question))[:MAX_QUESTION]])
    with transaction.atomic(), connection.cursor() as cursor:
        if rules.exact:
            cursor.execute("SET LOCAL enable_indexscan = off")
        else:
            # The filters leave rows out after the index found them: it goes on until enough are left.
            cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            cursor.execute(f"SET LOCAL hnsw.ef_search = {int(rules.ef_search)}")
        rows = list(nearest(vector, by.identity, at, token, agent)[: limit * COPIES])
    found = [
        Passage(row[0], row[1], row[2], row[3], row[4], row[5], round(1 - row[6], 6))
        for row in rows
        if 1 - row[6] >= rules.min_similarity
    ]
    found.sort(key=lambda one: (-one.similarity, one.content_sha256, one.place))
    return list({one.text: one for one in reversed(found)}.values())[::-1][:limit]


def nearest(
    vector: Vector, identity: str, at: datetime, token: str | None = None, agent: str | None = None
) -> "QuerySet[Chunk, tuple[str, str, str, datetime, str, int, float]]":
    """The query itself: (text, uri, title, known_at, document's hash, place, distance)."""
    known = Q(document__known_at__lte=at)
    in_force = Q(document__superseded_at=None) | Q(document__superseded_at__gt=at)
    rows = Chunk.objects.filter(known, in_force, embedder=identity)
    if token is not None:
        rows = rows.filter(Q(document__tokens=[]) | Q(document__tokens__contains=[token]))
    if agent is not None:
        rows = rows.filter(Q(document__agents=[]) | Q(document__agents__contains=[agent]))
    return (
        rows.annotate(distance=CosineDistance("embedding", vector))
        .order_by("distance")
        .values_list(
            *("text", "document__uri", "document__title", "document__known_at"),
            *("document__content_sha256", "place", "distance"),
        )
    )
