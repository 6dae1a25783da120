"""`manage.py setup` makes the admin's login once, and `manage.py login-info` shows it."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from maxxit.ops import login
from maxxit.ops.management.commands.setup import Command


@pytest.fixture
def home(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.DATA_DIR = tmp_path
    monkeypatch.delenv("MAXXIT_ADMIN_PASSWORD", raising=False)
    return tmp_path


def told(shown: str) -> str:
    return str(re.findall(r"password (\S+) +\((?:shown only once|again)", shown)[0])


@pytest.mark.django_db
def test_the_admins_password_is_generated_and_shown_again_until_it_is_changed(home: Path) -> None:
    said = StringIO()
    setup = Command(stdout=said)
    setup._login()
    password = told(said.getvalue())
    admin = User.objects.get(username="admin", is_superuser=True)
    assert admin.check_password(password)
    assert (home / "admin_password").stat().st_mode & 0o077 == 0

    said.truncate(0)
    setup._login()
    assert said.getvalue() == ""
    assert User.objects.count() == 1
    shown = login_info()
    assert (shown["name"], shown["password"]) == ("admin", password)

    admin.set_password("another")
    admin.save()
    assert login_info()["password"] is None
    assert not (home / "admin_password").exists()


@pytest.mark.django_db
def test_setup_forgets_a_password_that_was_changed(home: Path) -> None:
    setup = Command(stdout=StringIO())
    setup._login()
    User.objects.update(password="another")
    setup._login()
    assert login.kept(home) is None


@pytest.mark.django_db
def test_production_shows_it_once_and_keeps_nothing(home: Path, settings: Any) -> None:
    settings.PRODUCTION = True
    said = StringIO()
    Command(stdout=said)._login()
    assert User.objects.get().check_password(told(said.getvalue()))
    assert list(home.iterdir()) == []


def login_info() -> Any:
    said = StringIO()
    call_command("login-info", "--json", stdout=said)
    return json.loads(said.getvalue())


@pytest.mark.django_db
def test_a_password_that_was_given_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXXIT_ADMIN_PASSWORD", "from-the-environment")
    said = StringIO()
    Command(stdout=said)._login()
    assert "from-the-environment" not in said.getvalue()
    assert User.objects.get().check_password("from-the-environment")
