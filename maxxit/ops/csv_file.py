"""The option `--csv FILE` of commands, and writing lines to that file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.core.errors import Rejected


def csv_option(parser: CommandParser, default: str | None = None) -> None:
    """Declare `--csv FILE`; `-` is stdout."""
    parser.add_argument(
        "--csv",
        metavar="FILE",
        nargs="?",
        const="-",
        default=default,
        help=f"write CSV to this file, - is stdout{' (default: -)' if default else ''}",
    )


def write_csv(command: OpsCommand, options: dict[str, Any], lines: Iterator[str]) -> dict[str, Any]:
    """Write the lines to the file of `--csv` as they come; return its name and the number of rows without the head.

    Raises Rejected where the file cannot be written, and for `--json` with CSV on stdout.
    """
    name, rows = options["csv"], -1
    if name == "-":
        if options["json"]:
            raise Rejected("--csv and --json both write to stdout: give a file to --csv", code="csv_and_json")
        for rows, line in enumerate(lines):  # noqa: B007 (counts them)
            command.stdout.write(line, ending="")
        return {"file": name, "rows": max(rows, 0)}
    try:
        with Path(name).open("w", newline="", encoding="utf-8") as out:
            for rows, line in enumerate(lines):  # noqa: B007
                out.write(line)
    except OSError as error:
        raise Rejected(f"{name} cannot be written: {error.strerror}", code="no_file") from error
    command.say(f"wrote {max(rows, 0):,} rows to {name}")
    return {"file": name, "rows": max(rows, 0)}
