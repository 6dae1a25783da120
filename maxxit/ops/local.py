"""The processes of `manage.py up`: servers, workers and their environment, readiness, and the start-up summary."""

import os
import sys
from pathlib import Path

from celery import Celery
from django.core.management import get_commands
from django.urls import Resolver404, resolve

from maxxit.core.errors import Rejected, Retryable
from maxxit.core.http import client, fetch
from maxxit.embedded.servers import Postgres, Redis, Say
from maxxit.env import Env, local_secret
from maxxit.ops.devchain import local as local_chain
from maxxit.ops.supervisor import Child, Server

WORKERS = {
    "exits": "exits",  # exits must not wait: this worker serves nothing else
    "execute": "execute",
    "monitor": "monitor,market",
    "guard": "guard",
    "llm": "llm",  # a slow model delays only model calls
    "notify": "notify",  # a slow webhook delays only deliveries
    "general": "ingest,generate,default",
}
"""Worker process -> its queues, in order of priority."""
SIGNING_WORKERS = frozenset({"exits", "execute"})
"""Workers that place orders and get the executor's key."""
PLACING = {"ENABLE_SEQSCAN": "false"}
"""Environment of the workers that place orders, see `Env.enable_seqscan`."""
YIELDING_WORKERS = frozenset({"llm", "notify", "general"})
"""Workers with a lower CPU priority, so that a flood of posts delays no exit."""
YIELDING = ("nice", "-n", "10")
"""Command prefix for a lower CPU priority."""
SOFT_SHUTDOWN_SECONDS = "3"
"""Seconds a task may go on after Ctrl-C; then it goes back to the queue."""
WORKER_PATIENCE = 5.0
NO_CHAIN = "  no local chain: anvil is not installed (run `make install`); only the paper agents trade"


def servers(env: Env, say: Say) -> list[Server]:
    """Return the embedded servers that this environment needs."""
    needed: list[Postgres | Redis] = []
    if env.embedded_redis:
        needed.append(Redis(env.maxxit_data_dir, say=say))
    if env.embedded_postgres:
        needed.append(Postgres(env.maxxit_data_dir, say=say))
    return [Server(server) for server in needed]


def processes(env: Env, concurrency: int) -> list[Child]:
    """Return the child processes: web, workers, beat, Flower, price stream and local chain."""
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "maxxit.celery"]
    # Celery warns about root, as in containers; with JSON as the only format it is safe.
    common = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore:You're running the worker with superuser"}
    web_only = {
        "CONN_MAX_AGE": "0",
        "STATEMENT_TIMEOUT": "30",
        "WEB_PORT": str(env.web_port),
        "BIND": env.bind,
    }
    stopping = {
        "REMAP_SIGTERM": "SIGQUIT",  # SIGTERM then means: finish in time or hand back
        "SOFT_SHUTDOWN_SECONDS": os.environ.get("SOFT_SHUTDOWN_SECONDS", SOFT_SHUTDOWN_SECONDS),
    }
    signing = local_chain.signing_environ(env.maxxit_data_dir) if runs_chain(env) else {}
    options = ["-c", str(concurrency), "--without-mingle"]
    workers = [
        Child(
            f"worker-{name}",
            [*_priority(name), *celery, "worker", "-Q", queues, "-n", node(name), *options],
            common | stopping | (PLACING | signing if name in SIGNING_WORKERS else {}),
            stage=1,
            patience=WORKER_PATIENCE,
        )
        for name, queues in WORKERS.items()
    ]
    gunicorn = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:maxxit.web.gunicorn",
        "maxxit.asgi:application",
    ]
    children = [
        Child("web", gunicorn, common | web_only),
        *workers,
        Child("beat", [*celery, "beat", "--pidfile="], common),
        Child("flower", [*YIELDING, *celery, "flower"], common | flower(env)),
    ]
    if "stream" in get_commands():
        children.append(Child("stream", [sys.executable, "manage.py", "stream"], common))
    if runs_chain(env):
        command = [sys.executable, "manage.py", "localchain"]
        children.append(Child("chain", command, common, stage=2, patience=WORKER_PATIENCE))
    return children


def _priority(worker: str) -> tuple[str, ...]:
    """Return the command prefix of a worker."""
    return YIELDING if worker in YIELDING_WORKERS else ()


def runs_chain(env: Env) -> bool:
    """Return whether the demo runs a local chain."""
    return env.maxxit_profile == "demo" and local_chain.available()


def flower(env: Env) -> dict[str, str]:
    """Return Flower's options as variables, so that its password is on no command line; read only."""
    return {
        "FLOWER_ADDRESS": env.bind,
        "FLOWER_PORT": str(env.flower_port),
        "FLOWER_BASIC_AUTH": f"admin:{local_secret(env.maxxit_data_dir, 'flower_password')}",
        "FLOWER_PERSISTENT": "True",
        "FLOWER_DB": str(env.maxxit_data_dir / "flower.db"),
        "FLOWER_STATE_SAVE_INTERVAL": "30000",  # milliseconds
        "FLOWER_READ_ONLY": "True",
    }


def node(worker: str) -> str:
    """Return the Celery node name of a worker process."""
    return f"{worker}@maxxit"


def web_answers(env: Env) -> bool:
    """Return whether the web process answers."""
    try:
        with client(f"http://127.0.0.1:{env.web_port}", timeout=5) as http:
            fetch(http, "GET", "/health/live")
    except Rejected:
        return True
    except Retryable:
        return False
    return True


def silent_workers(env: Env) -> list[str]:
    """List the worker processes that do not answer yet."""
    nodes = [node(name) for name in WORKERS]
    with Celery("readiness", broker=env.broker) as app:
        answers = app.control.ping(nodes, timeout=0.5)
    return sorted(set(nodes) - {name for answer in answers for name in answer})


def start_summary(env: Env) -> list[str]:
    """Return the lines shown after start-up: every URL with what it shows."""
    web = f"http://127.0.0.1:{env.web_port}"
    pages = {
        "/": "the dashboard",
        "/admin/": "the admin: posts, signals, orders, positions, ledger (login: admin)",
        "/api/docs": "the REST API, interactive",
        "/health/ready": "the health checks",
    }
    rows = [(f"{web}{path}", what) for path, what in pages.items() if _exists(path)]
    password = _short(env.maxxit_data_dir / "flower_password")
    rows.append(
        (f"http://127.0.0.1:{env.flower_port}", f"Flower: every task (login: admin, password in {password})")
    )
    wide = max(len(url) for url, _ in rows)
    no_chain = env.maxxit_profile == "demo" and not runs_chain(env)
    return [
        "ready",
        *(f"  {url:<{wide}}  {what}" for url, what in rows),
        *(line for line in [NO_CHAIN] if no_chain),
        f"  logs: {_short(env.maxxit_data_dir / 'logs')}/*.log   Ctrl-C stops all processes; data is kept",
    ]


def _exists(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
