"""What the operators' commands share: `--json`, clear errors, who asked, and tables in a terminal."""

import argparse
import getpass
import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.management import ManagementUtility, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, CommandParser

from maxxit.core import redact
from maxxit.core.errors import MaxxitError, Rejected

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

EMPTY = "–"
PACKAGES = ("maxxit", "agents", "signals_app", "trading", "positions")


class CommandLine(ManagementUtility):
    """`manage.py`, whose `help` shows what each of Maxxit's commands does, then the names of Django's."""

    def main_help_text(self, commands_only: bool = False) -> str:
        """One line a command; with `commands_only` the bare names, for shell completion."""
        if commands_only:
            return str(super().main_help_text(commands_only=True))
        ours, others = {}, []
        for name, app in sorted(get_commands().items()):
            if isinstance(app, str) and app.split(".")[0] in PACKAGES:
                ours[name] = load_command_class(app, name).help.partition(". ")[0].rstrip(".")
            else:
                others.append(name)
        width = max(map(len, ours)) + 2
        lines = [f"  {name:<{width}}{summary}" for name, summary in ours.items()]
        return "\n".join(
            [f"Type '{self.prog_name} help <command>' for the options of a command.", "", *lines, "",
             *wrap("Django's own: " + ", ".join(others), 100)]
        )  # fmt: skip


class OpsCommand(BaseCommand):
    """A base for Maxxit's commands. Subclasses define `options` and `run`; `run` returns what `--json` prints."""

    requires_system_checks: list[str] = []
    subcommands: dict[str, str] = {}
    """Name -> help, for a command that has some."""

    def add_arguments(self, parser: CommandParser) -> None:
        """`--json`, and what the command itself declares, for each of its subcommands."""
        if not self.subcommands:
            parser.add_argument("--json", action="store_true", help="machine-readable, on one line of stdout")
            self.options(parser, "")
            return
        within = parser.add_subparsers(dest="action", required=True, metavar="|".join(self.subcommands))
        for name, told in self.subcommands.items():
            one = within.add_parser(name, help=told, description=told)
            one.add_argument("--json", action="store_true", help="machine-readable, on one line of stdout")
            self.options(one, name)

    def options(self, parser: CommandParser, action: str) -> None:
        """Declare the options (of the subcommand `action`)."""

    def run(self, **options: Any) -> Any:
        """Do it: print for people, and return the same for machines."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Errors that we raise on purpose become one line and exit code 1."""
        self.quiet = options["json"]
        try:
            result = self.run(**options)
        except MaxxitError as error:
            raise CommandError(redact.text(str(error), addresses=False)) from None
        if options["json"]:
            self.stdout.write(json.dumps(result, default=str, ensure_ascii=False))

    def say(self, text: str = "", colour: str = "") -> None:
        """One line for people; nothing under `--json`. `colour` is ERROR, SUCCESS or WARNING."""
        if not self.quiet:
            self.stdout.write(getattr(self.style, colour)(text) if colour else text)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Columns as wide as they need to be; `none` when there are no rows."""
        cells = [[_cell(value) for value in row] for row in rows]
        if not cells:
            self.say("none")
            return
        widths = [max(len(row[place]) for row in [list(heads), *cells]) for place in range(len(heads))]
        for row in [list(heads), *cells]:
            self.say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    def rows(self, said: Any) -> Any:
        """What `--json` prints, a mapping or several, for people too: one line each, without what is empty."""
        for row in said if isinstance(said, list) else [said]:
            self.say("  ".join(f"{name} {value}" for name, value in row.items() if value not in ("", [])))
        return said


def _cell(value: Any) -> str:
    if value is None or value == "":
        return EMPTY
    return clock_text(value) if isinstance(value, datetime) else str(value)


def clock_text(at: datetime | None) -> str:
    """A moment for people, in UTC to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else EMPTY


def operator(given: str = "") -> str:
    """Who runs this command: what `--by` says, or the login name."""
    if given:
        return given
    try:
        return f"{getpass.getuser()} on the command line"
    except (KeyError, OSError):  # a container without a user entry
        return "the command line"


def count(text: str) -> int:
    """The type of an option that is a number of things, from 1. argparse shows the message and exits with 2."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def duration(text: str) -> float:
    """The type of an option that is a length of time, above 0, in the unit that its help names."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def by_option(parser: CommandParser) -> None:
    """Declare `--by`."""
    parser.add_argument("--by", default="", help="who decides this (default: your login name)")


def person_named(username: str) -> "AbstractBaseUser":
    """The user. Raises Rejected with the way to make one."""
    found: AbstractBaseUser | None = (
        get_user_model()._default_manager.filter(**{"username": username}).first()
    )
    if found is None:
        raise Rejected(
            f"no user {username!r}: make one in the admin, or `manage.py createsuperuser`", code="no_user"
        )
    return found
