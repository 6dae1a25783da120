"""Read models of the market page and its API: quotes by source, feed health, and entries and exits for the chart."""

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
class SourcePrice:
    """The last price of a symbol by one source."""

    source: str
    price: Decimal
    """USD."""
    at: datetime
    age_seconds: float
    confidence: Decimal | None
    """Half-width of the source's confidence interval, USD."""
    off_bps: Decimal
    """Deviation from the quote in basis points; negative below it."""


@dataclass(frozen=True)
class QuoteDetail:
    """The quote of a symbol with the source prices that it was chosen from."""

    symbol: str
    price: Decimal
    """USD."""
    at: datetime
    age_seconds: float
    source: str
    usable: bool
    """Fresh enough to close a position; with `trusted` also to open one."""
    trusted: bool
    doubt: str
    spread_bps: Decimal | None
    """Between the highest and the lowest fresh source price; None with fewer than two."""
    sources: tuple[SourcePrice, ...]


def prices(symbols: list[str] | None = None) -> list[QuoteDetail]:
    """List the quotes (of `symbols`, or all) with their source prices, by symbol."""
    now, oldest = clock.now(), quotes.max_age()
    rows = Quote.objects.order_by("symbol")
    source_rows = SourceQuote.objects.order_by("symbol", "source")
    if symbols is not None:
        rows, source_rows = rows.filter(symbol__in=symbols), source_rows.filter(symbol__in=symbols)
    by_symbol: dict[str, list[SourceQuote]] = defaultdict(list)
    for source in source_rows:
        by_symbol[source.symbol].append(source)
    details = []
    for row in rows:
        fresh = [source.price for source in by_symbol[row.symbol] if now - source.at <= oldest]
        spread = (max(fresh) - min(fresh)) / min(fresh) * BPS if len(fresh) > 1 else None
        sources = tuple(
            SourcePrice(
                source.source,
                source.price,
                source.at,
                _age(now, source.at),
                source.confidence,
                ((source.price / row.price - 1) * BPS).quantize(Decimal("0.01")),
            )
            for source in by_symbol[row.symbol]
        )
        details.append(
            QuoteDetail(
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
    return details


def _age(now: datetime, at: datetime) -> float:
    return round((now - at).total_seconds(), 1)


@dataclass(frozen=True)
class Feed:
    """The health of one configured feed."""

    name: str
    well: bool
    """Its newest price is fresh and its last answer was no error."""
    symbols: int
    """Number of symbols with a price of this feed."""
    newest: datetime | None
    age_seconds: float | None
    """Age of its newest price."""
    error: str
    """Its last error; empty when the last answer was good."""


@dataclass(frozen=True)
class Health:
    """The state of the price stream and of the feeds."""

    leader: str
    """The stream process that holds the lease; empty when none does and Celery beat polls the feeds."""
    ticks: int
    dropped: int
    feeds: tuple[Feed, ...]


def health() -> Health:
    """Read which stream process leads, and the newest price and last error of each feed."""
    now, stream = clock.now(), stream_status.status() or {}
    errors: dict[str, str] = {}
    for source in stream.get("sources", ()):
        errors[source["name"]] = errors.get(source["name"]) or source["error"]
    by_feed: dict[str, dict[str, Any]] = {}
    for row in SourceQuote.objects.values("source", "symbol", "at"):
        known = by_feed.setdefault(row["source"], {"symbols": 0, "at": row["at"]})
        known["symbols"] += 1
        known["at"] = max(known["at"], row["at"])
    feeds = []
    for name in quotes.policy().order:
        newest = by_feed.get(name, {}).get("at")
        well = newest is not None and now - newest <= quotes.max_age() and not errors.get(name)
        age = None if newest is None else _age(now, newest)
        feeds.append(
            Feed(name, well, by_feed.get(name, {}).get("symbols", 0), newest, age, errors.get(name, ""))
        )
    return Health(stream.get("owner", ""), stream.get("ticks", 0), stream.get("dropped", 0), tuple(feeds))


@dataclass(frozen=True)
class Marker:
    """An entry or exit of an agent's position, for the chart."""

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
    """The exit reason, such as `take_profit` or `stop_loss`; empty for an entry."""
    realised_pnl: Decimal | None
    """USDC after fees, before the profit share; None for an entry."""
    net: Decimal | None
    """USDC after fees and profit share; None for an entry."""
    correlation_id: UUID


@dataclass(frozen=True)
class Markers:
    """One page of the entries and exits of a span, in order of time."""

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
    """List entries and exits in `symbol` within [since, until) of positions that `person` may see, in order of time.

    The page is chosen from the indexes on both times; only its rows are read in full.
    """
    rows = visible(Position.objects.all(), person).filter(symbol=symbol)
    if agent is not None:
        rows = rows.filter(deployment__agent_id=agent)
    entries = rows.filter(opened_at__gte=since, opened_at__lt=until)
    exits = rows.filter(state="closed", closed_at__gte=since, closed_at__lt=until)
    steps = sorted(
        (at, pk, what)
        for what, matching, name in (("ENTRY", entries, "opened_at"), ("EXIT", exits, "closed_at"))
        for at, pk in matching.order_by(name, "pk").values_list(name, "pk")[: offset + limit]
    )[offset : offset + limit]
    whole = Position.objects.select_related("deployment__agent").in_bulk([pk for _, pk, _ in steps])
    items = [_marker(whole[pk], what) for _, pk, what in steps]
    return Markers(items, bounded_count(entries) + bounded_count(exits))


def _marker(row: Position, what: str) -> Marker:
    """Make the marker of a position's entry or exit."""
    is_exit = what == "EXIT"
    exit_price = row.exit_price if row.exit_price is not None else row.entry_price
    return Marker(
        position_id=row.pk,
        agent_id=row.deployment.agent_id,
        agent=row.deployment.agent.name,
        what=what,
        side=row.side,
        at=row.closed_at if is_exit and row.closed_at else row.opened_at,
        price=exit_price if is_exit else row.entry_price,
        reason=row.exit_reason if is_exit else "",
        realised_pnl=row.realised_pnl if is_exit else None,
        net=row.net if is_exit else None,
        correlation_id=row.correlation_id,
    )


def agents(person: Person) -> list[Agent]:
    """List the agents whose trades `person` may see."""
    return list(visible(Agent.objects.all(), person).order_by("name"))
