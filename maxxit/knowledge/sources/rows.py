"""Source of database rows: one document per row."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from maxxit.core import redact
from maxxit.core.errors import Misconfigured
from maxxit.knowledge.sources.base import Offer, Text

FORBIDDEN_APPS = frozenset({"auth", "sessions", "admin"})
"""Apps with passwords and sessions; their rows are never quoted."""


class Rows:
    """The newest rows of a model.

    Args:
        model: label of the model, such as `events.Event`.
        text: fields that make up the text.
        known_at: date-time field that says when the row was known to us.
        title: field with the title; default: the model's name and the row's id.
        newest: number of rows, by `known_at`.
    """

    def __init__(
        self, model: str, text: Sequence[str], known_at: str, title: str = "", newest: int = 500
    ) -> None:
        try:
            self._model: type[models.Model] = apps.get_model(model)
            fields = [*text, known_at, *([title] if title else [])]
            kinds = {name: self._model._meta.get_field(name) for name in fields}
        except (LookupError, ValueError, FieldDoesNotExist) as error:
            raise Misconfigured(f"config/knowledge.yaml: rows of {model}: {error}") from error
        if self._model._meta.app_label in FORBIDDEN_APPS or any(redact.secret_name(name) for name in fields):
            raise Misconfigured(
                f"config/knowledge.yaml: rows of {model}: these fields may hold secrets and are never shown"
            )
        if not isinstance(kinds[known_at], models.DateTimeField):
            raise Misconfigured(
                f"config/knowledge.yaml: rows of {model}: known_at must name a date-time field, not {known_at}"
            )
        self._text, self._known_at, self._title, self._newest = list(text), known_at, title, int(newest)

    def offers(self) -> Iterable[Offer]:
        """List the newest rows, the oldest of them first."""
        rows = self._model._default_manager.exclude(**{self._known_at: None})
        names = ["pk", *self._text, self._known_at, *([self._title] if self._title else [])]
        newest = list(
            rows.order_by(f"-{self._known_at}", "-pk").values(*dict.fromkeys(names))[: self._newest]
        )
        for row in reversed(newest):
            yield Offer(f"{self._model._meta.label}/{row['pk']}", lambda row=row: self._read(row))  # type: ignore[misc]

    def _read(self, row: dict[str, Any]) -> Text:
        lines = [str(redact.value(row[name])) for name in self._text if row[name] not in (None, "", [], {})]
        known_at: datetime = row[self._known_at]
        title = str(row[self._title]) if self._title else f"{self._model._meta.verbose_name} {row['pk']}"
        return Text("\n".join(lines), title, known_at)
