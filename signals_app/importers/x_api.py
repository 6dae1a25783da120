"""Importer of pages of X's API v2 (https://docs.x.com/x-api/fundamentals/data-dictionary): `data` with posts,
`includes.users` with their authors. One page a file, a list of pages, or one page a line as twarc writes them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maxxit.core.files import lines
from signals_app.importers.base import Record, digits, first, is_edited, json_file, json_lines, make_post
from signals_app.sources.base import RawPost

SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
"""X's ids hold the milliseconds since then above their lowest 22 bits."""


class XApi:
    """`{"data": [{"id", "text", "author_id", "created_at", …}], "includes": {"users": [{"id", "username"}]}}`."""

    def sniff(self, head: str) -> bool:
        """Return whether the file begins with a page: `data`, and posts with the field names of version 2."""
        named = '"edit_history_tweet_ids"' in head or '"author_id"' in head or '"includes"' in head
        return '"data"' in head and named and head.lstrip().startswith(("{", "["))

    def records(self, path: Path) -> Iterator[Record]:
        """Read the posts of all pages, each with the user name of its author; its place is file:page:post."""
        begins = next((line for _, line in lines(path) if line.strip()), "").strip()
        whole = begins.startswith("[") or not begins.endswith("}")
        pages = [Record(f"{path}:1", json_file(path))] if whole else json_lines(path)
        for page in pages:
            listed = page.value if isinstance(page.value, list) else [page.value]
            for one in listed:
                yield from _posts(Record(page.place, one))

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert a post; a repost is skipped.

        A later version of an edited post gets the id of the first one, so that it is an edit of it, and the time at
        which it was written, which its own id holds; so does a post without `created_at`.
        """
        if isinstance(value, str):
            raise ValueError(value)
        references = first(value, "referenced_tweets") or []
        if not isinstance(references, list):
            raise ValueError("referenced_tweets is not a list")
        if any(isinstance(one, dict) and one.get("type") == "retweeted" for one in references):
            return None
        text = first(value, "note_tweet.text", "text")
        written = _written(digits(first(value, "id")))
        stated = first(value, "created_at") or written.isoformat()
        post = make_post(first(value, "id"), first(value, "username") or username, text, stated)
        history = first(value, "edit_history_tweet_ids")
        if not isinstance(history, list) or not history or not is_edited(value):
            return post
        return replace(post, post_id=digits(history[0]), posted_at=max(written, post.posted_at))


def _written(post_id: str) -> datetime:
    """Return when a post was written, to the second, from its id. Raises ValueError for an id that holds no time."""
    try:
        return datetime.fromtimestamp(((int(post_id) >> 22) + SNOWFLAKE_EPOCH_MS) // 1000, UTC)
    except (OverflowError, OSError):
        raise ValueError(f"the id is none of X: {post_id[:40]!r}") from None


def _posts(page: Record) -> Iterator[Record]:
    found = page.value
    if isinstance(found, dict) and isinstance(found.get("data"), dict):
        found = {**found, "data": [found["data"]]}
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        if not (
            isinstance(found, dict) and isinstance(found.get("meta"), dict)
        ):  # a page without posts has `meta` alone
            yield Record(page.place, found if isinstance(found, str) else "the page has no list `data`")
        return
    includes = found.get("includes")
    users = includes.get("users") if isinstance(includes, dict) else None
    listed = [one for one in users if isinstance(one, dict)] if isinstance(users, list) else []
    names = {one["id"]: one.get("username") for one in listed if isinstance(one.get("id"), str | int)}
    for place, one in enumerate(found["data"], start=1):
        if isinstance(one, dict):
            author = one.get("author_id")
            username = names.get(author) if isinstance(author, str | int) else None
            yield Record(f"{page.place}:{place}", {**one, "username": username})
        else:
            yield Record(f"{page.place}:{place}", "the entry is not an object")
