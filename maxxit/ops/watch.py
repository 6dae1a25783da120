"""The option `--watch` of commands: show a report again and again until Ctrl-C."""

import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, duration

CLEAR = "\033[2J\033[H"
"""Clears a terminal."""


def every_option(parser: CommandParser) -> None:
    """Declare `--every`."""
    parser.add_argument(
        "--every", type=duration, default=60, metavar="SECONDS", help="seconds between refreshes (default 60)"
    )


def watch_options(parser: CommandParser) -> None:
    """Declare `--watch` and `--every`."""
    parser.add_argument("--watch", action="store_true", help="refresh until Ctrl-C")
    every_option(parser)


def watch(command: OpsCommand, options: dict[str, Any], show: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call `show` once, or with `--watch` every `--every` seconds until Ctrl-C; return what it returned last.

    On a terminal each report replaces the one before.
    """
    if not options["watch"]:
        return show()
    shown, last = 0, {}
    try:
        while True:
            if shown and command.stdout.isatty():
                command.say(CLEAR)
            last, shown = show(), shown + 1
            command.say(f"\nagain in {options['every']:g} s; Ctrl-C stops")
            time.sleep(options["every"])
    except KeyboardInterrupt:
        command.say()
    return {"shown": shown, "last": last}
