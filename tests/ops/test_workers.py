"""`workers`, `logs` and `version`: single processes of `make up`, from another terminal."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import CommandError, call_command
from django_celery_beat.models import PeriodicTask

from maxxit.core.commands import CommandLine
from maxxit.embedded.processes import only_one, wait_until
from maxxit.ops.control import Control
from maxxit.ops.supervisor import Child, Supervisor
from maxxit.pipeline import release
from maxxit.pipeline.models import CanaryMark, Release
from tests.builders import T0

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def run(*arguments: str) -> Any:
    said = StringIO()
    with contextlib.suppress(SystemExit):
        call_command(*arguments, "--json", stdout=said)
    return json.loads(said.getvalue())


@pytest.fixture
def up(tmp_path: Path, settings: Any) -> Iterator[Supervisor]:
    """A supervisor of two processes, tended by a thread as `make up` does."""
    settings.DATA_DIR = tmp_path
    supervisor = Supervisor(tmp_path / "logs", control=Control(tmp_path))
    over = threading.Event()

    def tend() -> None:
        while not over.wait(0.02):
            supervisor.tend()

    with only_one(tmp_path):
        supervisor.start(Child("worker-llm", [sys.executable, "-c", "import time; time.sleep(60)"]))
        supervisor.start(Child("worker-deaf", [sys.executable, "-c", DEAF], patience=0.3))
        assert wait_until(lambda: bool((tmp_path / "logs/worker-deaf.log").read_text()), 10)
        thread = threading.Thread(target=tend)
        thread.start()
        assert wait_until(lambda: len(Control(tmp_path).read()) == 2, 10)
        yield supervisor
        over.set()
        thread.join()
        supervisor.stop()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["worker-llm", "worker-deaf"])
def test_a_worker_is_stopped_stays_stopped_and_is_started_again(name: str, up: Supervisor) -> None:
    before = {row["name"]: row["pid"] for row in run("workers", "status")}
    assert run("workers", "stop", name) == {"name": name, "state": "stopped", "pid": None}
    assert not psutil.pid_exists(before[name])
    time.sleep(0.2)
    assert {row["name"]: row["state"] for row in run("workers", "status")}[name] == "stopped"
    with pytest.raises(SystemExit):
        call_command("workers", "status", name, stdout=StringIO())
    started = run("workers", "start", name)
    assert started["state"] == "running"
    assert started["pid"] not in (None, before[name])
    others = {row["name"]: row["pid"] for row in run("workers", "status")} | {name: before[name]}
    assert others == before


@pytest.mark.django_db
def test_a_worker_that_exits_by_itself_is_still_restarted(up: Supervisor) -> None:
    [first] = [row for row in run("workers", "status", "worker-llm")]
    psutil.Process(first["pid"]).kill()

    def again() -> bool:
        [row] = run("workers", "status", "worker-llm")
        return bool(row["state"] == "running" and row["pid"] != first["pid"])

    assert wait_until(again, 10)


@pytest.mark.django_db
def test_what_is_unknown_or_not_running_is_refused_with_the_way_to_go(tmp_path: Path, up: Supervisor) -> None:
    with pytest.raises(
        CommandError, match="no process or job 'worker-x'; processes: worker-llm, worker-deaf"
    ):
        call_command("workers", "stop", "worker-x")


@pytest.mark.django_db
def test_without_make_up_the_workers_that_answered_are_shown(tmp_path: Path, settings: Any) -> None:
    settings.DATA_DIR = tmp_path
    CanaryMark.objects.create(queue="llm", worker="llm@there", signed_at=T0)
    [row] = run("workers", "status")
    assert (row["queue"], row["worker"]) == ("llm", "llm@there")
    with pytest.raises(CommandError, match="systemctl stop maxxit-worker@llm"):
        call_command("workers", "stop", "worker-llm")


@pytest.mark.django_db
def test_a_job_is_switched_off_and_on(tmp_path: Path, settings: Any) -> None:
    settings.DATA_DIR = tmp_path
    call_command("sync_schedule", stdout=StringIO())
    assert run("workers", "stop", "classify") == {"name": "classify", "enabled": False}
    assert PeriodicTask.objects.get(name="classify").enabled is False
    assert run("workers", "status", "classify")["enabled"] is False
    assert run("workers", "start", "classify")["enabled"] is True


def test_logs_show_the_newest_lines_and_the_errors(tmp_path: Path, settings: Any) -> None:
    settings.DATA_DIR = tmp_path
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/web.log").write_text("one\ntwo\n[error    ] three\nfour\n")
    (tmp_path / "logs/beat.log").write_text("tick\n")
    assert [row["line"] for row in run("logs", "web", "-n", "2")] == ["[error    ] three", "four"]
    assert run("logs", "--errors") == [{"process": "web", "line": "[error    ] three"}]
    with pytest.raises(CommandError, match=r"no log of flower .*there are: beat, web"):
        call_command("logs", "flower")


@pytest.mark.django_db
def test_version_on_the_command_line_is_ours_and_not_djangos(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.setup", lambda: None)  # the tests' own is done
    release.declare()
    CommandLine(["manage.py", "version", "--json"]).execute()
    assert json.loads(capsys.readouterr().out)["version"] == "0.1.0"


@pytest.mark.django_db
def test_version_tells_both_releases(settings: Any) -> None:
    shown = run("version")
    assert (shown["version"], shown["release"], shown["declared"]) == ("0.1.0", release.mine(), "")
    Release.objects.create(fingerprint="another", declared_at=T0)
    with pytest.raises(SystemExit):
        call_command("version", stdout=StringIO())
