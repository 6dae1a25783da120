"""Celery's side of prices."""

from datetime import timedelta

import structlog
from celery import shared_task
from django.utils import timezone

from maxxit.core.errors import Rejected, Retryable
from maxxit.market import intake, partitions, quotes, rules
from maxxit.market.feeds.base import Tick
from maxxit.market.instruments import all_instruments
from maxxit.market.models import RefusedQuote
from maxxit.market.stream.status import status

log = structlog.get_logger(__name__)

KEEP_REFUSALS = timedelta(days=30)
KEEP_MATCHES = timedelta(days=90)
MONTH = timedelta(days=31)


@shared_task
def refresh_quotes() -> int:
    """Ask every feed for every instrument; returns how many prices moved. Nothing to do while a stream leads.

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
def tidy() -> dict[str, int]:
    """Drop one-minute bars, refusals and rule matches past their time; returns how many of each went."""
    now = timezone.now()
    refused, _ = RefusedQuote.objects.filter(last_at__lt=now - KEEP_REFUSALS).delete()
    return {
        "months": len(partitions.drop_before(now - quotes.policy().keep_minutes_months * MONTH)),
        "refusals": refused,
        "matches": rules.prune(now - KEEP_MATCHES),
    }
