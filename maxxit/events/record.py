"""State changes of rows: transition check, guarded UPDATE and event, in one transaction.

No other code assigns `.state`. When two workers race for a row, both run `UPDATE … WHERE state = old`; the second
updates nothing and gets `StaleState`.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import models, transaction

from maxxit.core import clock, correlation, redact
from maxxit.core.errors import StaleState
from maxxit.core.states import check_move
from maxxit.events import wake
from maxxit.events.models import Event


def subject(row: models.Model) -> str:
    """Return the name of a row in events: `trading.order/17`."""
    return f"{row._meta.label_lower}/{row.pk}"


def record(name: str, row: models.Model, **data: Any) -> Event:
    """Write event `name` of `row`. Call it in the same transaction as the change."""
    corr = getattr(row, "correlation_id", None) or correlation.current()
    event = Event.objects.create(
        at=clock.now(), name=name, subject=subject(row), correlation_id=corr, data=redact.strings(data)
    )
    wake.after_commit(name)
    return event


def record_all(
    name: str, model: type[models.Model], happened: Iterable[tuple[int, UUID | None, dict[str, Any]]]
) -> None:
    """Write event `name` of many rows of one model: (id, correlation id, data) each."""
    at, label = clock.now(), model._meta.label_lower
    events = [
        Event(at=at, name=name, subject=f"{label}/{pk}", correlation_id=corr, data=redact.strings(data))
        for pk, corr, data in happened
    ]
    if events:
        Event.objects.bulk_create(events)
        wake.after_commit(name)


def _has(model: type[models.Model], name: str) -> bool:
    return any(field.name == name for field in model._meta.fields)


def event_name(model: type[models.Model], state: str) -> str:
    """Return the name of the event for entering `state`; a model may override it in `EVENT_NAMES`."""
    names: dict[str, str] = getattr(model, "EVENT_NAMES", {})
    return names.get(state, f"{model._meta.model_name}.{state}")


def advance(row: Any, new: str, *, why: str = "", data: dict[str, Any] | None = None, **fields: Any) -> None:
    """Move one row to state `new` and set `fields` in the same statement.

    Raises `IllegalMove` when the transition table does not allow it, `StaleState` when another worker was first.
    """
    moved = advance_all(type(row), [row.pk], row.state, new, why=why, data=data, **fields)
    if not moved:
        raise StaleState(f"{subject(row)} is no longer {row.state}")
    for name, value in {"state": new, **fields}.items():
        setattr(row, name, value)


def advance_all(
    model: Any,
    ids: Sequence[int],
    old: str,
    new: str,
    *,
    why: str = "",
    data: dict[str, Any] | None = None,
    **fields: Any,
) -> list[int]:
    """Move every row of `ids` that is still in state `old` to `new`; return the ids that moved, ascending."""
    check_move(model.MOVES, old, new)
    if not ids:
        return []
    with transaction.atomic():
        corr = (
            models.F("correlation_id")
            if _has(model, "correlation_id")
            else models.Value(None, models.UUIDField())
        )
        if _has(model, "updated_at"):
            fields = {"updated_at": clock.now()} | fields
        locked = dict(
            model.objects.select_for_update(no_key=True)  # rows that refer to this one need not wait
            .filter(pk__in=ids, state=old)
            .order_by("pk")
            .values_list("pk", corr)
        )
        model.objects.filter(pk__in=list(locked)).update(state=new, **fields)
        payload = {"old": old, **({"why": why} if why else {}), **(data or {})}
        record_all(event_name(model, new), model, ((pk, corr, payload) for pk, corr in locked.items()))
    return list(locked)
