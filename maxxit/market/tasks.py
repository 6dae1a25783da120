"""Celery tasks that fetch prices and delete old ones."""

from datetime import timedelta

import structlog
from celery import shared_task
from django.utils import timezone

from maxxit.core.errors import Rejected, Retryable
from maxxit.market import funding, intake, partitions, quotes
from maxxit.market.feeds.base import Tick
from maxxit.market.instruments import all_instruments
from maxxit.market.models import QuoteMove, RefusedQuote
from maxxit.market.stream.status import status

log = structlog.get_logger(__name__)

KEEP_REFUSALS = timedelta(days=30)
KEEP_MOVES = timedelta(days=1)
"""Bounds the table where nothing matches price rules."""
MONTH = timedelta(days=31)


@shared_task
def refresh_quotes() -> int:
    """Ask every feed for every instrument; return how many quotes changed. Does nothing while a stream runs.

    All feeds are asked, not only the preferred one: the others validate its price.
    """
    if status() is not None:
        return 0
    symbols = list(all_instruments())
    ticks: list[Tick] = []
    for feed in quotes.open_feeds():
        try:
            ticks += feed.quotes(symbols).values()
        except (Retryable, Rejected) as error:
            log.warning("feed_silent", feed=feed.name, error=str(error))
    return len(intake.take(ticks))


@shared_task
def refresh_funding() -> int:
    """Read the funding rates of every instrument; return how many were kept."""
    return funding.refresh()


@shared_task
def tidy() -> dict[str, int]:
    """Delete one-minute bars, rejected prices and unmatched moves past retention; return how many of each."""
    now = timezone.now()
    moves, _ = QuoteMove.objects.filter(accepted_at__lt=now - KEEP_MOVES).delete()
    refused, _ = RefusedQuote.objects.filter(last_at__lt=now - KEEP_REFUSALS).delete()
    return {
        "months": len(partitions.drop_before(now - quotes.policy().keep_minutes_months * MONTH)),
        "refusals": refused,
        "moves": moves,
    }
