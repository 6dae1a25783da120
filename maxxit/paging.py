"""Bounded counts and pages for large tables: the cost of a page must not grow with the table."""

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet

COUNTED = 1_000
"""A count stops here: a longer list is reported as this long."""
SKIPPED = 10_000
"""Largest offset of a list; beyond it the API pages by id."""


def bounded_count(rows: QuerySet[Any]) -> int:
    """Count `rows`, at most COUNTED."""
    return rows.order_by()[:COUNTED].count()


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """A paginator over at most COUNTED rows."""

    @cached_property
    def count(self) -> int:
        """Rows in all pages."""
        return bounded_count(self.object_list)  # type: ignore[arg-type]  # the admin gives a QuerySet
