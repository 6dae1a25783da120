"""Prompt templates: text with sections `# system` and `# user`, the latter with `{data}`.

The first version of each purpose is the file `config/prompts/<purpose>.md`; `maxxit.llm.versions` stores others.

Data is inserted as JSON only. Invisible characters (control, direction marks, zero-width) are escaped, so that
hidden text is visible to the model.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maxxit.core.config import config_dir
from maxxit.core.errors import Misconfigured

_SECTIONS = re.compile(r"\A# system\n(?P<system>.+?)\n# user\n(?P<user>.+)\Z", re.DOTALL)
_HIDDEN = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}
_UNUSUAL = re.compile(r"[^ -~]")
PLACEHOLDER = "{data}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt."""

    system: str
    user: str
    """Contains the placeholder `{data}`."""
    sha256: str
    """Of the text."""
    version: str
    """Name of a stored version, or `file-` with the beginning of the hash."""

    def render(self, data: Mapping[str, Any]) -> str:
        """Return the user prompt with the data inserted."""
        return self.user.replace(PLACEHOLDER, as_data(data))


def as_data(data: Any) -> str:
    """Return canonical JSON (sorted keys) with invisible characters escaped."""
    text = json.dumps(data, ensure_ascii=False, sort_keys=True, default=str)
    return _UNUSUAL.sub(_escape_hidden, text)


def _escape_hidden(match: re.Match[str]) -> str:
    character = match[0]
    return json.dumps(character)[1:-1] if unicodedata.category(character) in _HIDDEN else character


_GIVEN: ContextVar[Mapping[str, Prompt]] = ContextVar("given_prompts", default=MappingProxyType({}))


@contextmanager
def using(given: Mapping[str, Prompt]) -> Iterator[None]:
    """Within the block these purposes have these prompts. For evaluations and replays of other versions."""
    token = _GIVEN.set(given)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def given(purpose: str) -> Prompt | None:
    """Return the prompt that `using` gave a purpose."""
    return _GIVEN.get().get(purpose)


def of_file(purpose: str) -> Prompt:
    """Return the prompt of the configuration. Raises `Misconfigured` when the file or a section is missing."""
    return read(path_of(purpose))


def path_of(purpose: str) -> Path:
    """Return the file of a purpose."""
    return config_dir() / "prompts" / f"{purpose}.md"


def read(path: Path) -> Prompt:
    """Return the prompt of a file. Raises `Misconfigured` when the file or a section is missing."""
    return _read(str(path))


@cache
def _read(path: str) -> Prompt:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise Misconfigured(f"{path} is missing: each purpose needs a prompt file") from None
    try:
        return parse(text)
    except ValueError as error:
        raise Misconfigured(f"{path}: {error}") from None


def parse(text: str, version: str = "") -> Prompt:
    """Return the prompt of a text. Raises ValueError when a section or the placeholder is missing."""
    match = _SECTIONS.match(text)
    if not match or PLACEHOLDER not in match["user"]:
        raise ValueError(f"needs the sections '# system' and '# user', the second with {PLACEHOLDER}")
    digest = sha256(text.encode()).hexdigest()
    return Prompt(match["system"].strip(), match["user"].strip(), digest, version or f"file-{digest[:8]}")
