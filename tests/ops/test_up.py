"""`make up` as a person meets it: once, twice, with a port taken, with things killed, and stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from maxxit.embedded.processes import wait_until
from maxxit.env import BASE_DIR
from maxxit.ops.control import Control
from maxxit.ops.supervisor import Child, Supervisor

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


class Up:
    """A `manage.py up` with a data folder and ports of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.web, self.flower = free_port(), free_port()
        self.text = ""
        self.verbose = True
        self.process: subprocess.Popen[str] | None = None

    def command(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        own = {
            "MAXXIT_DATA_DIR": str(self.data),
            "WEB_PORT": str(self.web),
            "FLOWER_PORT": str(self.flower),
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "MAXXIT_ADMIN_PASSWORD": "from-the-environment",
        }
        return subprocess.Popen(
            [sys.executable, "manage.py", "up", *arguments],
            cwd=BASE_DIR,
            env=os.environ | own | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self) -> float:
        """Seconds until the block that says what to look at."""
        self.kill()
        began = time.monotonic()
        self.process, self.text = self.command("--no-demo", "-v", "2" if self.verbose else "1"), ""
        self.read_until("Ctrl-C stops all processes")
        return time.monotonic() - began

    def read_until(self, words: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if words in line:
                return
        raise AssertionError(f"it ended without saying {words!r}:\n{self.text[-4000:]}")

    def fails(self, *arguments: str, **environ: str) -> str:
        """What a start that must fail says."""
        with self.command(*arguments, **environ) as process:
            said = process.communicate(timeout=30)[0]
        assert process.returncode == 1, said
        return said

    def stop(self, sent: signal.Signals) -> float:
        """Seconds until it has left."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(sent)
        self.text += self.process.communicate(timeout=30)[0]
        return time.monotonic() - began

    def kill(self) -> None:
        """What no program can answer to."""
        if self.process is not None:
            with self.process:  # closes its output
                self.process.kill()

    def processes(self) -> list[psutil.Process]:
        """Everything alive that was started with this data folder."""
        return [one for one in psutil.process_iter() if self._is_ours(one)]

    def named(self, words: str) -> psutil.Process:
        """The one whose command line has these words, the parent before its children."""
        return min((p for p in self.processes() if words in line_of(p)), key=lambda p: p.create_time())

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # The databases write their title over their environment, but they live in their folder.
            return (
                process.environ().get("MAXXIT_DATA_DIR") == str(self.data) or str(self.data) in process.cwd()
            )
        except psutil.Error:
            return False


def line_of(process: psutil.Process) -> str:
    """Its command line; empty where it has ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def crowding() -> float:
    """How many times slower than an idle machine this one may be right now."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture
def up(folder: Path) -> Iterator[Up]:
    made = Up(folder)
    yield made
    made.kill()
    wait_until(lambda: not made.processes(), 15)


@pytest.mark.limit(400)
def test_the_whole_life_of_make_up(up: Up) -> None:
    up.start()
    assert "admin login made: admin, password from MAXXIT_ADMIN_PASSWORD" in up.text
    assert f"http://127.0.0.1:{up.web}/admin/" in up.text
    with urllib.request.urlopen(f"http://127.0.0.1:{up.web}/admin/login/") as page:
        assert page.status == 200
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{up.flower}/")

    assert up.process is not None
    assert (
        f"already running, pid {up.process.pid}: stop it with Ctrl-C there or with `make down`" in up.fails()
    )

    for words, name in (
        ("-n execute@maxxit", "worker-execute"),
        ("postgres -D", "postgres"),
        ("-server 127.0.0.1", "redis"),
    ):
        up.named(words).kill()
        up.read_until(f"{name} | exited (killed by SIGKILL); restarting")
    up.read_until("execute@maxxit ready")

    started = up.processes()
    up.kill()
    assert len(started) > 10
    assert wait_until(lambda: not up.processes(), 10), [one.cmdline() for one in up.processes()]

    up.verbose = False
    assert up.start() < 15 * crowding()
    assert "admin login made" not in up.text
    assert "│ Maxxit is ready after" in up.text
    assert "log in as admin with MAXXIT_ADMIN_PASSWORD; shown again by `manage.py login-info`" in up.text
    assert "worker-execute | started" in up.text
    assert "execute@maxxit ready" not in up.text
    assert "database system is ready" not in up.text
    assert (up.data / "logs" / "worker-execute.log").stat().st_size > 0
    began = time.monotonic()
    with up.command("--stop") as down:
        assert "stopped; the data is kept" in down.communicate(timeout=20)[0]
    assert time.monotonic() - began < 10 * crowding()
    assert wait_until(lambda: not up.processes(), 2)


def test_the_supervisor_loads_no_models_no_codecs_no_structlog_and_no_second_http_client() -> None:
    heavy = ["django.db.models", "eth_utils", "eth_abi", "httpx", "maxxit.settings", "structlog", "rich"]
    code = (
        "import sys, maxxit.core.commands, maxxit.ops.management.commands.up\n"
        "print(*(name for name in sys.argv[1:] if name in sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *heavy], cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == []


def test_a_taken_port_is_named(up: Up) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = up.fails(WEB_PORT=str(port))

    assert f"port {port} is taken by" in said
    assert "set WEB_PORT to another port" in said
    assert len(said.splitlines()) == 1


def test_a_killed_child_is_started_again_and_its_leftovers_are_cleared(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    code = f"import subprocess, time; print(subprocess.Popen({SLEEPER!r}).pid, flush=True); time.sleep(60)"
    child = Child("toy", [sys.executable, "-c", code])
    supervisor.start(child)
    assert child.process is not None
    assert wait_until(lambda: bool((tmp_path / "toy.log").read_text()), 5)
    first, grandchild = child.process, psutil.Process(int((tmp_path / "toy.log").read_text()))
    first.send_signal(signal.SIGKILL)

    def again() -> bool:
        supervisor.tend()
        return child.process is not first

    assert wait_until(again, 5)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    supervisor.stop()
    assert child.process.poll() is not None


def test_a_child_that_keeps_dying_is_started_after_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = 0.0, []
    monkeypatch.setattr("maxxit.ops.supervisor.time.monotonic", lambda: now)
    supervisor = Supervisor(tmp_path)
    child = Child("toy", [sys.executable, "-c", ""])
    monkeypatch.setattr(child, "start", lambda _: None)  # it is gone at once
    supervisor.start(child)
    for _ in range(8):
        supervisor.tend()
        pauses.append(supervisor._due["toy"] - now)
        now = supervisor._due["toy"]
        supervisor.tend()

    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]


def test_children_are_restarted_while_the_states_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    supervisor = Supervisor(tmp_path, control=Control(data))
    child = Child("toy", [sys.executable, "-c", ""])
    starts: list[int] = []
    monkeypatch.setattr(child, "start", starts.append)  # it is gone at once
    supervisor.start(child)
    data.rmdir()
    for _ in range(3):
        supervisor.tend()
    assert len(starts) == 2
    data.mkdir()
    supervisor.tend()

    assert [one.name for one in Control(data).read()] == ["toy"]
    shown = [line for line in capsys.readouterr().out.splitlines() if "cannot be used" in line]
    assert len(shown) == 1
    assert "processes" in shown[0]


def test_children_are_stopped_stage_by_stage_and_the_deaf_are_killed(tmp_path: Path) -> None:
    supervisor, order = Supervisor(tmp_path), tmp_path / "order"
    tell = (
        "import signal, sys, time\n"
        "def leave(*_):\n    open(sys.argv[1], 'a').write(sys.argv[2])\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, leave)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    children = [
        Child("database", [sys.executable, "-c", tell, str(order), "c"], stage=9),
        Child("worker", [sys.executable, "-c", tell, str(order), "b"], stage=1),
        Child("web", [sys.executable, "-c", tell, str(order), "a"]),
        Child("deaf", [sys.executable, "-c", deaf], patience=0.3),
    ]
    for child in children:
        supervisor.start(child)
    assert wait_until(lambda: all((tmp_path / f"{c.name}.log").read_text() for c in children), 5)
    supervisor.stop()

    assert order.read_text() == "abc"
    assert all(child.process is not None and child.process.poll() is not None for child in children)
