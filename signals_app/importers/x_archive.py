"""Importer of the archive that X gives its users (`data/tweets.js`, formerly `tweet.js`): own posts, without author."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signals_app.importers.base import Record, first, json_array, make_post
from signals_app.sources.base import RawPost

PREFIX = re.compile(r"^window\.YTD\.tweets?\.part\d+\s*=\s*")


class XArchive:
    """`window.YTD.tweets.part0 = [{"tweet": {"id_str": …, "full_text": …, "created_at": …}}]`."""

    def sniff(self, head: str) -> bool:
        """Return whether the file begins with the archive's assignment."""
        return bool(PREFIX.match(head.lstrip()))

    def records(self, path: Path) -> Iterator[Record]:
        """Read the entries of the list."""
        return json_array(path, PREFIX)

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert an entry; a repost is skipped. `username` is required, because the file does not name its owner."""
        tweet = first(value, "tweet") or value
        text = first(tweet, "full_text", "text")
        if isinstance(text, str) and text.startswith("RT @"):
            return None
        return make_post(first(tweet, "id_str", "id"), username, text, first(tweet, "created_at"))
