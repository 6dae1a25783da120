"""Backups: what is made while trades are written comes back whole, into an empty place, and is checked by a drill."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.embedded.template import connected_to
from maxxit.events.models import Event
from maxxit.ops.backup import archive, database, folder, make, parts, restore
from maxxit.ops.backup.drill import drill
from maxxit.reports import backups, invariants
from maxxit.reports.backup_policy import Keep
from positions.exits import pauses
from positions.models import Position
from tests import builders as make_rows
from tests.builders import RecordedClock
from tests.passes import execute_pass, monitor_pass
from trading import gate
from trading.models import LedgerEntry, Order

PHRASE = "correct horse battery staple"


@pytest.fixture
def home(folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for backups, a data folder of its own, a passphrase."""
    settings.DATA_DIR = folder / "data"
    settings.DATA_DIR.mkdir()
    monkeypatch.setenv("BACKUP_FOLDER", str(folder / "backups"))
    monkeypatch.setenv("BACKUP_PASSPHRASE", PHRASE)
    return folder


@contextmanager
def empty_place() -> Iterator[None]:
    """Connect to a new, empty database of the test server."""
    name = f"{connection.settings_dict['NAME']}_restored"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    try:
        with connected_to(NAME=name):
            yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def trade(rounds: int, of: Any, time: RecordedClock) -> None:
    """Open and close positions on paper, one a working day."""
    for number in range(rounds):
        time.move(days=1)
        make_rows.price("ETH", "2000")
        make_rows.signal(of, token="ETH")
        execute_pass()
        monitor_pass()
        make_rows.price("ETH", "2400" if number % 2 else "1500")
        monitor_pass()
        execute_pass()
        monitor_pass()


@pytest.fixture
def agent(no_approval_file: Path, time: RecordedClock) -> Any:
    make_rows.price("ETH", "2000")
    agent = make_rows.agent()
    for _ in range(2):
        make_rows.deployment(agent)
    make_rows.open_gate()
    return agent


@pytest.mark.django_db(transaction=True)
def test_a_backup_made_while_trades_are_written_is_restored_whole_and_stays_stopped(
    home: Path, agent: Any, time: RecordedClock, empty_cache: None
) -> None:
    trade(2, agent, time)
    stop, made = threading.Event(), []

    def back_up() -> None:
        try:
            made.append(make.back_up(include=["config"]))
        finally:
            connection.close()
            stop.set()

    thread = threading.Thread(target=back_up)
    thread.start()
    while not stop.is_set():
        trade(1, agent, time)
    thread.join()
    facts = made[0].facts
    assert LedgerEntry.objects.count() > facts["rows"]["ledger_entries"][0] > 0
    highest = Order.objects.latest("id").pk

    with empty_place():
        restored = restore.restore(made[0].path, PHRASE, home / "files")
        assert [check for check in restored.checks if not check.ok] == []
        rows = database.facts()["rows"]
        assert rows["ledger_entries"] == facts["rows"]["ledger_entries"]
        assert rows["orders"] == facts["rows"]["orders"]
        assert gate.kill_level() == "no_entries"
        assert pauses.current_pause() is not None
        assert Event.objects.filter(name=backups.RESTORED, data__ok=True).count() == 1
        trade(1, agent, time)
        blocked = Order.objects.latest("id")
        assert (blocked.state, blocked.reason) == ("blocked", "kill_switch")
        assert blocked.pk > highest + 100_000
        with connection.cursor() as cursor, pytest.raises(Exception, match="append-only"):
            cursor.execute("DELETE FROM ledger_entries")
        pauses.resume(by="test", reason="compared")
        gate.release(by="test", reason="compared")
        trade(1, agent, time)
        assert all(check.ok for check in invariants.check_all())
        assert Position.objects.latest("id").state == "closed"
    assert (home / "files/config/risk.yaml").read_text() == Path("config/risk.yaml").read_text()


