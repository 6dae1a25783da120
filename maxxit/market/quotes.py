"""Accept validated prices as quotes, and read the quotes that are usable for entries and exits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.config import Count, Policy, Seconds, load
from maxxit.core.errors import Misconfigured
from maxxit.events import wake
from maxxit.events.record import record
from maxxit.market import quote_store
from maxxit.market.feeds import FEEDS
from maxxit.market.feeds.base import PriceFeed, Tick
from maxxit.market.models import Quote as QuoteRow
from maxxit.market.validation import CLOCK_SKEW as CLOCK_SKEW
from maxxit.market.validation import Held, Limits, Verdict, fault, judge
from maxxit.postgres import bulk


class StreamPolicy(Policy):
    """Settings of the stream process."""

    poll_seconds: Seconds
    flush_milliseconds: Count
    silence_seconds: Seconds
    keep_ticks: Count
    websockets: dict[str, dict[str, str]]


class _Feeds(Limits):
    order: tuple[str, ...]
    feeds: dict[str, dict[str, Any]]
    stream: StreamPolicy
    keep_minutes_months: Count
    rules_per_user: Count
    rule_deliveries_per_hour: Count
    funding_order: tuple[str, ...] = ()
    funding: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Quote:
    """An accepted price."""

    symbol: str
    price: Decimal
    """USD."""
    at: datetime
    source: str
    trusted: bool = True
    """Whether entries may use it; exits need only a usable price."""


def policy() -> _Feeds:
    """Return the settings of `config/feeds.yaml`."""
    return load("feeds", _Feeds)


def max_age() -> timedelta:
    """Return the maximum age of a quote for entries and exits."""
    return timedelta(seconds=policy().max_age_seconds)


@cache
def open_feeds() -> tuple[PriceFeed, ...]:
    """Return the configured feeds in order of preference. Raises `Misconfigured` for an unknown one."""
    stanzas = policy().feeds
    unknown = [name for name in policy().order if name not in stanzas]
    if unknown:
        raise Misconfigured(f"config/feeds.yaml: `order` names {unknown}, which `feeds` does not describe")
    return tuple(FEEDS.open(**{"name": name, **stanzas[name]}) for name in policy().order)


def unusable(price: Decimal, at: datetime, now: datetime) -> str:
    """Return the reason why a price may not be used, or an empty string."""
    return fault(price, at, now, max_age())


LATEST = "SELECT symbol, price, at, source, trusted_for_entries FROM quotes WHERE symbol = ANY(%s)"


def latest(symbols: Sequence[str], *, closing: bool = False) -> dict[str, Quote]:
    """Return the usable quotes of `symbols`: fresh, positive and trusted. Symbols without one are left out.

    `closing` (for exits and valuation) includes quotes whose sources disagree, because a doubt must not keep a position
    open.
    """
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(LATEST, [list(symbols)])
        found = [Quote(*row) for row in cursor.fetchall()]
    return {
        quote.symbol: quote
        for quote in found
        if not unusable(quote.price, quote.at, now) and (closing or quote.trusted)
    }


def last_known(symbol: str) -> Quote | None:
    """Return the last accepted price, whatever its age; None without a positive, finite one."""
    row = QuoteRow.objects.filter(symbol=symbol).first()
    if row is None or not row.price.is_finite() or row.price <= 0:
        return None
    return Quote(row.symbol, row.price, row.at, row.source, row.trusted_for_entries)


UPSERT = """
INSERT INTO quotes (symbol, price, at, source, trusted_for_entries, doubt)
SELECT s, p, t, o, d = '', d
FROM unnest(%s::text[], %s::numeric[], %s::timestamptz[], %s::text[], %s::text[]) AS new(s, p, t, o, d)
ON CONFLICT (symbol) DO UPDATE SET
    price = CASE WHEN quotes.at < excluded.at THEN excluded.price ELSE quotes.price END,
    source = CASE WHEN quotes.at < excluded.at THEN excluded.source ELSE quotes.source END,
    at = greatest(quotes.at, excluded.at),
    trusted_for_entries = excluded.trusted_for_entries, doubt = excluded.doubt
