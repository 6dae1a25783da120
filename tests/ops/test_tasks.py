"""The jobs of backups start commands in processes of their own."""

import subprocess
import sys
from typing import Any

import pytest
from django.core.management import load_command_class

from maxxit.ops import tasks


@pytest.mark.parametrize(("task", "action"), [(tasks.back_up, None), (tasks.drill_backup, "drill")])
def test_a_job_starts_its_command_where_a_folder_is_set(
    task: Any, action: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    monkeypatch.delenv("BACKUP_FOLDER", raising=False)
    assert task() is False
    assert started == []
    monkeypatch.setenv("BACKUP_FOLDER", "/mnt/backups")
    assert task() is True
    [[python, script, name, *rest]] = started
    assert (python, script) == (sys.executable, "manage.py")
    options = load_command_class("maxxit.ops", name).create_parser(script, name).parse_args(rest)
    assert options.action == action
