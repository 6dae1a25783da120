"""Child processes: end them with their parent, find them by pid file, stop them in time. Private files and ports."""

import ctypes
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from maxxit.core import redact
from maxxit.core.errors import Rejected

PR_SET_PDEATHSIG = 1
UP_LOCK = "up.lock"
"""In the data folder: locked while `make up` runs."""
LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def bound_to_parent(sent: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` for Popen: the kernel sends `sent` to the child when its parent dies in any way.

    Linux only. Elsewhere a killed supervisor leaves its children; the next start finds and stops them.
    """
    if LIBC is None:
        return None
    parent = os.getpid()

    def bind() -> None:
        die_with_parent(sent)
        if os.getppid() != parent:  # it died between fork and here
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def die_with_parent(sent: signal.Signals) -> None:
    """Make the kernel send `sent` to this process when its parent dies (Linux only)."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(sent), 0, 0, 0)


def process_of(pid_file: Path, named: str, mentions: Path) -> psutil.Process | None:
    """Return the running process of `pid_file` if its name matches and its command line or folder is `mentions`.

    A pid alone is not enough: after a crash the number may belong to another process.
    """
    try:
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        paths = [*process.cmdline(), process.cwd()]
        dead = process.status() == psutil.STATUS_ZOMBIE
        return process if not dead and named in process.name() and _mentioned(mentions, paths) else None
    except (FileNotFoundError, IndexError, ValueError, psutil.Error):
        return None


def _mentioned(path: Path, paths: list[str]) -> bool:
    return any(str(path) == text or str(path.resolve()) in text for text in paths)


def stop_process(
    process: subprocess.Popen[bytes] | psutil.Process | None, sent: signal.Signals, seconds: float
) -> bool:
    """Send `sent`, wait, and kill the process after `seconds`. Returns True when it ended in time."""
    if process is None:
        return True
    try:
        process.send_signal(sent)
        process.wait(seconds)
    except psutil.NoSuchProcess:
        return True
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        process.kill()
        process.wait()
        return False
    return True


def wait_until(
    true: Callable[[], bool], seconds: float, hopeless: Callable[[], bool] = lambda: False
) -> bool:
    """Poll every 20 ms; return True once `true()`, False after `seconds` or once `hopeless()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if hopeless():
            return False
        if true():
            return True
        time.sleep(0.02)
    return False


def write_secret(path: Path, text: str) -> None:
    """Write `text` atomically to a file that only its owner can read."""
    write_secret_bytes(path, text.encode())


def write_secret_bytes(path: Path, content: bytes) -> None:
    """Write `content` atomically to a file that only its owner can read."""
    partial = path.with_suffix(".half")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    partial.replace(path)


def kept_secret(file: Path, size: int = 18) -> str:
    """Return the secret in `file`, generated once from `size` random bytes; it is registered for redaction."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_secret(file, secrets.token_urlsafe(size))
    secret = file.read_text()
    redact.know(secret)
    return secret


def port_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a TCP port is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the lock of this data folder; the kernel releases it however the process ends.

    Raises Rejected where another process holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / UP_LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            raise Rejected(
                f"already running, pid {pid}: stop it with Ctrl-C there or with `make down`", code="running"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def up_pid(data_dir: Path) -> int | None:
    """Return the pid of the process that holds the lock of this data folder; None where `make up` does not run."""
    path = data_dir / UP_LOCK
    if not path.exists():
        return None
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read())
    return None
