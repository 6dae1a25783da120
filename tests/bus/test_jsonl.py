"""The relay to a file of JSON lines: whole lines, once each, with one hash chain over crashes and moved files."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from maxxit.bus import run
from maxxit.bus.models import EventCursor
from maxxit.bus.relays.jsonl import JsonLines
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.events import log
from maxxit.events.hash_chain import Verified, verify
from tests.bus.test_redis_streams import step_all, write
from tests.events.writers import another_connection

pytestmark = pytest.mark.django_db(transaction=True)


_open: list[run.RelayWork] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Every file is closed in the end."""
    yield
    while _open:
        _open.pop().close()


def work(path: Path) -> run.RelayWork:
    _open.append(run.RelayWork("relay:file", JsonLines(path=str(path)), log.FinalId(), 10))
    return _open[-1]


def ids(path: Path) -> list[int]:
    return [
        int(one["event_id"]) for one in map(json.loads, path.read_bytes().splitlines()) if "event_id" in one
    ]


def checked(path: Path) -> Verified:
    with path.open("rb") as file:
        return [state for state, _ in verify(file)][-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "events.jsonl"


def test_events_are_appended_and_the_head_is_kept(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    first = write(15)
    step_all(relay)
    relay.close()
    second = write(5)
    step_all(work(path))

    assert ids(path) == first + second
    assert checked(path).head == EventCursor.objects.get(pk="relay:file").head


def test_a_line_that_a_crash_left_unfinished_is_cut_off_and_written_again(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    first = write(3)
    step_all(relay)
    relay.close()
    text = path.read_bytes()
    path.write_bytes(text[:-20])  # the last line was not written to its end
    second = write(2)
    step_all(work(path))

    assert ids(path) == first + second
    assert checked(path).events == 5


def test_lines_that_were_written_before_the_cursor_moved_are_not_written_twice(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    first = write(3)
    before = EventCursor.objects.get(pk="relay:file").position
    step_all(relay)
    relay.close()
    EventCursor.objects.filter(pk="relay:file").update(position=before)
    second = write(2)
    step_all(work(path))

    assert ids(path) == first + second


def test_a_file_that_was_moved_away_is_followed_by_one_that_continues_its_hash_chain(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    write(3)
    step_all(relay)
    head = checked(path).head
    path.rename(path.with_suffix(".old"))
    second = write(2)
    step_all(relay)

    assert ids(path) == second
    assert json.loads(path.read_bytes().splitlines()[0])["previous"] == head


def test_another_file_is_not_appended_to(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("a diary\n")
    relay = work(path)
    write(1)
    EventCursor.objects.create(name="relay:file", position=0, updated_at="2026-01-01T00:00:00Z")
    with pytest.raises(Misconfigured, match="no file of events"):
        relay.step()

    assert path.read_text() == "a diary\n"


FOREIGN = [
    b"a diary",  # without an end of line
    b"a diary\nwhose last line is unfinished",
    b'{"event_id": "7", "hash": "0"}\n{"event_id": "8"',
    b'["json"]\n',
    bytes(range(256)),
]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_foreign_file_stays_as_it_is_however_often_it_is_tried(path: Path, text: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(text)
    write(1)
    EventCursor.objects.create(name="relay:file", position=0, updated_at="2026-01-01T00:00:00Z")
    relay = work(path)
    for _ in range(3):
        with pytest.raises(Misconfigured, match="no file of events"):
            relay.step()

    assert path.read_bytes() == text


def test_a_header_that_a_crash_left_unfinished_is_written_again(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'{"format":"maxxit-ev')
    first = write(2)
    step_all(relay)

    assert ids(path) == first
    assert checked(path).events == 2


def test_a_disk_that_is_full_for_a_while_costs_nothing(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    ours = write(3)
    step_all(relay)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ours += write(5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 300, before[1]))  # a line and a half
    failed = 0
    try:
        for _ in range(4):  # one of them finds the line that was written whole
            try:
                relay.step()
            except Retryable:
                failed += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    step_all(relay)

    assert failed >= 2
    assert ids(path) == ours
    assert checked(path).events == 8


def test_a_file_of_another_past_of_the_database_stops_the_relay(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    ours = write(5)
    step_all(relay)
    relay.close()
    # The database is restored to the time before these events, and writes others under the same ids.
    with another_connection() as other:
        other.execute("SET session_replication_role = replica")  # past the trigger that refuses it
        other.execute("UPDATE events SET subject = 'test.other/1' WHERE id = ANY(%s)", [ours])
        other.commit()
    EventCursor.objects.update(position=ours[0] - 1)
    write(3)
    with pytest.raises(Rejected, match="has another event"):
        work(path).step()


def test_a_file_that_is_ahead_of_the_event_log_stops_the_relay_with_the_fix(path: Path) -> None:
    relay = work(path)
    step_all(relay)
    write(2)
    step_all(relay)
    relay.close()
    lines = path.read_bytes().replace(b'"event_id":"', b'"event_id":"9')
    path.write_bytes(lines)  # as of a database with more events than this one
    write(1)
    with pytest.raises(Rejected, match="was the database restored"):
        work(path).step()
