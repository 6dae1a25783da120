"""The one way a row changes state: guard, conditional update and event, in one transaction.

No other code assigns `.state`. Two workers that race for a row both pass through the same
`UPDATE … WHERE state = old`; the second finds nothing and is told so with `StaleState`.
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
    """How events name a row: `trading.order/17`."""
    return f"{row._meta.label_lower}/{row.pk}"


def record(name: str, row: models.Model, **data: Any) -> Event:
    """Write down that `name` happened to `row`. Call it in the transaction of the change itself."""
    corr = getattr(row, "correlation_id", None) or correlation.current()
    event = Event.objects.create(
        at=clock.now(), name=name, subject=subject(row), correlation_id=corr, data=redact.strings(data)
    )
    wake.after_commit(name)
    return event


def record_all(
    name: str, model: type[models.Model], happened: Iterable[tuple[int, UUID | None, dict[str, Any]]]
) -> None:
    """`record` for many rows of one model at once: (id, correlation id, data) each."""
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
    """The event of arriving in `state`. A model may give a state its field's own word in `EVENT_NAMES`."""
    names: dict[str, str] = getattr(model, "EVENT_NAMES", {})
    return names.get(state, f"{model._meta.model_name}.{state}")


def advance(row: Any, new: str, *, why: str = "", data: dict[str, Any] | None = None, **fields: Any) -> None:
    """Move one row to state `new` and set `fields` with it.

    Raises `IllegalMove` when the table has no such move and `StaleState` when another worker was first.
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
    """Move every row of `ids` that is still in `old` to `new`; return the ids that moved, ascending."""
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
        still = dict(
            model.objects.select_for_update()
            .filter(pk__in=ids, state=old)
            .order_by("pk")
            .values_list("pk", corr)
        )
        model.objects.filter(pk__in=list(still)).update(state=new, **fields)
        told = {"old": old, **({"why": why} if why else {}), **(data or {})}
        record_all(event_name(model, new), model, ((pk, corr, told) for pk, corr in still.items()))
    return list(still)
