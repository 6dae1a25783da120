"""Every `manage.py` command that README, pages, messages and configuration name is one that can be given."""

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from django.core.management import get_commands, load_command_class

from tests.tree import PACKAGES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = [
    path
    for package in (*PACKAGES, "config")
    for kind in ("*.py", "*.html", "*.yaml")
    for path in sorted((ROOT / package).rglob(kind))
    if "node_modules" not in path.parts
]
COMMAND = re.compile(r"manage\.py ([a-z][a-z_-]*)([^`\n]*)")
DJANGOS = {"createsuperuser", "dbshell", "migrate", "shell", "check"}


def written() -> Iterator[tuple[str, str, str]]:
    """(place, command, what follows it) wherever a person is told to call one."""
    for path in (*PAGES, *CODE):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for found in COMMAND.finditer(line):
                yield f"{path.relative_to(ROOT)}:{number}", found[1], found[2].split(" #")[0]


@cache
def parser_of(command: str, action: str) -> argparse.ArgumentParser | None:
    """The parser of the command, or of its subcommand `action`; None where there is no such command."""
    app = get_commands().get(command)
    if app is None:
        return None
    parser: argparse.ArgumentParser = load_command_class(app, command).create_parser("manage.py", command)
    for one in parser._actions:
        if isinstance(one, argparse._SubParsersAction) and action in one.choices:
            return one.choices[action]  # type: ignore[no-any-return]
    return parser


def test_every_command_that_is_written_somewhere_exists() -> None:
    wrong = []
    for place, command, more in written():
        if command in DJANGOS:
            continue
        action = re.match(r" ([a-z][a-z-]*)\b", more)
        parser = parser_of(command, action[1] if action else "")
        if parser is None:
            wrong.append(f"{place}: no command {command!r}")
            continue
        known = parser._option_string_actions
        wrong += [
            f"{place}: {command} has no {option}"
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", more)
            if option not in known
        ]

    assert wrong == []
    assert sum(1 for _ in written()) > 100
