"""Rows that many tests begin with, made once for all of them.

They are made in a transaction that is open around those of the tests, so that each test's changes are rolled back to
them (a savepoint), and the rows themselves at the end. Sequences go on counting, as they do between other tests.
"""

from collections.abc import Callable
from copy import deepcopy
from time import monotonic
from typing import Any, Generic, TypeVar

import pytest
from django.db import transaction

from maxxit.events import wake

OLDEST_SECONDS = 10.0
"""Rows are made anew after so long: many say when they were seen, which pages and checks compare with now."""
Rows = TypeVar("Rows")


class SharedRows(Generic[Rows]):
    """The rows that `make` makes and returns, there from `begin` to `end`."""

    def __init__(self, make: Callable[[], Rows]) -> None:
        self._make = make
        self._made: Rows | None = None
        self._since = 0.0

    def begin(self, blocker: Any) -> Rows:
        """Make the rows unless they are there; return a copy of the objects that stand for them.

        To be called before the test's own transaction begins. `blocker` is pytest-django's `django_db_blocker`.
        """
        if self._made is None:
            self._blocker = blocker
            with blocker.unblock(), wake.collected():
                self._block = transaction.atomic()
                self._block._from_testcase = True  # type: ignore[attr-defined]  # so blocks inside may be durable
                self._block.__enter__()
                try:
                    self._made, self._since = self._make(), monotonic()
                except BaseException:
                    self._roll_back()
                    raise
        return deepcopy(self._made)

    def end(self) -> None:
        """Roll the rows back if they are there."""
        if self._made is not None:
            self._made = None
            with self._blocker.unblock():
                self._roll_back()

    @property
    def old(self) -> bool:
        """Whether it is time to make them anew."""
        return monotonic() - self._since > OLDEST_SECONDS

    def _roll_back(self) -> None:
        transaction.set_rollback(True)
        self._block.__exit__(None, None, None)


def in_transaction(item: pytest.Item) -> bool:
    """Return whether a test runs in a transaction that is rolled back, and at the machine's own time."""
    marker, names = item.get_closest_marker("django_db"), set(getattr(item, "fixturenames", ()))
    committed = {"live_server", "transactional_db"} & names or (marker and marker.kwargs.get("transaction"))
    return not committed and "time" not in names
