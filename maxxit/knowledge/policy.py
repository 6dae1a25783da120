"""Typed settings of `config/knowledge.yaml`."""

from functools import cache
from typing import Any

from pydantic import Field, model_validator

from maxxit.core.config import Count, Policy, load, variable
from maxxit.core.errors import Misconfigured
from maxxit.llm.policy import Remote


class Chunking(Policy):
    """Size and overlap of chunks, in characters."""

    chars: int = Field(ge=200, le=4000)
    overlap: int = Field(ge=0)

    @model_validator(mode="after")
    def _overlap_is_small(self) -> "Chunking":
        if self.overlap * 2 > self.chars:
            raise ValueError("overlap: at most half of chars")
        return self


class Ingest(Policy):
    """Limits of one sweep, and the retries of failed items."""

    max_items: Count
    max_seconds: int = Field(gt=0, le=280)
    max_document_chars: Count
    max_attempts: Count
    retry_minutes: Count


class Search(Policy):
    """Number, minimum similarity and index parameters of retrieved passages."""

    passages: int = Field(ge=0, le=20)
    min_similarity: float = Field(ge=0, le=1)
    ef_search: int = Field(ge=1, le=1000)
    exact: bool


OFFLINE = frozenset({"local", "e5"})
"""Adapters without a server."""


class EmbedderStanza(Remote):
    """The settings of one embedder."""

    model: str = ""
    key_env: str = ""
    dimensions: int = Field(default=0, ge=0, le=1024)
    timeout_seconds: int = Field(default=30, gt=0, le=120)
    batch: int = Field(default=32, gt=0, le=256)

    def options(self, name: str) -> dict[str, Any]:
        """Return the adapter's keyword arguments. Raises `Misconfigured` naming the missing variable."""
        if self.adapter in OFFLINE:
            return {}
        key = variable(self.key_env)
        for value, where, named in (
            (key or not self.key_env, "key", self.key_env),
            (self.place, "base_url", self.base_url_env),
        ):
            if not value:
                raise Misconfigured(
                    f"config/knowledge.yaml: embedders.{name} has no {where}: set {named or where}, "
                    "or choose `embedder: local`"
                )
        return {
            "model": self.model,
            "base_url": self.place,
            "key": key,
            "dimensions": self.dimensions,
            "timeout": float(self.timeout_seconds),
        }


class KnowledgePolicy(Policy):
    """All settings of the file."""

    sources: dict[str, dict[str, Any]]
    embedder: str
    embedders: dict[str, EmbedderStanza]
    chunking: Chunking
    ingest: Ingest
    search: Search

    @model_validator(mode="after")
    def _embedder_is_configured(self) -> "KnowledgePolicy":
        if self.embedder not in self.embedders:
            raise ValueError(
                f"embedder: {self.embedder} is not configured; choose one of {', '.join(self.embedders)}"
            )
        return self


@cache
def policy() -> KnowledgePolicy:
    """Return the settings in force. Raises `Misconfigured` naming the invalid key."""
    return load("knowledge", KnowledgePolicy)
