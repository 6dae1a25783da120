"""Take a batch of ticks from any source: validate, store, form bars, queue accepted prices for price rules."""

from collections.abc import Iterable, Mapping, Sequence

from django.db import transaction

from maxxit.core import clock
from maxxit.events import wake
from maxxit.market import candles, quotes
from maxxit.market.candles import Span
from maxxit.market.feeds.base import Tick
from maxxit.market.models import QuoteMove


def take(ticks: Iterable[Tick], spans: Mapping[tuple[str, str], Span] | None = None) -> Sequence[Tick]:
    """Validate `ticks`, store the accepted ones and form bars; return the ticks that became quotes.

    `spans`: (symbol, source) -> the range of prices since the previous tick, for the bars' highs and lows.
    """
    known = spans or {}
    with transaction.atomic():
        moved = quotes.accept_ticks(ticks)
        candles.form([known.get((tick.symbol, tick.source)) or Span.of(tick) for tick in moved])
        queue_moves(moved)
    return moved


def queue_moves(moved: Sequence[Tick]) -> None:
    """Insert accepted prices into `quote_moves` and, after commit, wake the pass that matches price rules.

    Call it in the transaction that stores the prices: both commit or neither does.
    """
    if not moved:
        return
    now = clock.now()
    QuoteMove.objects.bulk_create(
        QuoteMove(symbol=tick.symbol, price=tick.price, at=tick.at, accepted_at=now) for tick in moved
    )
    wake.after_commit("quotes.accepted")
