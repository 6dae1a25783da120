"""Import post files of other tools into a data folder: `posts.jsonl`, each post once, ordered by time.

Posts are kept in a temporary SQLite file while they are sorted, so memory does not grow with their number; it is
bounded by the largest file that is one JSON document.
"""

import json
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from maxxit.core import data_folder, file_imports
from maxxit.core.data_folder import POST, POSTS
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.file_imports import iso
from maxxit.core.files import head, raw_lines
from signals_app.importers import IMPORTERS
from signals_app.importers.base import Entry, PostImporter, entries, language_of
from signals_app.importers.plain import PlainCsv
from signals_app.sources.jsonl import parse

EVERY = 1_000
"""Entries between two calls of the progress."""
SUFFIXES = (".json", ".jsonl", ".ndjson", ".js", ".csv", ".gz", ".zip")
SCHEMA = """
CREATE TABLE posts (
    id TEXT, at INTEGER, author TEXT, text TEXT, edited INTEGER, line TEXT, PRIMARY KEY (id, at)
) WITHOUT ROWID
"""
Progress = Callable[[int], None]


@dataclass
class FileReport(file_imports.FileReport):
    """What an import found in one file of posts.

    `rows` are new posts; `counts` are rejected, duplicates, edits and skipped (reposts and other kinds of entries).
    """

    languages: Counter[str] = field(default_factory=Counter)

    def stated(self) -> dict[str, int]:
        """Return the counts and those of each language."""
        return {**self.counts, **{f"language {name}": times for name, times in self.languages.items()}}


@dataclass
class PostsReport:
    """What an import gave."""

    files: list[FileReport]
    posts: int = 0
    """Lines that the folder's file has now; an edit is a line of its own."""
    accounts: int = 0
    begins: str = ""
    ends: str = ""
    edits: int = 0
    """Lines that are edits of earlier ones."""


def format_of(path: Path) -> str:
    """Detect a file's format from its first lines. Raises `Misconfigured` with the known formats."""
    begins = head(path, 12)
    if not begins.strip():
        raise Misconfigured(f"{path} is empty")
    for name in IMPORTERS:
        if IMPORTERS.open(name).sniff(begins):
            return name
    raise Misconfigured(f"{path}: unknown format: give --format, one of {', '.join(sorted(IMPORTERS))}")


def import_posts(
    folder: Path,
    paths: Sequence[Path],
    *,
    username: str = "",
    form: str = "",
    columns: Mapping[str, str] | None = None,
    progress: Progress = lambda entries: None,
) -> PostsReport:
    """Add the posts of `paths` to the folder's file and manifest; return what was found.

    Args:
        username: the author, where a file names none.
        form: the format of all files; detected from each where it is empty.
        columns: of CSV files, field -> name of its column.

    Call it within `data_folder.locked`. Nothing is written where no file has a usable post.
    """
    PlainCsv(columns)  # a field that no post has is refused before anything is read
    manifest = data_folder.read_or_empty(folder)
    held, report = folder / POSTS, PostsReport([FileReport(path) for path in paths])
    if POSTS in manifest and held.is_file() and data_folder.sha256(held) != manifest[POSTS].sha256:
        raise Misconfigured(f"{held} was changed after its import: delete it and import its sources again")
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as where:
        store = _Store(Path(where) / "posts.sqlite")
        try:
            if held.is_file():
                store.load(held)
            for one in report.files:
                _read(one, store, username, form, columns or {}, progress)
            if any(one.rows or one.counts["edits"] or one.counts["duplicates"] for one in report.files):
                part = Path(where) / POSTS
                store.write(part, report)
                os.replace(part, held)
        finally:
            store.close()
    if report.posts:
        before = manifest[POSTS].sources if POSTS in manifest else []
        new = [one.source() for one in report.files if not one.refused]
        sources = list({one.sha256: one for one in (*new, *before)}.values())  # what it gave when it was new
        entry = data_folder.Entry(
            POST,
            data_folder.sha256(held),
            report.posts,
            report.begins,
            report.ends,
            "",
            report.accounts,
            sources,
        )
        data_folder.write(folder, manifest | {POSTS: entry})
    return report


def _importer(name: str, columns: Mapping[str, str]) -> PostImporter:
    return PlainCsv(columns) if name == "csv" else IMPORTERS.open(name)


def _read(
    one: FileReport, store: "_Store", username: str, form: str, columns: Mapping[str, str], progress: Progress
) -> None:
    """Store the posts of a file; one that cannot be read whole is refused alone, and leaves nothing."""
    try:
        one.sha256 = data_folder.sha256(one.path)
        one.format = form or ("csv" if columns else format_of(one.path))
        with store.all_or_nothing():
            for number, entry in enumerate(
                entries(_importer(one.format, columns), one.path, username), start=1
            ):
                _take(one, store, entry)
                if not number % EVERY:
                    progress(EVERY)
            if not one.rows and not one.counts["duplicates"] and not one.counts["edits"]:
                why = one.rejected[0] if one.rejected else f"{one.path}: it has no posts"
                raise Misconfigured(f"{why}; no entry of the file could be used")
    except (MaxxitError, OSError) as error:
        one.refuse(error)
        one.rows = 0


