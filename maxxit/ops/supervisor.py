"""Process supervisor of `manage.py up`: starts children, shows their output, restarts them, and stops them in order.

honcho is not used: it signals whole process groups, so that a pool child dies in the middle of a task, and has no
order. Here a stop signals only the parent process of each child, stage by stage. Each child leads its own process
group, so that Ctrl-C reaches this process alone and the leftovers of a dead child can be killed together. If this
process is killed, the kernel signals the children (`bound_to_parent`).
"""

import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.embedded.processes import bound_to_parent, wait_until
from maxxit.embedded.servers import Postgres, Redis
from maxxit.ops import console
from maxxit.ops.control import Control, Process
from maxxit.ops.forkserver import Forked, Forkserver

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
HEALTHY_SECONDS = 30.0
"""A child that ran this long is restarted without a delay."""
LONGEST_PAUSE = 30.0
GROUP_SECONDS = 1.0
"""Grace period of what a dead process leaves behind."""


@dataclass
class Child:
    """A supervised process. Lower stages are stopped first; `patience` is the grace period in seconds."""

    name: str
    command: Sequence[str]
    environ: dict[str, str] = field(default_factory=dict)
    stage: int = 0
    patience: float = 2.5
    forkserver: Forkserver | None = None
    """Runs it in a process forked from there, instead of a new one."""
    process: subprocess.Popen[bytes] | Forked | None = None

    def start(self, output: int) -> None:
        """Start it, with stdout and stderr to the file descriptor `output`."""
        environ = os.environ | self.environ
        if self.forkserver is not None:
            self.process = self.forkserver.fork(self.command, environ, output)
            return
        self.process = subprocess.Popen(
            self.command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # SIGKILL: on SIGTERM a worker would wait for a Redis that stops at the same time.
            preexec_fn=bound_to_parent(signal.SIGKILL),
            process_group=0,
        )

    def ask_to_stop(self) -> None:
        """Signal the parent process only: it stops its own children."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


@dataclass
class Server:
    """A supervised embedded server: stopped last; `start` waits until it answers."""

    server: Postgres | Redis
    stage: int = 9
    patience: float = 2.5

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self.server.process

    def start(self, output: int) -> None:
        """Start it, with crash recovery where needed."""
        self.server.start(output)

    def ask_to_stop(self) -> None:
        """Send SIGINT to Postgres (fast shutdown), SIGTERM to Redis."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT if self.name == "postgres" else signal.SIGTERM)


Supervised = Child | Server | Forkserver
T = TypeVar("T")


