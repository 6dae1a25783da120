"""Recorded LLM answers on disk, keyed by a hash of provider, model, parameters, prompt and schema.

One file per answer, `<folder>/<purpose>/<hash>.json`. In mode `replay` no provider is called: a missing recording is
an error that names it.
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
    """A replay needs an answer that was not recorded."""


def canonical(value: Any) -> str:
    """Serialize to canonical JSON: sorted keys, no spaces."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON."""
    return sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def key(provider: Provider, request: Request) -> str:
    """Return the key of the recording of this call."""
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
    """Return the file of the recording of this call."""
    return folder / request.purpose / f"{key(provider, request)}.json"


def save(folder: Path, provider: Provider, request: Request, answer: Answer) -> None:
    """Write the recording atomically."""
    file = path(folder, provider, request)
    file.parent.mkdir(parents=True, exist_ok=True)
    recording = {
        "provider": provider.name,
        "model": provider.model,
        "purpose": request.purpose,
        "answer": asdict(answer),
    }
    partial = file.with_suffix(f".{os.getpid()}.half")
    partial.write_text(
        json.dumps(recording, ensure_ascii=True, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    partial.replace(file)


def find(folder: Path, provider: Provider, request: Request) -> Answer | None:
    """Return the recorded answer, if there is one."""
    file = path(folder, provider, request)
    if not file.exists():
        return None
    try:
        return Answer(**json.loads(file.read_text(encoding="utf-8"))["answer"])
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(f"{file} is not a valid recording: {error}") from error
