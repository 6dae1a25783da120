"""What venues hold for accounts, as last read: value, PnL, and how each difference from the ledger is explained."""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Exists, OuterRef

from agents.models import Deployment
from maxxit.core.clock import iso_utc
from maxxit.core.money import CASH, ZERO, plain, usdc
from maxxit.market.models import Quote
from maxxit.reports.scope import Scope
from positions.margins import attach
from positions.models import Position
from positions.performance.equity import with_unrealised
from positions.states import PositionState
from trading.models import VenueHolding
from trading.perps.margin import MarginFacts
from trading.reconciliation.holdings import MEANINGS

Origin = VenueHolding.Origin


@dataclass(frozen=True, slots=True)
class Holding:
    """One asset of one account. Amounts in whole units, USD at the newest quotes."""

    venue: str
    account: str
    asset: str
    quantity: Decimal
    booked: Decimal
    unexplained: Decimal
    origin: str
    since: datetime
    seen_at: datetime
    price: Decimal | None
    """USD; one for cash, None without a quote."""
    positions: list[int]
    """Open positions in it, of the deployments that were asked for."""
    unrealised: Decimal | None
    """Of these positions, before fees; None where there is none."""
    margins: list[MarginFacts] = field(default_factory=list)
    """Of these positions, at a venue with margin."""

    @property
    def value(self) -> Decimal | None:
        """Return its value in USD; None without a quote."""
        return None if self.price is None else self.quantity * self.price

    @property
    def means(self) -> str:
        """Return how the ledger explains it, in words, with our positions where they are missing."""
        text = MEANINGS[self.origin].text
        if self.origin != Origin.ORPHANED or not self.positions:
            return text
        return f"{text}; held by position {', '.join(map(str, self.positions))}"

    @property
    def fix(self) -> str:
        """Return the fix proposed to operators; empty where there is nothing to do."""
        return MEANINGS[self.origin].fix

    @property
    def is_discovered(self) -> bool:
        """Return whether part of it was opened elsewhere."""
        return self.origin == Origin.AUTO_DISCOVERED

    def as_json(self, *, for_staff: bool = True) -> dict[str, Any]:
        """Return it for JSON; amounts as text, the fix for operators or for the account's owner."""
        fix = self.fix if for_staff else MEANINGS[self.origin].owners_fix
        amounts = {name: plain(getattr(self, name)) for name in ("quantity", "booked", "unexplained")}
        return {
            "venue": self.venue, "account": self.account, "asset": self.asset, **amounts, "origin": self.origin,
            "means": self.means, "fix": fix, "since": iso_utc(self.since), "seen_at": iso_utc(self.seen_at),
            "price_usd": None if self.price is None else plain(self.price),
            "value_usd": None if self.value is None else plain(usdc(self.value)),
            "positions": self.positions,
            "unrealised_usd": None if self.unrealised is None else plain(usdc(self.unrealised)),
            "margin": [one.as_json() for one in self.margins],
        }  # fmt: skip


def holdings(scope: Scope, *, unexplained: bool = False, most: int = 500) -> list[Holding]:
    """Return what the venues hold for these deployments' accounts, in a constant number of statements.

    What is gone is left out.

    Args:
        unexplained: only what differs from the ledger.
        most: rows at most, in the order of venue, account and asset.
    """
    rows = VenueHolding.objects.exclude(quantity=0, booked=0)
    if scope.deployments is not None:
        own = Deployment.objects.filter(
            pk__in=scope.deployments, account=OuterRef("account"), agent__venue=OuterRef("venue")
        )
        rows = rows.filter(Exists(own))
    if unexplained:
        rows = rows.exclude(origin=Origin.BOOKED)
    found = list(rows.order_by("venue", "account", "asset")[:most])
    assets = {row.asset for row in found}
    prices = dict(Quote.objects.filter(symbol__in=assets).values_list("symbol", "price"))
    prices |= {asset: Decimal(1) for asset in CASH}
    ours = _positions(scope, {row.account for row in found})
    return [
        _holding(row, prices.get(row.asset), ours.get((row.venue, row.account, row.asset), []))
        for row in found
    ]


def _positions(scope: Scope, accounts: Set[str]) -> Mapping[tuple[str, str, str], list[Position]]:
    """Return (venue, account, asset) -> the open positions of the scope in it."""
    rows = Position.objects.exclude(state=PositionState.CLOSED).filter(deployment__account__in=accounts)
    if scope.deployments is not None:
        rows = rows.filter(deployment__in=scope.deployments)
    by_asset: defaultdict[tuple[str, str, str], list[Position]] = defaultdict(list)
    whole = with_unrealised(rows).select_related("deployment__agent", "entry_order").order_by("pk")
    for row in attach(whole):
        deployment = row.deployment
        by_asset[deployment.agent.venue, deployment.account, row.symbol].append(row)
    return by_asset


def _holding(row: VenueHolding, price: Decimal | None, ours: Sequence[Position]) -> Holding:
    values = [getattr(one, "unrealised", None) for one in ours]
    results = [value for value in values if value is not None]
    return Holding(
        row.venue, row.account, row.asset, row.quantity, row.booked, row.unexplained, row.origin, row.since,
        row.seen_at, price, [one.pk for one in ours], sum(results, ZERO) if results else None,
        [one.margin for one in ours if one.margin],
    )  # fmt: skip
