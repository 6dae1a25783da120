"""Base class and options shared by Maxxit's management commands: `--json`, errors, `--by`, terminal tables."""

import argparse
import getpass
import json
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import django
from django.core.management import ManagementUtility, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from maxxit.core import clock, redact
from maxxit.core.errors import MaxxitError, Rejected

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

EMPTY = "–"
PACKAGES = ("maxxit", "agents", "signals_app", "trading", "positions")


class CommandLine(ManagementUtility):
    """`manage.py` whose `help` shows a summary of each Maxxit command, then the names of Django's.

    Its `version` is ours; Django's is `--version`.
    """

    def execute(self) -> None:
        """Run the command. `up` only supervises, so it does not load the applications."""
        if self.argv[1:2] == ["up"]:
            load_command_class("maxxit.ops", "up").run_from_argv(self.argv)
        elif self.argv[1:2] == ["version"]:
            django.setup()
            self.fetch_command("version").run_from_argv(self.argv)
        else:
            super().execute()

    def main_help_text(self, commands_only: bool = False) -> str:
        """Return one line per command; with `commands_only` only the names, for shell completion."""
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


class ExampleFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return argparse.RawDescriptionHelpFormatter._fill_text(self, text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


class OpsCommand(BaseCommand):
    """Base of Maxxit's commands. Subclasses define `options` and `run`; `--json` prints what `run` returns."""

    requires_system_checks: list[str] = []
    subcommands: dict[str, str] = {}
    """Name -> help text."""
    exit_code = 0
    """Set it in `run` where something is not as it should be: everything is printed before the process ends with it."""
    bare = ""
    """What the command does without a subcommand; empty where it needs one."""
    epilog = ""
    """Examples, printed below the options by `--help`."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return Django's parser with the epilog, whose lines are kept as they are."""
        if self.epilog:
            kwargs |= {"epilog": self.epilog, "formatter_class": ExampleFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--json` and the command's options, once for each subcommand."""
        if self.bare or not self.subcommands:
            self._common(parser)
            self.options(parser, "")
        if not self.subcommands:
            return
        subparsers = parser.add_subparsers(
            dest="action", required=not self.bare, metavar="|".join(self.subcommands)
        )
        for name, summary in self.subcommands.items():
            subparser = subparsers.add_parser(name, help=summary, description=summary)
            # The value that the command itself was given stays unless the subcommand is given it too.
            self._common(subparser, **({"default": argparse.SUPPRESS} if self.bare else {}))
            self.options(subparser, name)

    @staticmethod
    def _common(parser: CommandParser, **default: Any) -> None:
        parser.add_argument(
            "--json", action="store_true", help="machine-readable, on one line of stdout", **default
        )

    def options(self, parser: CommandParser, action: str) -> None:
        """Declare the options (of the subcommand `action`)."""

    def run(self, **options: Any) -> Any:
        """Run the command: print for people, and return the same as data for `--json`."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Call `run`; a MaxxitError becomes one line on stderr and exit code 1."""
        self.quiet, self.exit_code = options["json"], 0
        try:
            result = self.run(**options)
        except MaxxitError as error:
            raise CommandError(redact.text(str(error), addresses=False)) from None
        if options["json"]:
            self.stdout.write(json.dumps(result, default=str, ensure_ascii=False))
        if self.exit_code:
            sys.exit(self.exit_code)

    def say(self, text: str = "", colour: str = "") -> None:
        """Print one line; nothing under `--json`. `colour` is ERROR, SUCCESS or WARNING."""
        if not self.quiet:
            self.stdout.write(getattr(self.style, colour)(text) if colour else text)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print rows in aligned columns, or "none" when there are no rows."""
        cells = [[_cell(value) for value in row] for row in rows]
        if not cells:
            self.say("none")
            return
        widths = [max(len(row[place]) for row in [list(heads), *cells]) for place in range(len(heads))]
        for row in [list(heads), *cells]:
            self.say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    def rows(self, result: Any) -> Any:
        """Print a mapping, or a list of them, one line each without empty values; return `result` for `--json`."""
        for row in result if isinstance(result, list) else [result]:
            self.say("  ".join(f"{name} {value}" for name, value in row.items() if value not in ("", [])))
        return result


def _cell(value: Any) -> str:
    if value is None or value == "":
        return EMPTY
    return clock_text(value) if isinstance(value, datetime) else str(value)


def clock_text(at: datetime | None) -> str:
    """Format a time in UTC to the second, or a dash for None."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else EMPTY


def operator(given: str = "") -> str:
    """Return who runs this command: the value of `--by`, or the login name."""
    if given:
        return given
    try:
        return f"{getpass.getuser()} on the command line"
    except (KeyError, OSError):  # a container without a user entry
        return "the command line"


def count(text: str) -> int:
    """argparse type: a whole number from 1. argparse shows the message and exits with 2."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def whole(text: str) -> int:
    """argparse type: a whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def decimal_number(text: str) -> Decimal:
    """argparse type: a finite decimal number, of either sign."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise argparse.ArgumentTypeError(f"{text!r} is not a decimal number such as 500 or 12.5")
    return value


def fraction(text: str) -> float:
    """argparse type: a fraction from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def time_ahead(**span: float) -> datetime:
    """Return the time that lies `span` (days=…, hours=…) ahead. Raises Rejected after the year 9999."""
    try:
        return clock.now() + timedelta(**span)
    except OverflowError:
        (unit, number), *_ = span.items()
        raise Rejected(f"{number:g} {unit} end after the year 9999: give fewer", code="bad_number") from None


def duration(text: str) -> float:
    """argparse type: a duration above 0, in the unit that the option's help names."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def confirm(question: str) -> bool:
    """Ask on stderr and return whether the answer is yes; False where nobody can answer."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 (stdout may carry JSON)
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False


def by_option(parser: CommandParser) -> None:
    """Declare `--by`."""
    parser.add_argument("--by", default="", help="who decides this (default: your login name)")


def person_named(username: str) -> "AbstractBaseUser":
    """Return the user. Raises Rejected, saying how to create one."""
    from django.contrib.auth import get_user_model  # `manage.py up` has no use for the ORM

    user: AbstractBaseUser | None = get_user_model()._default_manager.filter(**{"username": username}).first()
    if user is None:
        raise Rejected(
            f"no user {username!r}: create one in the admin or with `manage.py createsuperuser`",
            code="no_user",
        )
    return user
