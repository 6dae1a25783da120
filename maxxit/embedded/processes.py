"""Processes of our own: bound to their parent, found again by their pid file, stopped in time;
and what goes with them: private files, secrets of their own, a free port."""

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from maxxit.core import redact

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def bound_to_parent(sent: signal.Signals) -> Callable[[], None] | None:
    """For `Popen(preexec_fn=...)`: when the parent dies, however it dies, the kernel sends `sent` to the child.

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
    """From now on the kernel sends `sent` to this process when its parent dies (Linux; elsewhere nothing)."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(sent), 0, 0, 0)


def process_of(pid_file: Path, named: str, mentions: Path) -> psutil.Process | None:
    """The living process of `pid_file`, if its program is called so and its command line or folder is `mentions`.

    A pid alone proves nothing: after a crash the number may belong to somebody else.
    """
    try:
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        places = [*process.cmdline(), process.cwd()]
        dead = process.status() == psutil.STATUS_ZOMBIE
        return process if not dead and named in process.name() and _mentioned(mentions, places) else None
    except (FileNotFoundError, IndexError, ValueError, psutil.Error):
        return None


def _mentioned(path: Path, places: list[str]) -> bool:
    return any(str(path) == place or str(path.resolve()) in place for place in places)


def stop_process(
    process: subprocess.Popen[bytes] | psutil.Process | None, sent: signal.Signals, seconds: float
) -> bool:
    """Send `sent`, wait, and kill it after `seconds`. True when it ended by itself (or was gone already)."""
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
    """Ask every 20 ms until it is `true` (True), or until time is up or the case `hopeless` (False)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if hopeless():
            return False
        if true():
            return True
        time.sleep(0.02)
    return False


def write_secret(path: Path, text: str) -> None:
    """Write `text` so that nobody but the owner can read it, and never half of it."""
    half = path.with_suffix(".half")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    half.replace(path)


def kept_secret(file: Path, size: int = 18) -> str:
    """A secret that this installation makes for itself once, of `size` random bytes; the redactor knows it from now on.

    It stands in a file that only its owner reads.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_secret(file, secrets.token_urlsafe(size))
    found = file.read_text()
    redact.know(found)
    return found


def port_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens on that TCP port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
