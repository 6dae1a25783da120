"""Counts and pages of tables that grow for ever: the cost of a page must not follow the length of its list."""

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet

COUNTED = 1_000
"""Rows of a list that are counted; a longer list is this long."""
SKIPPED = 10_000
"""Rows of a list that may be skipped by an offset; further on the API pages by id."""


def bounded_count(rows: QuerySet[Any]) -> int:
    """How many `rows` there are, at most COUNTED."""
    return rows.order_by()[:COUNTED].count()


class BoundedPaginator(Paginator):
    """A paginator over at most COUNTED rows."""

    @cached_property
    def count(self) -> int:
        """Rows in all pages."""
        return bounded_count(self.object_list)  # type: ignore[arg-type]  # the admin gives a QuerySet
