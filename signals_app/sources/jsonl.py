"""Post source for JSON-lines files: one post a line with `id`, `username`, `created_at` (UTC) and `text`.

Lines may also have `link` and the counts `likes`, `reposts`, `replies` and `quotes`.

A later line with the same id and another text is an edit; one with `"deleted": true` instead of the text is a deletion
at `created_at`.
"""

import bisect
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from maxxit.core import clock, redact, untrusted
from maxxit.core.errors import Misconfigured
from maxxit.core.files import UTF_16, raw_lines
from signals_app.sources.base import Cursor, RawPost, Refused, engagement_of, unfit, web_link

OVERLAP = timedelta(hours=1)
"""How much older than the newest post a line may be that is appended late."""

SHOWN = 2_000
"""Characters that are kept of an invalid line."""
SEARCHED = 10 * SHOWN
"""Bytes of an invalid line in which secrets are masked before it is cut."""

Parsed = tuple[dict[str, list[RawPost]], tuple[Refused, ...]]


class JsonlSource:
    """Reads every file that matches `paths` (globs). Posts dated in the future wait until the clock reaches them."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Fetch the new posts of `username` up to now, oldest first. Names compare without case."""
        for path in self._files():
            posts = _read(path, _stamp(path))[0].get(username.lower(), [])
            start = bisect.bisect_right(posts, cursor.since - OVERLAP, key=_when) if cursor.since else 0
            yield from posts[start : bisect.bisect_right(posts, clock.now(), key=_when)]

    def refused(self) -> Iterable[Refused]:
        """Return the invalid lines, each with its number and what is wrong with it."""
        for path in self._files():
            yield from _read(path, _stamp(path))[1]

    def usernames(self) -> set[str]:
        """Return every author of the files, as written."""
        names = {}
        for path in self._files():
            for posts in _read(path, _stamp(path))[0].values():
                names[posts[0].username.lower()] = posts[0].username
        return set(names.values())

    def everything(self) -> tuple[list[RawPost], list[Refused]]:
        """Return all posts of the files, whatever their date, and all invalid lines."""
        read = [_read(path, _stamp(path)) for path in self._files()]
        posts = [post for by_author, _ in read for written in by_author.values() for post in written]
        return posts, [line for _, refused in read for line in refused]

    def _files(self) -> list[Path]:
        files: list[Path] = []
        for pattern in self.paths:
            path = Path(pattern)
            matches = sorted(path.parent.glob(path.name))
            if not matches:
                raise Misconfigured(
                    f"no post file matches {pattern!r}: correct `paths` in config/signals.yaml"
                )
            files += matches
        return files


def _when(post: RawPost) -> datetime:
    return post.posted_at


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=8)
def _read(path: Path, _stamp: tuple[int, int]) -> Parsed:
    """Read a file's posts by lower-case author, oldest first, and its invalid lines."""
    posts: dict[str, list[RawPost]] = {}
    refused = []
    for number, line in raw_lines(path):
        if not line.strip():
            continue
        parsed = parse(line)
        if isinstance(parsed, str):
            refused.append(Refused(f"{path}:{number}", parsed, _shown(line)))
        else:
            posts.setdefault(parsed.username.lower(), []).append(parsed)
    for written in posts.values():
        written.sort(key=lambda post: (post.posted_at, len(post.post_id), post.post_id))
    return posts, tuple(refused)


def _shown(line: bytes) -> str:
    """Return the beginning of an invalid line, secrets masked; the part beyond is not searched for any."""
    return redact.document(line[:SEARCHED].decode(errors="replace"))[:SHOWN]


def parse(line: bytes) -> RawPost | str:
    """Parse one line into a post, or return what is wrong with it."""
    try:
        item = untrusted.loads(line)
    except UnicodeDecodeError as error:
        if line.startswith(UTF_16):
            return "UTF-16, not UTF-8: save the file as UTF-8"
        return f"not UTF-8 from byte {error.start + 1} on"
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(item, dict):
        return "not a JSON object"
    deleted = item.get("deleted") is True
    for field in ("id", "username", "created_at") if deleted else ("id", "username", "created_at", "text"):
        if not isinstance(item.get(field), str) or not item[field].strip():
            hint = " (ids are strings: a number loses digits)" if field == "id" else ""
            return f"{field!r} must be a non-empty string{hint}"
    try:
        posted_at = clock.utc(datetime.fromisoformat(item["created_at"]))
    except ValueError:
        return f"'created_at' is not an ISO 8601 time: {item['created_at'][:40]!r}"
    text = "" if deleted else item["text"]
    post = RawPost(
        item["id"],
        item["username"].lstrip("@"),
        text,
        posted_at,
        deleted,
        engagement_of(item),
        web_link(item.get("link")),
    )
    return unfit(post) or post