@pytest.mark.django_db(transaction=True)
def test_a_backup_of_an_older_release_is_restored_and_migrated(home: Path) -> None:
    """It has few of the tables that are counted today."""
    with empty_place():
        MigrationExecutor(connection).migrate([("events", "0001_squashed")])
        Event.objects.create(at=datetime.now(UTC), name="test.happened", subject="a/1")
        made = make.back_up(include=[])
    assert set(made.facts["rows"]) == {"events", "event_seals"}
    with empty_place():
        restored = restore.restore(made.path, PHRASE, home / "files")
        assert [check for check in restored.checks if not check.ok] == []
        assert Event.objects.filter(name="test.happened").count() == 1
        assert gate.kill_level() == "no_entries"


@pytest.mark.django_db(transaction=True)
def test_a_database_that_postgres_restored_is_stopped_checked_and_moved_ahead(
    home: Path, agent: Any, time: RecordedClock, empty_cache: None
) -> None:
    trade(1, agent, time)
    highest, path = Order.objects.latest("id").pk, make.back_up(include=[]).path
    with empty_place():
        with pytest.raises(Rejected, match="has no tables of Maxxit"):
            restore.take_over()
        with restore.opened(path, PHRASE) as contents:
            restore.load(contents)  # as Postgres leaves it: nothing stops trading
        assert gate.kill_level() == ""
        out = StringIO()
        call_command("restore", "--in-place", "--json", stdout=out)
        done = json.loads(out.getvalue())
        assert (done["ok"], done["files"]) == (True, [])
        assert gate.kill_level() == "no_entries"
        assert pauses.current_pause() is not None
        trade(1, agent, time)
        assert Order.objects.latest("id").pk > highest + 100_000
        assert Event.objects.get(name=backups.RESTORED).subject == "backup/postgres"


def test_a_restore_wants_a_file_or_the_present_database() -> None:
    for words in ((), ("some.age", "--in-place")):
        with pytest.raises(CommandError, match=r"give the FILE of a backup, or --in-place"):
            call_command("restore", *words)


