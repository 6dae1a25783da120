"""Shards: the parts of the accounts that the processes of one worker serve side by side, each its own."""

from dataclasses import dataclass

from django.db.models import F, Func, IntegerField, Q, QuerySet

from maxxit.market.venues import venues
from trading.models import Order

POSITIVE = 0x7FFFFFFF
"""Masks the sign of a hash."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of the accounts. An account is always in the same one.

    Venues that sign transactions are served by the first shard alone: one process per executor key.
    """

    index: int = 0
    count: int = 1

    def of(self, orders: QuerySet[Order]) -> QuerySet[Order]:
        """Return the orders of this shard's accounts."""
        if self.count == 1:
            return orders
        paper = [name for name, stanza in venues().items() if stanza.paper]
        code = Func(F("account"), function="hashtext", output_field=IntegerField()).bitand(POSITIVE)
        mine = Q(venue__in=paper, shard=self.index)
        return orders.annotate(shard=code % self.count).filter(
            mine | ~Q(venue__in=paper) if self.index == 0 else mine
        )


ALL = Shard()


def others(count: int) -> list[Shard]:
    """Return the shards beside the first of `count`."""
    return [Shard(index, count) for index in range(1, count)]
