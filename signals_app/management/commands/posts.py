"""`manage.py posts`: bring post files of archives and scrapers into a data folder, and look at what it holds."""

import sys
from argparse import ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from maxxit.core import data_folder
from maxxit.core.commands import OpsCommand, clock_text, count, whole
from maxxit.core.data_folder import POST, POSTS
from maxxit.core.errors import MaxxitError
from maxxit.core.file_imports import files_in, import_options
from maxxit.core.terminal import Console
from signals_app.importers import IMPORTERS
from signals_app.post_import import SUFFIXES, Account, FileReport, accounts, import_posts

WORDS = {
    "rejected": "rejected",
    "duplicates": "repeated",
    "edits": "edits",
    "skipped": "reposts and other entries",
}
"""What an import counts besides new posts."""


def column(text: str) -> tuple[str, str]:
    """argparse type: FIELD=COLUMN."""
    field, equals, name = text.partition("=")
    if not equals or not name.strip():
        raise ArgumentTypeError(f"{text!r} is not FIELD=COLUMN, for example text=tweet_body")
    return field.strip(), name.strip()


class Command(OpsCommand):
    help = (
        "Import posts of archives and scrapers into a data folder, and check it. The formats and where they come from "
        "are in docs/data.md."
    )
    epilog = (
        "examples:\n"
        "  manage.py posts import tweets.js --username alice --into DATA\n"
        "  manage.py posts import scraped/ --into DATA\n"
        "  manage.py posts import table.csv --column text=body --column created_at=when --into DATA\n"
        "  manage.py posts list DATA"
    )
    subcommands = {
        "import": "add post files to a data folder; a bad entry is rejected by line and stops no other",
        "verify": "compare the post file with the manifest, and read every post",
        "list": "list the accounts of a data folder",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "import":
            import_options(parser, IMPORTERS, "also .gz or .zip; or folders of such")
            parser.add_argument(
                "--username", default="", help="the author, where the files name none (an X archive)"
            )
            parser.add_argument(
                "--column", dest="columns", type=column, action="append", default=[], metavar="FIELD=COLUMN",
                help="of CSV: the column of id, username, text or created_at, where its name is not found by itself",
            )  # fmt: skip
            return
        parser.add_argument("folder", type=Path, metavar="DATA", help="data folder")
        if action == "list":
            parser.add_argument("--limit", type=count, default=50, help="accounts a page (default 50)")
            parser.add_argument(
                "--offset", type=whole, default=0, help="accounts before the page (default 0)"
            )

    def run(self, **options: Any) -> Any:
        """Run a subcommand. Exit code 1 where a file was refused or is not as the manifest states."""
        if options["action"] == "import":
            return self._import(options)
        path = data_folder.posts_of(options["folder"])
        return (
            self._verify(options["folder"], path)
            if options["action"] == "verify"
            else self._list(path, options)
        )

    def _import(self, options: dict[str, Any]) -> dict[str, Any]:
        paths = files_in(options["files"], SUFFIXES)
        columns = (SpinnerColumn(), TextColumn("{task.completed:,} entries"), TimeElapsedColumn())
        console = Console(file=sys.stderr, highlight=False)
        with (
            data_folder.locked(options["into"]),
            Progress(*columns, console=console, disable=self.quiet, transient=True) as bar,
        ):
            shown = bar.add_task("posts", total=None)
            report = import_posts(
                options["into"], paths, username=options["username"].lstrip("@"), form=options["format"],
                columns=dict(options["columns"]), progress=lambda entries: bar.advance(shown, entries),
            )  # fmt: skip
        for one in report.files:
            self._show(one)
        if report.posts:
            self.say(
                f"{options['into'] / POSTS}: {report.posts:,} posts of {report.accounts:,} accounts from "
                f"{report.begins[:16]} to {report.ends[:16]} UTC"
            )
        if report.edits:
            self.say(
                f"{report.edits:,} of them are edits: `backtest` refuses edited posts, `replay` plays them",
                "WARNING",
            )
        refused = [one.refused for one in report.files if one.refused]
        self.exit_code = 1 if refused else 0
        return {
            "into": str(options["into"]), "posts": report.posts, "accounts": report.accounts, "edits": report.edits,
            "from": report.begins, "to": report.ends, "refused": refused,
            "files": [
                {
                    "file": str(one.path), "format": one.format, "posts": one.rows, "sha256": one.sha256,
                    **{name: one.counts[name] for name in WORDS}, "languages": dict(one.languages),
                    "rejected_lines": one.rejected, "reasons": dict(one.reasons), "refused": one.refused,
                }
                for one in report.files
            ],
        }  # fmt: skip

    def _show(self, one: FileReport) -> None:
        if one.refused:
            self.say(f"refused {one.refused}", "ERROR")
            return
        more = "".join(f", {one.counts[name]:,} {word}" for name, word in WORDS.items() if one.counts[name])
        spoken = ", ".join(f"{name} {times:,}" for name, times in one.languages.most_common(5))
        self.say(
            f"{one.path.name}: {one.format}, {one.rows:,} new posts{more}" + (f"; {spoken}" if spoken else "")
        )
        for line in one.rejected[:10]:
            self.say(f"  rejected {line}", "WARNING")

    def _verify(self, folder: Path, path: Path) -> dict[str, Any]:
        problems, entry = data_folder.problems(folder, POST), data_folder.read(folder)[POSTS]
        if not problems:
            try:
                found = sum(one.posts for one in accounts(path))
                if found != entry.rows:
                    problems.append(f"{POSTS} has {found:,} posts, and the manifest states {entry.rows:,}")
            except MaxxitError as error:
                problems.append(str(error))
        for one in problems:
            self.say(one, "ERROR")
        self.exit_code = 1 if problems else 0
        self.say(f"{entry.rows:,} posts, {len(problems)} problems", "ERROR" if problems else "SUCCESS")
        return {"folder": str(folder), "posts": entry.rows, "problems": problems}

    def _list(self, path: Path, options: dict[str, Any]) -> dict[str, Any]:
        found = accounts(path)
        page = found[options["offset"] : options["offset"] + options["limit"]]
        self.table(
            ["account", "posts", "first", "last", "languages"],
            [
                (one.name, f"{one.posts:,}", clock_text(one.begins), clock_text(one.ends), _languages(one.languages))
                for one in page
            ],
        )  # fmt: skip
        self.say(f"{len(page)} of {len(found):,} accounts")
        return {"accounts": len(found), "page": [_account(one) for one in page]}


def _languages(spoken: Counter[str]) -> str:
    return ", ".join(f"{name} {times:,}" for name, times in spoken.most_common(3))


def _account(one: Account) -> dict[str, Any]:
    return {
        "account": one.name, "posts": one.posts, "from": one.begins.isoformat() if one.begins else "",
        "to": one.ends.isoformat() if one.ends else "", "languages": dict(one.languages),
    }  # fmt: skip
