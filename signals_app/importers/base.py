"""The protocol of post importers, and the parsing they share: ids, times, and records with file and line."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from maxxit.core import clock, untrusted
from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines, raw_lines
from maxxit.market.feeds.file import UNITS, unit_of
from signals_app.sources.base import RawPost, Refused, unfit

TWITTER_TIME = "%a %b %d %H:%M:%S %z %Y"
"""Wed Dec 06 12:00:00 +0000 2017."""
_SNOWFLAKE = re.compile(r"\d{1,25}")


@dataclass(frozen=True, slots=True)
class Record:
    """One raw entry of a file."""

    place: str
    """`file:line`, or `file:item` in a list."""
    value: Any


class PostImporter(Protocol):
    """An importer for one format."""

    def sniff(self, head: str) -> bool:
        """Return whether a file that begins with `head` has this format."""
        ...

    def records(self, path: Path) -> Iterator[Record]:
        """Read the raw entries. Raises `Misconfigured` where the file as a whole cannot be read."""
        ...

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert an entry to a post; None for a repost or another kind of entry.

        `username` is the author where the file names none. Raises ValueError with what is wrong.
        """
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry of a file is."""

    place: str
    post: RawPost | None = None
    """None for a repost or another kind of entry, and where it was refused."""
    refused: str = ""
    """Why it is no post."""
    language: str = ""
    """As its source states it (`en`)."""
    edited: bool = False
    """The text is that of an edit, and the time that of the edit."""
    raw: Any = None


def entries(importer: PostImporter, path: Path, username: str) -> Iterator[Entry]:
    """Yield what each entry of a file is, in file order.

    An importer's TypeError or AttributeError means a value of another type than it expects: it costs only the entry, or
    raises `Misconfigured` where it is about the file as a whole.
    """
    for record in _records(importer, path):
        try:
            post = importer.post(record.value, username)
            if post is not None and (why := unfit(post)):
                raise ValueError(why)
            if post is None:
                yield Entry(record.place, raw=record.value)
                continue
            yield Entry(
                record.place, post, "", language_of(record.value), is_edited(record.value), record.value
            )
        except ValueError as error:
            yield Entry(record.place, None, str(error), raw=record.value)
        except (TypeError, AttributeError) as error:
            yield Entry(record.place, None, f"a field is not of the expected type: {error}", raw=record.value)


def _records(importer: PostImporter, path: Path) -> Iterator[Record]:
    try:
        yield from importer.records(path)
    except (TypeError, AttributeError) as error:
        raise Misconfigured(f"{path}: its entries are not of the expected types: {error}") from error


def read(importer: PostImporter, path: Path, username: str) -> Iterator[RawPost | Refused]:
    """Yield the post of every entry, or why it was refused; reposts and other kinds of entries are skipped."""
    for entry in entries(importer, path, username):
        if entry.refused:
            yield Refused(entry.place, entry.refused, str(entry.raw)[:2000])
        elif entry.post is not None:
            yield entry.post


def language_of(value: Any) -> str:
    """Return the language that an entry states; an empty string without one, or for one that is not ASCII."""
    found = first(value, "lang", "language", "tweet.lang")
    return found[:8].lower() if isinstance(found, str) and found.isascii() and found != "und" else ""


def is_edited(value: Any) -> bool:
    """Return whether an entry says that its text is an edit: Telegram's `edited`, X's edit history."""
    history = first(value, "edit_history_tweet_ids")
    later = isinstance(history, list) and len(history) > 1 and first(value, "id") != history[0]
    return later or first(value, "edited_unixtime") is not None


def make_post(post_id: Any, username: Any, text: Any, at: Any) -> RawPost:
    """Build a post from raw fields. Raises ValueError naming the field."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the text is empty")
    if not isinstance(username, str) or not username.strip().lstrip("@"):
        raise ValueError("the author is missing: give --username")
    return RawPost(digits(post_id), username.strip().lstrip("@"), text, moment(at))


def digits(value: Any) -> str:
    """Convert an id to text. Raises ValueError for one that lost digits (1.9e18) or is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(
            f"the id is not a whole number: {str(value)[:40]!r} (a floating-point number loses digits)"
        )
    text = str(value).strip()
    if not _SNOWFLAKE.fullmatch(text):
        raise ValueError(f"the id is not a whole number: {text[:40]!r}")
    return text


def moment(value: Any) -> datetime:
    """Parse ISO 8601, Twitter's format, or seconds to nanoseconds since 1970; UTC where no zone is given."""
    text = (
        str(value).strip() if isinstance(value, int | str | Decimal) and not isinstance(value, bool) else ""
    )
    whole = text.removesuffix(".0")
    if whole.isascii() and whole.isdecimal():
        unit = unit_of(int(whole))
        if not unit:
            raise ValueError(f"the time {text[:40]!r} is out of range for seconds to nanoseconds since 1970")
        return datetime.fromtimestamp(int(whole) // UNITS[unit], UTC)
    for form in (datetime.fromisoformat, _twitter):
        try:
            return clock.utc(form(text))
        except ValueError:
            continue
    raise ValueError(
        f"the time is neither ISO 8601, Twitter's format nor seconds since 1970: {str(value)[:40]!r}"
    )


def _twitter(text: str) -> datetime:
    return datetime.strptime(text, TWITTER_TIME)  # noqa: DTZ007  (its form has %z)


def first(value: Any, *names: str) -> Any:
    """Return the first of the fields that is not null (`author.userName` is a path); None without any."""
    if not isinstance(value, Mapping):
        raise ValueError("the entry is not an object")
    for name in names:
        field: Any = value
        for part in name.split("."):
            field = field.get(part) if isinstance(field, Mapping) else None
        if field is not None:
            return field
    return None


def json_lines(path: Path) -> Iterator[Record]:
    """Read the objects of a JSON-lines file; an invalid line is yielded as text, for the importer to refuse."""
    for number, line in raw_lines(path):
        if line.strip():
            try:
                yield Record(f"{path}:{number}", untrusted.loads(line, decimals=True))
            except UnicodeDecodeError as error:
                yield Record(f"{path}:{number}", f"not UTF-8: {error.reason}")
            except ValueError as error:
                yield Record(f"{path}:{number}", f"not JSON: {error}")


def json_file(path: Path, prefix: re.Pattern[str] | None = None) -> Any:
    """Parse a whole file after a `prefix` (`window.YTD.tweets.part0 =`). Raises `Misconfigured` with the line."""
    text = "\n".join(line for _, line in lines(path)).strip()
    if prefix is not None:
        text = prefix.sub("", text, count=1).rstrip(";")
    try:
        return untrusted.loads(text, decimals=True)
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise Misconfigured(f"{path}:{line}: not JSON: {str(error)[:200]}") from None


def json_array(path: Path, prefix: re.Pattern[str] | None = None) -> Iterator[Record]:
    """Read the items of a JSON array, after a `prefix` such as `window.YTD.tweets.part0 =`."""
    items = json_file(path, prefix)
    if not isinstance(items, list):
        raise Misconfigured(f"{path}:1: a list of posts is expected")
    return (Record(f"{path}:{place}", item) for place, item in enumerate(items, start=1))
