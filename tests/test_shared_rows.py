"""Rows that tests share: made once, as they were for each test, and gone afterwards."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from tests import shared_rows
from tests.shared_rows import SharedRows

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_test_begins_with_the_rows_as_they_were_made(django_db_blocker: Any) -> None:
    made: list[User] = []

    def make() -> User:
        made.append(User.objects.create(username="ann"))
        return made[-1]

    rows = SharedRows(make)
    first = rows.begin(django_db_blocker)
    with transaction.atomic(durable=True):  # what a test does
        first.username = "bob"
        first.save()
        User.objects.create(username="cora")
        transaction.set_rollback(True)
    second = rows.begin(django_db_blocker)
    assert (first.username, second.username, len(made)) == ("bob", "ann", 1)
    assert list(User.objects.values_list("username", flat=True)) == ["ann"]

    rows.end()
    assert not connection.in_atomic_block
    assert not User.objects.exists()
    rows.begin(django_db_blocker)
    rows.end()
    assert len(made) == 2


def test_old_rows_are_to_be_made_anew(django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(shared_rows, "monotonic", lambda: now)
    rows = SharedRows(lambda: "rows")
    rows.begin(django_db_blocker)
    assert not rows.old
    now += shared_rows.OLDEST_SECONDS + 1
    assert rows.old
    rows.end()


def test_rows_that_cannot_be_made_leave_nothing(django_db_blocker: Any) -> None:
    def fail() -> None:
        User.objects.create(username="ann")
        raise ValueError("no more rows")

    rows = SharedRows(fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="no more rows"):
            rows.begin(django_db_blocker)
    assert not connection.in_atomic_block
    assert not User.objects.exists()
