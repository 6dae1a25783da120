"""Give nonces to the actions of an account: unique per signer, ascending, and the same again for the same action.

Hyperliquid keeps the 100 highest nonces of each signer and takes none that was used. An account has one agent key, so
its nonces are counted here per account. They are milliseconds since 1970; where many are needed at once they run ahead
of the clock, of which Hyperliquid allows a day.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Sum

from maxxit.core import clock
from maxxit.core.money import ZERO
from trading.venues.hyperliquid.models import HyperliquidAction

DAY = timedelta(days=1)
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('hyperliquid nonces of ' || %s || ' ' || %s, 0))"
INSERT = """
INSERT INTO hyperliquid_actions (venue, account, name, nonce, notional_usd, at)
SELECT %(venue)s::text, %(account)s::text, name, free.first + place - 1, notional, %(now)s
FROM unnest(%(names)s::text[], %(notionals)s::numeric[]) WITH ORDINALITY AS asked (name, notional, place),
    (SELECT greatest(%(milliseconds)s, coalesce(max(nonce), 0) + 1) AS first FROM hyperliquid_actions
     WHERE venue = %(venue)s AND account = %(account)s) AS free
ON CONFLICT (venue, account, name) DO NOTHING
"""
NONCES = """
SELECT name, nonce FROM hyperliquid_actions
WHERE venue = %(venue)s AND account = %(account)s AND name = ANY(%(names)s)
"""


def take(venue: str, account: str, name: str, notional_usd: Decimal = ZERO) -> int:
    """Return the nonce of one action, as `take_many` does."""
    return take_many(venue, account, {name: notional_usd})[name]


@transaction.atomic
def take_many(venue: str, account: str, notionals: Mapping[str, Decimal]) -> dict[str, int]:
    """Return name of an action of the account -> its nonce, given now or before, in the caller's transaction.

    `notionals`: name -> what an entry may trade at most, USD; it counts against the daily notional from now on.
    New nonces ascend in the order of the names.
    """
    now = clock.now()
    params: dict[str, Any] = {
        "venue": venue,
        "account": account,
        "names": list(notionals),
        "notionals": list(notionals.values()),
        "milliseconds": milliseconds(now),
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [venue, account])  # the next statement sees what the holder before wrote
        cursor.execute(INSERT, params)
        cursor.execute(NONCES, params)
        return dict(cursor.fetchall())


def notional_of_day(venue: str, accounts: Iterable[str]) -> dict[str, Decimal]:
    """Return account -> notional in USD of its entries that got a nonce within the last 24 hours."""
    since = clock.now() - DAY
    rows = HyperliquidAction.objects.filter(venue=venue, account__in=list(accounts), at__gt=since)
    return dict(rows.order_by().values_list("account").annotate(Sum("notional_usd")))


def milliseconds(moment: datetime) -> int:
    """Return a moment as milliseconds since 1970."""
    return int(moment.timestamp() * 1000)