class Supervisor:
    """Starts children with `start`, restarts them in `watch`, and stops them with `stop`."""

    def __init__(self, logs: Path, verbose: bool = True, control: Control | None = None) -> None:
        self.logs = logs
        self.control = control
        """Where the states are written, and what another terminal asks is read."""
        self.verbose = verbose
        """Whether the terminal shows every line, or only what `console.line` selects."""
        self.children: list[Supervised] = []
        self.colour = sys.stdout.isatty()
        self._pumps: list[threading.Thread] = []
        self._due: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._since: dict[str, str] = {}
        self._restarts: Counter[str] = Counter()
        self._stopping: dict[str, float] = {}
        self._stopped: set[str] = set()
        self._unusable: dict[str, str] = {}
        """File of `control` -> the error that was shown of it."""
        logs.mkdir(parents=True, exist_ok=True)

    def say(self, text: str, name: str = "maxxit") -> None:
        """Write one line to the terminal; a closed terminal is ignored."""
        known = [child.name for child in self.children]
        paint = COLOURS[known.index(name) % len(COLOURS)] if name in known else 1
        prefix = f"\033[{paint}m{name:>14} |\033[0m " if self.colour else f"{name:>14} | "
        try:
            sys.stdout.write(f"{prefix}{text}\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.colour = False

    def start(self, child: Supervised) -> None:
        """Start `child` and supervise it."""
        if child not in self.children:
            self.children.append(child)
        reading, writing = os.pipe()
        pump = threading.Thread(target=self._pump, args=(os.fdopen(reading, "rb"), child.name), daemon=True)
        pump.start()
        self._pumps.append(pump)
        try:
            child.start(writing)
        finally:
            os.close(writing)
        self._started[child.name] = time.monotonic()
        self._since[child.name] = iso_utc(clock.now())
        if not self.verbose:
            self.say("started", child.name)

    def watch(self) -> None:
        """Supervise the children until KeyboardInterrupt."""
        while True:
            self.tend()
            time.sleep(0.2)

    def tend(self) -> None:
        """Check each child once, restart those that exited, and do what another terminal asked.

        Without the files of the other terminals, on a full disk for example, the children are supervised all the same.
        """
        control = self.control
        asked: list[tuple[str, str]] = self._files("requests", control.requests, []) if control else []
        for name, action in asked:
            self._obey(name, action)
        for child in list(self.children):
            self._check(child)
        if control:
            states = [self._describe(child) for child in self.children]
            self._files("states", lambda: control.publish(states), None)

    def _files(self, what: str, use: Callable[[], T], otherwise: T) -> T:
        """Return what `use` returns, or `otherwise` where it raises OSError, which is shown once while it lasts."""
        try:
            found = use()
        except OSError as error:
            if self._unusable.get(what) != str(error):
                self.say(f"the {what} of `manage.py workers` cannot be used, retrying: {error}")
            self._unusable[what] = str(error)
            return otherwise
        self._unusable.pop(what, None)
        return found

    def _obey(self, name: str, action: str) -> None:
        """Start or stop one child. A database or the forkserver is not stopped: the others would fail."""
        child = next((one for one in self.children if one.name == name and isinstance(one, Child)), None)
        if child is None:
            return
        self.say(f"{action} asked by another terminal", name)
        if action == "stop" and name not in self._stopped:
            child.ask_to_stop()
            self._due.pop(name, None)
            self._stopping[name] = time.monotonic() + child.patience
        if action == "start" and name in self._stopped:
            self._stopped.discard(name)
            self._due[name] = time.monotonic()

    def _describe(self, child: Supervised) -> Process:
        name = child.name
        states = {"stopping": self._stopping, "stopped": self._stopped, "restarting": self._due}
        state = next((word for word, names in states.items() if name in names), "running")
        pid = child.process.pid if child.process and state in ("running", "stopping") else None
        may_stop = isinstance(child, Child)
        return Process(name, state, pid, self._since.get(name, ""), self._restarts[name], may_stop)

    def _end(self, child: Child) -> None:
        """Wait for a child that was asked to stop; kill it after its grace period."""
        late = time.monotonic() > self._stopping[child.name]
        if late and not _gone(child):
            self.say("did not stop in time: killed", child.name)
        if late or _gone(child):
            _clear(child)
            child.process = None
            del self._stopping[child.name]
            self._stopped.add(child.name)
            self.say("stopped", child.name)

    def stop(self) -> None:
        """Stop all children, stage by stage; after the grace period their process groups are killed."""
        for stage in sorted({child.stage for child in self.children}):
            group = [child for child in self.children if child.stage == stage]
            for child in group:
                child.ask_to_stop()
            end = time.monotonic() + max(child.patience for child in group)
            for child in group:
                if not wait_until(partial(_gone, child), max(0.1, end - time.monotonic())):
                    self.say("did not stop in time: killed", child.name)
                _clear(child)
        for pump in self._pumps:
            pump.join(timeout=0.5)

    def _check(self, child: Supervised) -> None:
        name, now = child.name, time.monotonic()
        if name in self._stopped:
            return
        if name in self._stopping and isinstance(child, Child):
            self._end(child)
            return
        if not _gone(child):
            if now - self._started.get(name, now) > HEALTHY_SECONDS:
                self._pause.pop(name, None)
            return
        if name not in self._due:
            pause = self._pause.get(name, 0.0)
            self._pause[name] = min(LONGEST_PAUSE, pause * 2 or 1.0)
            self._due[name] = now + pause
            self._restarts[name] += 1
            code = child.process.returncode if child.process else None
            self.say(f"exited ({_reason(code)}); restarting in {pause:.0f} s", name)
            _clear(child)
        elif now >= self._due[name]:
            del self._due[name]
            try:
                self.start(child)
            except Exception as error:  # the other children go on, and this one is tried again
                self.say(f"start failed: {error}", name)

    def _pump(self, source: IO[bytes], name: str) -> None:
        log = logging.handlers.RotatingFileHandler(
            self.logs / f"{name}.log", maxBytes=10_000_000, backupCount=3
        )
        with source:
            for line in source:
                text = line.decode(errors="replace").rstrip()
                log.emit(logging.makeLogRecord({"msg": text}))
                if (shown := text if self.verbose else console.line(name, text)) is not None:
                    self.say(shown, name)
        log.close()


def _gone(child: Supervised) -> bool:
    return child.process is None or child.process.poll() is not None


def _clear(child: Supervised) -> None:
    """End what is left of the child's process group: ask, because the local chain writes its state then, and kill."""
    if child.process is None:
        return
    group = child.process.pid
    for sent, seconds in ((signal.SIGTERM, GROUP_SECONDS), (signal.SIGKILL, 0.0)):
        if not _signal_group(group, sent) or wait_until(lambda: not _signal_group(group, 0), seconds):
            break
    if isinstance(child.process, subprocess.Popen):
        child.process.wait()


def _signal_group(group: int, sent: int) -> bool:
    """Return whether the process group still has a process."""
    try:
        os.killpg(group, sent)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reason(code: int | None) -> str:
    return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