@pytest.mark.django_db(transaction=True)
def test_trading_is_stopped_whatever_the_checks_do(
    home: Path, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make.back_up(include=[]).path

    def fails(*_: Any) -> Any:
        raise RuntimeError("a rule cannot be read")

    monkeypatch.setattr(invariants, "check_all", fails)
    monkeypatch.setattr(database, "facts", fails)
    with empty_place():
        with pytest.raises(RuntimeError, match="a rule cannot be read"):
            restore.restore(path, PHRASE, home / "files")
        assert gate.kill_level() == "no_entries"
        assert pauses.current_pause() is not None


@pytest.mark.django_db(transaction=True)
def test_a_backup_that_cannot_be_migrated_says_that_trading_is_not_stopped(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make.back_up(include=[]).path

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such column")

    monkeypatch.setattr(restore, "call_command", fails)
    with empty_place(), pytest.raises(Rejected, match=r"no such column\. Trading is not stopped"):
        restore.restore(path, PHRASE, home / "files")


@pytest.mark.django_db(transaction=True)
def test_no_command_line_has_the_databases_password(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of the machine sees command lines; the environment is seen by the same user alone."""
    word = "a-password-of-the-database"
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", word)
    monkeypatch.setattr(database, "READ", 16)

    def see_child(name: str) -> None:
        [child] = [one for one in psutil.Process().children() if one.name() == name]
        line = " ".join(child.cmdline())
        assert "dbname=" in line
        assert word not in line
        assert child.environ()["PGPASSWORD"] == word

    def watched(pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield next(pieces)
        see_child("pg_restore")
        yield from pieces

    with database.snapshot() as (_, pieces):
        first = next(pieces)
        see_child("pg_dump")
        dump = [first, *pieces]
    with empty_place():
        database.load(watched(iter(dump)))


@pytest.mark.django_db(transaction=True)
def test_a_restore_replaces_nothing(home: Path, agent: Any) -> None:
    path = make.back_up(include=[]).path
    with pytest.raises(Rejected, match="a backup never replaces data"):
        restore.restore(path, PHRASE, home / "files")


@pytest.mark.django_db(transaction=True)
def test_a_damaged_backup_leaves_the_place_empty(home: Path, agent: Any) -> None:
    whole = make.back_up(include=[]).path.read_bytes()
    damages = {
        "cut": whole[: len(whole) // 2],
        "changed": whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :],
    }
    with empty_place():
        for name, content in damages.items():
            path = home / name
            path.write_bytes(content)
            with pytest.raises(Rejected, match=r"damaged|not whole"):
                restore.restore(path, PHRASE, home / "files")
            database.check_empty()
        path = home / "whole"
        path.write_bytes(whole)
        with pytest.raises(Rejected, match="passphrase does not open"):
            restore.restore(path, "another passphrase", home / "files")
        database.check_empty()


@pytest.mark.django_db(transaction=True)
def test_a_plain_backup_without_its_last_pieces_is_refused(
    home: Path, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without encryption nothing but the digest tells that a piece is missing."""
    monkeypatch.setattr(database, "READ", 4096)
    path = make.back_up(include=[], encrypted=False).path
    pieces = Path(path).read_bytes()
    number = pieces.count(b"database/0")
    assert number > 3
    at = pieces.index(b"database/%06d" % (number - 1))
    damaged = home / "plain.tar"
    damaged.write_bytes(pieces[:at] + pieces[pieces.index(archive.DIGEST.encode()) :])
    with empty_place():
        with pytest.raises(Rejected, match="not whole"):
            restore.restore(damaged, "", home / "files")
        database.check_empty()


@pytest.mark.django_db(transaction=True)
def test_a_drill_restores_the_newest_backup_and_tells_health(home: Path, agent: Any) -> None:
    before = Event.objects.count()
    assert [check.name for check in backups.check_backups()] == ["backup"]
    make.back_up(include=["config"])
    done = drill()
    assert (done.failed, done.files > 10) == ([], True)
    assert done.checks[0].name == restore.ROWS
    assert [(check.name, check.ok) for check in backups.check_backups()] == [
        ("backup", True),
        ("backup drill", True),
    ]
    assert Event.objects.count() == before + 2
    assert list((home / "data").glob("drill-*")) == []


@pytest.mark.django_db(transaction=True)
def test_a_drill_finds_rows_that_differ_from_the_backups(
    home: Path, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = database.snapshot

    @contextmanager
    def other_facts() -> Iterator[Any]:
        with real() as (facts, pieces):
            count, checksum = facts["rows"]["ledger_entries"]
            yield facts | {"rows": facts["rows"] | {"ledger_entries": [count + 1, checksum]}}, pieces

    monkeypatch.setattr(database, "snapshot", other_facts)
    make.back_up(include=[])
    [wrong] = drill().failed
    assert wrong.name == restore.ROWS
    assert "ledger_entries: " in wrong.detail
    assert [check.ok for check in backups.check_backups()] == [True, False]


@pytest.mark.django_db
def test_health_sees_a_backup_that_is_old_failed_or_was_never_made(settings: Any) -> None:
    settings.PRODUCTION = True
    [never] = backups.check_backups()
    assert not never.ok
    assert "BACKUP" not in never.detail

    def event(name: str, hours: float, **data: Any) -> None:
        Event.objects.create(
            name=name, subject="backup/x", data=data, at=datetime.now(UTC) - timedelta(hours=hours)
        )

    event(backups.FAILED, 28, error="the folder is away")
    [first] = backups.check_backups()
    assert (first.ok, "the folder is away" in first.detail) == (False, True)
    event(backups.MADE, 27)
    assert [check.ok for check in backups.check_backups()] == [False, True]
    event(backups.MADE, 25)
    event(backups.DRILLED, 24, ok=True, problem="", seconds=4)
    assert [check.ok for check in backups.check_backups()] == [True, True]
    event(backups.FAILED, 1, error="the disk is full")
    event(backups.DRILLED, 1, ok=False, problem="books: differ", seconds=4)
    failed = list(backups.check_backups())
    assert [check.ok for check in failed] == [False, False]
    assert "the disk is full" in failed[0].detail
    assert "books: differ" in failed[1].detail


@pytest.mark.django_db(transaction=True)
def test_a_backup_that_fails_leaves_no_file_and_is_recorded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_target", lambda: "host=/nowhere")
    with pytest.raises(Rejected, match="pg_dump failed"):
        make.back_up()
    assert list((home / "backups").iterdir()) == []
    assert Event.objects.get(name=backups.FAILED).data["error"].startswith("pg_dump failed")


@pytest.mark.django_db(transaction=True)
def test_the_commands_make_list_and_drill(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> Any:
        said = StringIO()
        call_command(*arguments, "--json", stdout=said)
        return json.loads(said.getvalue())

    made = run("backup", "--include", "config,keys")
    assert Path(made["path"]).stat().st_mode & 0o077 == 0
    assert [one["path"] for one in run("backup", "list")] == [made["path"]]
    assert run("backup", "drill")["ok"] is True
    with pytest.raises(CommandError, match="a backup with keys is always encrypted"):
        call_command("backup", "--include", "keys", "--unencrypted")
    monkeypatch.setenv("BACKUP_PASSPHRASE", "short")
    with pytest.raises(CommandError, match="at least 16 characters"):
        call_command("backup")
    with pytest.raises(CommandError, match=r"replaces data|passphrase does not open"):
        call_command("restore", made["path"])


def test_keys_go_back_where_they_are_missing_and_replace_nothing(home: Path) -> None:
    data, away = home / "data", home / "files"
    (data / "secret_key").write_text("mine")
    assert parts.place("keys/data/secret_key", b"theirs", away) == away / "keys/data/secret_key"
    assert parts.place("keys/data/notify.key", b"theirs", away) == data / "notify.key"
    assert (data / "secret_key").read_text() == "mine"
    assert (data / "notify.key").stat().st_mode & 0o077 == 0
    for name in ("../evil", "keys/../../evil", "/etc/evil"):
        with pytest.raises(Rejected, match="outside its folder"):
            parts.place(name, b"x", away)


def test_keys_are_the_files_that_variables_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore = home / "executor.json"
    keystore.write_text("{}")
    monkeypatch.setenv("EXECUTOR_KEYSTORE", str(keystore))
    monkeypatch.setenv("EXECUTOR_PREVIOUS_KEYSTORE", '{"version": 3}')
    (home / "data/credentials.key").write_text("key")
    found = dict(parts.files(["keys"]))
    assert found["keys/environment/EXECUTOR_KEYSTORE"] == keystore
    assert "keys/data/credentials.key" in found
    assert "keys/environment/EXECUTOR_PREVIOUS_KEYSTORE" not in found


def test_a_key_file_that_is_named_and_missing_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_PASSWORD_FILE", str(home / "gone"))
    monkeypatch.setenv("BACKUP_PASSPHRASE_FILE", str(home / "opens backups, never inside one"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "of another program"))
    with pytest.raises(Misconfigured, match=r"EXECUTOR_PASSWORD_FILE: .*gone is not there"):
        dict(parts.files(["keys"]))
    (home / "gone").write_text("here again")
    found = [name for name in dict(parts.files(["keys"])) if name.startswith("keys/environment/")]
    assert found == ["keys/environment/EXECUTOR_PASSWORD_FILE"]


@pytest.mark.django_db(transaction=True)
def test_a_key_file_that_cannot_be_read_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore = home / "executor.json"
    keystore.write_text("{}")
    monkeypatch.setenv("EXECUTOR_KEYSTORE", str(keystore))
    real = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path == keystore:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refused)  # root may read every file
    with pytest.raises(Rejected, match=r"executor\.json cannot be read: Permission denied"):
        make.back_up(include=["keys"])


@pytest.mark.django_db(transaction=True)
def test_a_plain_backup_leaves_the_file_of_variables_out_and_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = home / "production.env"
    variables.write_text("SECRET_KEY=a-key-of-the-machine")
    monkeypatch.setenv("MAXXIT_ENV_FILE", str(variables))
    said = StringIO()
    call_command("backup", "--include", "config", "--unencrypted", stdout=said)
    [plain] = folder.backups(home / "backups")
    assert b"a-key-of-the-machine" not in plain.path.read_bytes()
    assert f"left out {variables}: it holds secrets" in said.getvalue()

    path = make.back_up(include=["config"]).path
    with restore.opened(path, PHRASE) as contents:
        list(contents.database())
        assert dict(contents.files())["config/.env"] == b"SECRET_KEY=a-key-of-the-machine"


@pytest.mark.django_db(transaction=True)
def test_a_restore_writes_files_into_an_empty_folder_alone(home: Path) -> None:
    path = make.back_up(include=["config"]).path
    (home / "files").mkdir()
    (home / "files" / "risk.yaml").write_text("mine")
    with empty_place():
        with pytest.raises(Rejected, match="files is not empty"):
            restore.restore(path, PHRASE, home / "files")
        database.check_empty()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), OSError(28, "No space left on device")])
def test_every_error_of_a_backup_and_a_drill_is_recorded(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    make.back_up(include=[])

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(make.archive, "create", fails)
    monkeypatch.setattr(restore, "load", fails)
    with clock.frozen(clock.now() + timedelta(seconds=1)), pytest.raises((type(error), Rejected)):
        make.back_up(include=[])  # its file would have the first one's name within the same second
    with pytest.raises(type(error)):
        drill()
    assert str(error.args[-1]) in Event.objects.get(name=backups.FAILED).data["error"]
    drilled = Event.objects.get(name=backups.DRILLED).data
    assert (drilled["ok"], str(error.args[-1]) in drilled["problem"]) == (False, True)
    assert [check.ok for check in backups.check_backups()] == [False, False]


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_named_although_nothing_can_be_recorded(home: Path) -> None:
    with connected_to(HOST="/nowhere"), pytest.raises(Retryable, match="does not answer"):
        make.back_up(include=[])


def test_a_second_writer_of_the_same_second_is_refused(tmp_path: Path) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    with folder.new_file(tmp_path, at, encrypted=True) as (path, file):
        file.write(b"first")
        with (
            pytest.raises(Rejected, match="being written by another process"),
            folder.new_file(tmp_path, at, encrypted=True),
        ):
            pass
    with pytest.raises(Rejected, match="never overwritten"), folder.new_file(tmp_path, at, encrypted=True):
        pass
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_deleted_before_the_next_backup(tmp_path: Path) -> None:
    at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    abandoned, written_to = (tmp_path / f"maxxit-2026030{day}T024000Z.tar.age.partial" for day in (1, 2))
    for path, hours in ((abandoned, 33), (written_to, 1)):
        path.write_bytes(b"half")
        moment = (at - timedelta(hours=hours)).timestamp()
        os.utime(path, (moment, moment))
    with folder.new_file(tmp_path, at, encrypted=True) as (whole, _):
        pass
    assert set(tmp_path.iterdir()) == {written_to, whole}


def test_the_newest_of_each_day_week_and_month_is_kept() -> None:
    first = datetime(2026, 1, 1, 2, 40, tzinfo=UTC)
    nightly = [first + timedelta(days=day) for day in range(200)]
    kept = set(nightly) - folder.expired(nightly, Keep(daily=7, weekly=5, monthly=3))
    assert kept >= set(nightly[-7:])
    assert len(kept) <= 7 + 5 + 3
    assert {(one.year, one.month) for one in kept} == {(2026, 5), (2026, 6), (2026, 7)}
    assert folder.expired([first], Keep(daily=1, weekly=0, monthly=0)) == set()
    twice = [first, first + timedelta(hours=3)]
    assert folder.expired(twice, Keep(daily=5, weekly=0, monthly=0)) == {first}


def test_keeping_is_the_same_after_each_night_as_all_at_once() -> None:
    keep, standing = Keep(daily=3, weekly=2, monthly=2), set[datetime]()
    for day in range(120):
        standing.add(datetime(2026, 1, 1, 2, 40, tzinfo=UTC) + timedelta(days=day))
        standing -= folder.expired(standing, keep)
        assert len(standing) <= 7
    assert max(standing) - min(standing) > timedelta(days=20)


def test_no_folder_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKUP_FOLDER", raising=False)
    with pytest.raises(Misconfigured, match="BACKUP_FOLDER"):
        folder.configured()
