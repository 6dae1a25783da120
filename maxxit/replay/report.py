"""Reports of a replay: the summary as a dictionary and as tables, and the event log in canonical form."""

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, QuerySet, Sum
from rich.table import Table

from maxxit.core.money import ZERO, plain, usdc
from maxxit.core.terminal import Console
from maxxit.events.models import Event
from maxxit.llm import trace
from maxxit.replay.run import Recorded
from positions.models import Position
from positions.performance import parts, points, returns
from positions.performance.equity import total_unrealised
from positions.performance.identity import read_identity
from signals_app.models import CtPost, Signal
from trading import ledger
from trading.models import LedgerEntry, Order
from trading.reconcile import drifts


def _counts(rows: QuerySet[Any], field: str) -> dict[str, int]:
    return {value: count for value, count in rows.order_by(field).values_list(field).annotate(Count("pk"))}


def _sum(rows: QuerySet[Any], field: str) -> Decimal:
    return rows.aggregate(total=Sum(field))["total"] or ZERO


PAIRS = """
SELECT count(*),
       count(*) FILTER (WHERE o.filled_quantity > 0),
       count(*) FILTER (WHERE o.filled_quantity = 0 AND o.state IN ('blocked', 'rejected', 'canceled')
                              OR o.id IS NULL AND s.state = 'skipped'),
       count(*) FILTER (WHERE o.filled_quantity = 0 AND o.state = 'expired' OR o.id IS NULL AND s.state = 'expired')
FROM signals s
JOIN agent_deployments d ON d.agent_id = s.agent_id AND d.state = 'active'
LEFT JOIN orders o ON o.signal_id = s.id AND o.deployment_id = d.id AND o.purpose = 'open'
"""


def pairs() -> dict[str, int]:
    """Count the pairs of signal and deployment by result; the four counts sum to signals × deployments."""
    with connection.cursor() as cursor:
        cursor.execute(PAIRS)
        total, opened, blocked, expired = cursor.fetchone()
    return {
        "total": total,
        "opened": opened,
        "blocked": blocked,
        "expired": expired,
        "pending": total - opened - blocked - expired,
    }


SPLIT = """
SELECT {what} AS part, count(DISTINCT s.id), count(DISTINCT o.id), count(DISTINCT p.id)
FROM signals s
JOIN agents a ON a.id = s.agent_id
LEFT JOIN orders o ON o.signal_id = s.id AND o.purpose = 'open'
LEFT JOIN positions p ON p.entry_order_id = o.id
GROUP BY 1 ORDER BY 1
"""
WITH_POSTS = (
    "CASE WHEN EXISTS (SELECT FROM signal_posts x WHERE x.signal_id = s.id) THEN 'with' ELSE 'without' END"
)


def _split(what: str, dimension: parts.Dimension) -> dict[str, dict[str, Any]]:
    results = {part.label: part for part in parts.attribution(dimension)}
    with connection.cursor() as cursor:
        cursor.execute(SPLIT.format(what=what))
        counts = cursor.fetchall()
    return {
        label: {
            "signals": signals, "entries": entries, "positions": positions,
            "closed": int(results[label].closed) if label in results else 0,
            "realised_pnl": plain(results[label].realised if label in results else ZERO),
        }
        for label, signals, entries, positions in counts
    }  # fmt: skip


def by_agent() -> dict[str, dict[str, Any]]:
    """Count signals, entries and positions, and sum the realised PnL (USDC), by agent."""
    return _split("a.name", "agent")


def by_posts() -> dict[str, dict[str, Any]]:
    """Return the same figures for signals with and without posts."""
    return _split(WITH_POSTS, "posts")


