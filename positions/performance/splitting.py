"""SQL that splits closed positions into parts: one row per position, dimension and key, with what it adds to each sum.

The roll-up and the live reads use the same statement, so that stored and live parts add up. `maxxit.core.money.split`
is the same division of a trade among authors in Python.
"""

from collections.abc import Iterable

MEASURES = (
    "closed", "winners", "trades", "won", "lost", "venue_fees", "platform_fees", "profit_share", "gas_usd",
    "slippage_usd", "turnover_usd", "held_seconds",
)  # fmt: skip
"""The sums of a part (`positions.models.PnlPart` says what each is)."""
WEIGHTED = [measure for measure in MEASURES if measure != "trades"]
"""What of a position is divided among the authors behind its signal."""
KEYS = {
    "total": "''",
    "day": "f.day::text",
    "token": "f.symbol",
    "side": "f.side",
    "exit_reason": "f.exit_reason",
    "hour": "to_char(f.opened_at AT TIME ZONE 'UTC', 'HH24')",
    "venue": "f.venue",
    "posts": "CASE WHEN EXISTS (SELECT FROM signal_posts x WHERE x.signal_id = f.signal_id) THEN 'with' "
    "ELSE 'without' END",
    "deployment": "f.deployment_id::text",
    "agent": "f.agent_id::text",
}
"""Dimension -> the key of a position, which is in one part of it. `author` is the only other dimension."""
CHOSEN = """
    SELECT p.id, p.deployment_id, p.signal_id, p.entry_order_id, p.symbol, p.side, p.exit_reason, p.opened_at,
           p.closed_at, p.fees, p.profit_share, p.realised_pnl - p.profit_share AS net
    FROM positions p WHERE p.state = 'closed' AND {condition}
"""
FACTS = """
chosen AS MATERIALIZED ({chosen}),
traded AS (
    SELECT c.id, o.id AS order_id, o.side, o.filled_quantity, o.average_price, o.reference_price
    FROM chosen c JOIN orders o ON o.id = c.entry_order_id
    UNION ALL
    SELECT c.id, o.id, o.side, o.filled_quantity, o.average_price, o.reference_price
    FROM chosen c JOIN orders o ON o.closes_id = c.entry_order_id
),
executed AS (
    SELECT id, round(sum(filled_quantity * average_price), 6) AS turnover,
           round(sum(CASE side WHEN 'buy' THEN 1 ELSE -1 END * filled_quantity
                     * (average_price - reference_price)), 6) AS slippage
    FROM traded GROUP BY id
),
costs AS (
    SELECT t.id, sum(l.amount) FILTER (WHERE l.kind = 'platform_fee') AS platform_fees,
           round(sum(l.amount * (
               SELECT coalesce(
                   (SELECT k.close FROM candles k WHERE k.symbol = l.asset AND k.open_time <= l.at
                    ORDER BY k.open_time DESC LIMIT 1),
                   (SELECT q.price FROM quotes q WHERE q.symbol = l.asset)))
           ) FILTER (WHERE l.kind = 'gas'), 6) AS gas
    FROM traded t JOIN ledger_entries l ON l.order_id = t.order_id
    WHERE l.kind IN ('platform_fee', 'gas') AND l.amount > 0
    GROUP BY t.id
),
facts AS (
    SELECT c.*, (c.closed_at AT TIME ZONE 'UTC')::date AS day, d.agent_id, a.venue, 1 AS closed,
           (c.net > 0)::int AS winners, 1 AS trades, greatest(c.net, 0) AS won,
           least(c.net, 0) AS lost, c.fees - coalesce(k.platform_fees, 0) AS venue_fees,
           coalesce(k.platform_fees, 0) AS platform_fees, coalesce(k.gas, 0) AS gas_usd,
           coalesce(o.slippage, 0) AS slippage_usd, coalesce(o.turnover, 0) AS turnover_usd,
           round(extract(epoch FROM c.closed_at - c.opened_at)) AS held_seconds
    FROM chosen c JOIN executed o ON o.id = c.id LEFT JOIN costs k ON k.id = c.id
    JOIN agent_deployments d ON d.id = c.deployment_id JOIN agents a ON a.id = d.agent_id
)"""
"""One row per position. Gas is valued at the bar of its time, or at the newest quote where there is no bar."""
AUTHORS = """
calls AS (
    SELECT x.signal_id, t.account_id,
           coalesce((s.risk_model -> 'posts' ->> x.ctpost_id::text)::numeric, 0) AS weight
    FROM signals s JOIN signal_posts x ON x.signal_id = s.id JOIN ct_posts t ON t.id = x.ctpost_id
    WHERE s.id IN (SELECT c.signal_id FROM chosen c)
),
weights AS (
    SELECT signal_id, account_id, sum(CASE WHEN total > 0 THEN weight ELSE 1 END) AS weight
    FROM (SELECT *, sum(weight) OVER (PARTITION BY signal_id) AS total FROM calls) AS call
    GROUP BY signal_id, account_id
),
cumulated AS (
    SELECT signal_id, account_id,
           round(sum(weight) OVER (PARTITION BY signal_id ORDER BY account_id)::numeric(60, 30)
                 / sum(weight) OVER (PARTITION BY signal_id), 18) AS upto
    FROM weights
),
authors AS (
    SELECT signal_id, account_id::text AS key, upto,
           lag(upto, 1, 0::numeric) OVER (PARTITION BY signal_id ORDER BY account_id) AS after
    FROM cumulated
)"""
"""The share of each author in a signal, from `after` to `upto`, fractions; posts without weights share equally."""


def split_into_parts(chosen: str, dimensions: Iterable[str]) -> str:
    """Return the CTEs `chosen` to `split`; the last has (deployment_id, day, dimension, key, *MEASURES).

    `chosen` is one or more `CHOSEN` with their conditions, joined by UNION ALL.
    """
    wanted = list(dimensions)
    ctes = [FACTS.format(chosen=chosen)]
    rows = []
    if plain := [name for name in wanted if name != "author"]:
        keys = ", ".join(f"('{name}', {KEYS[name]})" for name in plain)
        rows.append(
            f"SELECT f.deployment_id, f.day, k.dimension, k.key, {', '.join(f'f.{name}' for name in MEASURES)} "  # noqa: S608
            f"FROM facts f CROSS JOIN LATERAL (VALUES {keys}) AS k (dimension, key)"
        )
    if "author" in wanted:
        ctes.append(AUTHORS)
        columns = [_of_author(name) if name in WEIGHTED else f"f.{name}" for name in MEASURES]
        rows.append(
            f"SELECT f.deployment_id, f.day, 'author', coalesce(a.key, ''), {', '.join(columns)} "  # noqa: S608
            "FROM facts f LEFT JOIN authors a ON a.signal_id = f.signal_id"
        )
    return ",".join(
        [
            *ctes,
            f"\nsplit (deployment_id, day, dimension, key, {', '.join(MEASURES)}) AS ({' UNION ALL '.join(rows)})",
        ]
    )


def _of_author(measure: str) -> str:
    """Return what a measure cumulates to up to this author less what it did after the one before."""
    upto, after = (
        f"CASE coalesce(a.{edge}, {whole}) WHEN 1 THEN f.{measure} ELSE round(f.{measure} * a.{edge}, 6) END"
        for edge, whole in (("upto", 1), ("after", 0))
    )
    return f"{upto} - CASE WHEN a.after IS NULL THEN 0 ELSE {after} END"


SUMS = ", ".join(f"sum({name}) AS {name}" for name in MEASURES)
