"""The files that a backup holds besides the database, and where they go when it is restored."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from django.conf import settings

from maxxit.core import secret_values
from maxxit.core.config import ROOT, config_dir
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.embedded.processes import write_secret_bytes
from maxxit.env import env_file
from maxxit.llm.policy import recordings
from maxxit.reports.backup_policy import Part

DATA_SECRETS = (
    "secret_key",
    "credentials.key",
    "notify.key",
    "push.key",
    "admin_password",
    "flower_password",
)
"""Generated secrets in the data folder."""
KEYS = "keys/data/"
SECRET = ("config/.env",)
"""Files with secrets besides the part `keys`: a backup that is not encrypted leaves them out."""
OPENS_BACKUPS = "BACKUP_PASSPHRASE_FILE"


def files(include: Iterable[Part]) -> Iterator[tuple[str, Path]]:
    """Yield name in the backup and path of each file of these parts that is there.

    Raises Misconfigured where a variable names a file with a key that is not there.
    """
    readers = {"config": _config, "keys": _keys, "recordings": _recordings}
    for part in dict.fromkeys(include):
        for name, path in readers[part]():
            if path.is_file():
                yield f"{part}/{name}", path


def _config() -> Iterator[tuple[str, Path]]:
    yield from _tree(config_dir())
    yield ".env", env_file()


def _keys() -> Iterator[tuple[str, Path]]:
    for name in DATA_SECRETS:
        yield f"data/{name}", Path(settings.DATA_DIR) / name
    for variable, path in secret_values.key_files().items():
        if variable == OPENS_BACKUPS:
            continue
        if not Path(path).is_file():
            raise Misconfigured(
                f"{variable}: {path} is not there: correct it, or leave keys out of the backup"
            )
        yield f"environment/{variable}", Path(path)


def _recordings() -> Iterator[tuple[str, Path]]:
    for name, path in _tree(ROOT / recordings().path):
        yield f"models/{name}", path
    if events := os.environ.get("EVENT_STORE_PATH"):
        yield "events.jsonl", ROOT / events


def _tree(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def check_free(folder: Path) -> None:
    """Raise Rejected (not_empty) where the folder for the files of a restore has some already."""
    if folder.is_dir() and any(folder.iterdir()):
        raise Rejected(
            f"{folder} is not empty: move it away, or name another folder with --files-to; a restore replaces nothing",
            code="not_empty",
        )


def place(name: str, content: bytes, folder: Path) -> Path:
    """Write one file of a backup, readable by its owner alone; return where.

    A generated secret goes back into the data folder where it is missing; everything else goes below `folder`, because
    a restore replaces nothing. Raises Rejected for a name that would leave the folder.
    """
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts:
        raise Rejected(f"the backup names the file {name!r} outside its folder", code="backup_damaged")
    path = folder / inner
    if name.startswith(KEYS) and name.removeprefix(KEYS) in DATA_SECRETS:
        own = Path(settings.DATA_DIR) / name.removeprefix(KEYS)
        path = path if own.exists() else own
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret_bytes(path, content)
    return path
