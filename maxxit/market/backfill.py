"""Load past candles from a feed into the database, page by page with checkpoints, so that a run can be resumed."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from django.db import transaction

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.market import candles, quotes
from maxxit.market.feeds.bars import BAR
from maxxit.market.feeds.base import CandleFeed
from maxxit.market.models import BackfillMark
from maxxit.market.stream.backoff import wait_after

log = structlog.get_logger(__name__)

TRIES = 6
"""Attempts per page before the command fails; the checkpoint remains."""
Progress = Callable[[str, datetime], None]


def candle_feed(name: str = "") -> CandleFeed:
    """Return the feed named `name`, or the first with candles. Raises `Misconfigured`."""
    candle_feeds = [feed for feed in quotes.open_feeds() if isinstance(feed, CandleFeed)]
    chosen = next((feed for feed in candle_feeds if name in ("", feed.name)), None)
    if chosen is None:
        known = ", ".join(feed.name for feed in candle_feeds) or "none"
        raise Misconfigured(
            f"no feed {name or 'with candles'} in `order` of config/feeds.yaml; those with candles: {known}"
        )
    return chosen


def backfill(
    feed: CandleFeed,
    symbols: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    replace: bool = False,
    progress: Progress = lambda symbol, until: None,
) -> int:
    """Store the closed bars of [start, end); return the number stored in this run.

    A run with the same bounds resumes at its checkpoint. With `replace` the feed's bars replace bars formed from ticks,
    which have no volume. Raises what the feed raises, after `TRIES` attempts of a page.
    """
    start, end = clock.bucket(start, BAR), min(clock.bucket(end, BAR), clock.bucket(clock.now(), BAR))
    stored = 0
    for symbol in symbols:
        mark, _ = BackfillMark.objects.get_or_create(
            feed=feed.name, symbol=symbol, begins=start, ends=end, defaults={"done_until": start}
        )
        stored += _symbol(feed, mark, replace, progress)
    return stored


def _symbol(feed: CandleFeed, mark: BackfillMark, replace: bool, progress: Progress) -> int:
    stored = failures = 0
    while mark.done_until < mark.ends:
        try:
            for until, bars in feed.candles(mark.symbol, mark.done_until, mark.ends):
                with transaction.atomic():
                    stored += candles.store(mark.symbol, bars, replace=replace)
                    mark.done_until, mark.bars = until, mark.bars + len(bars)
                    mark.save(update_fields=["done_until", "bars", "updated_at"])
                failures = 0
                progress(mark.symbol, until)
        except Retryable as error:
            failures += 1
            if failures == TRIES:
                raise
            wait = wait_after(error, failures)
            log.warning(
                "backfill_waits", feed=feed.name, symbol=mark.symbol, error=str(error), seconds=round(wait, 1)
            )
            time.sleep(wait)
    progress(mark.symbol, mark.ends)
    return stored
