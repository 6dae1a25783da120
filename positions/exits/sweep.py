"""Close every open position whose exit is due: two SQL statements, whatever the number of open positions.

This SQL is the rule: no Python code decides an exit. A property test holds it to the oracle in
`tests/positions/exits/oracle.py`: `tests/positions/exits/test_levels.py`,
`test_the_sweep_decides_for_every_position_what_the_rules_say`.

`SEARCH` raises trailing stops (`RAISE`) and finds positions by index from the quotes (`HITS`): at or below
`exit_below`, at or above `exit_above`, so that the cost follows the number of hits and not of positions. Both see the
same quotes; a stop that is raised now is not reached by the price that raises it. `CLAIM` moves the hits open ->
closing (of two workers only one gets a row) and writes their closing orders and events.

The plans are kept (ADR 31), so each search is a range with two ends, of which one rules nothing out: Postgres takes it
for 0.5 % of an index and reads it in its order. A range with one end it takes for a third, and reads the index of
another column, or row versions that have ended (a bitmap scan does not mark those as dead).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import structlog
from django.db import connection, transaction
from psycopg.types.json import Jsonb

from maxxit.core import clock
from maxxit.events import wake
from maxxit.market import quotes
from trading import closing, gate, quarantine

log = structlog.get_logger(__name__)

FRESH = "q.price > 0 AND q.price <> 'NaN' AND q.at > %(oldest)s AND q.at <= %(newest)s"

MOVED = "(%(seen)s::xid IS NULL OR age(q.xmin) <= age(%(seen)s::xid))"
"""The quote was written by a transaction that is not older than `seen`; every quote where that is null."""

NOT_PAUSED = "NOT EXISTS (SELECT FROM exit_pauses WHERE resumed_at IS NULL)"

GATE_REOPENED = """coalesce((
    SELECT EXISTS (SELECT FROM execution_gates g WHERE g.venue = x.venue AND g.changed_at > x.updated_at)
        OR EXISTS (
            SELECT FROM execution_approvals a WHERE a.scope IN (x.venue, '*') AND a.approved_at > x.updated_at
        )
    FROM orders x WHERE x.id = exit_order_id
    ), false)
"""
"""The gate of the position's venue was opened or approved after its last closing order was refused.

A scalar subquery, because an EXISTS on orders would be planned as a hash over all orders.
"""
RETRY_DUE = f"(exit_retry_at IS NULL OR exit_retry_at <= %(now)s OR {GATE_REOPENED})"
"""A position whose exit was refused waits until `exit_retry_at`, or until its gate is opened."""

ROUNDING_MARGIN = "1.000000001"
"""Widens the index condition, because `trailing_next` is rounded; the exact comparison follows in the WHERE clause."""

RAISE = f"""
UPDATE positions p SET trailing_stop = q.price * {{distance}}
FROM quotes q
WHERE p.state = 'open' AND p.trailing_pct IS NOT NULL AND p.symbol = q.symbol AND p.side = '{{side}}'
  AND p.trailing_next BETWEEN {{reached}} AND p.trailing_activation {{active}} q.price AND {FRESH} AND {MOVED}
  AND (p.trailing_stop IS NULL OR q.price * {{distance}} {{better}} p.trailing_stop)
