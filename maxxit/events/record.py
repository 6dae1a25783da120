"""State changes of rows: transition check, guarded UPDATE and event, in one transaction.

No other code assigns `.state`. When two workers race for a row, both lock it and compare its state; the second finds it
moved, changes nothing and gets `StaleState`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, models, transaction

from maxxit.core import clock, correlation, redact
from maxxit.core.errors import StaleState
from maxxit.core.states import check_move
from maxxit.events import wake
from maxxit.events.models import Event
from maxxit.postgres import bulk

EventData = Mapping[str, Any]


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


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is to be written."""

    name: str
    subject: str
    correlation_id: UUID | None
    data: EventData = field(default_factory=dict)


def write(events: Sequence[NewEvent]) -> None:
    """Write many events in this order, in one statement. Call it in the same transaction as the changes."""
    if not events:
        return
    bulk.insert(
        Event,
        {
            "at": [clock.now()] * len(events),
            "name": [event.name for event in events],
            "subject": [event.subject for event in events],
            "correlation_id": [event.correlation_id for event in events],
            "data": [redact.strings(event.data) for event in events],
        },
    )
    for name in dict.fromkeys(event.name for event in events):
        wake.after_commit(name)


def record_all(
    name: str, model: type[models.Model], happened: Iterable[tuple[int, UUID | None, dict[str, Any]]]
) -> None:
    """Write event `name` of many rows of one model: (id, correlation id, data) each."""
    label = model._meta.label_lower
    write([NewEvent(name, f"{label}/{pk}", corr, data) for pk, corr, data in happened])


@cache
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
    table: type[models.Model] = model
    with transaction.atomic(savepoint=False):
        if _has(table, "updated_at"):
            fields = {"updated_at": clock.now()} | fields
        locked = {pk: corr for pk, _, corr in _lock(table, ids, old)}
        if locked:
            model.objects.filter(pk__in=list(locked)).update(state=new, **fields)
        payload = {"old": old, **({"why": why} if why else {}), **(data or {})}
        record_all(event_name(model, new), model, ((pk, corr, payload) for pk, corr in locked.items()))
    return list(locked)


@dataclass(frozen=True, slots=True)
class Transition:
    """A row that is to move to a state, with columns of its own."""

    row: Any
    new: str
    why: str = ""
    data: EventData = field(default_factory=dict)
    """Further data of the state's event."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Column (`Field.attname`) -> value, set in the same statement."""
    before: tuple[tuple[str, EventData], ...] = ()
    """(name, data) of events of the row that are written before the state's."""

    def apply(self) -> None:
        """Set state and fields on the row in memory. Call it once the transaction has committed."""
        for name, value in {"state": self.new, **self.fields}.items():
            setattr(self.row, name, value)


Row = TypeVar("Row", bound=models.Model)


def _lock(
    model: type[models.Model], ids: Sequence[int], state: str = ""
) -> list[tuple[int, str, UUID | None]]:
    """Lock rows by ascending id, those in `state` if given; return (id, state, correlation id) of each.

    Rows that refer to them need not wait.
    """
    with connection.cursor() as cursor:
        cursor.execute(_lock_statement(model), {"ids": list(ids), "state": state})
        rows: list[tuple[int, str, UUID | None]] = cursor.fetchall()
    return rows


@cache
def _lock_statement(model: type[models.Model]) -> str:
    table = connection.ops.quote_name(model._meta.db_table)
    corr = "correlation_id" if _has(model, "correlation_id") else "NULL"
    return (
        f"SELECT id, state, {corr} FROM {table} "  # noqa: S608 (quoted names)
        "WHERE id = ANY(%(ids)s) AND %(state)s IN ('', state) ORDER BY id FOR NO KEY UPDATE"
    )


def lock_unmoved(rows: Sequence[Row]) -> list[Row]:
    """Lock rows of one model by ascending id; return those that are still in the state that they have in memory.

    The others were moved by another worker. Call it in a transaction.
    """
    states = {pk: state for pk, state, _ in _lock(type(rows[0]), [row.pk for row in rows])}
    return [row for row in rows if states.get(row.pk) == row.state]  # type: ignore[attr-defined]


def advance_each(transitions: Sequence[Transition], *, locked: bool = False) -> list[Transition]:
    """Move rows of one model, each to its own state with its own fields; return the transitions that took place.

    A row that is no longer in the state that it has in memory is left out: another worker was first. The rows in memory
    are not changed (`Transition.apply`), because the caller's transaction may still be rolled back. Raises
    `IllegalMove` when the transition table does not allow a move.

    Args:
        locked: the caller holds the rows' locks (`lock_unmoved`) and knows their states.
    """
    if not transitions:
        return []
    model: type[models.Model] = type(transitions[0].row)
    moves = transitions[0].row.MOVES
    for transition in transitions:
        check_move(moves, transition.row.state, transition.new)
    with transaction.atomic(savepoint=False):
        moved = list(transitions)
        if not locked:
            unmoved = {row.pk for row in lock_unmoved([one.row for one in transitions])}
            moved = [one for one in transitions if one.row.pk in unmoved]
        stamp = {"updated_at": clock.now()} if _has(model, "updated_at") else {}
        for names, group in groupby(sorted(moved, key=_columns), key=_columns):
            rows = list(group)
            columns = {name: [one.fields[name] for one in rows] for name in names}
            columns |= {name: [value] * len(rows) for name, value in stamp.items()}
            bulk.update(model, [one.row.pk for one in rows], columns | {"state": [one.new for one in rows]})
        write([event for one in moved for event in _events(one)])
    return moved


def _columns(transition: Transition) -> tuple[str, ...]:
    return tuple(sorted(transition.fields))


def _events(transition: Transition) -> list[NewEvent]:
    """Return the events of a transition, its state's last."""
    row, name = transition.row, subject(transition.row)
    corr = getattr(row, "correlation_id", None)
    why = {"why": transition.why} if transition.why else {}
    moved = {"old": row.state, **why, **transition.data}
    own = (*transition.before, (event_name(type(row), transition.new), moved))
    return [NewEvent(event, name, corr, data) for event, data in own]
