"""Seal the audit log: a hash chain over every event and every change in the admin, so that any later change is found.

Rows are append-only by trigger and by the rights of the roles; an owner of the database can still get past both. A
seal is a row with the hash over all rows up to it: changing, removing or adding a row makes the hashes from there on
wrong. As someone who can change rows could compute all seals anew, heads are kept elsewhere, too: each seal's is in the
log output, each backup states them, and `audit verify --head` looks for one.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events import log
from maxxit.events.hash_chain import START, body, digest
from maxxit.events.models import EventSeal

output = structlog.get_logger(__name__)

CHUNK = 5_000
"""Rows read at a time."""
MOST = 100 * CHUNK
"""Rows that one pass seals; the next pass goes on."""
LOCK = 20_261_130
"""Advisory lock of a transaction: two passes never seal the same rows."""

Row = tuple[int, bytes]
Reader = Callable[[int, int, int], list[Row]]
ADMIN = """
SELECT id, action_time, user_id, content_type_id, object_id, object_repr, action_flag, change_message
FROM django_admin_log WHERE id > %s AND id <= %s ORDER BY id LIMIT %s
"""


def _events(after: int, upto: int, most: int) -> list[Row]:
    return [(event.id, body(event)) for event in log.read(after, upto, most)]


def _admin(after: int, upto: int, most: int) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(ADMIN, [after, upto, most])
        return [(row[0], json.dumps(row, default=str).encode()) for row in cursor.fetchall()]


LOGS: dict[str, tuple[Reader, str]] = {"events": (_events, "events"), "admin": (_admin, "django_admin_log")}
"""Log -> what reads its rows, and their table."""


def seal() -> list[EventSeal]:
    """Seal the rows that are new in each log; return the new seals."""
    return [made for name in LOGS if (made := _seal(name)) is not None]


def _seal(name: str) -> EventSeal | None:
    read, table = LOGS[name]
    upto = log.settled(table=table)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        newest = EventSeal.objects.filter(log=name).order_by("id").last()
        head, after = (newest.head, newest.last_id) if newest else (START, 0)
        head, last, count = _chain(read, head, after, upto, MOST)
        if not count:
            return None
        made = EventSeal.objects.create(log=name, at=clock.now(), last_id=last, rows=count, head=head)
    output.info("audit_log_sealed", log=name, rows=count, last_id=last, head=head)
    return made


def _chain(read: Reader, head: str, after: int, upto: int, most: int) -> tuple[str, int, int]:
    """Return head, last id and number of the rows after `after`, at most `most`."""
    count = 0
    while count < most and (rows := read(after, upto, CHUNK)):
        for _, text in rows:
            head = digest(head, text)
        after, count = rows[-1][0], count + len(rows)
    return head, after, count


@dataclass(slots=True)
class Audit:
    """The result of a verification of one log."""

    log: str
    seals: int = 0
    rows: int = 0
    head: str = START
    """Of the newest seal."""
    unsealed: int = 0
    """Rows after the newest seal."""
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "log": self.log, "ok": not self.problems, "seals": self.seals, "rows": self.rows, "head": self.head,
            "unsealed": self.unsealed, "problems": self.problems,
        }  # fmt: skip


def verify(since: datetime | None = None) -> Iterator[Audit]:
    """Compute the seals of each log anew, those since a moment or all, and compare."""
    for name, (read, table) in LOGS.items():
        audit, after = Audit(name), 0
        for one in EventSeal.objects.filter(log=name).order_by("id").iterator():
            if since is None or one.at >= since:
                _compare(audit, one, read, after)
            audit.head, after = one.head, one.last_id
        audit.unsealed = _count(table, after)
        yield audit


def _compare(audit: Audit, one: EventSeal, read: Reader, after: int) -> None:
    head, _, count = _chain(read, audit.head, after, one.last_id, one.rows + 1)
    audit.seals, audit.rows = audit.seals + 1, audit.rows + count
    if count != one.rows:
        audit.problems.append(
            f"seal {one.pk} of {one.at:%Y-%m-%d %H:%M:%S} UTC covers {one.rows} rows ({after + 1} to {one.last_id}), "
            f"there are {count if count <= one.rows else 'more'}"
        )
    elif head != one.head:
        audit.problems.append(
            f"a row from {after + 1} to {one.last_id} was changed after it was sealed at {one.at:%Y-%m-%d %H:%M:%S} UTC"
        )


def _count(table: str, after: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE id > %s", [after])  # noqa: S608 (a constant)
        return int(cursor.fetchone()[0])


def check_head(head: str) -> EventSeal:
    """Return the seal with this head. Raises Rejected (chain_broken) where the seals were computed anew since."""
    found = EventSeal.objects.filter(head=head).first()
    if found is None:
        raise Rejected(
            f"no seal has the head {head}: the log was sealed anew since it was noted, or it is of another machine",
            code="chain_broken",
        )
    return found
