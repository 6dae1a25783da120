"""Leverage, margin and liquidation price of positions, as their venues reported them last, for people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.money import ZERO, plain
from maxxit.core.terms import SIGN
from maxxit.market import venues
from maxxit.market.models import Quote
from trading.models import Order
from trading.perps import isolated
from trading.perps.models import MarginPosition


@dataclass(frozen=True, slots=True)
class Margin:
    """A position's margin."""

    symbol: str
    leverage: Decimal
    isolated: bool
    margin: Decimal
    """In the venue's cash."""
    liquidation_price: Decimal | None
    """USD; None where the account's money covers every price."""
    maintenance: Decimal | None = None
    """Maintenance margin as a fraction of the value; None where the venue does not say."""


@dataclass(frozen=True, slots=True)
class MarginFacts:
    """What a position has cost in funding, and how it stands at its venue."""

    leverage: Decimal
    """Of its entry."""
    funding: Decimal
    """In the venue's cash; negative: paid."""
    held: Margin | None
    """None for a closed position, and until the venue has been asked."""
    seen_at: datetime | None
    """When the venue said what `held` says."""
    sign: int = 1
    """-1 for a short."""
    entry_price: Decimal = ZERO
    """USD."""
    price: Decimal | None = None
    """USD, the newest quote; None where there is none, and for a closed position."""
    warned_at: datetime | None = None
    """Since when it is near its liquidation; None while it is not (`positions.liquidation_warnings`)."""

    @property
    def liquidation_price(self) -> Decimal | None:
        """USD; None for none, and where it is not known."""
        return self.held.liquidation_price if self.held else None

    @property
    def ratio(self) -> Decimal | None:
        """Maintenance margin / margin left, at the newest quote: a fraction, 1 at the liquidation price."""
        level, fraction = self.liquidation_price, self.held.maintenance if self.held else None
        if level is None or fraction is None or self.price is None:
            return None
        return isolated.margin_ratio(self.sign, self.price, level, fraction)

    @property
    def room(self) -> Decimal | None:
        """What it can still lose before it is liquidated, a fraction of its initial margin, at the newest quote."""
        level = self.liquidation_price
        if level is None or self.price is None or not self.entry_price:
            return None
        return isolated.room(self.sign, self.price, level, self.entry_price, self.leverage)

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API: amounts as text, `margin_ratio` and `room` in percent."""
        held = self.held
        return {
            "leverage": plain(held.leverage if held else self.leverage),
            "isolated": held.isolated if held else None,
            "margin": plain(held.margin) if held else None,
            "liquidation_price": _text(self.liquidation_price),
            "margin_ratio_pct": _percent(self.ratio),
            "room_pct": _percent(self.room),
            "near_liquidation": self.warned_at is not None,
            "funding": plain(self.funding),
            "at": iso_utc(self.seen_at) if self.seen_at else None,
        }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _percent(fraction: Decimal | None) -> str | None:
    return None if fraction is None else plain((fraction * 100).quantize(Decimal("0.01")))


class HeldPosition(Protocol):
    """What is asked of a position."""

    pk: int
    symbol: str
    side: str
    entry_order: Order
    entry_price: Decimal
    opened_at: datetime
    closed_at: datetime | None


@transaction.atomic
def store(venue: str, account: str, positions: Sequence[Margin]) -> None:
    """Store what a venue reports of an account's positions now; those that are gone are deleted."""
    symbols = [one.symbol for one in positions]
    MarginPosition.objects.filter(venue=venue, account=account).exclude(symbol__in=symbols).delete()
    MarginPosition.objects.bulk_create(
        [
            MarginPosition(
                venue=venue, account=account, symbol=one.symbol, leverage=one.leverage, isolated=one.isolated,
                margin=one.margin, liquidation_price=one.liquidation_price, maintenance=one.maintenance,
                seen_at=clock.now(),
            )
            for one in positions
        ],
        update_conflicts=True,
        unique_fields=["venue", "account", "symbol"],
        update_fields=["leverage", "isolated", "margin", "liquidation_price", "maintenance", "seen_at"],
    )  # fmt: skip


def has_margin(venue: str) -> bool:
    """Return whether positions at a venue have margin."""
    stanza = venues.venues().get(venue)
    return stanza is not None and not stanza.is_spot


def any_margin() -> bool:
    """Return whether any configured venue has margin."""
    return any(has_margin(name) for name in venues.venues())


FUNDING = """
SELECT p.id, coalesce(sum(f.amount), 0)
FROM unnest(%(ids)s::bigint[], %(deployments)s::bigint[], %(symbols)s::text[], %(since)s::timestamptz[],
            %(until)s::timestamptz[]) AS p (id, deployment_id, symbol, since, until)
JOIN funding_payments f ON f.deployment_id = p.deployment_id AND f.symbol = p.symbol AND f.at >= p.since
    AND (p.until IS NULL OR f.at <= p.until)
GROUP BY p.id
"""
"""(position, funding) of positions with funding, by the rule of `funding.of_position`."""


def facts_of(positions: Iterable[HeldPosition]) -> dict[int, MarginFacts]:
    """Return position -> its facts, of those at venues with margin; in three statements, and in none without any.

    Their entry orders are read from the rows: select them along.
    """
    rows = [row for row in positions if has_margin(row.entry_order.venue)]
    if not rows:
        return {}
    unclosed = [row for row in rows if row.closed_at is None]
    accounts = {row.entry_order.account for row in unclosed}
    stored = {
        (one.venue, one.account, one.symbol): one
        for one in MarginPosition.objects.filter(account__in=accounts)
    }
    prices = dict(
        Quote.objects.filter(symbol__in={row.symbol for row in unclosed}, price__gt=0).values_list(
            "symbol", "price"
        )
    )
    with connection.cursor() as cursor:
        cursor.execute(
            FUNDING,
            {
                "ids": [row.pk for row in rows],
                "deployments": [row.entry_order.deployment_id for row in rows],
                "symbols": [row.symbol for row in rows],
                "since": [row.opened_at for row in rows],
                "until": [row.closed_at for row in rows],
            },
        )
        paid: dict[int, Decimal] = dict(cursor.fetchall())
    found = {}
    for row in rows:
        entry, is_open = row.entry_order, row.closed_at is None
        one = stored.get((entry.venue, entry.account, row.symbol)) if is_open else None
        found[row.pk] = MarginFacts(
            leverage=entry.leverage,
            funding=paid.get(row.pk, ZERO),
            held=_margin(one) if one else None,
            seen_at=one.seen_at if one else None,
            sign=SIGN[row.side],
            entry_price=row.entry_price,
            price=prices.get(row.symbol) if is_open else None,
            warned_at=one.warned_at if one else None,
        )
    return found


def _margin(row: MarginPosition) -> Margin:
    return Margin(row.symbol, row.leverage, row.isolated, row.margin, row.liquidation_price, row.maintenance)
