"""Options and help texts of all commands: what a help text says of an option is what the option does."""

import argparse
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from django.core.management import CommandError, get_commands, load_command_class
from django.core.management.base import BaseCommand

from maxxit.core import clock
from maxxit.core.commands import PACKAGES, OpsCommand, count, duration, fraction, time_ahead, whole
from maxxit.core.errors import Rejected, Retryable

NUMBERS: tuple[Any, ...] = (count, whole, duration, fraction)
DJANGOS = {action.dest for action in BaseCommand().create_parser("manage.py", "x")._actions}
IN_WORDS = {"--application": "the user of DATABASE_URL"}
"""Options whose default is read from the environment when the parser is made, so its help describes it."""


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for name, app in sorted(get_commands().items()):
        if str(app).split(".")[0] not in PACKAGES:
            continue
        parser = load_command_class(app, name).create_parser("manage.py", name)
        groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        yield from groups[0].choices.items() if groups else [(name, parser)]


@cache
def options() -> list[tuple[str, argparse.ArgumentParser, argparse.Action]]:
    """(name, parser, action) of each option and argument of our commands and their subcommands."""
    found = [
        (f"{parser.prog} {(action.option_strings or [action.dest])[0]}", parser, action)
        for _, parser in _parsers()
        for action in parser._actions
        if action.dest not in DJANGOS
    ]
    assert len(found) > 150
    return found


def default_named(text: str) -> str | None:
    """The default that a help text names: "(default 20)", "(lexical reader, default: …)", "default: now"."""
    found = re.search(r"default:? ([^;)]+)", text)
    return found[1].strip() if found else None


def test_each_option_has_help() -> None:
    assert [name for name, _, action in options() if len(str(action.help or "")) < 5] == []


def test_a_default_is_the_one_that_its_help_names() -> None:
    wrong = []
    for name, _, action in options():
        text, default = str(action.help), action.default
        named = default_named(text)
        if action.option_strings and (described := IN_WORDS.get(action.option_strings[0])):
            right = named == described
        elif default in (None, "", [], argparse.SUPPRESS) or isinstance(default, bool):
            right = named is None or not re.fullmatch(r"[\d.]+", named)  # what happens then is told in words
        else:
            shown = f"{default:g}" if isinstance(default, int | float) else str(default)
            right = "default" in text and (named == shown or shown in re.findall(r"[\w.-]+", text))
        if not right:
            wrong.append(f"{name}: default {default!r}, help: {text}")
    assert wrong == []


def test_an_option_that_takes_a_number_refuses_what_is_none() -> None:
    checked, wrong = 0, []
    for name, parser, action in options():
        if action.type in (int, float):
            wrong.append(f"{name}: give it a range: count, whole, fraction or duration")
        if action.type not in NUMBERS:
            continue
        checked += 1
        refused = ["-1", "nan", "inf", "x", "", "1e999"]
        refused += ["0"] if action.type in (count, duration) else []
        refused += ["1.5"] if action.type in (count, whole, fraction) else []
        for text in refused:
            with pytest.raises(argparse.ArgumentError, match=r"is not a (whole )?number"):
                parser._get_value(action, text)
        assert parser._get_value(action, "1") == 1
    assert wrong == []
    assert checked > 20


def test_the_choices_that_help_describes_are_the_choices() -> None:
    described = {
        name: (set(re.findall(r"(?:^|; )(\w+): ", str(action.help))), set(action.choices))
        for name, _, action in options()
        if action.choices and re.match(r"\w+: .+; \w+: ", str(action.help))
    }
    assert described
    assert all(named == choices for named, choices in described.values()), described


def test_a_time_ahead_lies_within_the_calendar() -> None:
    assert time_ahead(days=1) > clock.now()
    for span in ({"days": 10**7}, {"hours": 1e300}):
        with pytest.raises(Rejected, match="end after the year 9999"):
            time_ahead(**span)


@pytest.mark.parametrize("error", [Rejected("no such order", code="x"), Retryable("Redis is away")])
def test_a_known_problem_is_one_line_and_exit_code_1(error: Exception) -> None:
    class Fails(OpsCommand):
        def run(self, **_: Any) -> Any:
            raise error

    with pytest.raises(CommandError) as refused:
        Fails().handle(json=True)
    assert (str(refused.value), refused.value.returncode) == (str(error), 1)


def test_json_prints_what_run_returns_on_one_line_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Says(OpsCommand):
        def run(self, **_: Any) -> Any:
            self.say("for people")
            self.table(("a",), [("b",)])
            return self.rows({"é": 1})

    Says().handle(json=True)
    assert capsys.readouterr().out == '{"é": 1}\n'
    Says().handle(json=False)
    assert capsys.readouterr().out == "for people\na\nb\né 1\n"
