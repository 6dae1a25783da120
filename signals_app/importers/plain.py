"""Importers of plain CSV and JSON files (an array, or one object a line) with common column and field names."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines
from signals_app.importers.base import Record, first, json_array, json_lines, make_post
from signals_app.sources.base import RawPost

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


class PlainCsv:
    """Reads CSV with a header naming id, text, time, and the author unless `--username` is given."""

    def sniff(self, head: str) -> bool:
        """Return whether the first line has a known name for the id and one for the text."""
        names = {name.strip().strip('"').lower() for name in head.split("\n")[0].split(",")}
        return bool(names & set(ID)) and bool(names & set(TEXT))

    def records(self, path: Path) -> Iterator[Record]:
        """Read the rows by lower-case column; quoted texts may contain line breaks."""
        numbered = lines(path)
        last = 1

        def texts() -> Iterator[str]:
            nonlocal last
            for number, line in numbered:
                last = number
                yield line + "\n"

        rows = csv.reader(texts(), strict=True)
        try:
            header = [name.strip().lower() for name in next(rows, [])]
        except csv.Error as error:
            raise Misconfigured(f"{path}:1: the header is not valid CSV: {error}") from None
        if not set(header) & set(ID) or not set(header) & set(TEXT) or not set(header) & set(TIME):
            raise Misconfigured(
                f"{path}:1: the header needs a column for id, text and time: {','.join(header)[:200]!r}"
            )
        while True:
            begins = last + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise Misconfigured(f"{path}:{begins}: the row is not valid CSV: {error}") from None
            if row:
                complete = len(row) == len(header)
                value = (
                    dict(zip(header, row, strict=True))
                    if complete
                    else f"{len(row)} fields instead of {len(header)}"
                )
                yield Record(f"{path}:{begins}", value)

    def post(self, value: Any, username: str) -> RawPost | None:
        if isinstance(value, str):
            raise ValueError(value)
        return _plain(value, username)


def _plain(value: Any, username: str) -> RawPost:
    author = first(value, *AUTHOR)
    author = author if isinstance(author, str) and author else username
    return make_post(first(value, *ID), author, first(value, *TEXT), first(value, *TIME))
