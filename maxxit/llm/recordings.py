"""Answers on disk, under the hash of everything that shaped them: recorded once, replayed for ever.

One file per answer, `<folder>/<purpose>/<hash>.json`. In the mode `replay` nothing is ever called: what was not
recorded is an error that names it.
"""

import json
import os
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured
from maxxit.llm.providers.base import Answer, Provider, Request


class MissingRecording(Misconfigured):
    """Replay was asked for an answer that nobody recorded."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def key(provider: Provider, request: Request) -> str:
    """The name of the recording of this call."""
    return digest(
        {
            "provider": provider.name,
            "model": provider.model,
            "parameters": {**provider.parameters, "max_tokens": request.max_tokens},
            "prompt": {"system": request.system, "user": request.user},
            "schema": request.schema,
        }
    )


def path(folder: Path, provider: Provider, request: Request) -> Path:
    """Where the recording of this call lies."""
    return folder / request.purpose / f"{key(provider, request)}.json"


def save(folder: Path, provider: Provider, request: Request, answer: Answer) -> None:
    """Write the recording; a reader never sees half of it."""
    file = path(folder, provider, request)
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "provider": provider.name,
        "model": provider.model,
        "purpose": request.purpose,
        "answer": asdict(answer),
    }
    half = file.with_suffix(f".{os.getpid()}.half")
    half.write_text(json.dumps(kept, ensure_ascii=True, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    half.replace(file)


def find(folder: Path, provider: Provider, request: Request) -> Answer | None:
    """The recorded answer, if there is one."""
    file = path(folder, provider, request)
    if not file.exists():
        return None
    try:
        return Answer(**json.loads(file.read_text(encoding="utf-8"))["answer"])
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(f"{file} is no recording: {error}") from error
