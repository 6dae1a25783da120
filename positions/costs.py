"""Read what positions cost and brought, set-wise: the fills of their orders, and the fees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from django.db import connection

from maxxit.core.money import ZERO
from trading import ledger


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over fills."""

    quantity: Decimal = ZERO
    """Tokens."""
    cash: Decimal = ZERO
    """USDC."""
    value: Decimal = ZERO
    """USD: price × quantity."""
    fee: Decimal = ZERO
    """USDC that the venue charged."""

    def __add__(self, other: "Totals") -> "Totals":
        """Return the sums of both."""
        return Totals(
            self.quantity + other.quantity,
            self.cash + other.cash,
            self.value + other.value,
            self.fee + other.fee,
        )


@dataclass(slots=True)
class Costs:
    """The fills and fees of one position."""

    entry: Totals = Totals()
    exits: Totals = Totals()
    """Of all its closing orders."""
    by_order: dict[int, Totals] = field(default_factory=dict)
    platform_fee: Decimal = ZERO
    """USDC, as booked in the ledger."""

    @property
    def fees(self) -> Decimal:
        """Venue fees of all fills and the platform fee, USDC."""
        return self.entry.fee + self.platform_fee + self.exits.fee

    def of_order(self, order_id: int) -> Totals:
        """Return the sums of one of its orders."""
        return self.by_order.get(order_id, Totals())


FILLS = """
SELECT coalesce(o.closes_id, o.id), o.id, sum(f.quantity), sum(f.cash), sum(f.quantity * f.price), sum(f.fee)
FROM orders o JOIN fills f ON f.order_id = o.id
WHERE o.id = ANY(%(entries)s) OR o.closes_id = ANY(%(entries)s)
GROUP BY o.id
"""


def read_costs(entry_order_ids: Sequence[int]) -> Mapping[int, Costs]:
    """Return entry order -> the costs of its position, in two statements."""
    costs = {pk: Costs() for pk in entry_order_ids}
    position_of: dict[int, int] = {pk: pk for pk in entry_order_ids}
    with connection.cursor() as cursor:
        cursor.execute(FILLS, {"entries": list(entry_order_ids)})
        for entry_id, order_id, *sums in cursor.fetchall():
            totals, of_position = Totals(*sums), costs[entry_id]
            position_of[order_id] = entry_id
            of_position.by_order[order_id] = totals
            if order_id == entry_id:
                of_position.entry = totals
            else:
                of_position.exits += totals
    for order_id, fee in ledger.platform_fees(list(position_of)).items():
        costs[position_of[order_id]].platform_fee += fee
    return costs
