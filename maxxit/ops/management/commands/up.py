"""`manage.py up` (`make up`): run all of Maxxit in this terminal; `--stop` (`make down`) stops it from another one."""

import gc
import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any, NoReturn

import psutil
from django.core.management.base import BaseCommand, CommandError, CommandParser

from maxxit.core.commands import count
from maxxit.core.errors import MaxxitError
from maxxit.embedded.processes import bound_to_parent, only_one, port_taken, up_pid, wait_until
from maxxit.env import Env, read_env
from maxxit.ops import console, local
from maxxit.ops.control import Control
from maxxit.ops.supervisor import Supervisor

READY_SECONDS = 60.0
DOWN_SECONDS = 20.0


class Command(BaseCommand):
    help = (
        "Run all of Maxxit in this terminal; Ctrl-C stops it, data is kept. "
        "Shows warnings and trades; `-v 2` shows every line."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="without the demo profile and its agents")
        parser.add_argument(
            "--concurrency", type=count, default=1, help="pool processes of each worker (default 1)"
        )
        parser.add_argument(
            "--stop", action="store_true", help="stop a running instance from another terminal"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run or stop Maxxit. Known problems are one line and exit code 1."""
        try:
            if options["stop"]:
                return self._stop(read_env())
            if not options["no_demo"]:
                os.environ.setdefault("MAXXIT_PROFILE", "demo")
            env = read_env()
            with only_one(env.maxxit_data_dir):
                self._run(env, options)
        except MaxxitError as error:
            raise CommandError(str(error)) from None

    def _run(self, env: Env, options: dict[str, Any]) -> None:
        for port, name in ((env.web_port, "WEB_PORT"), (env.flower_port, "FLOWER_PORT")):
            if port_taken(port, env.bind):
                raise CommandError(
                    f"port {port} is taken{_by(port)}: stop that, or set {name} to another port"
                )
        began = time.monotonic()
        gc.freeze()
        gc.enable()  # `manage.py` starts without it; this process runs for months
        (env.maxxit_data_dir / "profile").write_text(env.maxxit_profile)
        control = Control(env.maxxit_data_dir)
        control.requests()  # what was asked of an earlier run
        supervisor = Supervisor(
            env.maxxit_data_dir / "logs", verbose=options["verbosity"] > 1, control=control
        )
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sent, _interrupt)
        try:
            if (parent := local.warm_parent(env)) is not None:
                supervisor.start(parent)  # it imports while the databases start
            for server in local.servers(env, supervisor.say):
                supervisor.start(server)
            _setup(supervisor, options)
            for child in local.processes(env, options["concurrency"], parent):
                supervisor.start(child)
            self._wait(env, supervisor, began)
            supervisor.watch()
        except OSError as error:
            raise CommandError(f"a process could not be started: {error}") from None
        except KeyboardInterrupt:
            supervisor.say("stopping: web, beat and Flower, then the workers, then the databases")
        finally:
            for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(sent, signal.SIG_IGN)  # stopping takes seconds; further signals are ignored
            ended = time.monotonic()
            supervisor.stop()
            supervisor.say(f"stopped in {time.monotonic() - ended:.1f} s")

    def _wait(self, env: Env, supervisor: Supervisor, began: float) -> None:
        def ready() -> bool:
            supervisor.tend()
            return local.web_answers(env) and not local.silent_workers(env)

        while not wait_until(ready, READY_SECONDS):
            missing = [*([] if local.web_answers(env) else ["web"]), *local.silent_workers(env)]
            supervisor.say(
                f"not answering after {time.monotonic() - began:.0f} s: {', '.join(missing)}; waiting on"
            )
            self._box(
                env, supervisor, f"Maxxit is starting; still missing: {', '.join(missing) or 'nothing'}"
            )
        self._box(env, supervisor, f"Maxxit is ready after {time.monotonic() - began:.1f} s")

    def _box(self, env: Env, supervisor: Supervisor, head: str) -> None:
        for line in console.box([head, *local.start_summary(env)]):
            supervisor.say(line)

    def _stop(self, env: Env) -> None:
        pid = up_pid(env.maxxit_data_dir)
        if pid is None:
            self.stdout.write("not running")
            return
        os.kill(pid, signal.SIGTERM)
        if not wait_until(lambda: up_pid(env.maxxit_data_dir) is None, DOWN_SECONDS):
            raise CommandError(f"pid {pid} does not stop; `kill -9 {pid}` ends it and all its children")
        self.stdout.write("stopped; the data is kept")


def _setup(supervisor: Supervisor, options: dict[str, Any]) -> None:
    """Run `manage.py setup` in a child: this process must hold no connection to a database that it may restart."""
    command = [sys.executable, "manage.py", "setup", *(["--no-demo"] if options["no_demo"] else [])]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, process_group=0, preexec_fn=bound_to_parent(signal.SIGTERM)
    ) as process:
        try:
            for line in process.stdout or ():
                supervisor.say(line.decode().rstrip(), "setup")
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode:
        raise CommandError("the database setup failed: see the lines above")


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _by(port: int) -> str:
    """Return which process listens on the port, where permissions allow."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,)
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
