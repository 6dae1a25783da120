"""Leverage, liquidation price, margin ratio and funding of positions, attached to the rows that lists show."""

from collections.abc import Iterable

from positions.models import Position
from trading.perps import margin


def attach(rows: Iterable[Position]) -> list[Position]:
    """Return the rows with `margin` set, where their venues have margin; select their entry orders along.

    It reads three statements, whatever the number of rows, and none where no venue has margin.
    """
    positions = list(rows)
    if not margin.any_margin():
        return positions
    found = margin.facts_of(positions)
    for position in positions:
        position.margin = found.get(position.pk)
    return positions
