"""Close or reduce positions whose tokens their owner withdrew.

No closing order could sell such tokens: the position would stay open for ever and count as a holding. The withdrawal is
valued at the quote when it is detected.

Only transfers found in the chain's logs close a position, and differences that an operator booked as a transfer
(`trading.operations.differences`), at any venue; an unexplained difference raises an alert and leaves it open.
If several positions hold the token and part of it is left, none is touched: which one the owner meant is unknown. The
first to exit sell what is left, and the last one is closed here.
"""

from decimal import Decimal

import structlog
from django.db import connection, transaction

from maxxit.core.money import IS_TOKEN, usdc
from maxxit.events.record import advance, record
from maxxit.market import quotes
from positions.closing import close_out
from positions.models import Position
from positions.states import PositionState
from trading import ledger
from trading.models import JournalKind
from trading.risk import limits
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)

OPERATORS = f"{JournalKind.UNEXPLAINED}:operator:%%"
"""Journals of differences that an operator booked."""
CONFIRMED = f"""
SELECT owned.account FROM ledger_entries line JOIN agent_deployments owned ON owned.id = line.deployment_id
WHERE line.kind = 'external' AND line.asset {IS_TOKEN} AND line.amount < 0 AND line.journal LIKE '{OPERATORS}'
"""  # noqa: S608 (constants only)
"""Accounts that lack tokens by an operator's word."""
SHORTFALLS = f"""
SELECT claimed.account, claimed.symbol, claimed.positions, least(claimed.quantity - held.quantity, -moved.quantity),
       moved.booked_to
FROM (
    SELECT d.account, p.symbol, count(*) AS positions, sum(p.quantity - p.closed_quantity) AS quantity
    FROM positions p JOIN agent_deployments d ON d.id = p.deployment_id
    WHERE (d.safe_wallet = d.account OR d.account IN ({CONFIRMED}))
      AND p.state <> 'closed' AND (%(account)s = '' OR d.account = %(account)s)
    GROUP BY d.account, p.symbol
    HAVING bool_and(p.state = 'open')
) AS claimed
JOIN (
    SELECT d.account, b.asset AS symbol, sum(b.amount) AS quantity
    FROM ledger_balances b JOIN agent_deployments d ON b.account = 'deployment:' || d.id
    GROUP BY d.account, b.asset
) AS held USING (account, symbol)
JOIN (
    SELECT account, symbol, sum(quantity) AS quantity, (array_agg(id ORDER BY quantity, id))[1] AS booked_to
    FROM (
        SELECT d.account, e.asset AS symbol, d.id, sum(e.amount) AS quantity
        FROM ledger_entries e JOIN agent_deployments d ON d.id = e.deployment_id
        WHERE e.kind = 'external' AND e.asset {IS_TOKEN}
          AND (e.journal_kind <> '{JournalKind.UNEXPLAINED}' OR e.journal LIKE '{OPERATORS}')
        GROUP BY d.account, e.asset, d.id
    ) AS by_deployment
    GROUP BY account, symbol
) AS moved USING (account, symbol)
WHERE claimed.quantity > held.quantity AND moved.quantity < 0
  AND NOT EXISTS (
      SELECT FROM orders o
      WHERE o.account = claimed.account AND o.symbol = claimed.symbol
        AND (o.state = ANY(%(in_flight)s) OR o.purpose = 'open' AND o.filled_quantity > o.booked_quantity)
  )
ORDER BY 1, 2
"""  # noqa: S608 (constants only)
"""(account, token, open positions, tokens withdrawn, deployment that the withdrawal was booked to). An account's token
with an order in flight is left out."""

Shortfall = tuple[str, str, int, Decimal, int]


def close_withdrawn_positions() -> int:
    """Close or reduce every position whose tokens its Safe no longer holds; return how many were closed."""
    closed = 0
    for account, symbol, *_ in _shortfalls():
        try:
            closed += _close_withdrawn(account, symbol)
        except Exception:  # one failing Safe must not stop the others; the next check tries it again
            log.exception("withdrawal_not_booked", account=account, symbol=symbol)
    return closed


@transaction.atomic
def _close_withdrawn(account: str, symbol: str) -> int:
    limits.lock([account])  # no order of the account is reserved meanwhile
    shortfall = next((row for row in _shortfalls(account) if row[1] == symbol), None)
    if shortfall is None:
        return 0
    _, _, positions, missing, booked_to = shortfall
    quote = quotes.latest([symbol], closing=True).get(symbol)
    open_positions = Position.objects.filter(
        deployment__account=account, symbol=symbol, state=PositionState.OPEN
    )
    related = open_positions.select_related("entry_order", "deployment__agent").order_by("pk")
    rows = list(
        related.select_for_update(of=("self",), skip_locked=True)
    )  # rows that a sweep has locked are left to it
    held = sum(row.quantity - row.closed_quantity for row in rows)
    if quote is None or len(rows) != positions or (positions > 1 and missing < held):
        log.warning("taken_out_undecided", account=account, symbol=symbol, missing=str(missing), of=str(held))
        return 0
    return sum(
        _book_withdrawal(row, min(missing, row.quantity - row.closed_quantity), quote.price, booked_to)
        for row in rows
    )


def _book_withdrawal(position: Position, quantity: Decimal, price: Decimal, booked_to: int) -> bool:
    """Book `quantity` tokens of a position as withdrawn at `price` (USD); return whether the position closed."""
    value = usdc(quantity * price)
    position.closed_quantity += quantity
    position.taken_value += value
    position.save(update_fields=["closed_quantity", "taken_value"])
    reference = f"{position.pk}:{position.closed_quantity.normalize():f}"
    ledger.book_owner_withdrawal(
        reference, position.deployment_id, booked_to, quantity, position.symbol, value
    )
    record(
        "position.taken_out", position, quantity=f"{quantity.normalize():f}", price=f"{price.normalize():f}"
    )
    if position.closed_quantity < position.quantity:
        return False
    advance(position, PositionState.CLOSING, why="reconciled", exit_reason="reconciled")
    close_out(position, position.quantity)
    return True


def _shortfalls(account: str = "") -> list[Shortfall]:
    with connection.cursor() as cursor:
        cursor.execute(SHORTFALLS, {"account": account, "in_flight": list(IN_FLIGHT)})
        rows: list[Shortfall] = cursor.fetchall()
    return rows
