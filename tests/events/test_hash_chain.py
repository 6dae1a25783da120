"""JSON lines with a hash chain, and the commands that export, verify and follow the event log."""

import csv
import hashlib
import io
import json
import random
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from agents.models import Agent
from maxxit.core.errors import Rejected
from maxxit.events.hash_chain import START, HashChain, Verified, verify
from maxxit.events.log import LoggedEvent
from maxxit.events.models import Event
from maxxit.events.record import record
from tests import builders as make
from tests.builders import T0, RecordedClock


def event(number: int) -> LoggedEvent:
    corr = UUID(int=number) if number % 2 else None
    text = json.dumps({"n": number, "why": 'ü "quoted" \n', "hash": "x"}, ensure_ascii=False)
    return LoggedEvent(number, T0, "order.planned", f"trading.order/{number}", corr, text)


def export(numbers: range, *, finished: bool = True) -> bytes:
    hash_chain = HashChain()
    made = hash_chain.header() + b"".join(hash_chain.line(event(number)) for number in numbers)
    return made + hash_chain.trailer() if finished else made


def checked(text: bytes) -> Verified:
    return [state for state, _ in verify(BytesIO(text))][-1]


def test_an_export_verifies_and_each_line_is_json() -> None:
    text = export(range(1, 6))
    state = checked(text)
    lines = [json.loads(line) for line in text.splitlines()]

    assert (state.events, state.first_id, state.last_id, state.finished) == (5, 1, 5, True)
    assert [one.get("event_id") for one in lines] == [None, "1", "2", "3", "4", "5", None]
    assert lines[1]["data"] == {"n": 1, "why": 'ü "quoted" \n', "hash": "x"}
    assert lines[1]["correlation_id"] == str(UUID(int=1))
    assert state.head == lines[-1]["hash"]


def test_the_hash_can_be_computed_by_hand() -> None:
    """As docs/events.md says: from the hash of the line before and the bytes of this line up to its hash."""
    first, second, *_ = export(range(1, 3)).split(b"\n")
    previous = json.loads(first)["hash"].encode()
    text, _, stated = second.rpartition(b',"hash":"')

    assert hashlib.sha256(previous + text).hexdigest() == stated.removesuffix(b'"}').decode()
    assert json.loads(first)["previous"] == START


def test_each_changed_byte_is_found() -> None:
    text, chance = export(range(1, 4)), random.Random(1)
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= chance.randint(1, 255)
        with pytest.raises(Rejected) as refused:
            checked(bytes(changed))
        assert refused.value.code == "chain_broken", place


@pytest.mark.parametrize("place", range(6))
def test_a_line_that_is_missing_doubled_or_moved_is_found(place: int) -> None:
    lines = export(range(1, 5)).splitlines(keepends=True)
    following = (place + 1) % len(lines)
    swapped = list(lines)
    swapped[place], swapped[following] = swapped[following], swapped[place]
    missing = lines[:place] + lines[place + 1 :]
    for wrong in (swapped, lines[: place + 1] + lines[place:], missing):
        if place == len(lines) - 1 and wrong is missing:
            continue  # see the next test
        with pytest.raises(Rejected):
            checked(b"".join(wrong))


def test_lines_missing_at_the_end_show_as_unfinished() -> None:
    lines = export(range(1, 5)).splitlines(keepends=True)
    assert not checked(b"".join(lines[:-1])).finished
    assert not checked(b"".join(lines[:-3])).finished


def test_a_rewritten_chain_has_another_head() -> None:
    """Who recomputes every hash is found by the head that was noted elsewhere."""
    forged = HashChain()
    text = forged.header() + forged.line(event(1)) + forged.line(event(3)) + forged.trailer()
    assert checked(text).head != checked(export(range(1, 3))).head


@pytest.fixture
def logged(db: None, time: RecordedClock) -> Agent:
    agent = make.agent()
    for number in range(3):
        record("order.planned", agent, number=number)
        time.move(hours=1)
    record("position.open", agent, note="=1+1")
    return agent


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> Any:
    call_command("events", *map(str, words), "--json")
    return json.loads(capsys.readouterr().out)


def test_export_and_verify(logged: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "all.jsonl"
    done = run(capsys, "export", "--file", path)
    found = run(capsys, "verify", path, "--database", "--head", done["head"])

    assert done["events"] == found["events"] == Event.objects.count()
    assert found["finished"]
    with pytest.raises(CommandError, match="name another file"):
        run(capsys, "export", "--file", path)


def test_verify_names_the_line_with_a_changed_byte(
    logged: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.jsonl"
    run(capsys, "export", "--file", path)
    text = path.read_bytes()
    place = text.index(b"position.open")
    path.write_bytes(text[:place] + b"q" + text[place + 1 :])
    number = text[:place].count(b"\n") + 1
    with pytest.raises(CommandError, match=f"line {number}: its hash"):
        run(capsys, "verify", path)


def test_verify_finds_a_file_that_was_made_of_other_rows(
    logged: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Event.objects.earliest("pk")
    forged = HashChain()
    other = LoggedEvent(row.pk, row.at, row.name, row.subject, row.correlation_id, '{"number": 7}')
    path = tmp_path / "forged.jsonl"
    path.write_bytes(forged.header() + forged.line(other) + forged.trailer())

    assert run(capsys, "verify", path)["events"] == 1
    with pytest.raises(CommandError, match="differs from the event log"):
        run(capsys, "verify", path, "--database")


def test_verify_refuses_a_shorter_file_than_its_head(
    logged: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.jsonl"
    head = run(capsys, "export", "--file", path)["head"]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(CommandError, match="lines are missing at the end"):
        run(capsys, "verify", path, "--head", head)


def test_export_of_some_names_and_times_as_csv(
    logged: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.csv"
    run(
        capsys, "export", "--csv", "--file", path, "--name", "order.*", "--since", f"{T0.isoformat()}",
        "--until", T0.replace(hour=14).isoformat(),
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(path.read_text())))

    assert [json.loads(row["data"])["number"] for row in rows] == [0, 1]
    assert rows[0]["ts"] == "2026-03-02T12:00:00.000000Z"
    assert rows[0]["name"] == "order.planned"


def test_tail_prints_the_newest_events_of_a_name(logged: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "tail", "-n", "2", "--name", "order.*")
    assert [one["data"]["number"] for one in found] == [1, 2]
