"""`manage.py import-posts FILE…`: convert posts of other tools to JSON lines, for replays, backtests and `jsonl`."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.core.errors import Misconfigured
from signals_app.importers import IMPORTERS
from signals_app.importers.base import read
from signals_app.post_import import format_of
from signals_app.sources.base import RawPost, Refused

SHOWN = 10
"""Refused entries that are listed."""


class Command(OpsCommand):
    help = "Import posts of an X archive, twscrape, snscrape, Apify, CSV or JSON files."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("files", nargs="+", type=Path, help="also .gz or .zip")
        parser.add_argument(
            "--username", default="", help="the author, where a file names none (an X archive)"
        )
        parser.add_argument(
            "--format",
            default="",
            help=f"{', '.join(sorted(IMPORTERS))} (default: detected from the file's first lines)",
        )
        parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to write")

    def run(self, **options: Any) -> Any:
        """Import the files. Refused entries are listed and counted; without any post the exit code is 1."""
        files: Sequence[Path] = options["files"]
        if missing := [str(path) for path in files if not path.is_file()]:
            raise Misconfigured(f"no such file: {', '.join(missing)}")
        posts: dict[str, RawPost] = {}
        refused: list[Refused] = []
        repeated = 0
        for path in files:
            name = options["format"] or format_of(path)
            for entry in read(IMPORTERS.open(name), path, options["username"].lstrip("@")):
                if isinstance(entry, Refused):
                    refused.append(entry)
                elif entry.post_id in posts:
                    repeated += 1
                else:
                    posts[entry.post_id] = entry
            self.say(f"{path.name}: {name}")
        for line in refused[:SHOWN]:
            self.say(f"refused {line.place}: {line.reason}", "WARNING")
        if not posts:
            why = f"{refused[0].place}: {refused[0].reason}" if refused else "it has no entries"
            raise Misconfigured(f"no usable post in {', '.join(map(str, files))}; {why}")
        written = sorted(posts.values(), key=lambda post: (post.posted_at, len(post.post_id), post.post_id))
        _write(options["out"], written)
        authors = sorted({post.username for post in written}, key=str.lower)
        self.say(
            f"{len(written):,} posts of {len(authors)} authors in {options['out']}; {len(refused):,} refused, "
            f"{repeated:,} repeated"
        )
        return {
            "posts": len(written), "authors": authors, "refused": len(refused), "repeated": repeated,
            "reasons": Counter(line.reason for line in refused), "out": str(options["out"]),
        }  # fmt: skip


def _write(path: Path, posts: Sequence[RawPost]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for post in posts:
            line = {
                "id": post.post_id, "username": post.username, "created_at": post.posted_at.isoformat(),
                "text": post.text,
            }  # fmt: skip
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
