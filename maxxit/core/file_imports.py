"""What the imports of candles and of posts into a data folder share: files, reports, options of the command."""

import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from maxxit.core.data_folder import Source
from maxxit.core.errors import Misconfigured

SHOWN = 100
"""Rejected rows that are kept with their place; all are counted."""


@dataclass
class FileReport:
    """What an import found in one file."""

    path: Path
    format: str = ""
    rows: int = 0
    """Rows (posts) that were taken from it."""
    counts: Counter[str] = field(default_factory=Counter)
    """What else was found: rejected, duplicates …"""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why rows were rejected, without the values."""
    rejected: list[str] = field(default_factory=list)
    """The first rejected rows: place: reason."""
    begins: int | None = None
    """Seconds since 1970 of the first row that was taken."""
    ends: int | None = None
    refused: str = ""
    """Why the whole file was refused."""
    sha256: str = ""

    def reject(self, place: str, reason: str) -> None:
        """Count a row that is not taken; `place` is `file:line` or `file:item`."""
        self.counts["rejected"] += 1
        self.reasons[re.sub(r"'[^']*'|\d[\d.:-]*", "…", reason)] += 1
        if len(self.rejected) < SHOWN:
            self.rejected.append(f"{place}: {reason}")

    def refuse(self, error: Exception) -> None:
        """Note why the whole file cannot be used."""
        self.refused = str(error) if str(self.path) in str(error) else f"{self.path}: {error}"

    def stated(self) -> dict[str, int]:
        """Return the counts that the manifest states."""
        return dict(self.counts)

    def source(self) -> Source:
        """Return what the manifest states of the file."""
        return Source(
            self.path.name, self.sha256, self.format, self.rows, dict(sorted(self.stated().items())),
            iso(self.begins), iso(self.ends),
        )  # fmt: skip


def iso(seconds: int | None) -> str:
    """Return a time as ISO 8601 in UTC; empty for None."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def files_in(paths: Iterable[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of files and folders, each once; those of a folder end with `suffixes` and are ordered by name.

    Raises `Misconfigured` for a path without one.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                one for one in path.rglob("*") if one.is_file() and one.name.lower().endswith(suffixes)
            )
            if not inside:
                raise Misconfigured(f"{path} has no file that ends with {', '.join(suffixes)}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise Misconfigured(f"no such file or folder: {path}")
    return list(dict.fromkeys(found))


def import_options(parser: ArgumentParser, formats: Iterable[str], files: str) -> None:
    """Declare FILE|FOLDER (help text `files`), --into and --format of a subcommand `import`."""
    known = sorted(formats)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE|FOLDER", help=files)
    parser.add_argument("--into", type=Path, required=True, help="data folder; it is made if needed")
    parser.add_argument(
        "--format", default="", choices=["", *known], metavar="FORMAT",
        help=f"{', '.join(known)} (default: detected from the first lines of each file)",
    )  # fmt: skip
