"""The whole of `make up` as one object that tests may hurt: started in a folder of its own, on free ports."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from maxxit.core.config import ROOT
from maxxit.embedded.processes import wait_until
from maxxit.embedded.servers import Postgres

READY_SECONDS = 300
UP = ("ready after", "not answering after")
"""What it says when all is started; on a busy machine some of it answers later."""

PATTERNS = {
    "worker-exits": r"worker -Q exits",
    "worker-execute": r"worker -Q execute",
    "worker-monitor": r"worker -Q monitor",
    "worker-guard": r"worker -Q guard",
    "worker-notify": r"worker -Q notify",
    "worker-llm": r"worker -Q llm",
    "worker-general": r"worker -Q ingest",
    "forkserver": r"maxxit\.ops\.forkserver",
    "beat": r"celery beat",
    "web": r"gunicorn",
    "redis": r"redis-server|valkey-server",
    "postgres": r"bin/postgres -D",
}
"""Process -> how its title reads. Children (pool processes, Postgres backends) may match too: the eldest is meant."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Stack:
    """One running `manage.py up`."""

    home: Path
    process: subprocess.Popen[bytes]
    log: Path
    trouble: str = ""
    """Why the last query came to nothing."""

    @classmethod
    def start(cls, home: Path, **extra: str) -> "Stack":
        """Start it with the demo and wait until it says that it is ready; `extra` goes into its environment."""
        log = home / "up.log"
        outside = {"DATABASE_URL", "REDIS_URL", "MAXXIT_TEST_REDIS", "MAXXIT_ENV_FILE"}
        environ = {name: value for name, value in os.environ.items() if name not in outside} | {
            "MAXXIT_DATA_DIR": str(home / "data"),
            "MAXXIT_PROFILE": "demo",
            "WEB_PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            **extra,
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        stack = cls(home, process, log)
        up = lambda: any(word in stack.said() for word in UP) or process.poll() is not None  # noqa: E731
        if not wait_until(up, READY_SECONDS):
            stack.stop()
        assert any(word in stack.said() for word in UP), f"make up did not come up:\n{stack.said()[-4000:]}"
        return stack

    def said(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """Every process that it started, directly or not."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, name: str) -> psutil.Process:
        """The parent process of one of its parts."""
        for child in sorted(self.family(), key=lambda one: one.create_time()):
            if re.search(PATTERNS[name], " ".join(child.cmdline())):
                return child
        raise LookupError(f"no {name} among {[' '.join(c.cmdline())[:80] for c in self.family()]}")

    def kill(self, name: str) -> None:
        """SIGKILL one part, as an out-of-memory killer would; wait until it has been started again."""
        victim = self.find(name)
        victim.kill()
        assert wait_until(lambda: self._back(name, victim.pid), 60), f"{name} did not come back"

    def _back(self, name: str, old: int) -> bool:
        try:
            return self.find(name).pid != old
        except (LookupError, psutil.Error):
            return False

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of its database; an empty list while Postgres is away."""
        try:
            with psycopg.connect(Postgres(self.home / "data").url, connect_timeout=5) as connection:
                return connection.execute(sql).fetchall()
        except psycopg.OperationalError as error:
            self.trouble = str(error)
            return []

    def change(self, sql: str) -> int:
        """Do `sql`; the number of rows that changed, 0 while Postgres is away."""
        try:
            with psycopg.connect(Postgres(self.home / "data").url, connect_timeout=5) as connection:
                return connection.execute(sql).rowcount
        except psycopg.OperationalError:
            return 0

    def number(self, sql: str) -> int:
        """The single number that `sql` gives, or -1 while Postgres is away."""
        rows = self.query(sql)
        return int(rows[0][0]) if rows else -1

    def stop(self) -> float:
        """Ctrl-C; returns the seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)
        taken: float = time.monotonic() - begun
        return taken
