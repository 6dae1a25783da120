"""Importers for scrapers' output: twscrape and snscrape (JSON lines), Apify's Twitter actors (a JSON array)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signals_app.importers.base import Record, first, json_array, json_lines, make_post
from signals_app.sources.base import RawPost


class Twscrape:
    """https://github.com/vladkens/twscrape: `id_str`, `rawContent`, `date`, `user.username`."""

    def sniff(self, head: str) -> bool:
        """Return whether the file has twscrape's field names, with the id as text too."""
        return head.lstrip().startswith("{") and '"rawContent"' in head and '"id_str"' in head

    def records(self, path: Path) -> Iterator[Record]:
        """Read one object a line."""
        return json_lines(path)

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert an entry; a repost is skipped, because its text is by another author."""
        return _scraped(value, username)


class Snscrape:
    """https://github.com/JustAnotherArchivist/snscrape: `id`, `rawContent` (formerly `content`), `date`, `user`."""

    def sniff(self, head: str) -> bool:
        """Return whether the file has snscrape's type, or its field names without `id_str`."""
        if not head.lstrip().startswith("{"):
            return False
        return "snscrape.modules.twitter" in head or ('"rawContent"' in head and '"id_str"' not in head)

    def records(self, path: Path) -> Iterator[Record]:
        """Read one object a line."""
        return json_lines(path)

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert an entry; a repost is skipped."""
        return _scraped(value, username)


class Apify:
    """Apify's Twitter actors: `id`, `fullText` or `text`, `createdAt` in Twitter's format, `author.userName`."""

    def sniff(self, head: str) -> bool:
        """Return whether the file is a list of objects with the actors' field names."""
        named = '"createdAt"' in head and ('"author"' in head or '"userName"' in head)
        return head.lstrip().startswith("[") and named

    def records(self, path: Path) -> Iterator[Record]:
        """Read the items of the list."""
        return json_array(path)

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert an entry; reposts and the actor's `noResults` are skipped."""
        if first(value, "noResults") or first(value, "isRetweet") is True:
            return None
        author = first(value, "author.userName", "author.username", "user.screen_name") or username
        text = first(value, "fullText", "full_text", "text")
        return make_post(
            first(value, "id", "id_str", "tweetId"), author, text, first(value, "createdAt", "created_at")
        )


def _scraped(value: Any, username: str) -> RawPost | None:
    if isinstance(value, str):
        raise ValueError(value)
    if first(value, "retweetedTweet"):
        return None
    author = first(value, "user.username", "user.screen_name", "username") or username
    text = first(value, "rawContent", "content", "renderedContent")
    return make_post(first(value, "id_str", "id"), author, text, first(value, "date"))
