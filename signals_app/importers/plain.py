"""Importers of plain CSV and JSON files (an array, or one object a line) with common column and field names."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines, raw_lines
from signals_app.importers.base import Record, first, json_array, json_lines, make_post
from signals_app.sources.base import RawPost, derived_id

ID = ("id", "id_str", "tweet_id", "post_id", "tweetid", "status_id")
AUTHOR = (
    "username",
    "user",
    "author",
    "screen_name",
    "handle",
    "user_name",
    "user.username",
    "author.username",
)
TEXT = ("text", "full_text", "content", "tweet", "rawcontent", "body", "message")
TIME = ("created_at", "date", "datetime", "time", "timestamp", "posted_at", "createdat")


class PlainJson:
    """Reads an array of objects, or one object a line."""

    def sniff(self, head: str) -> bool:
        """Return whether the file begins with `[` or `{`."""
        return head.lstrip().startswith(("[", "{"))

    def records(self, path: Path) -> Iterator[Record]:
        """Read the objects."""
        begins = next((line for _, line in lines(path) if line.strip()), "")
        return json_array(path) if begins.lstrip().startswith("[") else json_lines(path)

    def post(self, value: Any, username: str) -> RawPost | None:
        if isinstance(value, str):
            raise ValueError(value if value.startswith("not JSON") else "the entry is not an object")
        lower = {name.lower(): item for name, item in value.items()} if isinstance(value, dict) else value
        return _plain(lower, username)


FIELDS = {"id": ID, "username": AUTHOR, "text": TEXT, "created_at": TIME}
"""Field -> names of its column, the first of which is the field's own."""


class PlainCsv:
    """Reads CSV with a header naming text, time, the author unless `--username` is given, and the id.

    A file without ids gets them from author, time and text, so that a repeated post is found again. `columns`: field
    (id, username, text, created_at) -> the name of its column in this file.
    """

    def __init__(self, columns: Mapping[str, str] | None = None) -> None:
        self._columns = {name: column.strip().lower() for name, column in (columns or {}).items()}
        if unknown := self._columns.keys() - FIELDS.keys():
            raise Misconfigured(
                f"no field {', '.join(sorted(unknown))}: a column has one of {', '.join(FIELDS)}"
            )

    def sniff(self, head: str) -> bool:
        """Return whether the first line has a known name for the text and one for the time or the id."""
        names = {name.strip().strip('"').lower() for name in head.split("\n")[0].split(",")}
        return bool(names & set(TEXT)) and bool(names & {*ID, *TIME})

    def records(self, path: Path) -> Iterator[Record]:
        """Read the rows by lower-case column; quoted texts may contain line breaks."""
        last, broken = 1, set[int]()

        def texts() -> Iterator[str]:
            nonlocal last
            for number, line in raw_lines(path):
                last = number
                try:
                    yield line.decode() + "\n"
                except UnicodeDecodeError:
                    broken.add(number)
                    yield line.decode(errors="replace") + "\n"

        rows = csv.reader(texts(), strict=True)
        try:
            header = [name.strip().lower() for name in next(rows, [])]
        except csv.Error as error:
            raise Misconfigured(f"{path}:1: the header is not valid CSV: {error}") from None
        self._name(path, header)
        while True:
            begins = last + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(f"{path}:{begins}", f"the row is not valid CSV: {error}")
                continue
            if row:
                damaged = not broken.isdisjoint(range(begins, last + 1))
                yield Record(f"{path}:{begins}", "not UTF-8" if damaged else _row(header, row))

    def _name(self, path: Path, header: list[str]) -> None:
        """Give the columns of `--column` the names of their fields. Raises `Misconfigured` for a missing one."""
        for field, column in self._columns.items():
            if column not in header:
                raise Misconfigured(f"{path}:1: no column {column!r}: {','.join(header)[:200]!r}")
            for place, name in enumerate(header):
                if name in FIELDS[field]:
                    header[place] = f"unused {name}"
            header[header.index(column) if column in header else header.index(f"unused {column}")] = field
        if not set(header) & set(TEXT) or not set(header) & set(TIME):
            raise Misconfigured(
                f"{path}:1: the header needs a column for text and time; name them with --column text=NAME "
                f"--column created_at=NAME: {','.join(header)[:200]!r}"
            )

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert a row; a repost (`is_retweet`) is skipped."""
        if isinstance(value, str):
            raise ValueError(value)
        if str(value.get("is_retweet", "")).lower() in ("true", "1"):
            return None
        if not value.keys() & set(ID):
            post = _plain({**value, "id": "0"}, username)
            parts = (post.username.lower(), post.posted_at.isoformat(), post.text)
            return replace(post, post_id=derived_id("csv", *parts))
        return _plain(value, username)


def _row(header: list[str], row: list[str]) -> dict[str, str] | str:
    if len(row) != len(header):
        return f"{len(row)} fields instead of {len(header)}"
    return dict(zip(header, row, strict=True))


def _plain(value: Any, username: str) -> RawPost:
    author = first(value, *AUTHOR)
    author = author if isinstance(author, str) and author else username
    return make_post(first(value, *ID), author, first(value, *TEXT), first(value, *TIME))
