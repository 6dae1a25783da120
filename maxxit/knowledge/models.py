"""Models of retrieval: documents, their chunks with embeddings, and the items of the configured sources."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from pgvector.django import HnswIndex, VectorField

DIMENSIONS = 1024
"""Length of every stored vector. Shorter ones are padded with zeros, which does not change the cosine."""


class Document(models.Model):
    """One version of one document. Its text is untrusted and was redacted by `maxxit.core.redact`.

    A changed document is a new row; older versions stay until `forget`, so that a query about an earlier time finds
    what was known then.
    """

    key = models.CharField(max_length=64, help_text="SHA-256 of the URI before redaction")
    uri = models.CharField(max_length=2000, help_text="file path, URL or row, redacted")
    source = models.CharField(max_length=40, help_text="source of config/knowledge.yaml, or `by hand`")
    title = models.CharField(max_length=300, blank=True)
    content_sha256 = models.CharField(max_length=64)
    tokens = ArrayField(
        models.CharField(max_length=40), default=list, help_text="tokens it is about; empty: all"
    )
    agents = ArrayField(
        models.CharField(max_length=80), default=list, help_text="agents that may see it; empty: all"
    )
    known_at = models.DateTimeField(help_text="UTC; decisions before this time do not see it")
    superseded_at = models.DateTimeField(
        null=True, help_text="UTC; when a newer version replaced it; empty: current version"
    )
    created_at = models.DateTimeField()

    class Meta:
        db_table = "knowledge_documents"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(superseded_at=None), name="one_version_in_force"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["key"], name="knowledge_document_key"),
            models.Index(fields=["content_sha256"], name="knowledge_document_content"),
        ]

    def __str__(self) -> str:
        return self.title or self.uri


class Chunk(models.Model):
    """A part of a document's text and its embedding."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="chunks")
    place = models.PositiveIntegerField(help_text="position in the document, from 0")
    text = models.TextField()
    embedder = models.CharField(
        max_length=120, help_text="embedder, model and dimensions; only vectors of the same are compared"
    )
    embedding = VectorField(dimensions=DIMENSIONS)

    class Meta:
        db_table = "knowledge_chunks"
        ordering = ("document", "place")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["document", "place"], name="one_chunk_per_place")
        ]
        indexes: ClassVar = [
            HnswIndex(
                name="knowledge_chunks_hnsw",
                fields=["embedding"],
                m=16,
                ef_construction=64,
                opclasses=["vector_cosine_ops"],
            ),
            models.Index(fields=["embedder"], name="knowledge_chunks_embedder"),
        ]

    def __str__(self) -> str:
        return f"{self.document_id}/{self.place}"


class Item(models.Model):
    """An item of a configured source with the result of its last read."""

    key = models.CharField(max_length=64, primary_key=True)
    uri = models.CharField(max_length=2000)
    source = models.CharField(max_length=40)
    outcome = models.CharField(
        max_length=60, help_text="stored, unchanged, duplicate, empty, or the code of the error"
    )
    attempts = models.PositiveIntegerField(default=0, help_text="consecutive failures")
    last_error = models.TextField(blank=True)
    checked_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, help_text="UTC; next read; empty: quarantined")

    class Meta:
        db_table = "knowledge_items"
        ordering = ("source", "uri")

    def __str__(self) -> str:
        return f"{self.uri}: {self.outcome}"
