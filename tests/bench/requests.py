"""What a request costs: the smallest page and an API list, beside bare Django under the same server.

    python -m tests.bench.requests [--seconds 5] [--rounds 3] [--streams 200]

Starts an embedded Postgres and Redis, our web process and that of `tests.bench.bare` (one worker each), and asks each
in turns over ten kept connections: `/health/live` of both, and a list of ten signals with an API key of ours. Then it
opens event streams and asks again beside them. Prints requests a second and the ratios.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from maxxit.core.config import ROOT
from maxxit.embedded.processes import wait_until
from maxxit.embedded.servers import Postgres, Redis
from maxxit.ops import local
from tests.chaos.stack import free_port

CONNECTIONS, KEYS = 10, 100
LIST = "/api/signals?limit=10"
STREAM = "/api/streams/sse"
PREPARE = """
from django.contrib.auth.models import User
from maxxit.access.auth import create_key
from tests import builders as make
user = User.objects.create_user("bench")
of = make.agent(owner=user)
for _ in range(500):
    make.signal(of)
keys = [create_key(user, f"bench {number}", ["read"], by="bench") for number in range({keys})]
print("keys", *keys)
"""


@contextmanager
def served(application: str, environ: dict[str, str], log: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Run an application under gunicorn's uvicorn worker; yield its port and its process."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "python:maxxit.web.gunicorn", application]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ | {"WEB_PORT": str(port)}, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            if not wait_until(lambda: asyncio.run(answers(port)), 60):
                raise RuntimeError(f"{application} does not answer:\n{log.read_text()[-2000:]}")
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


async def answers(port: int) -> bool:
    """Return whether a process answers."""
    try:
        return await ask(port, "/health/live", [], time.monotonic() + 0.01) > 0
    except OSError:
        return False


async def ask(port: int, path: str, keys: list[str], until: float) -> int:
    """Ask for one path over a kept connection until a moment; return how often it was answered with 200.

    The keys take turns, because each has a limit of calls per minute.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"Authorization: Bearer {key}\r\n" for key in keys] or [""]
    requests = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{line}\r\n".encode() for line in lines]
    count = 0
    while time.monotonic() < until:
        writer.write(requests[count % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {head.decode()[:200]}")
        sized = head.lower().partition(b"content-length:")[2]
        if sized:
            await reader.readexactly(int(sized.partition(b"\r\n")[0]))
        else:
            await reader.readuntil(b"0\r\n\r\n")
        count += 1
    writer.close()
    return count


def used(process: psutil.Process) -> float:
    """Return the processor seconds that a server and its workers have used."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


async def rate(port: int, path: str, keys: list[str], seconds: float) -> float:
    """Return requests a second over all connections."""
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*(ask(port, path, keys, until) for _ in range(CONNECTIONS)))) / seconds


async def beside_streams(port: int, keys: list[str], streams: int, seconds: float) -> tuple[int, float]:
    """Open event streams, and return how many were open and the rate of the list beside them."""
    opened = []
    for number in range(streams):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = keys[number % len(keys)]
        writer.write(
            f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{STREAM}: {head.decode()[:200]}")
        opened.append(writer)
    found = await rate(port, LIST, keys, seconds)
    for writer in opened:
        writer.close()
    return len(opened), found


def main() -> None:
    """Print rates and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maxxit-requests-") as folder:
        home = Path(folder)
        servers = Postgres(home, ephemeral=True), Redis(home, ephemeral=True)
        for server in servers:
            server.start()
        try:
            measure(home, servers[0], servers[1], options)
        finally:
            for server in servers:
                server.stop()


def measure(home: Path, postgres: Postgres, redis: Redis, options: argparse.Namespace) -> None:
    """Prepare rows and keys, ask in turns, print."""
    ours = os.environ | {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        "MAXXIT_DATA_DIR": str(home / "data"),
        "MAXXIT_PROFILE": "demo",
        "DATABASE_POOL": local.DATABASE_POOL,
    }
    bare = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.bench.bare_settings",
        "BARE_POSTGRES": str(postgres.sockets),
        "BARE_REDIS": redis.url,
    }
    (home / "data").mkdir()
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v", "0"], cwd=ROOT, env=ours, check=True)
    made = subprocess.run(
        [*manage, "shell", "-v", "0", "-c", PREPARE.replace("{keys}", str(KEYS))],
        cwd=ROOT, env=ours, check=True, capture_output=True, text=True,
    )  # fmt: skip
    keys = made.stdout.strip().splitlines()[-1].split()[1:]
    with (
        served("maxxit.asgi:application", ours, home / "ours.log") as (port, process),
        served("tests.bench.bare:application", bare, home / "bare.log") as (floor, bare_process),
    ):
        asked = {
            "ours, /health/live": (process, (port, "/health/live", [])),
            "bare Django, /health/live": (bare_process, (floor, "/health/live", [])),
            "ours, ten signals with a key": (process, (port, LIST, keys)),
        }
        rates: dict[str, list[float]] = {name: [] for name in asked}
        costs: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(options.rounds):
            for name, (server, what) in asked.items():
                before = used(server)
                rates[name].append(asyncio.run(rate(*what, options.seconds)))
                costs[name].append((used(server) - before) / (rates[name][-1] * options.seconds) * 1000)
        beside = asyncio.run(beside_streams(port, keys, options.streams, options.seconds))
    found = {name: median(values) for name, values in rates.items()}
    for name, value in found.items():
        print(f"{name:<32} {value:7.0f} a second, {median(costs[name]):5.2f} ms of the processor each")
    live, bare_live, _ = found.values()
    print(f"live: {live / bare_live:.2f} × bare Django; target 0.6 ×. List: target 250 a second")
    print(f"beside {beside[0]} event streams: {beside[1]:.0f} lists a second")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
