"""Insert and update many rows in one statement: each column goes over as an array, whatever the number of rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models

Columns = Mapping[str, Sequence[Any]]
"""Name of the column (`Field.attname`) -> its values, one per row. All have the same length."""


def insert(model: type[models.Model], columns: Columns) -> list[int]:
    """Insert a row per value of `columns`; return the new ids in the order of the rows.

    A column that is not named takes its database default. No `save` signals are sent and no model default is applied.
    """
    names = tuple(columns)
    with connection.cursor() as cursor:
        cursor.execute(_insert_statement(model, names), _params(model, columns))
        return [pk for (pk,) in cursor.fetchall()]


def update(model: type[models.Model], ids: Sequence[int], columns: Columns) -> int:
    """Set `columns` on the rows `ids`, each to its own value; return how many rows there were.

    Callers that may race for the rows lock them first in ascending order: an UPDATE does not.
    """
    if not ids:
        return 0
    names = tuple(columns)
    with connection.cursor() as cursor:
        cursor.execute(_update_statement(model, names), [array(ids), *_params(model, columns)])
        return int(cursor.rowcount)


class _Column(NamedTuple):
    """How a column is passed."""

    name: str
    """Quoted."""
    placeholder: str
    """Of the array of its values."""
    value: str
    """The expression that selects one of them."""
    encode: Callable[[Any], str] | None
    """Makes text of a value that is not null; None where `str` does."""


@cache
def _columns(model: type[models.Model], names: tuple[str, ...]) -> tuple[_Column, ...]:
    columns = []
    for alias, name in zip(_aliases(names), names, strict=True):
        field = _field(model, name)
        quoted = connection.ops.quote_name(str(field.column))
        if isinstance(field, models.JSONField):
            column = _Column(quoted, "%s::text[]", f"new.{alias}::jsonb", _encode)
        elif isinstance(field, ArrayField):  # not an array of arrays: these must all have one length
            column = _Column(quoted, "%s::text[]", f"new.{alias}::{_unlimited(field.base_field)}[]", array)
        else:
            column = _Column(quoted, f"%s::{_unlimited(field)}[]", f"new.{alias}", None)
        columns.append(column)
    return tuple(columns)


@cache
def _insert_statement(model: type[models.Model], names: tuple[str, ...]) -> str:
    columns = _columns(model, names)
    return (
        f"INSERT INTO {_table(model)} ({', '.join(column.name for column in columns)}) "  # noqa: S608 (quoted names)
        f"SELECT {', '.join(column.value for column in columns)} "
        f"FROM unnest({', '.join(column.placeholder for column in columns)}) WITH ORDINALITY "
        f"AS new ({', '.join(_aliases(names))}, row) ORDER BY row RETURNING id"
    )


@cache
def _update_statement(model: type[models.Model], names: tuple[str, ...]) -> str:
    columns = _columns(model, names)
    return (
        f"UPDATE {_table(model)} AS old "  # noqa: S608 (quoted names)
        f"SET {', '.join(f'{column.name} = {column.value}' for column in columns)} "
        f"FROM unnest(%s::bigint[], {', '.join(column.placeholder for column in columns)}) "
        f"AS new (id, {', '.join(_aliases(names))}) WHERE old.id = new.id"
    )


def _params(model: type[models.Model], columns: Columns) -> list[str]:
    params = []
    for column, values in zip(_columns(model, tuple(columns)), columns.values(), strict=True):
        if encode := column.encode:
            values = [None if value is None else encode(value) for value in values]
        params.append(array(values))
    return params


_encode = DjangoJSONEncoder().encode


def array(values: Iterable[Any]) -> str:
    """Return an array as Postgres reads it. Several times as fast as psycopg's adapter of lists."""
    return "{" + ",".join(["NULL" if value is None else _element(value) for value in values]) + "}"


def _element(value: Any) -> str:
    text = str(value)
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _unlimited(field: "models.Field[Any, Any]") -> str:
    """Return the type of a column without its length: a cast to `varchar(60)` would cut a longer value off silently.

    Storing the value in the column refuses it, as it does for one row.
    """
    return str(field.db_type(connection)).partition("(")[0]


def _aliases(columns: Sequence[str]) -> list[str]:
    return [f"c{number}" for number in range(len(columns))]


def _field(model: type[models.Model], attname: str) -> "models.Field[Any, Any]":
    for field in model._meta.concrete_fields:
        if field.attname == attname:
            return field
    raise LookupError(f"{model._meta.label} has no column {attname}")


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
