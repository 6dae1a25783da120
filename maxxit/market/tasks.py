"""Celery's side of prices."""

import structlog
from celery import shared_task

from maxxit.core.errors import Rejected, Retryable
from maxxit.market import intake, quotes
from maxxit.market.feeds.base import Tick
from maxxit.market.instruments import all_instruments

log = structlog.get_logger(__name__)


@shared_task
def refresh_quotes() -> int:
    """Ask every feed for every instrument; returns how many prices moved.

    All feeds are asked, not only the preferred: the others say whether it is to be believed.
    """
    symbols = list(all_instruments())
    ticks: list[Tick] = []
    for feed in quotes.open_feeds():
        try:
            ticks += feed.quotes(symbols).values()
        except (Retryable, Rejected) as error:
            log.warning("feed_silent", feed=feed.name, error=str(error))
    return len(intake.take(ticks))
