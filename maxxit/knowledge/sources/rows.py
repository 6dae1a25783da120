"""Rows of our own database: one document for each."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from maxxit.core import redact
from maxxit.core.errors import Misconfigured
from maxxit.knowledge.sources.base import Offer, Text

CLOSED = frozenset({"auth", "sessions", "admin"})
"""Apps of which no row is shown: passwords and sessions."""


class Rows:
    """`model` as in `events.Event`; `text` its fields; `known_at` the field that says when we knew the row.

    Looks at the `newest` rows by that field.
    """

    def __init__(
        self, model: str, text: Sequence[str], known_at: str, title: str = "", newest: int = 500
    ) -> None:
        try:
            self._model: type[models.Model] = apps.get_model(model)
            fields = [*text, known_at, *([title] if title else [])]
            kinds = {name: self._model._meta.get_field(name) for name in fields}
        except (LookupError, ValueError, FieldDoesNotExist) as error:
            raise Misconfigured(f"config/knowledge.yaml: rows of {model!r}: {error}") from error
        if self._model._meta.app_label in CLOSED or any(redact.secret_name(name) for name in fields):
            raise Misconfigured(f"config/knowledge.yaml: rows of {model!r}: nobody is shown these fields")
        if not isinstance(kinds[known_at], models.DateTimeField):
            raise Misconfigured(f"config/knowledge.yaml: rows of {model!r}: {known_at} is no moment")
        self._text, self._known_at, self._title, self._newest = list(text), known_at, title, int(newest)

    def offers(self) -> Iterable[Offer]:
        """The newest rows, oldest of them first."""
        rows = self._model._default_manager.exclude(**{self._known_at: None})
        names = ["pk", *self._text, self._known_at, *([self._title] if self._title else [])]
        newest = list(
            rows.order_by(f"-{self._known_at}", "-pk").values(*dict.fromkeys(names))[: self._newest]
        )
        for row in reversed(newest):
            yield Offer(f"{self._model._meta.label}/{row['pk']}", lambda row=row: self._read(row))  # type: ignore[misc]

    def _read(self, row: dict[str, Any]) -> Text:
        said = [str(redact.value(row[name])) for name in self._text if row[name] not in (None, "", [], {})]
        known_at: datetime = row[self._known_at]
        title = str(row[self._title]) if self._title else f"{self._model._meta.verbose_name} {row['pk']}"
        return Text("\n".join(said), title, known_at)
