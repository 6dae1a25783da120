"""What the project was given to read: documents, their chunks with vectors, and what the sweep knows of each item."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from pgvector.django import HnswIndex, VectorField

DIMENSIONS = 1024
"""Of every stored vector. Shorter ones are filled up with zeros, which changes no cosine."""


class Document(models.Model):
    """One version of one document. Text that strangers wrote: it went through `maxxit.core.redact`.

    A changed document is a new row; the old one stays until `forget`, so that a question about an earlier moment
    finds what was known then.
    """

    key = models.CharField(max_length=64, help_text="SHA-256 of its address as it was given")
    uri = models.CharField(max_length=2000, help_text="where it came from")
    source = models.CharField(max_length=40, help_text="of knowledge.yaml, or by hand")
    title = models.CharField(max_length=300, blank=True)
    content_sha256 = models.CharField(max_length=64)
    tokens = ArrayField(
        models.CharField(max_length=40), default=list, help_text="what it is about; none: all"
    )
    agents = ArrayField(models.CharField(max_length=80), default=list, help_text="who may see it; none: all")
    known_at = models.DateTimeField(help_text="from when on a decision may use it, UTC")
    superseded_at = models.DateTimeField(null=True, help_text="when the next version came")
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
    """A passage of a document and its vector."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="chunks")
    place = models.PositiveIntegerField(help_text="in the document, from 0")
    text = models.TextField()
    embedder = models.CharField(max_length=120, help_text="who made the vector; only the same are compared")
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
    """One thing that a configured source offers, and how it went with it."""

    key = models.CharField(max_length=64, primary_key=True)
    uri = models.CharField(max_length=2000)
    source = models.CharField(max_length=40)
    outcome = models.CharField(
        max_length=60, help_text="stored, unchanged, duplicate, empty, or why it failed"
    )
    attempts = models.PositiveIntegerField(default=0, help_text="failures in a row")
    last_error = models.TextField(blank=True)
    checked_at = models.DateTimeField()
    due_at = models.DateTimeField(
        null=True, help_text="when it is looked at again; empty: set aside for a person"
    )

    class Meta:
        db_table = "knowledge_items"
        ordering = ("source", "uri")

    def __str__(self) -> str:
        return f"{self.uri}: {self.outcome}"
