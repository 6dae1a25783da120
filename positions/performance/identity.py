"""Check that the figures of positions and the ledger agree (design/product.md).

    realised + unrealised - venue and platform fees - profit share - gas + funding = equity - net deposits

to the USDC base unit, per deployment and in total. The left side comes from positions, fills and billing events (months
of a subscription are platform fees), the right side from the ledger's balances and transfers, so an amount that is
booked in one and not in the other makes them differ. A payment of what is owed to the platform is a deposit here: it
raises equity and earns nothing. Funding is what positions with margin paid (negative) or received.
Executors pay the gas of Safe transactions, so no deployment is charged for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.money import ZERO, plain, usdc
from maxxit.events.record import record
from positions.models import BooksCheck
from positions.performance.parts import statement
from positions.performance.points import WORTH

UNCLOSED = """
SELECT p.deployment_id, p.entry_order_id AS entry, p.symbol, p.taken_value,
       CASE WHEN p.taken_value = 0 THEN 0 ELSE p.closed_quantity - coalesce((
           SELECT sum(f.quantity) FROM orders o JOIN fills f ON f.order_id = o.id
           WHERE o.closes_id = p.entry_order_id AND (p.state = 'open' OR o.id <> p.exit_order_id)), 0) END AS taken
FROM positions p
WHERE p.state <> 'closed' AND (%(deployments)s::bigint[] IS NULL OR p.deployment_id = ANY(%(deployments)s::bigint[]))
UNION ALL
SELECT o.deployment_id, o.id, o.symbol, 0, 0
FROM orders o
WHERE o.purpose = 'open' AND o.filled_quantity > o.booked_quantity
  AND NOT EXISTS (SELECT FROM positions p WHERE p.entry_order_id = o.id)
  AND (%(deployments)s::bigint[] IS NULL OR o.deployment_id = ANY(%(deployments)s::bigint[]))
"""
"""Entries that are not closed, with what their owners withdrew: (deployment, entry order, token, USDC, tokens)."""
BOOKS = f"""
WITH worth AS ({WORTH}),
unclosed AS (
    SELECT u.deployment_id, u.symbol, u.taken_value, u.taken, traded.*, costs.*
    FROM ({UNCLOSED}) AS u
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE o.side WHEN 'buy' THEN f.quantity ELSE -f.quantity END), 0) AS tokens,
               coalesce(sum(CASE o.side WHEN 'buy' THEN -f.cash ELSE f.cash END), 0) AS cash,
               sum(f.quantity) FILTER (WHERE o.id = u.entry) AS entered,
               sum(f.cash) FILTER (WHERE o.id = u.entry) AS entry_cash,
               max(CASE o.position_side WHEN 'long' THEN 1 ELSE -1 END) AS sign
        FROM orders o JOIN fills f ON f.order_id = o.id WHERE o.id = u.entry OR o.closes_id = u.entry
    ) AS traded
    CROSS JOIN LATERAL (
        SELECT coalesce(-sum(e.amount) FILTER (WHERE e.kind IN ('venue_fee', 'platform_fee')), 0) AS fees,
               coalesce(-sum(e.amount) FILTER (WHERE e.kind = 'platform_fee'), 0) AS platform_fees,
               coalesce(-sum(e.amount) FILTER (WHERE e.kind = 'profit_share'), 0) AS share
        FROM orders o JOIN ledger_entries e ON e.order_id = o.id
        WHERE (o.id = u.entry OR o.closes_id = u.entry) AND e.deployment_id IS NOT NULL
    ) AS costs
), held AS (
    SELECT deployment_id,
           sum((tokens - taken) * q.price - sign * entry_cash * abs(tokens - taken) / entered) AS unrealised,
           sum(cash + taken_value + (tokens - taken) * q.price) AS gross,
           sum(fees) AS fees, sum(platform_fees) AS platform_fees, sum(share) AS share
    FROM unclosed LEFT JOIN quotes q USING (symbol)
    GROUP BY deployment_id
), billed AS (
    SELECT deployment_id, sum(amount) AS fees FROM billing_events
    WHERE state = 'charged' AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
    GROUP BY deployment_id
), funded AS (
    SELECT deployment_id, sum(amount) AS amount FROM funding_payments
    WHERE %(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[])
    GROUP BY deployment_id
), {{closed}}
SELECT worth.deployment_id, worth.equity, worth.deposits, worth.unpriced,
       coalesce(closed.net + closed.fees, 0) + coalesce(held.gross - held.unrealised, 0) AS realised,
       coalesce(held.unrealised, 0),
       coalesce(closed.fees, 0) + coalesce(held.fees, 0) + coalesce(billed.fees, 0) AS fees,
       coalesce(split.platform_fees, 0),
       coalesce(split.fees, 0),
       coalesce(closed.share, 0) + coalesce(held.share, 0),
       coalesce(funded.amount, 0)