def _take(one: FileReport, store: "_Store", entry: Entry) -> None:
    post = entry.post
    if post is None:
        if entry.refused:
            one.reject(entry.place, entry.refused)
        else:
            one.counts["skipped"] += 1
        return
    at = int(post.posted_at.timestamp())
    taken = store.add(entry)
    if taken == "conflict":
        one.reject(entry.place, f"post {post.post_id} has another text before, and is no edit")
        return
    if taken:
        one.counts[taken] += 1
        if taken == "duplicates":
            return
    else:
        one.rows += 1
    one.languages[entry.language or "unknown"] += 1
    one.begins = at if one.begins is None else min(one.begins, at)
    one.ends = at if one.ends is None else max(one.ends, at)


class _Store:
    """Posts by id and time, in a file that is deleted with its folder."""

    def __init__(self, path: Path) -> None:
        self._rows = sqlite3.connect(path, isolation_level=None)
        self._rows.execute("PRAGMA journal_mode = MEMORY")
        self._rows.execute("PRAGMA synchronous = OFF")
        self._rows.execute(SCHEMA)

    def close(self) -> None:
        """Release the file."""
        self._rows.close()

    def all_or_nothing(self) -> "_Transaction":
        """Return a context that undoes what was added within it when it fails."""
        return _Transaction(self._rows)

    def load(self, path: Path) -> None:
        """Read the folder's present file. Raises `Misconfigured` for a line that is no post."""
        with self.all_or_nothing():
            for number, line in raw_lines(path):
                if not line.strip():
                    continue
                post = parse(line)
                if isinstance(post, str):
                    raise Misconfigured(
                        f"{path}:{number}: {post}: delete the file and import its sources again"
                    )
                text = line.decode()
                stated = json.loads(text)
                self._insert(
                    post.post_id, _at(post.posted_at), post.username, post.text, bool(stated.get("edited")),
                    text,
                )  # fmt: skip

    def add(self, entry: Entry) -> str:
        """Store a post; return an empty string, or why it is not a new one: duplicates, edits, conflict."""
        post = entry.post
        if post is None:
            return ""
        at = _at(post.posted_at)
        known = self._rows.execute(
            "SELECT at, text, edited FROM posts WHERE id = ?", (post.post_id,)
        ).fetchall()
        if any(text == post.text for _, text, _ in known):
            return "duplicates"
        is_version = entry.edited or any(edited for _, _, edited in known)
        if known and (not is_version or any(before == at for before, _, _ in known)):
            return "conflict"
        line: dict[str, Any] = {
            "id": post.post_id, "username": post.username, "created_at": post.posted_at.isoformat(),
            "text": post.text,
        }  # fmt: skip
        line |= {"lang": entry.language} if entry.language else {}
        line |= {"edited": True} if entry.edited else {}
        self._insert(
            post.post_id, at, post.username, post.text, entry.edited,
            json.dumps(line, ensure_ascii=False),
        )  # fmt: skip
        return "edits" if known else ""

    def _insert(self, *values: Any) -> None:
        self._rows.execute("INSERT OR IGNORE INTO posts VALUES (?, ?, ?, ?, ?, ?)", values)

    def write(self, path: Path, report: PostsReport) -> None:
        """Write all posts, oldest first, and count them."""
        query = self._rows.execute("SELECT at, line FROM posts ORDER BY at, length(id), id")
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for at, line in query:
                out.write(line + "\n")
                report.begins = report.begins or iso(at // 1_000_000)
                report.ends = iso(at // 1_000_000)
                report.posts += 1
        ids, accounts = self._rows.execute(
            "SELECT count(DISTINCT id), count(DISTINCT lower(author)) FROM posts"
        ).fetchone()
        report.accounts, report.edits = accounts, report.posts - ids


class _Transaction:
    def __init__(self, rows: sqlite3.Connection) -> None:
        self._rows = rows

    def __enter__(self) -> None:
        self._rows.execute("BEGIN")

    def __exit__(self, kind: object, *_: object) -> None:
        self._rows.execute("ROLLBACK" if kind else "COMMIT")


def _at(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return round(moment.timestamp() * 1_000_000)


@dataclass
class Account:
    """The posts of one author in a data folder."""

    name: str
    posts: int = 0
    begins: datetime | None = None
    ends: datetime | None = None
    languages: Counter[str] = field(default_factory=Counter)


def accounts(path: Path) -> list[Account]:
    """Return the authors of a post file, most posts first. Raises `Misconfigured` for a line that is no post."""
    found: dict[str, Account] = {}
    for post, language in _posts(path):
        one = found.setdefault(post.username.lower(), Account(post.username))
        one.posts += 1
        one.begins = min(one.begins or post.posted_at, post.posted_at)
        one.ends = max(one.ends or post.posted_at, post.posted_at)
        one.languages[language] += 1
    return sorted(found.values(), key=lambda one: (-one.posts, one.name.lower()))


def _posts(path: Path) -> Iterator[tuple[Any, str]]:
    for number, line in raw_lines(path):
        post = parse(line)
        if isinstance(post, str):
            raise Misconfigured(f"{path}:{number}: {post}")
        yield post, language_of(json.loads(line)) or "unknown"
