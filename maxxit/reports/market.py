"""What the market page and its API show: prices by source, the feeds' health, refusals, and an agent's trades."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from agents.models import Agent
from maxxit.access.rows import Person, visible
from maxxit.core import clock
from maxxit.core.terms import BPS
from maxxit.market import quotes
from maxxit.market.models import Quote, SourceQuote
from maxxit.market.stream import status as stream_status
from maxxit.paging import bounded_count
from positions.models import Position

INTERVALS = {"1m": timedelta(minutes=1), "5m": timedelta(minutes=5), "1h": timedelta(hours=1)}


@dataclass(frozen=True)
class Said:
    """What one source said last of a symbol."""

    source: str
    price: Decimal
    """USD."""
    at: datetime
    age_seconds: float
    confidence: Decimal | None
    """USD either side."""
    off_bps: Decimal
    """How far from the quote, basis points; below it is negative."""


@dataclass(frozen=True)
class Priced:
    """The quote of a symbol, and what it was chosen from."""

    symbol: str
    price: Decimal
    """USD."""
    at: datetime
    age_seconds: float
    source: str
    usable: bool
    """Fresh enough to close on; with `trusted` also to open on."""
    trusted: bool
    doubt: str
    spread_bps: Decimal | None
    """Between the highest and the lowest fresh source; None with fewer than two."""
    sources: tuple[Said, ...]


def prices(symbols: list[str] | None = None) -> list[Priced]:
    """Every quote that we hold (of `symbols`), with its sources, by symbol."""
    now, oldest = clock.now(), quotes.max_age()
    rows = Quote.objects.order_by("symbol")
    said = SourceQuote.objects.order_by("symbol", "source")
    if symbols is not None:
        rows, said = rows.filter(symbol__in=symbols), said.filter(symbol__in=symbols)
    by_symbol: dict[str, list[SourceQuote]] = defaultdict(list)
    for one in said:
        by_symbol[one.symbol].append(one)
    found = []
    for row in rows:
        fresh = [one.price for one in by_symbol[row.symbol] if now - one.at <= oldest]
        spread = (max(fresh) - min(fresh)) / min(fresh) * BPS if len(fresh) > 1 else None
        sources = tuple(
            Said(
                one.source,
                one.price,
                one.at,
                _age(now, one.at),
                one.confidence,
                ((one.price / row.price - 1) * BPS).quantize(Decimal("0.01")),
            )
            for one in by_symbol[row.symbol]
        )
        found.append(
            Priced(
                symbol=row.symbol,
                price=row.price,
                at=row.at,
                age_seconds=_age(now, row.at),
                source=row.source,
                usable=not quotes.unusable(row.price, row.at, now),
                trusted=row.trusted_for_entries,
                doubt=row.doubt,
                spread_bps=None if spread is None else spread.quantize(Decimal("0.01")),
                sources=sources,
            )
        )
    return found


def _age(now: datetime, at: datetime) -> float:
    return round((now - at).total_seconds(), 1)


@dataclass(frozen=True)
class Feed:
    """How one configured feed is."""

    name: str
    well: bool
    symbols: int
    """That it has given a price of."""
    newest: datetime | None
    age_seconds: float | None
    """Of its newest price."""
    error: str
    """What it said last when it failed."""


@dataclass(frozen=True)
class Health:
    """The stream and the feeds."""

    leader: str
    """The stream process that leads; empty when none does and beat polls instead."""
    ticks: int
    dropped: int
    feeds: tuple[Feed, ...]


def health() -> Health:
    """Who leads, and when each feed was last heard of."""
    now, said = clock.now(), stream_status.status() or {}
    errors: dict[str, str] = {}
    for one in said.get("sources", ()):
        errors[one["name"]] = errors.get(one["name"]) or one["error"]
    heard: dict[str, dict[str, Any]] = {}
    for row in SourceQuote.objects.values("source", "symbol", "at"):
        known = heard.setdefault(row["source"], {"symbols": 0, "at": row["at"]})
        known["symbols"] += 1
        known["at"] = max(known["at"], row["at"])
    feeds = []
    for name in quotes.policy().order:
        newest = heard.get(name, {}).get("at")
        well = newest is not None and now - newest <= quotes.max_age() and not errors.get(name)
        age = None if newest is None else _age(now, newest)
        feeds.append(
            Feed(name, well, heard.get(name, {}).get("symbols", 0), newest, age, errors.get(name, ""))
        )
    return Health(said.get("owner", ""), said.get("ticks", 0), said.get("dropped", 0), tuple(feeds))


@dataclass(frozen=True)
class Marker:
    """An agent's entry or exit, to be drawn into the chart."""

    position_id: int
    agent_id: int
    agent: str
    what: str
    """ENTRY or EXIT."""
    side: str
    """Of the position: long or short."""
    at: datetime
    price: Decimal
    """Average of its fills, USD."""
    reason: str
    """Of an exit: take_profit, stop_loss …"""
    realised_pnl: Decimal | None
    """USDC after fees; of an exit."""
    correlation_id: UUID


@dataclass(frozen=True)
class Markers:
    """A part of the entries and exits of a span, in order of time."""

    items: list[Marker]
    count: int
    """Of the whole span, at most twice COUNTED."""


def markers(
    person: Person,
    symbol: str,
    since: datetime,
    until: datetime,
    *,
    agent: int | None = None,
    limit: int = 500,
    offset: int = 0,
) -> Markers:
    """Entries and exits in `symbol` within [since, until) of positions that `person` may see, in order of time.

    Which rows the part has is read from the indexes on both times; only those rows are read whole.
    """
    rows = visible(Position.objects.all(), person).filter(symbol=symbol)
    if agent is not None:
        rows = rows.filter(deployment__agent_id=agent)
    entries = rows.filter(opened_at__gte=since, opened_at__lt=until)
    exits = rows.filter(state="closed", closed_at__gte=since, closed_at__lt=until)
    steps = sorted(
        (at, pk, what)
        for what, found, name in (("ENTRY", entries, "opened_at"), ("EXIT", exits, "closed_at"))
        for at, pk in found.order_by(name, "pk").values_list(name, "pk")[: offset + limit]
    )[offset : offset + limit]
    whole = Position.objects.select_related("deployment__agent").in_bulk([pk for _, pk, _ in steps])
    items = [_marker(whole[pk], what) for _, pk, what in steps]
    return Markers(items, bounded_count(entries) + bounded_count(exits))


def _marker(row: Position, what: str) -> Marker:
    """The entry or the exit of a position."""
    out = what == "EXIT"
    left_at = row.exit_price if row.exit_price is not None else row.entry_price
    return Marker(
        position_id=row.pk,
        agent_id=row.deployment.agent_id,
        agent=row.deployment.agent.name,
        what=what,
        side=row.side,
        at=row.closed_at if out and row.closed_at else row.opened_at,
        price=left_at if out else row.entry_price,
        reason=row.exit_reason if out else "",
        realised_pnl=row.realised_pnl if out else None,
        correlation_id=row.correlation_id,
    )


def agents(person: Person) -> list[Agent]:
    """Those whose trades `person` may look at."""
    return list(visible(Agent.objects.all(), person).order_by("name"))
