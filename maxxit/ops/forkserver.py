"""A warm parent for the processes of `make up`: it imports everything once and forks them, so that they share memory.

`Forkserver` starts `python -m maxxit.ops.forkserver FD` and sends it command lines to run. A forked process behaves as
if its command had been started: arguments, environment, settings, output, process group and title. The forkserver has
one thread and opens no connection, so that no process inherits anything half done. Linux only (`available`).

multiprocessing's forkserver is not used: it gives its processes no environment, and does not say how they ended.
"""

import gc
import importlib
import itertools
import json
import numbers
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import FunctionType, GeneratorType, MethodType
from typing import Any, TypeVar
from uuid import UUID

from setproctitle import setproctitle

from maxxit.embedded.processes import LIBC, bound_to_parent, die_with_parent

T = TypeVar("T")
MESSAGE_BYTES = 200_000
"""The longest message: a command with its environment."""
ROOM = " " * 160
"""An argument that reserves memory for the titles of forked processes, which replace the command line."""
SHARED = (
    "a2wsgi", "billiard.popen_fork", "billiard.sharedctypes", "billiard.synchronize", "celery.app.control",
    "celery.app.events", "celery.app.log", "celery.apps.beat", "celery.apps.worker", "celery.backends.redis",
    "celery.bin.celery", "celery.concurrency.prefork", "celery.events.state", "celery.fixups.django",
    "celery.worker.autoscale", "celery.worker.components", "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery", "celery.worker.strategy", "django.contrib.admin.sites",
    "django.core.cache.backends.redis", "django.core.handlers.asgi",
    "django.db.backends.postgresql.psycopg_any", "django_celery_beat.schedulers", "encodings.idna",
    "flower.command", "flower.urls", "gunicorn.app.wsgiapp", "gunicorn.arbiter", "gunicorn.glogging",
    "maxxit.core.json_cache", "maxxit.urls", "trading.wiring", "uvicorn.main",
    "uvicorn.protocols.http.h11_impl", "uvicorn_worker", "websockets.sync.client", "whitenoise.middleware",
)  # fmt: skip
"""What the processes import when they run, beside the tasks and models."""

COMMON: tuple[type, ...] = (
    bool, bytes, date, datetime, Decimal, dict, filter, float, frozenset, int, list, map, range, set, str, timedelta,
    tuple, type, zip, type(None), UUID, FunctionType, GeneratorType, MethodType, type({}.items()), type({}.keys()),
    type({}.values()),
)  # fmt: skip
ABSTRACT: tuple[Any, ...] = (
    abc.Callable, abc.Hashable, abc.Iterable, abc.Iterator, abc.Mapping, abc.MutableMapping, abc.Sequence, abc.Set,
    numbers.Integral, numbers.Number, numbers.Real,
)  # fmt: skip
ON_CHAIN = ("eth_account", "safe_eth.eth", "safe_eth.safe", "web3")
"""The same where a venue is on a chain."""


def available() -> bool:
    """Return whether processes can be forked here; elsewhere each is started by itself."""
    return LIBC is not None


@dataclass
class Forked:
    """A forked process, with the methods of `subprocess.Popen` that a supervisor needs."""

    pid: int
    server: "Forkserver"
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended; None while it runs."""
        self.server.hear()
        return self.returncode

    def send_signal(self, sent: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sent)


@dataclass
class Forkserver:
    """The supervisor's side."""

    name: str = "forkserver"
    environ: Mapping[str, str] = field(default_factory=dict)
    stage: int = 8
    """It is stopped after its processes, which end with it."""
    patience: float = 2.5
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._socket: socket.socket | None = None
        self._running: dict[int, Forked] = {}

    def start(self, output: int) -> None:
        """Start it; it reads requests once everything is imported."""
        self._lost()
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "maxxit.ops.forkserver", str(its.fileno()), ROOM],
                env=os.environ | dict(self.environ),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                preexec_fn=bound_to_parent(signal.SIGKILL), process_group=0, pass_fds=[its.fileno()],
            )  # fmt: skip
        self._socket = ours

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self._lost()

    def fork(self, command: Sequence[str], environ: Mapping[str, str], output: int) -> Forked:
        """Run a command line of this Python in a forked process. Raises OSError where the forkserver is gone."""
        if self._socket is None:
            raise ConnectionError("the forkserver does not run")
        request = json.dumps({"command": list(command), "environ": dict(environ)}).encode()
        socket.send_fds(self._socket, [request], [output])
        while (heard := self._receive()) is not None:
            if pid := heard.get("forked"):
                return self._running.setdefault(pid, Forked(pid, self))
            self._end(heard)
        raise ConnectionError("the forkserver ended")

    def hear(self) -> None:
        """Note which processes have ended, without waiting."""
        while self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            if (heard := self._receive()) is not None:
                self._end(heard)

    def _receive(self) -> dict[str, Any] | None:
        try:
            message = self._socket.recv(MESSAGE_BYTES) if self._socket is not None else b""
        except ConnectionError:
            message = b""
        if message:
            heard: dict[str, Any] = json.loads(message)
            return heard
        self._lost()
        return None

    def _end(self, heard: dict[str, Any]) -> None:
        if (one := self._running.pop(heard["ended"], None)) is not None:
            one.returncode = heard["code"]

    def _lost(self) -> None:
        """The kernel has killed its processes with it."""
        for one in self._running.values():
            one.returncode = -signal.SIGKILL
        self._running.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def warm_up() -> None:
    """Import what the processes need. No thread, connection or client may be left open."""
    import django
    from django.db import connections

    django.setup()
    from maxxit.celery import app
    from maxxit.market import venues
    from maxxit.pipeline import release
    from trading.venues import VENUES

    app.loader.import_default_modules()
    app.finalize()
    for name in SHARED:
        importlib.import_module(name)
    configured = venues.venues().values()
    for name in {one.adapter for one in configured}:
        VENUES.load(name)
    for name in ON_CHAIN if any(one.uses_safes for one in configured) else ():
        importlib.import_module(name)
    fill_caches()
    release.mine()  # the code that is in memory, whatever happens to the files
    left = [one for one in connections.all(initialized_only=True) if one.connection is not None]
    if threading.active_count() > 1 or left:
        raise RuntimeError(f"an import has left something open: {threading.enumerate()}, {left}")
    _read_settings()
    gc.collect()
    gc.freeze()  # the collector would write to shared memory


