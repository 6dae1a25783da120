"""What the owner took out of his Safe himself: positions whose tokens are not there any more end, or shrink

The tokens are his, and no closing order could sell them: without this the position would stay open for ever, and its
token would count as held. What he took is worth the quote of the moment in which we see it; the oldest position gives
first. The chain's movements are in the ledger before this looks (`trading.chain.reconcile`).
"""

from decimal import Decimal

import structlog
from django.db import connection, transaction

from maxxit.events.record import advance, record
from maxxit.market import quotes
from positions import book
from positions.models import Position
from positions.states import PositionState
from trading import ledger, limits
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)

SHORT = """
SELECT d.account, p.symbol, sum(p.quantity - p.closed_quantity) - coalesce(h.amount, 0),
       coalesce(h.poorest, min(d.id))
FROM positions p
JOIN agent_deployments d ON d.id = p.deployment_id
LEFT JOIN (
    SELECT o.account, b.asset, sum(b.amount) AS amount, (array_agg(o.id ORDER BY b.amount, o.id))[1] AS poorest
    FROM agent_deployments o JOIN ledger_balances b ON b.account = 'deployment:' || o.id
    WHERE o.safe_wallet <> ''
    GROUP BY o.account, b.asset
) AS h ON h.account = d.account AND h.asset = p.symbol
WHERE d.safe_wallet <> '' AND p.state <> 'closed' AND (%(account)s = '' OR d.account = %(account)s)
GROUP BY d.account, p.symbol, h.amount, h.poorest
HAVING sum(p.quantity - p.closed_quantity) > coalesce(h.amount, 0)
   AND bool_and(p.state = 'open')
   AND NOT EXISTS (SELECT FROM orders o
                   WHERE o.account = d.account AND o.symbol = p.symbol AND o.state = ANY(%(flying)s))
ORDER BY 1, 2
"""
"""(account, token, how much of it is missing, whose ledger it was booked to). While anything of it is on its way
nothing is compared."""


def let_go() -> int:
    """End or shrink every position whose tokens its Safe does not hold any more; returns how many ended."""
    return sum(_let_go(account) for account in sorted({account for account, *_ in _short("")}))


@transaction.atomic
def _let_go(account: str) -> int:
    limits.lock(account)  # no order of it is reserved meanwhile
    short = _short(account)
    prices = quotes.latest([symbol for _, symbol, *_ in short], closing=True)
    ended = 0
    for _, symbol, missing, booked_to in short:
        if symbol not in prices:
            log.warning("taken_out_without_a_price", account=account, symbol=symbol)  # looked at again
            continue
        held = Position.objects.filter(deployment__account=account, symbol=symbol, state=PositionState.OPEN)
        related = held.select_related("entry_order", "deployment__agent").order_by("pk")
        for position in related.select_for_update(of=("self",)):
            taken = min(missing, position.quantity - position.closed_quantity)
            if taken > 0:
                ended += _take(position, taken, prices[symbol].price, booked_to)
                missing -= taken
    return ended


def _take(position: Position, taken: Decimal, price: Decimal, booked_to: int) -> bool:
    """Book that so much of a position is gone; whether it is over."""
    position.closed_quantity += taken
    position.taken_value += taken * price
    position.save(update_fields=["closed_quantity", "taken_value"])
    journal = f"taken_out:{position.pk}:{position.closed_quantity.normalize():f}"
    ledger.book_taken_out(journal, position.deployment_id, booked_to, position.symbol, taken)
    record("position.taken_out", position, quantity=f"{taken.normalize():f}", price=f"{price.normalize():f}")
    if position.closed_quantity < position.quantity:
        return False
    advance(position, PositionState.CLOSING, why="reconciled", exit_reason="reconciled")
    book.close_out(position, position.quantity, position.exit_order or position.entry_order)
    return True


def _short(account: str) -> list[tuple[str, str, Decimal, int]]:
    with connection.cursor() as cursor:
        cursor.execute(SHORT, {"account": account, "flying": list(IN_FLIGHT)})
        found: list[tuple[str, str, Decimal, int]] = cursor.fetchall()
    return found
