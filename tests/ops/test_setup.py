"""`manage.py setup`: the admin's login is made once."""

import re
from io import StringIO

import pytest
from django.contrib.auth.models import User

from maxxit.ops.management.commands.setup import Command


@pytest.mark.django_db
def test_the_admins_password_is_generated_and_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAXXIT_ADMIN_PASSWORD", raising=False)
    said = StringIO()
    setup = Command(stdout=said)
    setup._login()
    password = re.findall(r"password (\S+) +\(shown only once", said.getvalue())[0]
    assert User.objects.get(username="admin", is_superuser=True).check_password(password)

    said.truncate(0)
    setup._login()
    assert said.getvalue() == ""
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_a_password_that_was_given_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXXIT_ADMIN_PASSWORD", "from-the-environment")
    said = StringIO()
    Command(stdout=said)._login()
    assert "from-the-environment" not in said.getvalue()
    assert User.objects.get().check_password("from-the-environment")
