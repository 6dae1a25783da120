"""What the owner took out of his Safe himself: positions whose tokens are not there any more end, or shrink

The tokens are his, and no closing order could sell them: without this the position would stay open for ever, and its
token would count as held. What he took is worth the quote of the moment in which we see it.

Only transfers that stand in the chain's logs end anything: a difference that nothing explains is an alert, and the
position stays watched. Of several positions in one token none is touched while a part of it is left: which of them
he meant is not known, the first to leave find their tokens, and the last one's are missing then.
"""

from decimal import Decimal

import structlog
from django.db import connection, transaction

from maxxit.core.money import usdc
from maxxit.events.record import advance, record
from maxxit.market import quotes
from positions import book
from positions.models import Position
from positions.states import PositionState
from trading import ledger, limits
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)

SHORT = f"""
SELECT claimed.account, claimed.symbol, claimed.positions, least(claimed.quantity - held.quantity, -moved.quantity),
       moved.booked_to
FROM (
    SELECT d.account, p.symbol, count(*) AS positions, sum(p.quantity - p.closed_quantity) AS quantity
    FROM positions p JOIN agent_deployments d ON d.id = p.deployment_id
    WHERE d.safe_wallet <> '' AND p.state <> 'closed' AND (%(account)s = '' OR d.account = %(account)s)
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
        FROM ledger_entries e JOIN agent_deployments d ON e.account = 'deployment:' || d.id
        WHERE e.kind = 'external' AND e.asset <> 'USDC' AND e.journal NOT LIKE '{ledger.UNEXPLAINED}%%'
        GROUP BY d.account, e.asset, d.id
    ) AS by_purse
    GROUP BY account, symbol
) AS moved USING (account, symbol)
WHERE claimed.quantity > held.quantity AND moved.quantity < 0
  AND NOT EXISTS (
      SELECT FROM orders o
      WHERE o.account = claimed.account AND o.symbol = claimed.symbol
        AND (o.state = ANY(%(flying)s) OR o.purpose = 'open' AND o.filled_quantity > o.booked_quantity)
  )
ORDER BY 1, 2
"""  # noqa: S608 (constants only)
"""(account, token, open positions, how much of it the owner took, the deployment that this was booked to). While
anything of it is on its way nothing is compared."""

Short = tuple[str, str, int, Decimal, int]


def close_withdrawn_positions() -> int:
    """End or shrink every position whose tokens its Safe does not hold any more; returns how many ended."""
    ended = 0
    for account, symbol, *_ in _short():
        try:
            ended += _close_withdrawn(account, symbol)
        except Exception:  # one Safe must not keep the others from theirs; it is looked at again
            log.exception("withdrawal_not_booked", account=account, symbol=symbol)
    return ended


@transaction.atomic
def _close_withdrawn(account: str, symbol: str) -> int:
    limits.lock(account)  # no order of it is reserved meanwhile
    short = next((one for one in _short(account) if one[1] == symbol), None)
    if short is None:
        return 0
    _, _, positions, missing, booked_to = short
    quote = quotes.latest([symbol], closing=True).get(symbol)
    mine = Position.objects.filter(deployment__account=account, symbol=symbol, state=PositionState.OPEN)
    related = mine.select_related("entry_order", "deployment__agent").order_by("pk")
    rows = list(
        related.select_for_update(of=("self",), skip_locked=True)
    )  # a sweep that has them comes first
    left = sum(row.quantity - row.closed_quantity for row in rows)
    if quote is None or len(rows) != positions or (positions > 1 and missing < left):
        log.warning("taken_out_undecided", account=account, symbol=symbol, missing=str(missing), of=str(left))
        return 0
    return sum(
        _take(row, min(missing, row.quantity - row.closed_quantity), quote.price, booked_to) for row in rows
    )


def _take(position: Position, taken: Decimal, price: Decimal, booked_to: int) -> bool:
    """Book that so much of a position is gone; whether it is over."""
    value = usdc(taken * price)
    position.closed_quantity += taken
    position.taken_value += value
    position.save(update_fields=["closed_quantity", "taken_value"])
    journal = f"taken_out:{position.pk}:{position.closed_quantity.normalize():f}"
    ledger.book_owner_withdrawal(journal, position.deployment_id, booked_to, taken, position.symbol, value)
    record("position.taken_out", position, quantity=f"{taken.normalize():f}", price=f"{price.normalize():f}")
    if position.closed_quantity < position.quantity:
        return False
    advance(position, PositionState.CLOSING, why="reconciled", exit_reason="reconciled")
    book.close_out(position, position.quantity)
    return True


def _short(account: str = "") -> list[Short]:
    with connection.cursor() as cursor:
        cursor.execute(SHORT, {"account": account, "flying": list(IN_FLIGHT)})
        found: list[Short] = cursor.fetchall()
    return found
