"""The archive that X gives its users (`data/tweets.js`, formerly `tweet.js`): own posts, without the author's name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signals_app.importers.base import Record, first, json_array, made
from signals_app.sources.base import RawPost

PREFIX = re.compile(r"^window\.YTD\.tweets?\.part\d+\s*=\s*")


class XArchive:
    """`window.YTD.tweets.part0 = [{"tweet": {"id_str": …, "full_text": …, "created_at": …}}]`."""

    def sniff(self, head: str) -> bool:
        """Its assignment."""
        return bool(PREFIX.match(head.lstrip()))

    def records(self, path: Path) -> Iterator[Record]:
        """The entries of the list."""
        return json_array(path, PREFIX)

    def post(self, value: Any, username: str) -> RawPost | None:
        """One own post; `username` is needed, the file does not name its owner."""
        tweet = first(value, "tweet") or value
        text = first(tweet, "full_text", "text")
        return made(first(tweet, "id_str", "id"), username, text, first(tweet, "created_at"))
