"""The audit log is sealed by a hash chain: who changes, removes or adds a sealed row is found, also as its owner."""

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from maxxit.core.errors import Rejected
from maxxit.events import log, seals
from maxxit.events.models import Event, EventSeal
from maxxit.reports import audit
from tests.builders import T0, RecordedClock
from tests.events.writers import another_connection

pytestmark = pytest.mark.django_db


def event(number: int) -> Event:
    return Event.objects.create(at=T0, name="test.happened", subject=f"a.b/{number}", data={"n": number})


def as_owner(statement: str, *values: Any) -> None:
    """Change rows past the triggers, as a superuser can."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = origin")


@pytest.fixture
def sealed(time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Nine events in three seals, and one that is not sealed; before the fifth an id was given out and not used."""
    monkeypatch.setattr(seals, "CHUNK", 2)
    events = []
    for number in range(9):
        if number == 4:
            with connection.cursor() as cursor:
                cursor.execute("SELECT nextval(pg_get_serial_sequence('events', 'id'))")
        events.append(event(number))
        if number % 3 == 2:
            assert len(seals.seal()) == 1
    return [*events, event(9)]


def problems() -> list[str]:
    return [text for one in seals.verify() for text in one.problems]


def test_untouched_rows_verify_and_new_ones_are_named_unsealed(sealed: list[Event]) -> None:
    [events, admin] = seals.verify()
    assert (events.seals, events.rows, events.unsealed, events.problems) == (3, 9, 1, [])
    assert (admin.rows, admin.problems) == (0, [])
    assert events.head == EventSeal.objects.latest("id").head


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE events SET data = '{\"n\": 99}' WHERE id = %s", "was changed after it was sealed"),
        ("UPDATE events SET at = at + interval '1 microsecond' WHERE id = %s", "was changed after"),
        ("DELETE FROM events WHERE id = %s", "covers 3 rows .* there are 2"),
        (
            "INSERT INTO events (id, at, name, subject, data) SELECT id - 1, at, name, subject, data FROM events "
            "WHERE id = %s",
            "covers 3 rows .* there are more",
        ),
    ],
)
def test_a_changed_a_missing_and_an_added_row_are_found(
    statement: str, said: str, sealed: list[Event]
) -> None:
    as_owner(statement, sealed[4].pk)
    [problem] = problems()
    assert re.search(said, problem), problem


def test_seals_that_were_computed_anew_miss_the_head_that_was_noted(sealed: list[Event]) -> None:
    noted = EventSeal.objects.latest("id").head
    as_owner("UPDATE events SET data = '{}' WHERE id = %s", sealed[0].pk)
    as_owner("DELETE FROM event_seals")
    seals.seal()
    assert problems() == []
    with pytest.raises(CommandError, match=f"no seal has the head {noted}"):
        call_command("audit", "verify", "--head", noted)


def test_seals_refuse_changes(sealed: list[Event]) -> None:
    for statement in (
        "UPDATE event_seals SET rows = 1",
        "DELETE FROM event_seals",
        "TRUNCATE event_seals",
    ):
        with (
            pytest.raises(IntegrityError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


def change(user: User) -> LogEntry:
    return LogEntry.objects.create(user=user, object_id="1", object_repr="x", action_flag=CHANGE)


def test_changes_in_the_admin_are_sealed_like_events(time: RecordedClock) -> None:
    user = User.objects.create_superuser("boss")
    change(user)
    [_, before] = seals.verify()
    assert (before.log, before.unsealed) == ("admin", 1)
    assert "admin" in {one.log for one in seals.seal()}
    [_, after] = seals.verify()
    assert (after.rows, after.unsealed) == (1, 0)
    assert problems() == []
    as_owner("UPDATE django_admin_log SET change_message = 'other'")
    [problem] = problems()
    assert problem.startswith("a row from 1 to ")


@pytest.mark.django_db(transaction=True)
def test_a_change_in_the_admin_that_is_not_committed_yet_is_waited_for(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is smaller than that of a visible change: sealed without it, it would look like one that was added."""
    user = User.objects.create_superuser("boss")
    real, asked = log.settled, []

    def impatient(table: str) -> int:
        asked.append(table)
        return real(0.2, table)

    monkeypatch.setattr(log, "settled", impatient)
    with another_connection() as slow:
        slow.execute(
            "INSERT INTO django_admin_log (action_time, user_id, object_id, object_repr, action_flag, change_message) "
            "VALUES (now(), %s, '2', 'y', 2, '')",
            [user.pk],
        )
        change(user)
        with pytest.raises(Rejected, match="writes to django_admin_log"):
            seals.seal()
        slow.commit()
    assert [one.rows for one in seals.seal() if one.log == "admin"] == [2]
    assert asked == ["events", "django_admin_log"] * 2


def test_the_command_verifies_seals_and_lists(sealed: list[Event]) -> None:
    def run(*arguments: str) -> Any:
        said = StringIO()
        call_command("audit", *arguments, "--json", stdout=said)
        return json.loads(said.getvalue())

    head = EventSeal.objects.latest("id").head
    assert run("verify", "--head", head)[0]["ok"] is True
    assert run("seal")[0]["rows"] == 1
    assert [row["rows"] for row in run("list")] == [1, 3, 3, 3]
    assert run("verify", "--days", "1")[0]["rows"] == 10
    as_owner("DELETE FROM events WHERE id = %s", sealed[0].pk)
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=StringIO())
    with pytest.raises(CommandError, match="is not a SHA-256"):
        call_command("audit", "verify", "--head", "abc")


def test_health_tells_of_a_change_and_of_a_seal_that_is_late(
    sealed: list[Event], time: RecordedClock
) -> None:
    assert audit.check_audit_log().ok
    assert "never verified" in audit.check_audit_log().detail
    time.move(hours=2)
    assert not audit.check_audit_log().ok
    seals.seal()
    assert audit.verify_recent()
    as_owner("DELETE FROM events WHERE id = %s", sealed[5].pk)
    assert not audit.verify_recent()
    found = audit.check_audit_log()
    assert not found.ok
    assert "covers 3 rows" in found.detail


def test_health_tells_of_a_verification_that_is_old_or_was_never_made(
    sealed: list[Event], time: RecordedClock
) -> None:
    time.move(hours=51)
    seals.seal()
    never = audit.check_audit_log()
    assert (never.ok, "never verified" in never.detail) == (False, True)
    audit.verify_recent()
    assert "verified 0 s ago" in audit.check_audit_log().detail
    time.move(hours=49)
    seals.seal()
    assert audit.check_audit_log().ok
    time.move(hours=2)
    seals.seal()
    old = audit.check_audit_log()
    assert (old.ok, old.detail) == (False, "verified 2 days, 3:00:00 ago")


def test_health_tells_of_events_without_any_seal(time: RecordedClock) -> None:
    assert audit.check_audit_log().ok
    event(1)
    time.move(minutes=59)
    assert audit.check_audit_log().ok
    time.move(minutes=2)
    found = audit.check_audit_log()
    assert (found.ok, "without a seal" in found.detail) == (False, True)
