"""Checkpoints of a training: each finished fit, so that a training that was killed goes on after the last one.

A fit is found again by the hash of its rows, its settings and the release, so that another one is never taken for it.
A file that cannot be read or written costs time and nothing else.
"""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import structlog
from django.conf import settings

from maxxit.core.errors import InvalidInput
from maxxit.learning.forecasters import Rows
from maxxit.learning.policy import Rl
from maxxit.learning.rl.parameters import checked
from maxxit.pipeline import release

log = structlog.get_logger(__name__)

KEPT = 60
"""Files; the oldest are deleted. A night of both kinds and three horizons has 30 fits."""


def folder() -> Path:
    """Return where checkpoints lie."""
    return Path(settings.DATA_DIR) / "training"


def key(kind: str, rules: Rl, rows: Rows) -> str:
    """Return the name of a fit."""
    found = sha256(f"{kind} {rules.model_dump_json()} {release.mine()} {rows.horizon} {rows.names}".encode())
    for column in (rows.features, rows.returns, rows.volatility, rows.places):
        found.update(np.ascontiguousarray(column).tobytes())
    # a row's window reaches hours that are not rows
    found.update(np.ascontiguousarray(rows.hours[: int(rows.places.max(initial=-1)) + 1]).tobytes())
    return found.hexdigest()


def read(name: str) -> dict[str, Any] | None:
    """Return the parameters of a finished fit; None where there are none, or where the file is damaged."""
    try:
        stored = json.loads((folder() / f"{name}.json").read_text())
        checked(stored)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, InvalidInput) as error:
        log.warning("checkpoint_unusable", name=name, error=str(error))
        return None
    return dict(stored)


def write(name: str, parameters: dict[str, Any]) -> None:
    """Store the parameters of a finished fit: a process that dies leaves a whole file or none."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        new = folder() / f".{uuid4()}.tmp"
        new.write_text(json.dumps(parameters))
        os.replace(new, folder() / f"{name}.json")
        files = sorted(folder().iterdir(), key=lambda path: path.stat().st_mtime)
        for old in files[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("checkpoint_not_stored", name=name, error=str(error))
