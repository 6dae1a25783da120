"""`manage.py records list|show`: the leaderboard of accounts, and the record of one."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, count
from maxxit.reports import authors
from maxxit.reports.authors import Interval


class Command(OpsCommand):
    help = "Show what the calls of followed accounts would have returned, as measured last night."
    subcommands = {
        "list": "all accounts with their figures after one day, highest first",
        "show": "one account: figures by horizon, and its newest calls with their outcomes",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "show":
            parser.add_argument("name", help="of the account, with or without @")
            parser.add_argument(
                "--before", type=count, metavar="ID", help="the `next_before` of the page before"
            )
        else:
            parser.add_argument(
                "--sort", default="excess", choices=list(authors.SORTS), help="default: excess"
            )
            parser.add_argument("--page", type=count, default=1, help="which page (default 1)")

    def run(self, **options: Any) -> Any:
        return self._show(options) if options["action"] == "show" else self._list(options)

    def _list(self, options: dict[str, Any]) -> Any:
        board = authors.leaderboard(None, options["sort"], options["page"])
        rows = []
        for row in board.items:
            one = row.headline
            figures = (
                [_percent(one.excess), _percent(one.mean), _rate(one.hit_rate)]
                if one
                else ["not enough data", "", ""]
            )
            rows.append((f"@{row.name}", row.calls, *figures, f"{row.impact_factor:.3f}"))
        self.table(
            ("account", "calls", "over the benchmark", "mean return", "hit rate", "impact factor"), rows
        )
        self.say(
            f"page {board.page} of {board.pages}; figures: held for at most one day, after costs, 95 % intervals"
        )
        items = [row.as_json() for row in board.items]
        return {"items": items, "count": board.count, "page": board.page, "pages": board.pages}

    def _show(self, options: dict[str, Any]) -> Any:
        page = authors.author(options["name"], None, options["before"])
        self.say(
            f"@{page.standing.name}: {page.standing.calls} calls in {page.window_days} days, {page.deleted} deleted"
        )
        if page.problem:
            self.say(page.problem, "WARNING")
        self.table(
            ("held for", "calls", "over the benchmark", "mean return", "hit rate"),
            [
                (one.text, one.calls, _percent(one.excess), _percent(one.mean), _rate(one.hit_rate))
                for one in page.horizons
            ],
        )
        self.table(
            (
                "at (UTC)",
                "call",
                *(authors.horizon_text(int(one.total_seconds()) // 60) for one in authors.SHOWN),
            ),
            [
                (
                    iso_utc(call.at),
                    f"{call.side} {call.token}{' (deleted)' if call.deleted else ''}",
                    *(
                        f"{one.net_pct:+.2f} %" if one.net_pct is not None else "not yet"
                        for one in call.outcomes
                    ),
                )
                for call in page.calls
            ],
        )
        return page.as_json()


def _percent(figure: Interval) -> str:
    return f"{figure.value:+.2f} % {_span(figure, 1, 2)}"


def _rate(figure: Interval) -> str:
    return f"{figure.value:.0%} {_span(figure, 100, 0)}"


def _span(figure: Interval, scale: int, digits: int) -> str:
    if figure.low is None or figure.high is None:
        return "(too few days)"
    return f"({figure.low * scale:.{digits}f} … {figure.high * scale:.{digits}f})"
