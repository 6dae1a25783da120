"""Embedded Postgres and Redis, started and stopped by Maxxit; the binaries come from pip packages.

    home = Path(".maxxit")
    urls(home)                     the two URLs, the same in every process of this checkout
    Postgres(home).start()         returns when the server answers; `stop()` ends it; the same for Redis

Used by `manage.py up` (durable) and by the tests (`ephemeral=True`: no fsync). The Python packages with the binaries
are not imported: they change permissions of folders up to `/`, share one lock per machine and leave orphans. Servers
end with the process that started them (on Linux the kernel sends the signal).
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
import redis

from maxxit.core.errors import Misconfigured, Retryable
from maxxit.embedded import binaries
from maxxit.embedded.processes import (
    bound_to_parent,
    kept_secret,
    port_taken,
    process_of,
    stop_process,
    wait_until,
    write_secret,
)

NAME = "maxxit"
"""Name of the database and of its owner role."""
APPLICATION, READER = "maxxit_app", "maxxit_read"
"""Roles that own nothing; their privileges are granted after the migrations (`maxxit.ops.roles`)."""
REDIS_PORT = 6390
"""Tried first; the port in use is stored in `<data>/redis/port`."""
PORT_TRIES = 3
SOCKET_PATH_LIMIT = 100
"""Bytes: the kernel's limit for the path of a Unix socket is 103 (macOS) or 107 (Linux)."""
READY_SECONDS = 30.0
STOP_SECONDS = 8.0

Say = Callable[[str], None]
Output = int | IO[bytes] | None


def urls(data_dir: Path) -> tuple[str, str]:
    """Return (database URL, Redis URL) of the servers whose data is in `data_dir`."""
    return Postgres(data_dir).url, Redis(data_dir).url


def silent(_: str) -> None:
    """Discard a message."""


class Postgres:
    """A Postgres 18 with pgvector. It listens only on a Unix socket in a private folder."""

    name = "postgres"

    def __init__(
        self, data_dir: Path, *, ephemeral: bool = False, say: Say = silent, template: Path | None = None
    ) -> None:
        """Describe the server of `data_dir`. `template`: a folder of `save_template`, copied where there is no data."""
        self.link = data_dir.resolve() / "postgres"
        self.ephemeral, self.say, self.template = ephemeral, say, template
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        """The real data folder: under root Postgres runs as `nobody`, who cannot enter a private folder."""
        if self.link.exists():  # decided when it was created
            return self.link.resolve()
        if binaries.run_as() is None or binaries.open_to_all(self.link.parent):
            return self.link
        return Path("/var/lib/maxxit") / self._tag

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def sockets(self) -> Path:
        """The folder of the socket: beside the data, or a short one when the path would be too long."""
        if len(bytes(self.home / "run/.s.PGSQL.5432")) < SOCKET_PATH_LIMIT:
            return self.home / "run"
        return Path(f"/tmp/maxxit-{os.getuid()}-{self._tag}")  # noqa: S108 -- _prepare checks its owner

    @property
    def _tag(self) -> str:
        return sha256(bytes(self.link)).hexdigest()[:12]

    @property
    def url(self) -> str:
        return self.url_of(NAME)

    @property
    def application_url(self) -> str:
        """The database URL for the application role, without the owner's privileges."""
        return self.url_of(NAME, user=APPLICATION)

    def url_of(self, database: str, user: str = NAME) -> str:
        """Return the URL of one database of this server."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.sockets), safe='')}"

    def start(self, output: Output = None) -> None:
        """Start the server, wait until it answers, create database and roles. `output` receives its log."""
        self._prepare()
        self._clear_leftovers()
        for attempt in range(20):
            self.process = self._launch(output)
            if wait_until(self._answers, READY_SECONDS, lambda: self._exited()):
                break
            # After kill -9 the server's children hold the shared memory for a moment longer.
            time.sleep(0.1 + 0.05 * attempt)
        else:
            raise Retryable(f"Postgres does not start; end of its log: {_tail(self.link / 'server.log')}")
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                connection.execute(f"CREATE DATABASE {NAME}")
            for role in (APPLICATION, READER):
                if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                    connection.execute(f"CREATE ROLE {role} LOGIN")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop with SIGINT: open transactions are rolled back and a checkpoint is written."""
        stop_process(self.process, signal.SIGINT, seconds)
        if self.sockets.parent != self.home:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def save_template(self, folder: Path) -> None:
        """Copy the data of the stopped server to `folder`, unless another process was first."""
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.copytree(self.data, partial)
        try:
            partial.rename(folder)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)

    def _copy_template(self, folder: Path) -> None:
        shutil.copytree(folder, self.data)
        if binaries.run_as():
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, binaries.owner(), -1)

    def _prepare(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if self.home != self.link and not self.link.exists():
            self.say(f"Postgres cannot run as root under {self.link.parent}: its data is in {self.home}")
            self.link.parent.mkdir(parents=True, exist_ok=True)
            self.link.symlink_to(self.home)
        self.home.chmod(0o711)
        self.sockets.mkdir(exist_ok=True)
        binaries.give(self.sockets, 0o700)
        if self.sockets.stat().st_uid not in {os.getuid(), binaries.owner()}:
            raise Misconfigured(f"{self.sockets} belongs to another user: remove it or set DATABASE_URL")
        if (self.data / "PG_VERSION").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)  # an initdb that was killed half-way
        if self.template is not None:
            self._copy_template(self.template)
            return
        self.data.mkdir()
        binaries.give(self.data, 0o700)
        flags = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"]
        quick = ["--no-sync"] if self.ephemeral else []
        done = subprocess.run(
            [str(self._bin() / "initdb"), "-D", str(self.data), "-U", NAME, "--auth=trust", *flags, *quick],
            capture_output=True,
            check=False,
            cwd=self.home,
            **binaries.runner(),
        )
        if done.returncode:
            raise Misconfigured(f"initdb in {self.data} failed: {done.stderr.decode().strip()[-500:]}")

    def _launch(self, output: Output) -> subprocess.Popen[bytes]:
        options = {"listen_addresses": "", "unix_socket_directories": str(self.sockets), "timezone": "UTC"}
        if self.ephemeral:
            options |= dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes", "autovacuum"), "off")
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.home / "server.log").open("ab") as log:
            return subprocess.Popen(
                [str(self._bin() / "postgres"), "-D", str(self.data), *flags],
                stdin=subprocess.DEVNULL,
                stdout=output or log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                preexec_fn=bound_to_parent(signal.SIGINT),
                process_group=0,
                **binaries.runner(),
            )

    def _bin(self) -> Path:
        return binaries.postgres(copy_to=self.home / "install")

    def _clear_leftovers(self) -> None:
        """Stop a server that outlived its supervisor; remove the pid file of a killed one."""
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        left = process_of(pid_file, "postgres", self.data)
        if left is not None:
            self.say(f"Postgres of an earlier run is still running (pid {left.pid}): stopping it first")
            stop_process(left, signal.SIGINT, STOP_SECONDS)
        else:
            self.say("Postgres was killed last time: it recovers from its WAL now; nothing committed is lost")
        pid_file.unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _exited(self) -> bool:
        return self.process is not None and self.process.poll() is not None