"""  # noqa: S608 (constants only)
"""Raise the trailing stops of one side. `positions` is in it once: joined to itself it has plans that compare each
position with each, which a planner takes while it thinks that there are few."""
LONGS = RAISE.format(
    side="long",
    distance="(1 - p.trailing_pct / 100)",
    reached=f"'-Infinity' AND q.price * {ROUNDING_MARGIN}",
    active="<=",
    better=">",
)
SHORTS = RAISE.format(
    side="short",
    distance="(1 + p.trailing_pct / 100)",
    reached=f"q.price / {ROUNDING_MARGIN} AND 'NaN'",
    active=">=",
    better="<",
)
HITS = f"""
SELECT DISTINCT ON (id) id, why FROM (
    SELECT p.id, p.exit_retry_at, p.exit_order_id, CASE
               WHEN p.sign * (q.price - p.take_profit) >= 0 THEN 'take_profit'
               WHEN p.sign * (q.price - p.stop_loss) <= 0 THEN 'stop_loss'
               ELSE 'trailing_stop'
           END AS why, 1 AS rank
    FROM quotes q
    CROSS JOIN LATERAL (
        SELECT id, exit_retry_at, exit_order_id, take_profit, stop_loss,
               CASE side WHEN 'long' THEN 1 ELSE -1 END AS sign
        FROM positions
        WHERE state = 'open' AND symbol = q.symbol AND exit_below BETWEEN q.price AND 'NaN'
        UNION ALL
        SELECT id, exit_retry_at, exit_order_id, take_profit, stop_loss, CASE side WHEN 'long' THEN 1 ELSE -1 END
        FROM positions
        WHERE state = 'open' AND symbol = q.symbol AND exit_above BETWEEN '-Infinity' AND q.price
    ) AS p
    WHERE {FRESH} AND {MOVED} AND {NOT_PAUSED}
    UNION ALL
    SELECT p.id, p.exit_retry_at, p.exit_order_id, 'time_exit', 2
    FROM (
        SELECT id, symbol, exit_retry_at, exit_order_id FROM positions
        WHERE state = 'open' AND time_exit_at BETWEEN '-infinity' AND %(now)s
        OFFSET 0
    ) AS p
    JOIN quotes q USING (symbol)
    WHERE {FRESH} AND {NOT_PAUSED}
    UNION ALL
    SELECT p.id, p.exit_retry_at, p.exit_order_id, 'kill_switch', 3
    FROM kill_switches k
    CROSS JOIN LATERAL (
        SELECT o.id, o.exit_retry_at, o.exit_order_id FROM positions o
        WHERE o.state = 'open' AND (k.account = '' OR EXISTS (
            SELECT FROM agent_deployments d WHERE d.id = o.deployment_id AND d.account = k.account
        ))
    ) AS p
    WHERE k.released_at IS NULL AND k.level = 'flatten'
) AS found
WHERE {RETRY_DUE} AND EXISTS ({gate.OPEN_VENUES})
ORDER BY id, rank
"""  # noqa: S608 (constants only)
"""OFFSET 0: positions whose time is up are found first, by the index on it; joined to each quote they would be looked
for among all positions of its symbol."""

SEARCH = f"""
WITH longs AS ({LONGS}), shorts AS ({SHORTS})
SELECT NULL AS id, pg_snapshot_xmin(pg_current_snapshot())::xid::text AS why
UNION ALL
SELECT id, why FROM ({HITS}) AS hits
"""  # noqa: S608 (constants only)
"""The hits. A row without an id tells the oldest transaction whose quotes this statement may not have seen.

It stays below the 4,096 characters up to which psycopg keeps a statement's parameters parsed: beyond, each call pays
0.1 ms."""

CLAIM = f"""
WITH hits AS MATERIALIZED (
    SELECT ids, reasons, ARRAY(
        SELECT nextval((SELECT pg_get_serial_sequence('orders', 'id')::regclass)) FROM unnest(ids)
    ) AS order_ids
    FROM (SELECT %(ids)s::bigint[] AS ids, %(reasons)s::jsonb AS reasons) AS given
), claimed AS (
    UPDATE positions p
    SET state = 'closing', exit_reason = (SELECT reasons FROM hits) ->> p.id::text, exits = p.exits + 1,
        exit_refusals = CASE WHEN %(at_once)s THEN 0 ELSE p.exit_refusals END,
        exit_order_id = (SELECT order_ids FROM hits)[width_bucket(p.id, (SELECT ids FROM hits))],
        take_profit = p.take_profit
    WHERE p.id = ANY((SELECT ids FROM hits)::bigint[]) AND p.state = 'open'
      AND (SELECT e.venue FROM orders e WHERE e.id = p.entry_order_id) = ANY(ARRAY({gate.OPEN_VENUES}))
      AND (%(at_once)s OR {RETRY_DUE})
    RETURNING p.id, p.entry_order_id, p.exit_order_id, p.exits, p.exit_reason, p.deployment_id, p.signal_id, p.symbol,
              p.side, p.quantity - p.closed_quantity AS quantity, p.correlation_id
), planned AS (
    INSERT INTO orders (id, deployment_id, signal_id, idempotency_key, purpose, symbol, venue, account, position_side,
                        side, leverage, quantity, exit_reason, closes_id, correlation_id, created_at, updated_at)
    SELECT exit_order_id, deployment_id, signal_id, 'close:' || id || ':' || exits, 'close', symbol, venue, account,
           side, CASE side WHEN 'long' THEN 'sell' ELSE 'buy' END, leverage, quantity,
           exit_reason, entry_order_id, correlation_id, %(now)s, %(now)s
    FROM claimed
    CROSS JOIN LATERAL (SELECT venue, account, leverage FROM orders e WHERE e.id = entry_order_id OFFSET 0) AS entry
)
INSERT INTO events (at, name, subject, correlation_id, data)
SELECT %(now)s, name, subject, correlation_id, data FROM (
    SELECT id, 1 AS step, 'position.closing' AS name, 'positions.position/' || id AS subject, correlation_id,
           jsonb_build_object('old', 'open', 'why', exit_reason) AS data
    FROM claimed
    UNION ALL
    SELECT id, 2, 'order.planned', 'trading.order/' || exit_order_id, correlation_id,
           jsonb_build_object('closes', 'positions.position/' || id)
    FROM claimed
) AS recorded
ORDER BY id, step
"""  # noqa: S608 (constants only)
"""`ids` ascend: `width_bucket` gives the place of a position's id among them, which is that of its order's. Nothing is
joined that a kept plan could compare each with each: positions and entries are looked up by their keys. The lists are
scalar subqueries, because the row of a FROM would be copied, lists and all, for each position.

