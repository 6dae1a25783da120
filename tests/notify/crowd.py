"""Subscribers on every channel, a server on loopback that takes their messages, and a worker process that sends.

Shared by the bench (`tests.bench.notify`) and the kills (`tests.chaos.notify_kills`). The wire formats are those of
`tests.notify.providers`, which the conformance suite holds to foreign clients.
"""

import asyncio
import itertools
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.templates import given_template

TOKEN = "1:token"
ANSWERS = "answers-read"
"""In the data folder, with the process's id: the messages whose answers were read, once for each time."""
NOTED_SIZE, NOTED_BYTES = 16, 2**20
"""Bytes of one note, and of the file of one process."""
_EVENT = re.compile(r"event-\d+|at \d+ USD")
"""In the text of a message: which one it is. A push is encrypted, its topic tells."""
HTTP = ("telegram", "slack", "discord", "webhook", "push")


@dataclass
class Arrival:
    """A request that came whole. Times in monotonic seconds, the same in every process of this machine."""

    at: float
    answered: float | None = None
    """When the answer was written; None where none was."""


@dataclass
class Sink:
    """Every provider on one port: takes each message after its channel's seconds, and may answer nothing."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """Channel -> how long an answer takes."""
    mute_every: int = 0
    """One in so many requests is taken and not answered: the connection closes."""
    came: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    """`channel/number of the subscriber/message` -> its arrivals."""
    port: int = 0
    requests: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                path = head[0].split(" ")[1]
                if path.startswith("/bot"):
                    channel, who = "telegram", str(json.loads(body)["chat_id"])
                else:
                    _, channel, who = path.split("/")[:3]
                what = headers.get("topic") or _EVENT.search(body.decode("latin-1"))
                arrival = Arrival(time.monotonic())
                self.came[f"{channel}/{who}/{what if isinstance(what, str) else what and what[0]}"].append(
                    arrival
                )
                self.requests += 1
                if wait := self.seconds.get(channel):
                    await asyncio.sleep(wait)
                if self.mute_every and self.requests % self.mute_every == 0:
                    break
                status, text = _answer(channel)
                writer.write(
                    f"HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
                    f"{text}".encode()
                )
                await writer.drain()
                arrival.answered = time.monotonic()
        writer.close()


def _answer(channel: str) -> tuple[int, str]:
    known = {
        "telegram": (200, json.dumps({"ok": True, "result": {"message_id": 1}})),
        "slack": (200, "ok"),
        "push": (201, ""),
        "discord": (200, "{}"),
        "webhook": (200, ""),
        "teams": (202, ""),
    }
    return known[channel]


@contextmanager
def sink(**options: Any) -> Iterator[Sink]:
    """Run a sink on a thread."""
    one, loop, ready = Sink(**options), asyncio.new_event_loop(), threading.Event()

    async def listen() -> None:
        server = await asyncio.start_server(one.serve, "127.0.0.1", 0, backlog=1000)
        one.port = server.sockets[0].getsockname()[1]
        ready.set()

    def run() -> None:
        loop.create_task(listen())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield one
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextmanager
def installation(**notify: Any) -> Iterator[Path]:
    """A migrated Postgres, whose commits are not flushed, and a Redis; `notify` replaces values of its config."""
    import yaml

    from maxxit.core.config import ROOT
    from maxxit.embedded.servers import Postgres, Redis

    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    home = Path(tempfile.mkdtemp(prefix="maxxit-notify-", dir=memory))
    home.chmod(0o711)  # under root Postgres runs as nobody
    postgres, redis = (
        Postgres(home / "data", ephemeral=True, template=given_template()),
        Redis(home / "data", ephemeral=True),
    )
    try:
        postgres.start()
        redis.start()
        shutil.copytree(ROOT / "config", home / "config")
        file = home / "config" / "notify.yaml"
        values = yaml.safe_load(file.read_text()) | {"offered": ["inbox", *HTTP]} | notify
        file.write_text(yaml.safe_dump(values))
        private, public, push = _keys(home)
        os.environ |= {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "MAXXIT_DATA_DIR": str(home / "data"),
            "MAXXIT_CONFIG_DIR": str(home / "config"),
            "MAXXIT_ENV_FILE": os.devnull,
            "MAXXIT_PROFILE": "",
            "LOG_LEVEL": "CRITICAL",
            "DJANGO_SETTINGS_MODULE": "maxxit.settings",
            "NOTIFY_PUBLIC_KEY": public,
            "NOTIFY_PRIVATE_KEY_FILE": str(private),
            "PUSH_PRIVATE_KEY": push,
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "PUBLIC_URL": "https://maxxit.example",
        }
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0, interactive=False)
        try:
            yield home
        finally:
            connections.close_all()
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


def _keys(home: Path) -> tuple[Path, str, str]:
    from maxxit import sealing
    from maxxit.notify.channels import push

    private = home / "notify.key"
    return private, sealing.encode(sealing.new_key(private)), push.new_key()[0]


def subscribe(channels: Sequence[str], port: int) -> None:
    """Make one user for each of `channels`, with a confirmed address there; the n-th has the username `n`."""
    from django.contrib.auth.models import User

    from maxxit.core import clock
    from maxxit.notify import endpoints
    from maxxit.notify.models import Endpoint
    from tests.notify.providers import Browser

    users = User.objects.bulk_create(User(username=str(number)) for number in range(len(channels)))
    rows, now, browser = [], clock.now(), Browser()
    for number, (user, channel) in enumerate(zip(users, channels, strict=True), 1):
        url = f"http://127.0.0.1:{port}/{channel}/{number}"
        address = {
            "telegram": str(number),
            "push": browser.subscription(url),
            "email": f"{number}@maxxit.example",
        }.get(channel, url)
        row = Endpoint(user=user, channel=channel, hint="here", created_at=now, verified_at=now)
        sealed = endpoints.KEYS.seal({"address": address}, endpoints.context_of(row))
        row.content, row.key_id = sealed.content, sealed.key_id
        rows.append(row)
    Endpoint.objects.bulk_create(rows)


def announce(text: str) -> Any:
    """Record one event for every user."""
    from django.contrib.auth.models import User

    from maxxit.events.record import record

    everyone = list(User.objects.order_by("pk").values_list("pk", flat=True))
    return record("author.unread", User(pk=0), text=text, owner_ids=everyone)


class Workers:
    """Starts processes that do the alerts' pass again and again, as the Celery task does when it is woken.

    They are forked from a process that has imported all they need, so that a start takes milliseconds.
    """

    def __init__(self, port: int) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-m", "tests.notify.crowd", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self) -> int:
        """Start one; return its process id."""
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write(b"start\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def stop(self) -> None:
        """Kill all of them."""
        self.parent.kill()
        self.parent.wait()


def fork_workers(port: int) -> None:
    """Fork a worker for each line on stdin, and write its process id."""
    import django

    os.environ["TELEGRAM_BASE_URL"] = f"http://127.0.0.1:{port}"
    django.setup()
    from maxxit.embedded.processes import bound_to_parent
    from maxxit.notify import worker
    from maxxit.notify.channels import CHANNELS

    reach_loopback(port)
    for name in HTTP:
        CHANNELS.open(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no wait
    note_answers(Path(os.environ["MAXXIT_DATA_DIR"]) / ANSWERS)
    bind = bound_to_parent(signal.SIGKILL)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            if bind is not None:
                bind()
            work(worker.deliver_alerts)
        print(pid, flush=True)


def reach_loopback(port: int) -> None:
    """Let the channels of this process reach a provider on loopback."""
    from maxxit.core import egress
    from maxxit.notify.channels import discord, push, slack, teams, webhook

    here = egress.Rules(schemes=("http",), ports=(port,), admits=lambda address: True, max_seconds=10.0)
    for module in (discord, push, slack, teams, webhook):
        module.RULES = here  # type: ignore[attr-defined]


def note_answers(file: Path) -> None:
    """Append the id of each message to `file` when a worker has read its provider's answer, just before its receipt.

    The file is mapped into memory: a write to it is no call of the system, after which this thread would wait for
    Python's lock, so that noting it delays the receipt by next to nothing. Each process has a file of its own.
    """
    from maxxit.notify import receipts

    keep, records = receipts.Receipt.keep, NOTED_BYTES // NOTED_SIZE
    state: dict[str, Any] = {}

    def noted(receipt: Any) -> None:
        if not receipt._kept:
            place = next(state["places"]) % records * NOTED_SIZE
            state["memory"][place : place + NOTED_SIZE] = receipt.ident.encode().ljust(NOTED_SIZE)
        keep(receipt)

    def opened() -> None:
        with open(f"{file}.{os.getpid()}", "wb+") as one:
            one.truncate(NOTED_BYTES)
            state.update(memory=mmap.mmap(one.fileno(), NOTED_BYTES), places=itertools.count())

    os.register_at_fork(after_in_child=opened)
    receipts.Receipt.keep = noted  # type: ignore[method-assign, assignment]


def noted_answers(file: Path) -> list[str]:
    """Return the ids that the workers noted."""
    found = [one.read_bytes().rstrip(b"\0").decode().split() for one in file.parent.glob(f"{file.name}.*")]
    return [ident for idents in found for ident in idents]


def work(deliver: Any) -> None:
    """Send what is due until this process is killed."""
    from maxxit.events import wake

    with wake.collected():
        while True:
            done = deliver()
            if not (done.sent or done.later or done.dead):
                time.sleep(0.05)


if __name__ == "__main__":
    fork_workers(int(sys.argv[1]))
