"""Export trades and FIFO lots as CSV, row by row: memory does not grow with the number of rows, lots apart.

The lots of one deployment and token are matched at a time, so memory holds its open lots.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from django.db import connection, transaction

from maxxit.core.csv_text import CHUNK, cell
from maxxit.market.venues import venues
from maxxit.reports.scope import Scope
from positions.performance.lots import ClosedLot, LotFill, closed_lots
from trading.perps.margin import has_margin

TRADES = """
SELECT p.id, p.deployment_id, a.name, d.account, a.venue, p.symbol, p.side, p.state, p.opened_at, p.closed_at,
       p.quantity, p.entry_price, p.exit_price, p.exit_reason,
       CASE WHEN p.state = 'closed' THEN p.realised_pnl + p.fees END, p.fees, p.profit_share,
       CASE WHEN p.state = 'closed' THEN p.realised_pnl - p.profit_share END,
       m.leverage, m.liquidation_price, m.ratio_pct, m.funding,
       CASE WHEN p.state = 'closed' THEN p.realised_pnl - p.profit_share + m.funding END, p.signal_id,
       (SELECT string_agg(DISTINCT c.x_username, ' ' ORDER BY c.x_username)
        FROM signal_posts x JOIN ct_posts t ON t.id = x.ctpost_id JOIN ct_accounts c ON c.id = t.account_id
        WHERE x.signal_id = p.signal_id),
       p.correlation_id
FROM positions p JOIN agent_deployments d ON d.id = p.deployment_id JOIN agents a ON a.id = d.agent_id
LEFT JOIN LATERAL (
    SELECT coalesce(h.leverage, o.leverage) AS leverage, h.liquidation_price,
           round(100 * h.maintenance * q.price / nullif(greatest(
               h.maintenance * h.liquidation_price
               + CASE p.side WHEN 'long' THEN 1 ELSE -1 END * (q.price - h.liquidation_price), 0), 0), 2) AS ratio_pct,
           coalesce((
               SELECT sum(f.amount) FROM funding_payments f
               WHERE f.deployment_id = p.deployment_id AND f.symbol = p.symbol AND f.at >= p.opened_at
                 AND f.at <= coalesce(p.closed_at, 'infinity')), 0) AS funding
    FROM orders o
    LEFT JOIN margin_positions h
        ON p.state <> 'closed' AND h.venue = o.venue AND h.account = o.account AND h.symbol = p.symbol
    LEFT JOIN quotes q ON q.symbol = p.symbol
    WHERE o.id = p.entry_order_id AND o.venue = ANY(%(with_margin)s)
) AS m ON true
WHERE (%(deployments)s::bigint[] IS NULL OR p.deployment_id = ANY(%(deployments)s::bigint[]))
  AND (%(author)s::bigint IS NULL OR EXISTS (
      SELECT FROM signal_posts x JOIN ct_posts t ON t.id = x.ctpost_id
      WHERE x.signal_id = p.signal_id AND t.account_id = %(author)s))
  AND coalesce(p.closed_at, 'infinity') >= coalesce(%(since)s::timestamptz, '-infinity')
  AND p.opened_at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY p.id
"""
TRADE_COLUMNS = (
    "position", "deployment", "agent", "account", "venue", "token", "side", "state", "opened_at_utc", "closed_at_utc",
    "quantity", "entry_price_usd", "exit_price_usd", "exit_reason", "pnl_before_costs_usdc", "fees_usdc",
    "profit_share_usdc", "pnl_usdc", "leverage", "liquidation_price_usd", "margin_ratio_pct", "funding_usdc",
    "pnl_with_funding_usdc", "signal", "followed_accounts", "correlation_id",
)  # fmt: skip
FILLS = """
SELECT o.deployment_id, d.account, a.venue, o.symbol, f.id, f.at, o.side, f.quantity, f.cash,
       f.fee + CASE WHEN f.id = (SELECT min(g.id) FROM fills g WHERE g.order_id = o.id) THEN coalesce((
           SELECT sum(e.amount) FROM ledger_entries e
           WHERE e.order_id = o.id AND e.kind = 'platform_fee' AND e.account = 'fees:platform'), 0) ELSE 0 END,
       coalesce(nullif(c.mined_hash, ''), nullif(o.venue_ref, ''), o.client_order_id, 'order ' || o.id)
FROM fills f JOIN orders o ON o.id = f.order_id
JOIN agent_deployments d ON d.id = o.deployment_id JOIN agents a ON a.id = d.agent_id
LEFT JOIN chain_transactions c ON c.idempotency_key = o.client_order_id
WHERE (%(deployments)s::bigint[] IS NULL OR o.deployment_id = ANY(%(deployments)s::bigint[]))
  AND f.at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY o.deployment_id, o.symbol, f.at, f.id
"""
"""Fills with the fee of the venue; the platform's fee of an order is on its first fill."""
LOT_COLUMNS = (
    "deployment", "account", "venue", "token", "side", "acquired_at_utc", "sold_at_utc", "quantity", "proceeds_usdc",
    "cost_usdc", "fees_usdc", "gain_usdc", "opening_transaction", "closing_transaction",
)  # fmt: skip


def trades_csv(scope: Scope, since: datetime | None = None, until: datetime | None = None) -> Iterator[str]:
    """Yield CSV lines: the head, then each position that was open in [since, until), in the order of opening.

    The columns of margin and funding are empty at venues without margin.
    """
    params: dict[str, Any] = {
        "deployments": scope.deployments,
        "author": scope.author,
        "since": since,
        "until": until,
    }
    params["with_margin"] = [name for name in venues() if has_margin(name)]
    return _lines(TRADE_COLUMNS, _read(TRADES, params))


def lots_csv(scope: Scope, since: datetime | None = None, until: datetime | None = None) -> Iterator[str]:
    """Yield CSV lines: the head, then each FIFO lot that was closed in [since, until), by deployment and token.

    Fees are those of the venue and the platform; the profit share is not in them. All fills from the beginning are
    matched, whatever the span.
    """
    params = {"deployments": scope.deployments, "until": until}
    return _lines(LOT_COLUMNS, _lots(_read(FILLS, params), since))


def _lots(fills: Iterable[Sequence[Any]], since: datetime | None) -> Iterator[Sequence[Any]]:
    for key, rows in groupby(fills, key=lambda row: tuple(row[:4])):
        for lot in closed_lots(LotFill(*row[4:]) for row in rows):
            if since is None or lot.closing.at >= since:
                yield *key, *_lot(lot)


def _lot(lot: ClosedLot) -> tuple[Any, ...]:
    return (
        lot.side, lot.acquired, lot.sold, lot.quantity, lot.proceeds, lot.cost, lot.fees, lot.gain, lot.opening.ref,
        lot.closing.ref,
    )  # fmt: skip


def year(number: int) -> tuple[datetime, datetime]:
    """Return the first moment of a UTC year, and that of the next one."""
    return datetime(number, 1, 1, tzinfo=UTC), datetime(number + 1, 1, 1, tzinfo=UTC)


def _read(sql: str, params: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a statement, fetched in chunks by a cursor on the server."""
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(sql, params)
        while rows := cursor.fetchmany(CHUNK):
            yield from rows


class _Line:
    """A file for csv.writer that returns each line."""

    def write(self, line: str) -> str:
        return line


def _lines(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield str(writer.writerow(head))
    for row in rows:
        yield str(writer.writerow([cell(value) for value in row]))
