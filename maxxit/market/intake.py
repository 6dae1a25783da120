"""What happens to a batch of ticks, wherever they come from: judged, stored, into the bars, past the rules."""

from collections.abc import Iterable, Mapping, Sequence

from django.db import transaction

from maxxit.market import candles, quotes, rules
from maxxit.market.candles import Span
from maxxit.market.feeds.base import Tick


def take(ticks: Iterable[Tick], spans: Mapping[tuple[str, str], Span] | None = None) -> Sequence[Tick]:
    """Judge `ticks`, keep what is believed, form the bars, match the rules; returns the ticks that became quotes.

    `spans`: (symbol, source) -> where the price went on its way to the tick, for the bars' highs and lows.
    """
    known = spans or {}
    with transaction.atomic():
        moved = quotes.settle(ticks)
        candles.form([known.get((tick.symbol, tick.source)) or Span.of(tick) for tick in moved])
        rules.match(moved)
    return moved