def summary(recorded: Recorded, events_sha256: str) -> dict[str, Any]:
    """Return the figures of the run; amounts are USDC as decimal strings, rates are fractions."""
    closed = Position.objects.filter(state="closed")
    win_rate = parts.total().win_rate or ZERO
    fees = LedgerEntry.objects.filter(kind__in=("venue_fee", "platform_fee"), amount__gt=0)
    shares = LedgerEntry.objects.filter(kind="profit_share", amount__gt=0)
    books = read_identity()
    curve = returns.curve_of(points.read_points())
    return {
        "posts": CtPost.objects.count(),
        "outcomes": _counts(CtPost.objects.all(), "outcome"),
        "signals": Signal.objects.count(),
        "orders": Order.objects.count(),
        "blocked": _counts(Order.objects.filter(state="blocked"), "reason"),
        "positions_closed": _counts(closed, "exit_reason"),
        "positions_open": Position.objects.exclude(state="closed").count(),
        "pairs": pairs(),
        "fees": plain(_sum(fees, "amount")),
        "profit_share": plain(_sum(shares, "amount")),
        "realised_pnl": plain(_sum(Position.objects.all(), "realised_pnl")),
        "unrealised_pnl": plain(usdc(total_unrealised())),
        "max_drawdown": plain(usdc(Decimal(returns.max_drawdown_units(curve)).scaleb(-6))),
        "max_drawdown_pct": f"{fall.percent:.4f}" if (fall := returns.max_drawdown(curve)) else None,
        "twr": None if (twr := returns.twr(curve)) is None else f"{twr:.6f}",
        "win_rate": plain(win_rate.quantize(Decimal("0.0001")) if win_rate else ZERO),
        "ledger_drift": {asset: plain(amount) for asset, amount in (ledger.drift() | drifts()).items()},
        "books": books.total.as_json(),
        "books_differ": [row.as_json() for row in books.wrong],
        "by_agent": by_agent(),
        "by_posts": by_posts(),
        "inputs": recorded.inputs.as_json() if recorded.inputs else {},
        "events": _events().count(),
        "events_sha256": events_sha256,
    }


def _events() -> "QuerySet[Event]":
    """Every event but those of calls that left: whether a model answers or a recording of it changes no byte."""
    return Event.objects.exclude(name__in=(trace.CALLED, trace.ANSWERED))


def event_lines() -> Iterator[bytes]:
    """Yield every event in order as a canonical JSON line, so that the same run gives the same bytes."""
    posts: dict[UUID | None, str] = dict(CtPost.objects.values_list("correlation_id", "post_id"))
    rows = _events().order_by("pk").values_list("at", "name", "subject", "correlation_id", "data")
    for number, (at, name, subject, corr, data) in enumerate(rows.iterator(chunk_size=5000), start=1):
        line = {
            "seq": number,
            "at": at.isoformat(),
            "name": name,
            "subject": subject,
            "correlation_id": str(corr) if corr else None,
            "post": posts.get(corr),
            "data": data,
        }
        yield json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def write_events(path: Path | None) -> str:
    """Write the events to `path`, if given; returns the SHA-256 of the bytes."""
    digest = hashlib.sha256()
    out = path.open("wb") if path else None
    try:
        for line in event_lines():
            digest.update(line)
            if out:
                out.write(line)
    finally:
        if out:
            out.close()
    return digest.hexdigest()


def show(figures: dict[str, Any], recorded: Recorded, console: Console) -> None:
    """Print the figures as tables, and the time spent in each stage."""
    for title in ("outcomes", "blocked", "positions_closed", "pairs"):
        table = Table(
            "reason" if title != "pairs" else "signals × deployments", "count", title=title.replace("_", " ")
        )
        table.columns[1].justify = "right"
        for reason, count in figures[title].items():
            table.add_row(reason, f"{count:,}")
        console.print(table)
    for title in ("by_agent", "by_posts"):
        table = Table(
            title.partition("_")[2],
            "signals",
            "entries",
            "closed",
            "realised PnL",
            title=title.replace("_", " "),
        )
        for name, row in figures[title].items():
            pnl = f"{Decimal(row['realised_pnl']):,.2f}"
            table.add_row(name, *(f"{row[key]:,}" for key in ("signals", "entries", "closed")), pnl)
        console.print(table)
    for reason, count in figures["inputs"].get("refused", {}).items():
        console.print(f"refused {count:,} {'line' if count == 1 else 'lines'}: {reason}")
    for place in figures["inputs"].get("refused_at", []):
        console.print(f"    {place}")
    for warning in figures["inputs"].get("warnings", []):
        console.print(f"warning: {warning}", style="yellow")
    money = Table("figure", "USDC", title="money")
    money.columns[1].justify = "right"
    for name in ("fees", "profit_share", "realised_pnl", "unrealised_pnl", "max_drawdown"):
        money.add_row(name.replace("_", " "), f"{Decimal(figures[name]):,.2f}")
    console.print(money)
    console.print(
        f"posts {figures['posts']:,} · signals {figures['signals']:,} · orders {figures['orders']:,} · "
        f"closed {sum(figures['positions_closed'].values()):,} · open {figures['positions_open']:,} · "
        f"win rate {Decimal(figures['win_rate']):.1%} · ledger drift {figures['ledger_drift'] or 'none'} · "
        f"positions and ledger {'differ: ' + str(figures['books_differ']) if figures['books_differ'] else 'agree'}"
    )
    spent = sorted(recorded.seconds.items(), key=lambda item: -item[1])
    console.print("seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent))
    console.print(f"events {figures['events']:,} sha256 {figures['events_sha256']}")
