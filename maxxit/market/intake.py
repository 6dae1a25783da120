"""What happens to a batch of ticks, wherever they come from: judged, stored, into the bars, past the rules."""

from collections.abc import Iterable, Sequence

from django.db import transaction

from maxxit.market import candles, quotes
from maxxit.market.feeds.base import Tick


def take(ticks: Iterable[Tick]) -> Sequence[Tick]:
    """Judge `ticks`, keep what is believed, form the bars; returns the ticks that became quotes."""
    with transaction.atomic():
        moved = quotes.settle(ticks)
        candles.observe(moved)
    return moved
