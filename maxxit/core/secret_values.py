"""Secrets of the environment: the variable itself, or the file that `<NAME>_FILE` names."""

import os
from pathlib import Path

from maxxit.core import redact
from maxxit.core.errors import Misconfigured


def secret(name: str) -> str:
    """Return a secret, registered for redaction; empty where none is set. Raises Misconfigured for a missing file."""
    file = os.environ.get(f"{name}_FILE", "").strip()
    if not file:
        value = os.environ.get(name, "").strip()
    else:
        try:
            value = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{name}_FILE: {file} cannot be read ({type(error).__name__})") from error
    redact.know(value)
    return value
