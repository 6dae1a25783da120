"""Secrets of the environment: the variable itself, or the file that `<NAME>_FILE` names."""

import os
from pathlib import Path

from maxxit.core import redact
from maxxit.core.errors import Misconfigured

FILE = "_FILE"


def secret(name: str) -> str:
    """Return a secret, registered for redaction; empty where none is set. Raises Misconfigured for a missing file."""
    file = os.environ.get(f"{name}{FILE}", "").strip()
    value = read_secret_file(f"{name}{FILE}", file) if file else os.environ.get(name, "").strip()
    redact.know(value)
    return value


def read_secret_file(variable: str, file: str) -> str:
    """Return the text of a secret's file. Raises Misconfigured naming the variable."""
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{variable}: {file} cannot be read ({type(error).__name__})") from error
