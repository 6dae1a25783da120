"""Processes forked from a warm parent behave as if their command had been started, and end with it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from maxxit.embedded.processes import wait_until
from maxxit.ops import forkserver
from maxxit.ops.forkserver import Forkserver
from maxxit.ops.supervisor import Child, Supervisor

pytestmark = pytest.mark.skipif(not forkserver.available(), reason="processes are forked on Linux only")

SHOWS = """
    import json, os, sys, threading, time
    from django.apps import apps
    from django.conf import settings
    from django.db import connection
    from maxxit.core.config import Policy
    from maxxit.reports.schemas import OrderOut
    from signals_app.reading.rules.read import GRAMMARS, VERSION
    print(json.dumps({
        "arguments": sys.argv[1:], "main": __name__, "mark": os.environ.get("MARK"), "pid": os.getpid(),
        "kept": connection.settings_dict["CONN_MAX_AGE"], "group": os.getpgid(0), "nice": os.nice(0),
        "threads": threading.active_count(), "warm": "maxxit.urls" in sys.modules,
        "filled": all(model._meta._get_fields_cache for model in apps.get_models()),
        "validators": all(one.__pydantic_complete__ for one in (OrderOut, *Policy.__subclasses__())),
        "compiled": all("pattern" in vars(cue) for cue in GRAMMARS[VERSION].cues),
    }), flush=True)
    time.sleep(float(os.environ.get("SECONDS", "0")))
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path_factory.mktemp("logs"))
    made.start(Forkserver(environ={"DJANGO_SETTINGS_MODULE": "maxxit.settings", "SPT_NOENV": "1"}))
    yield made
    made.stop()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "shows.py"
    file.write_text(dedent(SHOWS))
    return file


def fork(supervisor: Supervisor, command: list[str], name: str = "toy", **environ: str) -> Child:
    parent = supervisor.children[0]
    assert isinstance(parent, Forkserver)
    child = Child(name, command, environ, forkserver=parent)
    supervisor.start(child)
    supervisor.children.remove(child)  # it is not restarted
    return child


def ended(child: Child) -> int | None:
    assert child.process is not None
    assert wait_until(lambda: child.process is not None and child.process.poll() is not None, 60)
    return child.process.returncode


def said(supervisor: Supervisor, name: str) -> dict[str, object]:
    log = supervisor.logs / f"{name}.log"
    assert wait_until(lambda: log.exists() and bool(log.read_text().strip()), 60)
    shown: dict[str, object] = json.loads(log.read_text().splitlines()[-1])
    return shown


def test_it_runs_a_command_with_its_own_arguments_environment_and_settings(
    supervisor: Supervisor, script: Path
) -> None:
    command = ["nice", "-n", "7", sys.executable, str(script), "one", "two words"]
    child = fork(supervisor, command, "shows", MARK="here", CONN_MAX_AGE="77")
    assert ended(child) == 3

    shown = said(supervisor, "shows")
    assert child.process is not None
    assert shown == {
        "arguments": ["one", "two words"], "main": "__main__", "mark": "here", "pid": child.process.pid, "kept": 77,
        "group": child.process.pid, "nice": os.nice(0) + 7, "threads": 1, "warm": True,
        "filled": True, "validators": True, "compiled": True,
    }  # fmt: skip


def test_another_has_nothing_of_the_environment_of_the_first(supervisor: Supervisor, script: Path) -> None:
    assert (
        ended(fork(supervisor, [sys.executable, str(script)], "first", MARK="here", CONN_MAX_AGE="77")) == 3
    )
    assert ended(fork(supervisor, [sys.executable, str(script)], "second")) == 3
    shown = said(supervisor, "second")
    assert (shown["mark"], shown["kept"]) == (None, 60)


LEAVES = """
from maxxit.ops import forkserver
fill = forkserver.fill_caches
def leaves_a_connection():
    from django.db import connection
    connection.connection = object()
    fill()
forkserver.fill_caches = leaves_a_connection
forkserver.warm_up()
"""


def test_it_forks_nothing_while_a_connection_is_open() -> None:
    environ = os.environ | {"DJANGO_SETTINGS_MODULE": "maxxit.settings"}
    done = subprocess.run(
        [sys.executable, "-c", LEAVES], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: an import has left something open" in done.stderr


def test_it_shows_the_command_and_runs_modules(supervisor: Supervisor) -> None:
    child = fork(supervisor, [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"], "module")
    assert child.process is not None
    process = psutil.Process(child.process.pid)
    assert wait_until(lambda: "-m http.server 0" in " ".join(process.cmdline()), 30)
    child.ask_to_stop()
    assert ended(child) == -signal.SIGTERM


def test_how_a_process_ended_is_told(supervisor: Supervisor, script: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ValueError('this one')")
    assert ended(fork(supervisor, [sys.executable, str(broken)], "broken")) == 1
    assert "ValueError: this one" in (supervisor.logs / "broken.log").read_text()

    killed = fork(supervisor, [sys.executable, str(script)], "killed", SECONDS="60")
    assert said(supervisor, "killed")
    assert killed.process is not None
    killed.process.send_signal(signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL


def test_the_processes_end_with_their_parent_and_it_is_started_again(
    supervisor: Supervisor, script: Path
) -> None:
    child = fork(supervisor, [sys.executable, str(script)], "orphan", SECONDS="60")
    assert said(supervisor, "orphan")
    parent = supervisor.children[0]
    assert parent.process is not None
    assert child.process is not None
    process = psutil.Process(child.process.pid)
    first = parent.process
    os.kill(first.pid, signal.SIGKILL)

    assert ended(child) == -signal.SIGKILL
    assert wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 10)
    with pytest.raises(ConnectionError):
        fork(supervisor, [sys.executable, str(script)], "too-early")

    def again() -> bool:
        supervisor.tend()
        return parent.process is not first

    assert wait_until(again, 10)
    assert ended(fork(supervisor, [sys.executable, str(script)], "later")) == 3
