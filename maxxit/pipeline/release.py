"""Which release may execute: the code and configuration that `manage.py setup` declared last.

During a deployment workers of two releases are up at once. One of an older or newer release than the declared one
hands every task of the execution queue back, so that orders are decided by one set of rules at a time. Where none
was ever declared none is fenced: `manage.py up`, compose and systemd call `setup` before any worker starts.
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
from maxxit.events.record import record
from maxxit.pipeline.models import Release

log = structlog.get_logger(__name__)

PACKAGES = ("maxxit", "agents", "signals_app", "trading", "positions")
PAUSE_SECONDS = 0.5
"""How long a refused message stays with who refused it, so that the two do not spin."""


def _files() -> Iterator[tuple[str, Path]]:
    """What decides, by a name that is the same on every machine."""
    for package in PACKAGES:
        for folder, inner, names in os.walk(ROOT / package):
            inner[:] = [name for name in inner if name not in ("node_modules", "__pycache__", "static")]
            for path in (Path(folder, name) for name in names if name.endswith(".py")):
                yield f"code/{path.relative_to(ROOT)}", path
    yield "requirements.txt", ROOT / "requirements.txt"
    places = [
        config_dir(),
        config_dir() / "prompts",
        *([config_dir() / "profiles" / profile()] if profile() else []),
    ]
    for place in places:
        for path in place.glob("*"):
            if path.suffix in (".yaml", ".md"):
                yield f"config/{path.relative_to(config_dir())}", path


def fingerprint() -> str:
    """Twelve hexadecimal digits of the code and configuration as they stand on disk now."""
    whole = sha256()
    for name, path in sorted(_files()):
        whole.update(f"{name}\0".encode() + sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:12]


@cache
def mine() -> str:
    """The fingerprint of this process. A worker asks at its start; its children inherit the answer."""
    return fingerprint()


def declared() -> str:
    """The release that may execute; an empty string where none was declared."""
    newest = Release.objects.order_by("-pk").values_list("fingerprint", flat=True).first()
    return newest or ""


def declare() -> bool:
    """From now on this process's release executes, and no other; True when that is new."""
    if declared() == mine():
        return False
    made = Release.objects.create(fingerprint=mine(), declared_at=clock.now())
    record("release.declared", made, fingerprint=mine())
    return True


class Fenced(Task):
    """A task that only workers of the declared release run; the others hand its message back."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, or refuse. A call without a message is no worker's."""
        if not self.request.called_directly and declared() not in ("", mine()):
            log.warning("task_refused", task=self.name, release=mine(), declared=declared())
            time.sleep(PAUSE_SECONDS)
            raise Reject(f"this worker is of release {mine()}, not of {declared()}", requeue=True)
        return super().__call__(*args, **kwargs)
