"""Prompt files: `config/prompts/<purpose>.md` with the sections `# system` and `# user`, the latter with `{data}`.

Data enters as JSON and nothing else. Characters that do not show (controls, direction marks, zero-width) are
written as escapes, so that a model sees what a person would want to know is there.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from maxxit.core.config import config_dir
from maxxit.core.errors import Misconfigured

_SECTIONS = re.compile(r"\A# system\n(?P<system>.+?)\n# user\n(?P<user>.+)\Z", re.DOTALL)
_HIDDEN = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}
_UNUSUAL = re.compile(r"[^ -~]")
PLACE = "{data}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt file."""

    system: str
    user: str
    """With the place for the data in it."""
    sha256: str
    """Of the file."""

    def render(self, data: Mapping[str, Any]) -> str:
        """The user's turn with the data in its place."""
        return self.user.replace(PLACE, as_data(data))


def as_data(data: Any) -> str:
    """Canonical JSON (sorted keys) in which nothing is invisible."""
    text = json.dumps(data, ensure_ascii=False, sort_keys=True, default=str)
    return _UNUSUAL.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    sign = found[0]
    return json.dumps(sign)[1:-1] if unicodedata.category(sign) in _HIDDEN else sign


def read(purpose: str) -> Prompt:
    """The prompt of a purpose. Raises `Misconfigured` when the file is missing or has no such sections."""
    return _read(str(config_dir() / "prompts" / f"{purpose}.md"))


@cache
def _read(path: str) -> Prompt:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise Misconfigured(f"{path} is missing: a purpose needs its prompt file") from None
    found = _SECTIONS.match(text)
    if not found or PLACE not in found["user"]:
        raise Misconfigured(f"{path}: needs the sections '# system' and '# user', the second with {PLACE}")
    return Prompt(found["system"].strip(), found["user"].strip(), sha256(text.encode()).hexdigest())
