"""Prompt templates: `config/prompts/<purpose>.md` with sections `# system` and `# user`, the latter with `{data}`.

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
from typing import Any

from maxxit.core.config import config_dir
from maxxit.core.errors import Misconfigured

_SECTIONS = re.compile(r"\A# system\n(?P<system>.+?)\n# user\n(?P<user>.+)\Z", re.DOTALL)
_HIDDEN = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}
_UNUSUAL = re.compile(r"[^ -~]")
PLACEHOLDER = "{data}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt file."""

    system: str
    user: str
    """Contains the placeholder `{data}`."""
    sha256: str
    """Of the file."""

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


_INSTEAD: ContextVar[str] = ContextVar("prompt_instead", default="")


@contextmanager
def using(path: Path | None) -> Iterator[None]:
    """Within the block every purpose has the prompt of this file; None: its own. For evaluations of other wordings."""
    token = _INSTEAD.set(str(path or ""))
    try:
        yield
    finally:
        _INSTEAD.reset(token)


def read(purpose: str) -> Prompt:
    """Read the prompt of a purpose. Raises `Misconfigured` when the file or a section is missing."""
    if instead := _INSTEAD.get():
        return _read(instead)
    return _read(str(config_dir() / "prompts" / f"{purpose}.md"))


@cache
def _read(path: str) -> Prompt:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise Misconfigured(f"{path} is missing: each purpose needs a prompt file") from None
    match = _SECTIONS.match(text)
    if not match or PLACEHOLDER not in match["user"]:
        raise Misconfigured(
            f"{path}: needs the sections '# system' and '# user', the second with {PLACEHOLDER}"
        )
    return Prompt(match["system"].strip(), match["user"].strip(), sha256(text.encode()).hexdigest())
