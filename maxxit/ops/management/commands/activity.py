"""`manage.py activity`: what was read in each post, and what each agent did with it."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, count
from maxxit.reports.activity import feed
from maxxit.reports.activity.rows import Line, Row, activity


class Command(OpsCommand):
    help = (
        "List posts and signals, newest first: how each was read, and the trade or the reason. Times are UTC."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--agent", default="", help="only this agent, by name or id")
        parser.add_argument("--token", default="", help="only this token")
        parser.add_argument("--account", default="", help="only posts of this followed account")
        parser.add_argument("--outcome", default="", choices=["", *feed.OUTCOMES], help="only this outcome")
        parser.add_argument("--since", default="", metavar="TIME", help="from this UTC date or time on")
        parser.add_argument(
            "--until", default="", metavar="TIME", help="before this UTC time; a date is included"
        )
        parser.add_argument(
            "--before", default="", metavar="PLACE", help="the `next_before` of the page before"
        )
        parser.add_argument("-n", type=count, default=feed.PAGE, help=f"how many (default {feed.PAGE})")

    def run(self, **options: Any) -> Any:
        filters = feed.read_filters({name: options[name] for name in feed.NAMES}, None)
        before = feed.Key.parse(options["before"]) if options["before"] else None
        page = activity(None, filters, before, min(options["n"], feed.MOST))
        for row in page.rows:
            self._row(row)
        if not page.rows:
            self.say("none")
        if page.next_before:
            self.say(f"older: --before {page.next_before}")
        return page.as_json()

    def _row(self, row: Row) -> None:
        self.say(f"{iso_utc(row.key.at)}  {row.outcome.replace('_', ' '):<8}  {row.token}")
        for post in row.posts:
            self.say(f"    @{post.author}: {' '.join(post.text.split())[:200]}")
            self.say(f"      {post.reading}")
        if row.decision:
            self.say(f"    {row.decision}")
        for line in row.lines:
            self.say(f"      {text_of(line)}")
        if row.more:
            self.say(f"      and {row.more} more")


def text_of(line: Line) -> str:
    """Return a result in one line."""
    money = "" if line.pnl is None else f", PnL {line.pnl:+,.2f} USDC{' unrealised' if line.open else ''}"
    values = (
        f" (measured {line.measured or '–'}, limit {line.limit or '–'})"
        if line.measured or line.limit
        else ""
    )
    return f"{line.agent + ': ' if line.agent else ''}{line.text}{values}{money}"
