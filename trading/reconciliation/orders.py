"""Ask a venue about all open orders of an account, and count what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal

import structlog

from maxxit.core import clock
from maxxit.core.errors import Retryable
from trading import quarantine, settle
from trading.models import Order
from trading.reconciliation import hours
from trading.rows import load_orders
from trading.states import IN_FLIGHT, OrderState
from trading.wiring import venue

log = structlog.get_logger(__name__)

SENT = IN_FLIGHT - {OrderState.SENDING}


@dataclass(slots=True)
class OrderCounts:
    """The numbers of the log line RECONCILE_CYCLE."""

    pending_found: int = 0
    """Open orders whose venue was asked."""
    updated: int = 0
    """Orders with a new state or a new fill."""
    became_terminal: int = 0
    unchanged: int = 0
    errors: int = 0
    """Orders whose venue did not say where they stand."""
    skipped: int = 0
    """Open orders of stocks that wait for their market."""

    def add(self, other: "OrderCounts") -> None:
        """Add the numbers of another account."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def reconcile_orders(venue_name: str, accounts: Sequence[str], *, closed_too: bool = False) -> OrderCounts:
    """Ask about every open order of these accounts in one call of `find_many`, and book the answers.

    Orders of Safes are left to the worker with the signing key, whose outbox settles them. Orders that are being sent
    are left to the worker that sends them, whose next pass also settles those of one that died. An order that the venue
    does not know is handled as the settle sweep does.

    Args:
        closed_too: also ask about stocks while their exchange is closed (end of day).

    Raises:
        Retryable: the venue said nothing about any of them. What it raises where it cannot be opened or its keys fail.
    """
    at_venue = venue(venue_name)
    if at_venue.safe_access() is not None:
        return OrderCounts()
    rows = Order.objects.filter(
        quarantine.is_due(), state__in=SENT, venue=venue_name, account__in=accounts
    ).order_by("pk")
    found = load_orders(rows, count=0)
    now = clock.now()
    closed = frozenset() if closed_too else hours.closed_symbols(venue_name, now)
    asked = [row for row in found if row.symbol not in closed]
    counts = OrderCounts(pending_found=len(asked), skipped=len(found) - len(asked))
    if not asked:
        return counts
    before = {row.pk: (row.state, row.filled_quantity) for row in asked}
    answers = at_venue.find_many([row.venue_ref for row in asked])
    failed = [
        answer
        for row in asked
        if isinstance(answer := answers.get(row.venue_ref, settle.LEFT_OUT), Exception)
    ]
    with quarantine.counted_for_each(asked):
        settle.book_answers(asked, at_venue, answers, now)
    _count(asked, before, counts, errors=len(failed))
    if failed and len(failed) == len(asked):
        raise Unread(counts, failed[0])
    return counts


class Unread(Retryable):
    """The venue said nothing about any order of the accounts."""

    def __init__(self, counts: OrderCounts, error: Exception) -> None:
        super().__init__(str(error))
        self.counts = counts


def _count(
    asked: Sequence[Order], before: Mapping[int, tuple[str, Decimal]], counts: OrderCounts, *, errors: int
) -> None:
    for row in asked:
        old, filled = before[row.pk]
        if (row.state, row.filled_quantity) == (old, filled):
            continue
        ended = row.state not in IN_FLIGHT
        counts.updated += 1
        counts.became_terminal += ended
        log.info(
            "order_reconciled", order_id=row.pk, symbol=row.symbol, old_status=old, new_status=row.state,
            filled_qty=str(row.filled_quantity), avg_price=str(row.average_price or ""), is_terminal=ended,
        )  # fmt: skip
    counts.errors = errors
    counts.unchanged = len(asked) - counts.updated - errors
