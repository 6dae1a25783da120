"""What `make up` holds in memory while it idles: the proportional set size (PSS) of each of its parts.

    python -m tests.bench.memory [--seconds 30]

Starts the whole in a folder of its own, lets it run for so long, and adds up each part with its children. Shared pages
count once, divided among those who share them (`smaps_rollup`). Then the floor: web, beat and one worker of a project
that has Django's admin, Celery and django-celery-beat, and nothing else (`tests.bench.bare`).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from maxxit.core.config import ROOT
from maxxit.embedded.servers import Postgres, Redis
from tests.chaos.stack import PATTERNS, Stack

MB = 1024 * 1024


def pss(process: psutil.Process, children: bool = True) -> int:
    """Bytes, children included."""
    family = [process, *(process.children(recursive=True) if children else ())]
    return sum(one.memory_full_info().pss for one in family if one.is_running())


SETTINGS = "tests.bench.bare_settings"
BARE = {
    "web": (
        "gunicorn",
        "-k",
        "uvicorn_worker.UvicornWorker",
        "-b",
        "127.0.0.1:0",
        "tests.bench.bare:application",
    ),
    "beat": ("celery", "--quiet", "-A", "tests.bench.bare", "beat", "--pidfile="),
    "worker": ("celery", "--quiet", "-A", "tests.bench.bare", "worker", "-c", "1", "--without-mingle"),
}


def bare(home: Path, seconds: int) -> dict[str, int]:
    """PSS of web, beat and one worker with one process for tasks, of a project that does nothing."""
    home.mkdir()
    servers = Postgres(home, ephemeral=True), Redis(home, ephemeral=True)
    for server in servers:
        server.start()
    environ = os.environ | {
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "BARE_POSTGRES": str(servers[0].sockets),
        "BARE_REDIS": servers[1].url,
    }
    quiet = {"cwd": ROOT, "env": environ, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        migrate = [sys.executable, "-m", "django", "migrate", "--settings", SETTINGS]
        subprocess.run(migrate, check=True, **quiet)  # type: ignore[call-overload]
        for name, command in BARE.items():
            running[name] = subprocess.Popen([sys.executable, "-m", *command], **quiet)  # type: ignore[call-overload]
        time.sleep(seconds)
        ended = [name for name, process in running.items() if process.poll() is not None]
        if ended:
            raise RuntimeError(f"the bare {ended[0]} did not run")
        return {name: pss(psutil.Process(process.pid)) for name, process in running.items()}
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        for server in servers:
            server.stop()


def main() -> None:
    """Print a line for each part, and the sums."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=30)
    wait = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="maxxit-memory-") as home:
        stack = Stack.start(Path(home))
        try:
            time.sleep(wait)
            held = {name: pss(stack.find(name), name != "forkserver") for name in PATTERNS}
            whole = pss(psutil.Process(stack.process.pid))
        finally:
            stack.stop()
        floor = bare(Path(home) / "bare", wait)
    for name, size in held.items():
        print(f"{name:<16} {size / MB:7.0f} MB")
    workers = [size for name, size in held.items() if name.startswith("worker")]
    base = held["web"] + held["beat"]
    least = sum(floor.values())
    print(
        f"web + beat + one worker (the largest): {(base + max(workers)) / MB:.0f} MB; target 300 MB; "
        f"floor {least / MB:.0f} MB ({(base + max(workers)) / least:.2f} ×)"
    )
    print(f"web + beat + all {len(workers)} workers: {(base + sum(workers)) / MB:.0f} MB")
    print(f"all of make up, with Flower, streams, chain and supervisor: {whole / MB:.0f} MB; target 700 MB")


if __name__ == "__main__":
    main()