class Redis:
    """A Valkey server (Redis-compatible) on 127.0.0.1 with a generated password, append-only unless ephemeral.

    Switching the append-only file on later, over an older snapshot, would silently load nothing.
    """

    name = "redis"

    def __init__(self, data_dir: Path, *, ephemeral: bool = False, say: Say = silent) -> None:
        self.home = data_dir.resolve() / "redis"
        self.ephemeral, self.say = ephemeral, say
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        file = self.home / "port"
        return int(file.read_text()) if file.exists() else REDIS_PORT

    @property
    def password(self) -> str:
        """Generated on first use and stored, so that every process reads the same one."""
        return kept_secret(self.home / "password", 24)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self, output: Output = None) -> None:
        """Start the server and wait until it answers. `output` receives its log."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self._clear_leftovers()
        for left in reversed(range(PORT_TRIES)):
            (self.home / "port").write_text(str(_free_port(self.port)))
            self._launch(output)
            if wait_until(self._answers, READY_SECONDS, self._exited):
                return
            # Another server may take the port between the look at it and the start
            if not left or not self._exited() or not port_taken(self.port):
                raise Retryable(f"Redis does not start; end of its log: {_tail(self.home / 'server.log')}")

    def _launch(self, output: Output) -> None:
        config = self._config()
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(binaries.redis()), str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output or log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                preexec_fn=bound_to_parent(signal.SIGTERM),
                process_group=0,
            )

    def _exited(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop with SIGTERM: the append-only file is flushed to disk."""
        stop_process(self.process, signal.SIGTERM, seconds)

    def _config(self) -> Path:
        """Write the configuration to a private file: a password on the command line is visible to every user."""
        lines = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self.password,
            "appendonly": "no" if self.ephemeral else "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "dir": f'"{self.home}"',
            "pidfile": f'"{self.home / "redis.pid"}"',
        }
        config = self.home / "redis.conf"
        write_secret(config, "".join(f"{name} {value}\n" for name, value in lines.items()))
        return config

    def _clear_leftovers(self) -> None:
        left = process_of(self.home / "redis.pid", "-server", self.home)
        if left is not None:
            self.say(f"Redis of an earlier run is still running (pid {left.pid}): stopping it first")
            stop_process(left, signal.SIGTERM, STOP_SECONDS)
        (self.home / "redis.pid").unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # also while it loads its file
            return False


def _free_port(first: int) -> int:
    """Return `first` if it is free, else a free port."""
    if not port_taken(first):
        return first
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-3:]) if log.exists() else "none"