def fill_caches() -> None:
    """Fill the caches of what is imported: filled by each forked process they would be memory of its own.

    Django's relations, columns and URLs; the validators of policies and of the API; the expressions that read posts;
    the version of redis; what `set_pdeathsig` of Celery's pools compiles; and which common types are none of the
    abstract ones, for which Python walks through thousands of subclasses once.
    """
    import redis.utils
    from billiard.util import set_pdeathsig
    from django.apps import apps
    from django.db import connection
    from django.urls import get_resolver, reverse
    from ninja import Schema

    from maxxit.core.config import Policy
    from signals_app.reading.rules.read import GRAMMARS, VERSION

    for model in apps.get_models(include_auto_created=True):
        model._meta.get_fields()
        model._default_manager.all().query.get_compiler(connection=connection).as_sql()
    reverse("dashboard")
    get_resolver().app_dict  # noqa: B018 -- a cached property
    for validated in (*_below(Policy), *_below(Schema)):
        validated.model_rebuild()
    for cue in GRAMMARS[VERSION].cues:  # those of the older versions are among them
        cue.pattern  # noqa: B018 -- a cached property
    redis.utils.get_lib_version()  # type: ignore[no-untyped-call]
    set_pdeathsig(signal.SIGKILL)  # this process has it already
    for kind, abstract in itertools.product(COMMON, ABSTRACT):
        issubclass(kind, abstract)


def _below(base: type[T]) -> Iterator[type[T]]:
    """Yield every class that is derived from `base`, bases first."""
    for derived in base.__subclasses__():
        yield derived
        yield from _below(derived)


def serve(supervisor: socket.socket) -> list[str] | None:
    """Fork a process for each request. Returns its command in the forked process; None at the end of the forkserver."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready = select.select([supervisor.fileno(), woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _tell_ended(supervisor)
        if supervisor.fileno() in ready:
            message, files, _, _ = socket.recv_fds(supervisor, MESSAGE_BYTES, 1)
            if not message:
                return None
            request, [output], parent = json.loads(message), files, os.getpid()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number in (supervisor.detach(), woken, wake):
                    os.close(number)
                _become(request["command"], request["environ"], output, parent)
                command: list[str] = request["command"]
                return command
            os.close(output)
            supervisor.send(json.dumps({"forked": pid}).encode())


def _tell_ended(supervisor: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        supervisor.send(json.dumps({"ended": pid, "code": code}).encode())


def _become(command: Sequence[str], environ: Mapping[str, str], output: int, parent: int) -> None:
    """Make this process what its command would have started."""
    os.setpgid(0, 0)
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it died between fork and here
        os._exit(1)
    for sent in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(sent, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(environ)
    random.seed()
    setproctitle(" ".join(command))
    _read_settings()


def _read_settings() -> None:
    """Read the settings anew, from this process's environment."""
    from django.conf import Settings, settings
    from django.db import connections

    from maxxit.core import redact

    sys.modules.pop("maxxit.settings", None)
    settings._wrapped = Settings("maxxit.settings")
    for one in connections.all(initialized_only=True):
        del connections[one.alias]
    connections.__dict__["_settings"] = None
    connections.__dict__.pop("settings", None)
    redact.know_environment()


def run(command: Sequence[str]) -> None:
    """Run `python -m MODULE …`, `python SCRIPT …`, or one of them behind `nice -n NUMBER`, in this process."""
    if command[:2] == ["nice", "-n"]:
        os.nice(int(command[2]))
        command = command[3:]
    _python, first, *rest = command
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(str(Path(first).resolve()), run_name="__main__")


if __name__ == "__main__":
    warm_up()
    if (asked := serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        run(asked)
