"""What an importer of post files is, and what all of them share: ids, times, and records with their places."""

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
from maxxit.core.files import lines
from maxxit.market.feeds.file import UNITS, unit_of
from signals_app.sources.base import RawPost, Refused, unfit

TWITTER_TIME = "%a %b %d %H:%M:%S %z %Y"
"""Wed Dec 06 12:00:00 +0000 2017."""
_SNOWFLAKE = re.compile(r"\d{1,25}")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a file as it stands."""

    place: str
    """`file:line`, in a list `file:item`."""
    value: Any


class PostImporter(Protocol):
    """One format."""

    def sniff(self, head: str) -> bool:
        """Whether a file that begins with `head` is of this format."""
        ...

    def records(self, path: Path) -> Iterator[Record]:
        """The entries as they stand. Raises `Misconfigured` where the file as a whole cannot be read."""
        ...

    def post(self, value: Any, username: str) -> RawPost | None:
        """The post of an entry; None for one that is none by design (a repost's wrapper, another kind of entry).

        `username` is the author where the file names none. Raises ValueError saying what is wrong.
        """
        ...


def read(importer: PostImporter, path: Path, username: str) -> Iterator[RawPost | Refused]:
    """Every entry of a file: its post, or why it is none. What is none by design is passed over."""
    for record in importer.records(path):
        try:
            found = importer.post(record.value, username)
            if found is not None and (why := unfit(found)):
                raise ValueError(why)
        except ValueError as error:
            yield Refused(record.place, str(error), str(record.value)[:2000])
        else:
            if found is not None:
                yield found


def made(post_id: Any, username: Any, text: Any, at: Any) -> RawPost:
    """A post out of raw fields. Raises ValueError naming the field."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the text is empty")
    if not isinstance(username, str) or not username.strip().lstrip("@"):
        raise ValueError("there is no author: give --username")
    return RawPost(digits(post_id), username.strip().lstrip("@"), text, moment(at))


def digits(value: Any) -> str:
    """An id as text. Raises ValueError for one that lost digits (1.9e18) or is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(
            f"the id is no whole number: {str(value)[:40]!r} (a number with a fraction loses digits)"
        )
    text = str(value).strip()
    if not _SNOWFLAKE.fullmatch(text):
        raise ValueError(f"the id is no whole number: {text[:40]!r}")
    return text


def moment(value: Any) -> datetime:
    """ISO 8601, Twitter's own form, or seconds to nanoseconds since 1970; UTC where no zone is given."""
    text = (
        str(value).strip() if isinstance(value, int | str | Decimal) and not isinstance(value, bool) else ""
    )
    whole = text.removesuffix(".0")
    if whole.isascii() and whole.isdecimal():
        unit = unit_of(int(whole))
        if not unit:
            raise ValueError(f"the time {text[:40]!r} is no time since 1970 that we know")
        return datetime.fromtimestamp(int(whole) // UNITS[unit], UTC)
    for form in (datetime.fromisoformat, _twitter):
        try:
            return clock.utc(form(text))
        except ValueError:
            continue
    raise ValueError(
        f"the time is neither ISO 8601, Twitter's form nor seconds since 1970: {str(value)[:40]!r}"
    )


def _twitter(text: str) -> datetime:
    return datetime.strptime(text, TWITTER_TIME)  # noqa: DTZ007  (its form has %z)


def first(value: Any, *names: str) -> Any:
    """The first of the fields (`author.userName` goes deeper) that is there and not null; None without any."""
    if not isinstance(value, Mapping):
        raise ValueError("it is no object")
    for name in names:
        found: Any = value
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None


def json_lines(path: Path) -> Iterator[Record]:
    """Objects of a JSON-lines file; a line that is no JSON comes as text, for the importer to refuse."""
    for number, line in lines(path):
        if line.strip():
            try:
                yield Record(f"{path}:{number}", untrusted.loads(line, decimals=True))
            except ValueError as error:
                yield Record(f"{path}:{number}", f"not JSON: {error}")


def json_array(path: Path, prefix: re.Pattern[str] | None = None) -> Iterator[Record]:
    """Items of a JSON array, after a `prefix` such as `window.YTD.tweets.part0 =`."""
    text = "\n".join(line for _, line in lines(path)).strip()
    if prefix is not None:
        text = prefix.sub("", text, count=1).rstrip(";")
    try:
        found = untrusted.loads(text, decimals=True)
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise Misconfigured(f"{path}:{line}: not JSON: {str(error)[:200]}") from None
    if not isinstance(found, list):
        raise Misconfigured(f"{path}:1: a list of posts is expected")
    return (Record(f"{path}:{place}", item) for place, item in enumerate(found, start=1))