FROM worth
LEFT JOIN held USING (deployment_id) LEFT JOIN closed USING (deployment_id)
LEFT JOIN billed USING (deployment_id) LEFT JOIN split USING (deployment_id)
LEFT JOIN funded USING (deployment_id)
ORDER BY worth.deployment_id
"""  # noqa: S608 (constants only)
"""The books of each deployment, with `closed` as one of the two below reads them."""
FROM_POSITIONS = """closed AS (
    SELECT deployment_id, sum(realised_pnl) AS net, sum(fees) AS fees, sum(profit_share) AS share
    FROM positions
    WHERE state = 'closed' AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
    GROUP BY deployment_id
), split AS (
    SELECT deployment_id, -sum(amount) FILTER (WHERE kind = 'platform_fee') AS platform_fees,
           -sum(amount) AS fees
    FROM ledger_entries
    WHERE kind IN ('venue_fee', 'platform_fee') AND deployment_id IS NOT NULL
      AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
    GROUP BY deployment_id
)
"""
FROM_PARTS = """closed AS (
    SELECT part.key::bigint AS deployment_id, part.won + part.lost + part.profit_share AS net,
           part.venue_fees + part.platform_fees AS fees, part.platform_fees, part.profit_share AS share
    FROM ({parts}) AS part
), split AS (
    SELECT deployment_id,
           coalesce(closed.platform_fees, 0) + coalesce(held.platform_fees, 0) + coalesce(billed.fees, 0)
               AS platform_fees,
           coalesce(closed.fees, 0) + coalesce(held.fees, 0) + coalesce(billed.fees, 0) AS fees
    FROM closed FULL JOIN held USING (deployment_id) FULL JOIN billed USING (deployment_id)
)
"""


AMOUNTS = (
    "realised", "unrealised", "venue_fees", "platform_fees", "profit_share", "gas", "funding", "equity", "deposits",
    "booked_fees",
)  # fmt: skip
"""The fields of `Books`, in order."""


@dataclass(frozen=True, slots=True)
class Books:
    """The figures of one deployment, or of all together, as positions and as the ledger have them. USD."""

    deployment: int | None
    """None: all together."""
    realised: Decimal
    """Of closed positions and of the closed parts of open ones, before fees and profit share."""
    unrealised: Decimal
    venue_fees: Decimal
    platform_fees: Decimal
    profit_share: Decimal
    gas: Decimal
    """Charged to the deployment: zero, because executors pay it."""
    funding: Decimal
    """Of positions with margin; negative: paid."""
    equity: Decimal
    deposits: Decimal
    """Deposits less withdrawals."""
    booked_fees: Decimal
    """Venue and platform fees in the ledger."""

    @property
    def pnl(self) -> Decimal:
        """Return the PnL after all costs, from positions and fills."""
        costs = self.venue_fees + self.platform_fees + self.profit_share + self.gas
        return self.realised + self.unrealised - costs + self.funding

    @property
    def difference(self) -> Decimal:
        """Return the PnL by positions less the PnL by the ledger, in USDC base units; zero where the books agree."""
        return usdc(self.pnl - (self.equity - self.deposits))

    @property
    def fee_difference(self) -> Decimal:
        """Return the fees of the positions less those in the ledger, in USDC base units."""
        return usdc(self.venue_fees + self.platform_fees - self.booked_fees)

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings in USD."""
        values: dict[str, Any] = {f"{name}_usd": plain(usdc(getattr(self, name))) for name in AMOUNTS}
        return (
            {"deployment": self.deployment}
            | values
            | {
                "pnl_usd": plain(usdc(self.pnl)),
                "difference_usd": plain(self.difference),
                "fee_difference_usd": plain(self.fee_difference),
            }
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """The books of each deployment, and of all."""

    deployments: list[Books]
    unpriced: list[int]
    """Deployments left out because a token that they hold has no quote."""

    @property
    def total(self) -> Books:
        """Return the sums."""
        sums = [sum((getattr(row, name) for row in self.deployments), ZERO) for name in AMOUNTS]
        return Books(None, *sums)

    @property
    def wrong(self) -> list[Books]:
        """Return the deployments whose books differ."""
        return [row for row in self.deployments if row.difference or row.fee_difference]


def read_identity(deployments: Sequence[int] | None = None) -> Identity:
    """Read the books of these deployments (None: all) in one statement, at the newest quotes.

    Reads every closed position and every fee in the ledger, so that the two can be compared.
    """
    return _read(BOOKS.format(closed=FROM_POSITIONS), _scope(deployments))


def read_books(deployments: Sequence[int] | None = None) -> Books:
    """Read the sums of these deployments (None: all), with closed positions from the roll-up.

    It is as quick with a million closed positions as with a thousand, and compares no fees with the ledger:
    `booked_fees` are those of the positions.
    """
    return read_each(deployments).total


def read_each(deployments: Sequence[int] | None = None) -> Identity:
    """Read the books of each of these deployments (None: all) as `read_books` does, with closed positions summed up."""
    return _read(*books_statement(deployments))


def books_statement(deployments: Sequence[int] | None = None) -> tuple[str, dict[str, Any]]:
    """Return the statement of `read_each` and its parameters."""
    parts, params = statement(["deployment"], deployments)
    return BOOKS.format(closed=FROM_PARTS.format(parts=parts)), params | _scope(deployments)


def _scope(deployments: Sequence[int] | None) -> dict[str, list[int] | None]:
    return {"deployments": None if deployments is None else list(deployments)}


def _read(sql: str, params: Mapping[str, Any]) -> Identity:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    books, unpriced = [], []
    for (
        deployment,
        equity,
        deposits,
        lacks_quote,
        realised,
        unrealised,
        fees,
        platform_fees,
        booked,
        share,
        funding,
    ) in rows:
        if lacks_quote or unrealised is None:
            unpriced.append(deployment)
            continue
        venue_fees = fees - platform_fees
        amounts = (
            realised, unrealised, venue_fees, platform_fees, share, ZERO, funding, equity, deposits, booked,
        )  # fmt: skip
        books.append(Books(deployment, *amounts))
    return Identity(books, unpriced)


@transaction.atomic
def check_books() -> BooksCheck:
    """Compare all books, store the result, and record `books.differ` for each deployment that was right before."""
    read = read_identity()
    before = BooksCheck.objects.select_for_update().filter(pk=1).first()
    wrong = {row.deployment: row for row in read.wrong if row.deployment is not None}
    for deployment in Deployment.objects.filter(pk__in=set(wrong) - set(before.wrong if before else ())):
        books = wrong[deployment.pk].as_json()
        names = ("pnl_usd", "equity_usd", "deposits_usd", "difference_usd", "fee_difference_usd")
        record("books.differ", deployment, **{name: books[name] for name in names})
    checked = BooksCheck(pk=1, checked_at=clock.now(), deployments=len(read.deployments), wrong=sorted(wrong))
    checked.save()
    return checked
