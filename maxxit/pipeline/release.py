"""Release fencing: only workers of the release that `manage.py setup` declared last execute orders.

During a rollout workers of two releases run at once. A worker of another release than the declared one hands every
task of the execution queue back, so that all orders are decided by the same code and configuration. Without a
declared release nothing is fenced: `manage.py up`, compose and systemd call `setup` before any worker starts.
"""

import os
import time
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Reject

from maxxit.core import clock
from maxxit.core.config import ROOT, config_dir, profile
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.pipeline.models import Release

log = structlog.get_logger(__name__)

PACKAGES = ("maxxit", "agents", "signals_app", "trading", "positions")
PAUSE_SECONDS = 0.5
"""How long a worker keeps a message before it hands it back, so that it does not spin."""


def _files() -> Iterator[tuple[str, Path]]:
    """Yield code and configuration files, each with a name that is the same on every machine."""
    for package in PACKAGES:
        for folder, inner, names in os.walk(ROOT / package):
            inner[:] = [name for name in inner if name not in ("node_modules", "__pycache__", "static")]
            for path in (Path(folder, name) for name in names if name.endswith(".py")):
                yield f"code/{path.relative_to(ROOT)}", path
    yield "requirements.txt", ROOT / "requirements.txt"
    folders = [
        config_dir(),
        config_dir() / "prompts",
        *config_dir().glob("overlays/*"),
        *([config_dir() / "profiles" / profile()] if profile() else []),
    ]
    for config_folder in folders:
        for path in config_folder.glob("*"):
            if path.suffix in (".yaml", ".md"):
                yield f"config/{path.relative_to(config_dir())}", path


def fingerprint() -> str:
    """Return the release fingerprint: twelve hex digits over the code and configuration on disk."""
    digest = sha256()
    for name, path in sorted(_files()):
        digest.update(f"{name}\0".encode() + sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


@cache
def mine() -> str:
    """Return the fingerprint of this process, computed when the worker starts and inherited by its children."""
    return fingerprint()


def declared() -> str:
    """Return the declared release; empty where none was declared."""
    newest = Release.objects.order_by("-pk").values_list("fingerprint", flat=True).first()
    return newest or ""


def check_declared() -> None:
    """Raise Rejected where another release is declared than this process runs."""
    if declared() not in ("", mine()):
        raise Rejected(
            f"the declared release is {declared()}, this is {mine()}: finish the deployment with `manage.py setup` "
            "first",
            code="release",
        )


def declare() -> bool:
    """Declare this process's release as the one that executes; return False when it already was."""
    if declared() == mine():
        return False
    release = Release.objects.create(fingerprint=mine(), declared_at=clock.now())
    record("release.declared", release, fingerprint=mine())
    return True


class Fenced(Task):
    """Task that only workers of the declared release run; others hand its message back."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, or hand it back. A direct call, outside a worker, always runs."""
        if not self.request.called_directly and declared() not in ("", mine()):
            log.warning("task_refused", task=self.name, release=mine(), declared=declared())
            time.sleep(PAUSE_SECONDS)
            raise Reject(f"this worker is of release {mine()}, not of {declared()}", requeue=True)
        return super().__call__(*args, **kwargs)
