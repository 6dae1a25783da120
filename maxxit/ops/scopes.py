"""Options of commands that are about some deployments: `--deployment`, `--agent`, `--account`, and a span of time."""

from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import count
from maxxit.core.errors import Rejected
from maxxit.reports.activity import feed
from maxxit.reports.scope import PERIODS, Scope, scope_of, span_of


def scope_options(parser: CommandParser, *, authors: bool = False) -> None:
    """Declare `--deployment`, `--agent` and `--account`, one of them at most.

    Args:
        authors: `--account` also takes a followed account.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--deployment", type=count, metavar="N", help="number; `manage.py portfolio` lists them"
    )
    group.add_argument(
        "--agent", default="", metavar="NAME", help="all deployments of an agent: its name, id, or owner/name"
    )
    followed = "@name of a followed account: the trades on its posts; or " if authors else ""
    group.add_argument(
        "--account",
        default="",
        metavar="NAME",
        help=f"{followed}an account at a venue (paper:1, a Safe's address)",
    )


def scope_given(options: dict[str, Any], *, authors: bool = False) -> Scope:
    """Return the scope of the options. Raises Rejected where there is no such deployment or followed account.

    Args:
        authors: True for reports that read `Scope.author`; the others are of whole deployments and refuse it.
    """
    names = ("deployment", "agent", "account")
    scope = scope_of(**{name: options[name] for name in names if options.get(name)})
    if scope.author is not None and not authors:
        raise Rejected(
            "a followed account has no equity: see its trades with `manage.py performance --account "
            f"{options['account']}`",
            code="no_equity",
        )
    return scope


def span_options(parser: CommandParser) -> None:
    """Declare `--period`, `--since` and `--until`."""
    parser.add_argument("--period", choices=list(PERIODS), default="all", help="ends now (default all)")
    parser.add_argument(
        "--since", metavar="DATE", help="UTC date or ISO time; takes precedence over --period"
    )
    parser.add_argument("--until", metavar="DATE", help="last day, or ISO time (default: now)")


def span_given(options: dict[str, Any]) -> tuple[datetime | None, datetime | None]:
    """Return (since, until) of the options. Raises Rejected for what is no date or no span."""
    return span_of(
        options["period"],
        feed.moment("--since", options["since"] or ""),
        feed.moment("--until", options["until"] or "", after=True),
    )
