"""A folder of recorded data: candle files, one file of posts, and `manifest.json`.

The manifest states for each file its sources, span, rows and SHA-256.

`manage.py candles import` and `posts import` write it, `replay` and `backtest` read it, `candles verify` and
`posts verify` compare the files with the manifest.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured

NAME, POSTS = "manifest.json", "posts.jsonl"
VERSION = 1
CHUNK = 1 << 20
CANDLES, POST = "candles", "posts"
"""Kinds of files."""


@dataclass(frozen=True)
class Source:
    """A file that was imported."""

    name: str
    sha256: str
    format: str
    rows: int
    """Rows (posts) that were taken from it."""
    counts: dict[str, int]
    """What else was found: rejected, duplicates, minutes without a trade …; only what is not 0."""
    begins: str
    """Time of the first row, ISO 8601 in UTC."""
    ends: str


@dataclass(frozen=True)
class Entry:
    """A file of the folder."""

    kind: str
    sha256: str
    rows: int
    begins: str
    """Open time of the first bar, time of the first post; ISO 8601 in UTC."""
    ends: str
    """When the last bar closed, time of the last post."""
    symbol: str = ""
    """Of candles."""
    accounts: int = 0
    """Of posts."""
    sources: list[Source] = field(default_factory=list)


Manifest = dict[str, Entry]
"""File name -> what is stated of it."""


def read(folder: Path) -> Manifest:
    """Return the manifest of a folder. Raises `Misconfigured` where it has none, or one that cannot be read."""
    path = folder / NAME
    advice = "make a data folder with `manage.py candles import FILE --into FOLDER` (docs/data.md)"
    try:
        values = json.loads(path.read_text())
        if values["version"] != VERSION:
            raise Misconfigured(f"{path} has version {values['version']}, this release reads {VERSION}")
        return {
            str(name): Entry(**{**one, "sources": [Source(**each) for each in one["sources"]]})
            for name, one in values["files"].items()
        }
    except FileNotFoundError:
        raise Misconfigured(f"{folder} has no {NAME}: {advice}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Misconfigured(f"{path} cannot be read ({error}): {advice}") from None


def read_or_empty(folder: Path) -> Manifest:
    """Return the manifest of a folder that may be new. Raises `Misconfigured` as `read`."""
    return read(folder) if (folder / NAME).exists() else {}


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest: the same contents give the same bytes."""
    values = {"version": VERSION, "files": {name: asdict(one) for name, one in sorted(manifest.items())}}
    replace_text(folder / NAME, json.dumps(values, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create the folder and hold it against other imports.

    Raises `Misconfigured` where one is running, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise Misconfigured(f"{folder} cannot be written: {error.strerror}") from None
    with handle:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise Misconfigured(f"another import writes into {folder}: wait until it has ended") from None
        yield


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as data:
        while chunk := data.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def problems(folder: Path, kind: str = "") -> list[str]:
    """Return what differs between the files (of a kind) and the manifest, each a sentence with what to do."""
    found = []
    for name, entry in read(folder).items():
        path = folder / name
        if kind and entry.kind != kind:
            continue
        try:
            if sha256(path) != entry.sha256:
                found.append(f"{name} was changed after its import: delete it and import its sources again")
        except FileNotFoundError:
            found.append(f"{name} is missing: import its sources again")
        except OSError as error:
            found.append(f"{name} cannot be read ({error.strerror}): delete it and import its sources again")
    return found


def check(folder: Path) -> Manifest:
    """Return the manifest of a folder whose files are as imported. Raises `Misconfigured` where one is not."""
    if found := problems(folder):
        raise Misconfigured(f"{folder}: {'; '.join(found)}")
    return read(folder)


def posts_of(folder: Path) -> Path:
    """Return the file of posts. Raises `Misconfigured` where the folder has none."""
    if POSTS not in read(folder):
        raise Misconfigured(
            f"{folder} has no posts: import some with `manage.py posts import FILE --into {folder}`"
        )
    return folder / POSTS


def as_json(manifest: Manifest, kind: str) -> list[dict[str, Any]]:
    """Return the files of a kind for programs."""
    return [{"file": name, **asdict(one)} for name, one in sorted(manifest.items()) if one.kind == kind]
