"""Apprise channel: the services of the library apprise (requirements-apprise.txt) whose schemas staff has enabled.

Many of its services are hosted by their users, so that an address may name any machine and port. Apprise runs in a
process of its own (`apprise_child.py`), without our environment, which asks here before each connection: `RULES` admit
public addresses alone. Apprise says only whether a service took the message: what it did not take is sent again.
"""

import importlib.util
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any, cast

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable
from maxxit.notify.channels.base import AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS, policy

RULES = egress.Rules(max_seconds=SEND_SECONDS)
"""Of these `admits` and `max_seconds` count; the ports are those of config/notify.yaml."""
INTERPRETER = sys.executable
CHILD = Path(__file__).with_name("apprise_child.py")
MISSING = "apprise is not installed: `pip install --no-deps --require-hashes -r requirements-apprise.txt`"
_URL = re.compile(r"(?P<schema>[a-z][a-z0-9]*)://[!-~]+")


@dataclass
class Outcome:
    """What became of a job."""

    done: bool = False
    refused: str = ""
    """The first address that was refused, `host:port`."""


def installed() -> bool:
    """Return whether the library is there."""
    return importlib.util.find_spec("apprise") is not None


class Apprise(Channel):
    title = "Other services"
    about = "A message by one of the further services of the library Apprise."
    confirms = True
    most_at_once = 4  # each send is a process of its own

    @property
    def form(self) -> AddressField:  # type: ignore[override]  # which schemas are enabled is configuration
        schemas = ", ".join(policy().apprise.schemas)
        return AddressField(
            "Apprise URL",
            f"As the documents of Apprise say, beginning with one of: {schemas}. A code is sent there, which you enter "
            "here. It is stored encrypted and not shown again.",
            "ntfys://ntfy.example.com/topic",
        )

    def available(self) -> bool:
        return bool(policy().apprise.schemas) and installed()

    def verify(self, address: str) -> str:
        address = address.strip()
        _schema(address)
        if not installed():
            raise Rejected(MISSING, code="not_offered")
        if not _run({"url": address}, RULES).done:
            raise Rejected("apprise does not understand this URL: see its documents", code="bad_address")
        return address

    def shown(self, address: str) -> str:
        return f"{_schema(address)}://…{address[-4:] if len(address) > 20 else ''}"

    def send(self, message: Message) -> None:
        schema = _schema(message.address)
        if not installed():
            raise Retryable(MISSING)
        job = {
            "url": message.address,
            "title": message.title,
            "body": message.text,
            "severity": message.severity,
        }
        outcome = _run(job, RULES)
        if outcome.refused and not outcome.done:
            raise Rejected(
                f"{schema}: its service is at {outcome.refused}, which is not admitted",
                code="private_address",
            )
        if not outcome.done:
            raise Retryable(f"{schema}: apprise could not send it")


def _schema(address: str) -> str:
    """Return the schema of a URL. Raises Rejected for one that is not enabled."""
    enabled, found = policy().apprise.schemas, _URL.fullmatch(address)
    if found is None or found["schema"] not in enabled:
        raise Rejected(
            f"write one URL that begins with {' or '.join(f'{name}://' for name in enabled)}",
            code="bad_address",
        )
    return found["schema"]


def _run(job: dict[str, Any], rules: egress.Rules) -> Outcome:
    """Do a job in a process of its own, which ends within the time of the rules.

    Where the process cannot be started, dies, or says what is no line of its protocol, the job is not done.
    """
    outcome = Outcome()
    with suppress(OSError, ValueError, KeyError, TypeError), _child(rules.max_seconds) as (asks, answers):
        _say(answers, job)
        for line in asks:
            said = json.loads(line)
            if "done" in said:
                outcome.done = said["done"] is True
                break
            host, port = said["connect"]
            admitted = _admits(host, port, rules)
            if not admitted and not outcome.refused:
                outcome.refused = f"{host}:{port}"
            _say(answers, admitted)
    return outcome


@contextmanager
def _child(seconds: float) -> Iterator[tuple[IO[str], IO[str]]]:
    """Start the process; it is killed after `seconds`, and when the context ends."""
    ends = time.monotonic() + seconds
    command = [INTERPRETER, "-I", "-B", str(CHILD)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        text=True,
    ) as process:
        pipes = cast(IO[str], process.stdout), cast(IO[str], process.stdin)
        timer = threading.Timer(max(ends - time.monotonic(), 0.0), process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield pipes
        finally:
            timer.cancel()
            process.kill()


def _say(answers: IO[str], what: Any) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _admits(host: str, port: int, rules: egress.Rules) -> bool:
    try:
        return port in policy().apprise.ports and rules.admits(ip_address(host))
    except ValueError:  # a name: what it stands for was not checked
        return False