WHERE quotes.at < excluded.at OR quotes.doubt <> excluded.doubt
RETURNING symbol, at
"""
DOUBT = (
    "UPDATE quotes SET trusted_for_entries = false, doubt = %s WHERE symbol = ANY(%s) AND trusted_for_entries"
)
HELD = "SELECT symbol, price, at, trusted_for_entries FROM quotes WHERE symbol = ANY(%s)"


def accept(ticks: Iterable[Tick]) -> list[str]:
    """Validate `ticks` and store those newer than the current quote; return the symbols whose quote changed."""
    return [tick.symbol for tick in accept_ticks(ticks)]


def accept_ticks(ticks: Iterable[Tick]) -> list[Tick]:
    """Validate `ticks`, store quotes and rejections; return the ticks that became the quote of their symbol."""
    offered: dict[str, dict[str, Tick]] = defaultdict(dict)
    for tick in ticks:
        known = offered[tick.symbol].get(tick.source)
        if known is None or known.at <= tick.at:
            offered[tick.symbol][tick.source] = tick
    if not offered:
        return []
    now, limits = clock.now(), policy()
    held = _held(list(offered))
    others = quote_store.latest_by_source(offered, now - max_age()) if len(limits.order) > 1 else {}
    verdicts = [
        judge(symbol, _ranked(others.get(symbol, {}) | mine, limits.order), held.get(symbol), limits, now)
        for symbol, mine in offered.items()
    ]
    sound = all(verdict.chosen and not verdict.refused and not verdict.doubt for verdict in verdicts)
    alone = sound and not limits.order and all(before.trusted for before in held.values())
    with nullcontext() if alone else transaction.atomic():  # what is written is one statement
        quote_store.store_rejected(verdicts, now)
        if limits.order:
            quote_store.store_latest([tick for by in offered.values() for tick in by.values()], verdicts, now)
        moved = _write(verdicts)
        _record_trust_changes(verdicts, held)
    if moved:
        wake.after_commit("quotes.moved")
    return moved


def _held(symbols: list[str]) -> dict[str, Held]:
    with connection.cursor() as cursor:
        cursor.execute(HELD, [symbols])
        return {symbol: Held(*values) for symbol, *values in cursor}


def _ranked(by_source: Mapping[str, Tick], order: Sequence[str]) -> list[Tick]:
    """Sort by the configured order of sources; a source outside the order comes last."""
    rank = {name: place for place, name in enumerate(order)}
    return sorted(by_source.values(), key=lambda tick: (rank.get(tick.source, len(rank)), tick.source))


def _write(verdicts: Sequence[Verdict]) -> list[Tick]:
    """Store the chosen prices in one statement, and mark symbols without one as doubted; return the changed ticks."""
    chosen = {v.symbol: (v.chosen, v.doubt) for v in verdicts if v.chosen}
    in_order = sorted(chosen)  # concurrent writers lock rows in the same order, to avoid deadlocks
    ticks = [chosen[symbol][0] for symbol in in_order]
    moved: list[Tick] = []
    with connection.cursor() as cursor:
        if ticks:
            columns = zip(
                *((t.symbol, t.price, t.at, t.source, chosen[t.symbol][1]) for t in ticks), strict=True
            )
            cursor.execute(UPSERT, [bulk.array(column) for column in columns])
            stored = dict(cursor.fetchall())
            moved = [tick for tick in ticks if stored.get(tick.symbol) == tick.at]
        for doubt in {v.doubt for v in verdicts if not v.chosen and v.doubt}:
            cursor.execute(DOUBT, [doubt, [v.symbol for v in verdicts if not v.chosen and v.doubt == doubt]])
    return moved


def _record_trust_changes(verdicts: Sequence[Verdict], held: Mapping[str, Held]) -> None:
    """Record an event for each symbol that becomes doubted or trusted again."""
    for verdict in verdicts:
        before = held.get(verdict.symbol)
        if before is None or before.trusted == (not verdict.doubt):
            continue
        row = QuoteRow(symbol=verdict.symbol)
        if verdict.doubt:
            why = [f"{no.source}: {no.reason} {no.value} (limit {no.limit})" for no in verdict.refused]
            record("quote.doubted", row, why=verdict.doubt, refused=why)
        elif verdict.chosen:
            record("quote.trusted", row, source=verdict.chosen.source)
