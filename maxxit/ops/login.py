"""The password of the local administrator that `setup` generated, kept so that it can be shown again."""

import os
from dataclasses import dataclass
from pathlib import Path

from maxxit.core import redact
from maxxit.embedded.processes import write_secret

FILE = "admin_password"
"""In the data folder, readable by its owner only: the name, the password, and the hash that the database got."""


@dataclass(frozen=True, slots=True)
class Login:
    """A generated login."""

    name: str
    password: str
    hashed: str
    """As stored in the database; another hash there means that the password was changed."""


def keep(data_dir: Path, login: Login) -> None:
    """Store a generated login."""
    write_secret(data_dir / FILE, "\n".join((login.name, login.password, login.hashed)))


def kept(data_dir: Path) -> Login | None:
    """Return the generated login; None where none was generated, or it was changed since."""
    try:
        name, password, hashed = (data_dir / FILE).read_text().split("\n")
    except (FileNotFoundError, ValueError):
        return None
    redact.know(password)
    return Login(name, password, hashed)


def forget(data_dir: Path) -> None:
    """Delete the stored login, which no longer holds."""
    (data_dir / FILE).unlink(missing_ok=True)


def describe(data_dir: Path) -> str:
    """Return how to log in, in one sentence."""
    if (login := kept(data_dir)) is not None:
        return f"log in as {login.name} with {login.password}"
    if os.environ.get("MAXXIT_ADMIN_PASSWORD"):
        return f"log in as {os.environ.get('MAXXIT_ADMIN_USER', 'admin')} with MAXXIT_ADMIN_PASSWORD"
    return "log in with the password that you have set (`manage.py changepassword admin` sets another)"
