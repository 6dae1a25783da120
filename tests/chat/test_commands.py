"""Commands of the chat: how a text names one, and that none loosens anything."""

import ast
from pathlib import Path

import pytest

from maxxit.chat import commands
from maxxit.core.config import ROOT

LOOSENING = {
    "activate", "approve", "ask", "change_state", "close_by_hand", "confirm", "create_deployment", "decline",
    "remove_override", "release", "resume", "revoke", "set_capital", "set_dry_run", "set_endpoint", "set_limits",
    "set_override", "withdraw", "create_key", "create_agent",
}  # fmt: skip
"""Functions that approve, resume, enlarge, withdraw, or give more rights."""


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("/status", "status", ""),
        ("/STATUS@maxxit_bot", "status", ""),
        ("  /why Momentum ETH ", "why", "Momentum ETH"),
        ("/stop", "stop", ""),
        ("/stop 7", "stop", "7"),
        ("/stop Platform", "stop platform", ""),
        ("/stop platform now", "stop platform", "now"),
        ("/start abc", "start", "abc"),
        ("hello", None, "hello"),
        ("/resume", None, ""),
        ("", None, ""),
    ],
)
def test_the_command_that_a_text_names(text: str, name: str | None, argument: str) -> None:
    command, rest = commands.find(text)
    assert (command.name if command else None) == name
    assert rest == argument


def test_what_changes_something_is_known() -> None:
    changing = {one.name for one in commands.COMMANDS.values() if one.changes}
    assert changing == {"mute", "notify_on", "notify_off", "stop", "stop platform", "confirm"}
    assert {one.permission for one in commands.COMMANDS.values() if "stop" in one.name} == {
        "trading.change_killswitch"
    }


def test_nothing_in_the_package_calls_what_loosens() -> None:
    """`set_endpoint` in `connecting` sets the chat of the person who made the code, and nothing of money."""
    found = {
        (path.name, name)
        for path in sorted((ROOT / "maxxit" / "chat").rglob("*.py"))
        for name in called(path)
        if name in LOOSENING
    }
    assert found == {("connecting.py", "set_endpoint")}


def called(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            names.add(
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
    return names


def test_every_command_is_listed_with_its_permission() -> None:
    table = commands.matrix().splitlines()
    assert len(table) == len(commands.COMMANDS) + 2
    assert len({line.count("|") for line in table}) == 1
