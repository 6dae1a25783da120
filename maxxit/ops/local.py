"""The processes of `manage.py up`: servers, workers and their environment, readiness, and the start-up summary."""

import http.client
import os
import sys
from pathlib import Path

from celery import Celery

from maxxit.bus.policy import policy as bus_policy
from maxxit.core.config import variable
from maxxit.embedded.servers import Postgres, Redis, Say
from maxxit.env import PLANS_ONCE, Env, local_secret
from maxxit.market.venues import venues
from maxxit.ops import forkserver, login
from maxxit.ops.devchain import home as local_chain
from maxxit.ops.forkserver import Forkserver
from maxxit.ops.supervisor import Child, Server
from trading.venues import STREAMED

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
PLANNING_ONCE = frozenset({"exits", "execute", "monitor"})
"""Workers that place orders and book them: their environment has `PLANS_ONCE`."""
YIELDING_WORKERS = frozenset({"llm", "notify", "general"})
"""Workers with a lower CPU priority, so that a flood of posts delays no exit."""
YIELDING = ("nice", "-n", "10")
"""Command prefix for a lower CPU priority."""
DATABASE_POOL = "20"
"""Connections of the web process: its requests share them instead of opening one each."""
FLOWER_TASKS = "10000"
"""Tasks that Flower keeps in memory, about 2 kB each; its default is 100,000."""
SOFT_SHUTDOWN_SECONDS = "3"
"""Seconds a task may go on after Ctrl-C; then it goes back to the queue."""
WORKER_PATIENCE = 5.0
BOT_TOKEN, WEBHOOK_SECRET = "TELEGRAM_BOT_TOKEN", "TELEGRAM_WEBHOOK_SECRET"
"""With a bot's token commands of chats are polled for, unless Telegram calls the web process."""
PAGES = {
    "/": "the dashboard",
    "/admin/": "the admin: posts, signals, orders, positions, ledger",
    "/api/docs": "the REST API, interactive",
    "/health/ready": "the health checks",
}
FIRST_STEPS = (
    "open the dashboard, follow an account at /accounts, see its trades at /agents",
    ".venv/bin/python manage.py chain --position 1      a trade from the post to its PnL",
    ".venv/bin/python manage.py kill flatten --reason … stops and closes all; `resume` ends it",
)
NO_CHAIN = "no local chain: anvil is not installed (run `make install`); only the paper agents trade"


def servers(env: Env, say: Say) -> list[Server]:
    """Return the embedded servers that this environment needs."""
    needed: list[Postgres | Redis] = []
    if env.embedded_redis:
        needed.append(Redis(env.maxxit_data_dir, say=say))
    if env.embedded_postgres:
        needed.append(Postgres(env.maxxit_data_dir, say=say))
    return [Server(server) for server in needed]


def warm_parent(env: Env) -> Forkserver | None:
    """Return the parent that all Python processes are forked from; None where this system cannot fork them."""
    return Forkserver(environ=_common()) if forkserver.available() else None


def _common() -> dict[str, str]:
    """Return the variables of all processes. What is read while Python or Celery is loaded must stand here."""
    return {
        "PYTHONUNBUFFERED": "1",
        # Celery warns about root, as in containers; with JSON as the only format it is safe.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
        "REMAP_SIGTERM": "SIGQUIT",  # SIGTERM then means to a worker: finish in time or hand back
        "SOFT_SHUTDOWN_SECONDS": os.environ.get("SOFT_SHUTDOWN_SECONDS", SOFT_SHUTDOWN_SECONDS),
        "CELERY_SKIP_CHECKS": "1",  # `manage.py doctor` and `make check` run Django's checks
        "SPT_NOENV": "1",  # titles of processes do not overwrite their environment
    }


def processes(env: Env, concurrency: int, parent: Forkserver | None = None) -> list[Child]:
    """Return the child processes: web, workers, beat, Flower, price stream and local chain; forked from `parent`."""
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "maxxit.celery"]
    common = _common()
    web_only = {
        "DATABASE_POOL": DATABASE_POOL,
        "STATEMENT_TIMEOUT": "30",
        "WEB_PORT": str(env.web_port),
        "BIND": env.bind,
    }
    signing = local_chain.signing_environ(env.maxxit_data_dir) if runs_chain(env) else {}
    options = ["-c", str(concurrency), "--without-mingle", "--without-gossip"]
    workers = [
        Child(
            f"worker-{name}",
            [*_priority(name), *celery, "worker", "-Q", queues, "-n", node(name), *options],
            common
            | (PLANS_ONCE if name in PLANNING_ONCE else {})
            | (signing if name in SIGNING_WORKERS else {}),
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
        Child("stream", [sys.executable, "manage.py", "stream"], common),
    ]
    if any(one.adapter in STREAMED for one in venues().values()):
        children.append(Child("orderstream", [sys.executable, "manage.py", "orderstream"], common))
    if bus_policy().runs:
        children.append(Child("bus", [*YIELDING, sys.executable, "manage.py", "bus", "run"], common))
    if variable(BOT_TOKEN) and not variable(WEBHOOK_SECRET):
        children.append(Child("chat", [sys.executable, "manage.py", "chat"], common))
    if runs_chain(env):
        command = [sys.executable, "manage.py", "localchain"]
        children.append(Child("chain", command, common, stage=2, patience=WORKER_PATIENCE))
    for child in children:
        child.forkserver = parent
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
        "FLOWER_MAX_TASKS": FLOWER_TASKS,
        "FLOWER_READ_ONLY": "True",
    }


def node(worker: str) -> str:
    """Return the Celery node name of a worker process."""
    return f"{worker}@maxxit"


def web_answers(env: Env) -> bool:
    """Return whether the web process answers."""
    # httpx and its TLS settings would be 6 MB of the supervisor, for as long as it runs.
    asked = http.client.HTTPConnection("127.0.0.1", env.web_port, timeout=5)
    try:
        asked.request("GET", "/health/live")
        return asked.getresponse().status < 500
    except (http.client.HTTPException, OSError):
        return False
    finally:
        asked.close()


def silent_workers(env: Env) -> list[str]:
    """List the worker processes that do not answer yet."""
    nodes = [node(name) for name in WORKERS]
    with Celery("readiness", broker=env.broker) as app:
        answers = app.control.ping(nodes, timeout=0.5)
    return sorted(set(nodes) - {name for answer in answers for name in answer})


def addresses(env: Env) -> dict[str, str]:
    """Return every address with what it shows."""
    web = f"http://127.0.0.1:{env.web_port}"
    password = _short(env.maxxit_data_dir / "flower_password")
    return {f"{web}{path}": what for path, what in PAGES.items()} | {
        f"http://127.0.0.1:{env.flower_port}": f"Flower: every task (login: admin, password in {password})"
    }


def start_summary(env: Env) -> list[str]:
    """Return the lines shown after start-up: addresses, login, and what to try first."""
    found = addresses(env)
    wide = max(map(len, found))
    no_chain = env.maxxit_profile == "demo" and not runs_chain(env)
    return [
        *(f"{address:<{wide}}  {what}" for address, what in found.items()),
        f"{login.describe(env.maxxit_data_dir)}; shown again by `manage.py login-info`",
        *(line for line in [NO_CHAIN] if no_chain),
        "",
        *(f"{number}. {what}" for number, what in enumerate(FIRST_STEPS, 1)),
        "",
        f'logs: {_short(env.maxxit_data_dir / "logs")}/*.log   every line here: make up UP="-v 2"',
        "Ctrl-C stops all processes; the data is kept",
    ]


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
