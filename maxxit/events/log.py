"""Read the event log in order of id without missing an event: the base of every relay, export and stream.

An id is assigned before its transaction commits, so an event with a smaller id may become visible after one with a
greater id. A reader therefore reads only up to the final id (`FinalId`): the id up to which no transaction can add an
event any more.
"""

import json
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from maxxit.core.errors import Rejected

WRITERS = """
SELECT coalesce((SELECT max(id) FROM {table}), 0), ARRAY(
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = '{table}'::regclass AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()
)
"""
"""The newest visible id, then who may still hold a smaller one: an INSERT locks the table before it takes an id, and
until its transaction is visible or rolled back. The statement's snapshot is older than its look at the locks."""
READ = """
SELECT id, at, name, subject, correlation_id, data::text FROM events
WHERE id > %(after)s AND id <= %(upto)s ORDER BY id LIMIT %(most)s
"""
FIRST_SINCE = "SELECT min(id) FROM events WHERE at >= %s"


class LoggedEvent(NamedTuple):
    """One row of the event log; `text` is its data as JSON, parsed by those who need it."""

    id: int
    at: datetime
    name: str
    subject: str
    correlation_id: UUID | None
    text: str

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


class FinalId:
    """The id up to which the event log, or another table, is final. Several threads may share one."""

    def __init__(self, every: float = 0.0, table: str = "events") -> None:
        """Make one that has seen nothing yet.

        Args:
            every: seconds for which an answer is used again.
            table: a table whose ids are numbers from a sequence.
        """
        self._every, self._read_at = every, float("-inf")
        self._writing = WRITERS.format(table=table)
        self._final = 0
        self.newest = 0
        """The newest visible id at the last look."""
        self._bound, self._writers = 0, frozenset[str]()
        self._lock = threading.Lock()

    def read(self) -> int:
        """Return the id up to which every row is visible or will never exist."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._every:
                self._advance()
                self._read_at = time.monotonic()
            return self._final

    def _advance(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(self._writing)
            newest, writing = cursor.fetchone()
        writers, self.newest = frozenset(writing), newest
        if not writers:
            self._final = self._bound = newest
        elif self._writers & writers:
            return  # some of those who wrote when `_bound` was newest still do
        else:
            self._final, self._bound = max(self._final, self._bound), newest
        self._writers = writers


def settled(patience: float = 30.0, table: str = "events") -> int:
    """Wait until every event, or row of another table, that is being written now is final; return the final id.

    Raises Rejected (code busy) after `patience` seconds.
    """
    final, end = FinalId(table=table), time.monotonic() + patience
    final.read()
    newest = final.newest
    while final.read() < newest:
        if time.monotonic() > end:
            raise Rejected(f"a transaction that writes to {table} runs for over {patience:g} s", code="busy")
        time.sleep(0.02)
    return final.read()


def read(after: int, upto: int, most: int) -> list[LoggedEvent]:
    """Return the events with after < id <= upto by ascending id, at most `most`."""
    with connection.cursor() as cursor:
        cursor.execute(READ, {"after": after, "upto": upto, "most": most})
        return list(map(LoggedEvent._make, cursor.fetchall()))


def first_since(moment: datetime) -> int | None:
    """Return the smallest id of an event at `moment` or later; None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(FIRST_SINCE, [moment])
        [found] = cursor.fetchone()
        return None if found is None else int(found)


def wanted(name: str, patterns: Sequence[str]) -> bool:
    """Return whether an event's name matches one of the patterns, such as `order.*`; no pattern matches all."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
