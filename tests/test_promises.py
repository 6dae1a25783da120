"""docs/promises.md names a test for each promise; the README shows commands. Both have to exist."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROMISES = re.findall(
    r"^\| (.+) \| `(tests/\S+\.py)::(\w+)` \|$", (ROOT / "docs/promises.md").read_text(), re.M
)
RUN = ".venv/bin/python manage.py "
COMMANDS = sorted({line.removeprefix(RUN) for line in README.splitlines() if line.startswith(RUN)})


@cache
def named_in(file: str) -> set[str]:
    """The names of a file's test functions."""
    tree = ast.parse((ROOT / file).read_text())
    return {
        one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")
    }


def test_each_row_is_read() -> None:
    rows = [line for line in (ROOT / "docs/promises.md").read_text().splitlines() if "::" in line]
    assert len(rows) == len(PROMISES) >= 50


@pytest.mark.parametrize(("file", "name"), [(file, name) for _, file, name in PROMISES])
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in named_in(file)


def test_the_readme_is_short_and_names_the_interpreter() -> None:
    assert len(README.splitlines()) <= 120
    assert len(COMMANDS) >= 6
    assert not re.findall(r"^python manage\.py", README, re.M)


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_that_the_readme_shows_parses(words: str) -> None:
    name, *given = shlex.split(words, comments=True)
    command = load_command_class(get_commands()[name], name)
    assert command.create_parser("manage.py", name).parse_args(given)
