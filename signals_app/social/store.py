"""Store social metrics, and give those that a decision may use."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from maxxit.core import clock
from signals_app.evidence.base import SocialFigures
from signals_app.models import SocialMetric
from signals_app.social.base import SocialReading

DAY, TOLERANCE = timedelta(hours=24), timedelta(hours=2)
"""A change is measured from the newest row that is a day old, at most so much older."""
KEPT = timedelta(days=90)


def keep(readings: Iterable[SocialReading]) -> int:
    """Store readings of now; return how many."""
    rows = [
        SocialMetric(
            at=clock.now(),
            **{name: getattr(one, name) for name in ("symbol", *FIELDS)},
        )
        for one in readings
    ]
    return len(SocialMetric.objects.bulk_create(rows, ignore_conflicts=True))


FIELDS = ("galaxy_score", "sentiment_pct", "social_volume", "price_change_pct", "alt_rank")


def latest(symbols: Collection[str], at: datetime, max_age: timedelta) -> dict[str, SocialFigures]:
    """Return the figures of each symbol that were stored by `at` and are not older than `max_age`.

    A symbol without a row of a day before has none: the change of its social volume is not known.
    """
    newest = _newest(symbols, at - max_age, at)
    found = {}
    for symbol, row in newest.items():
        before = _newest([symbol], row.at - DAY - TOLERANCE, row.at - DAY).get(symbol)
        if before is None or not before.social_volume:
            continue
        change = (Decimal(row.social_volume) / before.social_volume - 1) * 100
        found[symbol] = SocialFigures(
            row.galaxy_score, row.sentiment_pct, change, row.price_change_pct, row.alt_rank
        )
    return found


def _newest(symbols: Collection[str], after: datetime, until: datetime) -> dict[str, SocialMetric]:
    rows = SocialMetric.objects.filter(symbol__in=list(symbols), at__gt=after, at__lte=until)
    return {row.symbol: row for row in rows.order_by("symbol", "-at").distinct("symbol")}


def prune(before: datetime) -> int:
    """Delete rows older than `before`; return how many."""
    return SocialMetric.objects.filter(at__lt=before).delete()[0]