`take_profit = p.take_profit` changes nothing. It saves a fifth of the claim: where an UPDATE sets no column that a
generated column is made of, Postgres 17 and 18 read the expressions of all generated columns anew for each row
(`ExecInitGenerated`)."""


Hit = tuple[int, str]
"""(position id, exit reason)."""


def sweep() -> int:
    """Claim every position whose exit is due and write its closing order; return how many were claimed.

    Stops, targets and time exits need a fresh quote; a flatten does not. Positions at a venue whose gate is closed stay
    open, because their closing order could not be sent.
    """
    claimed = _claim_each(find_hits().hits)
    if claimed:  # no pass of exits is under way here that would place them
        wake.after_commit("position.closing")
    return claimed


@dataclass
class Searched:
    """What one process has searched: all quotes that transactions before `seen` (an xid) have written."""

    seen: str | None = None


class Sweep:
    """A sweep in batches: each call claims the next exits that are due, so that the first leave while others wait.

    The symbols whose quotes have moved since the last sweep of this process, which is what a tick has changed, are
    searched first, and all symbols once the hits of these are claimed.
    """

    KEEP = timedelta(seconds=2)
    """How long the hits of one search are used."""

    def __init__(self, batch: int, searched: Searched | None = None) -> None:
        """Make the sweep of one pass.

        Args:
            batch: positions claimed in one transaction at most.
            searched: what the process has searched before; None: nothing.
        """
        self._batch, self._searched = batch, searched or Searched()
        self._since = self._searched.seen
        self._left_out = True
        self._hits: list[Hit] = []
        self._found_at = clock.now()

    def __call__(self) -> closing.Claimed:
        """Claim up to a batch of positions whose exit is due; return how many, and whether others may be due.

        Nothing is claimed only where none of the exits that are due can be.
        """
        if not self._hits or clock.now() - self._found_at > self.KEEP:
            self._search()
        while True:
            if not self._hits and self._left_out:
                self._search()
            due, self._hits = self._hits[: self._batch], self._hits[self._batch :]
            claimed = _claim_each(due)
            more = self._left_out or bool(self._hits)
            if claimed or not more:
                return closing.Claimed(claimed, more)

    def _search(self) -> None:
        """Search the symbols that have moved, or all; the first is done once."""
        since, self._since = self._since, None
        found, self._found_at = find_hits(since), clock.now()
        self._hits, self._left_out = found.hits, since is not None
        if since is None:
            self._searched.seen = found.seen


class Found(NamedTuple):
    """What a search found."""

    hits: list[Hit]
    seen: str
    """The oldest transaction (xid) whose quotes it may not have seen."""


def find_hits(since: str | None = None) -> Found:
    """Raise trailing stops and return the positions whose exit is due.

    `since`: with it only quotes count that this transaction (`Found.seen` of an earlier search) or a later one wrote;
    time exits and the kill switch count as ever.
    """
    now = clock.now()
    params = gate.query_params() | {"oldest": now - quotes.max_age(), "newest": now + quotes.CLOCK_SKEW}
    with connection.cursor() as cursor:
        cursor.execute(SEARCH, params | {"seen": since})
        rows: list[tuple[int | None, str]] = cursor.fetchall()
    hits = [(pk, why) for pk, why in rows if pk is not None]
    [seen] = [why for pk, why in rows if pk is None]
    return Found(hits, seen)


def _claim_each(hits: Sequence[Hit]) -> int:
    """Claim hits in one statement; where one of them makes it fail, the others are claimed without it."""

    def failed(hit: Hit, error: Exception) -> None:
        log.error("exit_not_claimed", position=hit[0], reason=hit[1], error=str(error))

    return sum(quarantine.by_halves(hits, lambda part: [_claim(part)], failed))


@transaction.atomic
def close(ids: Sequence[int], reason: str = "manual") -> int:
    """Claim these positions if they are open, without waiting for a retry delay; return how many were claimed.

    `reason`: the exit reason of their closing orders.
    """
    return _claim([(pk, reason) for pk in ids], at_once=True)


def _claim(hits: Sequence[Hit], *, at_once: bool = False) -> int:
    """Claim (position id, exit reason) pairs and write their closing orders; return how many were claimed.

    Only open positions are claimed, and without `at_once` only those past their retry delay.
    """
    reasons = dict(hits)
    params = {"ids": sorted(reasons), "reasons": Jsonb(reasons), "at_once": at_once}
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, gate.query_params() | params)
        claimed: int = cursor.rowcount // 2  # the rows are events, two per position
    if claimed and at_once:  # a sweep is followed by the placing of its orders, in the same pass
        wake.after_commit("position.closing")
    return claimed
