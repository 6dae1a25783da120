"""Sends one message through apprise, or only reads its URL, in a process of its own that `apprise.py` starts.

It imports nothing of Maxxit, has an empty environment, and asks before each connection: a line `{"connect": [host,
port]}` on standard output is answered by `true` or `false` on standard input. Files outside of Python's libraries,
servers and processes of its own are refused (`guard`). The first line on standard input is the job, the last one on
standard output `{"done": true}` or `{"done": false}`.
"""

import importlib
import json
import os
import signal
import socket
import sys
import sysconfig
import threading
from typing import Any, TextIO

LIFETIME = 30
"""Seconds after which it ends whatever happens, should its parent have died."""
READABLE = tuple(
    os.path.realpath(path)
    for path in (
        *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        "/usr/share/zoneinfo",
        "/etc/localtime",
        "/etc/mime.types",
    )
)
"""Folders and files that may be read: a template or a token file that a URL names is none of them."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REFUSED = (
    "socket.bind",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "ctypes.dlopen",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.rmtree",
)
"""Audit events (https://docs.python.org/3/library/audit_events.html) that always are."""
SENT = ("socket.connect", "socket.sendto", "socket.sendmsg")


class Parent:
    """The process that decides where this one may connect to."""

    def __init__(self, asks: TextIO, answers: TextIO) -> None:
        self._asks, self._answers, self._turn = asks, answers, threading.Lock()

    def job(self) -> dict[str, Any]:
        """Return the job."""
        job: dict[str, Any] = json.loads(self._answers.readline())
        return job

    def admits(self, host: str, port: int) -> bool:
        """Return whether a connection may be made."""
        with self._turn:
            self._say({"connect": [host, port]})
            return self._answers.readline().strip() == "true"

    def done(self, done: bool) -> None:
        """Report the outcome."""
        with self._turn:
            self._say({"done": done})

    def _say(self, what: dict[str, Any]) -> None:
        self._asks.write(json.dumps(what) + "\n")
        self._asks.flush()


def guard(parent: Parent) -> None:
    """Refuse, with PermissionError, what a message does not need.

    For the rest of this process: hooks cannot be removed.
    """

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in SENT:
            _connects(parent, args[0], args[1])
        elif event == "open":
            _opens(args[0], args[2])
        elif event in ("os.listdir", "os.scandir"):
            _opens(args[0], 0)
        elif event in REFUSED:
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)


def _connects(parent: Parent, one: socket.socket, address: Any) -> None:
    if address is None and one.family != socket.AF_UNIX:  # of a socket that is connected already
        return
    if one.family not in (socket.AF_INET, socket.AF_INET6) or not parent.admits(str(address[0]), address[1]):
        raise PermissionError("connections to this address are not allowed")


def _opens(path: Any, flags: Any) -> None:
    if isinstance(path, int):  # open already
        return
    real = os.path.realpath(os.fsdecode(path if path is not None else "."))
    if (flags or 0) & WRITES or not any(
        real == known or real.startswith(known + os.sep) for known in READABLE
    ):
        raise PermissionError("this file is not allowed here")


def run(job: dict[str, Any], apprise: Any) -> bool:
    """Send the message of the job, or, where it has none, return whether apprise knows its URL."""
    asset = apprise.AppriseAsset(
        app_id="Maxxit",
        async_mode=False,
        http_redirects=False,
        allow_templates=False,
        storage_mode="memory",
        service_timeout=LIFETIME,
    )
    service = apprise.Apprise.instantiate(job["url"], asset=asset, suppress_exceptions=True)
    if service is None:
        return False
    if "body" not in job:
        return True
    # A user may ask for the opposite in the URL.
    service.verify_certificate, service.redirects = True, False
    message = apprise.Apprise(asset=asset)
    message.add(service)
    kind = {"info": "info", "warning": "warning", "critical": "failure"}[job["severity"]]
    return bool(message.notify(body=job["body"], title=job["title"], notify_type=kind, body_format="text"))


def main() -> None:
    """Do one job."""
    signal.alarm(LIFETIME)
    parent = Parent(os.fdopen(os.dup(1), "w"), sys.stdin)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # nothing that a service prints is an answer of ours
    apprise = importlib.import_module("apprise")
    job = parent.job()
    guard(parent)
    parent.done(run(job, apprise))


if __name__ == "__main__":
    main()
