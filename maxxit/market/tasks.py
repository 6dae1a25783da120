"""Celery's side of prices."""

import structlog
from celery import shared_task

from maxxit.core.errors import Retryable
from maxxit.market import candles, quotes
from maxxit.market.instruments import all_instruments

log = structlog.get_logger(__name__)


@shared_task
def refresh_quotes() -> int:
    """Ask the feeds in their order for every instrument; returns how many prices moved.

    A symbol takes the first feed that knows it; a feed that does not answer leaves the rest to the next.
    """
    wanted = list(all_instruments())
    ticks = []
    for feed in quotes.open_feeds():
        try:
            found = feed.quotes(wanted)
        except Retryable as error:
            log.warning("feed_silent", feed=feed.name, error=str(error))
            continue
        ticks += found.values()
        wanted = [symbol for symbol in wanted if symbol not in found]
    moved = quotes.accept(ticks)
    candles.observe([tick for tick in ticks if tick.symbol in moved])
    return len(moved)
