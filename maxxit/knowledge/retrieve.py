"""Find the passages nearest to a question among the documents known at a given time.

Without documents this costs one EXISTS query and no call of the embedder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from pgvector.django import CosineDistance

from maxxit.core import redact
from maxxit.core.untrusted import storable
from maxxit.knowledge.embedders.base import Vector, embed_questions
from maxxit.knowledge.ingest import embedder
from maxxit.knowledge.models import Chunk, Document
from maxxit.knowledge.policy import policy

MAX_QUESTION = 4000
"""Longest question that is embedded, in characters."""
ROWS_PER_PASSAGE = 10
"""Rows read per passage returned: several documents may contain the same text, which is quoted once."""


@dataclass(frozen=True)
class Passage:
    """A chunk with its document's source, as quoted in a prompt."""

    text: str
    uri: str
    title: str
    known_at: datetime
    content_sha256: str
    """Hash of the whole document."""
    place: int
    """Position of the chunk in the document, from 0."""
    similarity: float
    """Cosine similarity; 1 is identical."""

    def as_data(self) -> dict[str, str]:
        """Return the fields that a prompt quotes: no database ids, so that a replay elsewhere quotes the same."""
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
    agents: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[Passage]:
    """Return the passages nearest to `question` that were known at the time `at`, nearest first.

    Args:
        question: free text; redacted before it is embedded.
        at: UTC; later documents and versions are left out.
        token: leave out documents about other tokens; None: no filter.
        agents: names of one agent; leave out documents for others; None: no filter.
        limit: number of passages; default: `search.passages` of config/knowledge.yaml.

    Raises whatever the embedder raises.
    """
    search = policy().search
    limit = search.passages if limit is None else limit
    if not limit or not question.strip() or not Document.objects.exists():
        return []
    by = embedder()
    redact.know_environment()
    [vector] = embed_questions(by, [redact.text(storable(question))[:MAX_QUESTION]])
    with transaction.atomic(), connection.cursor() as cursor:
        if search.exact:
            cursor.execute("SET LOCAL enable_indexscan = off")
        else:
            # The filters apply after the index scan: an iterative scan continues until enough rows remain.
            cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            cursor.execute(f"SET LOCAL hnsw.ef_search = {int(search.ef_search)}")
        rows = list(nearest(vector, by.identity, at, token, agents)[: limit * ROWS_PER_PASSAGE])
    matches = [
        Passage(row[0], row[1], row[2], row[3], row[4], row[5], round(1 - row[6], 6))
        for row in rows
        if 1 - row[6] >= search.min_similarity
    ]
    matches.sort(key=lambda match: (-match.similarity, match.content_sha256, match.place))
    return list({match.text: match for match in reversed(matches)}.values())[::-1][:limit]


def nearest(
    vector: Vector, identity: str, at: datetime, token: str | None = None, agents: Sequence[str] | None = None
) -> "QuerySet[Chunk, tuple[str, str, str, datetime, str, int, float]]":
    """Return the query by cosine distance: rows of (text, uri, title, known_at, document's hash, place, distance)."""
    known = Q(document__known_at__lte=at)
    in_force = Q(document__superseded_at=None) | Q(document__superseded_at__gt=at)
    rows = Chunk.objects.filter(known, in_force, embedder=identity)
    if token is not None:
        rows = rows.filter(Q(document__tokens=[]) | Q(document__tokens__contains=[token]))
    if agents is not None:
        rows = rows.filter(Q(document__agents=[]) | Q(document__agents__overlap=list(agents)))
    return (
        rows.annotate(distance=CosineDistance("embedding", vector))
        .order_by("distance")
        .values_list(
            *("text", "document__uri", "document__title", "document__known_at"),
            *("document__content_sha256", "place", "distance"),
        )
    )
