"""Scale a crowd of entries: where all planned entries together exceed a limit of the platform, or what the market takes
within the slippage limit, each gets the same fraction of its size. So none is served first because of its id.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import structlog
from django.db.models import Count, Min, QuerySet

from maxxit.core.money import ZERO
from maxxit.core.terms import Purpose
from maxxit.market import quotes
from maxxit.market.instruments import all_instruments
from trading import quarantine
from trading.models import Order
from trading.passes import ends_the_pass
from trading.reasons import Reason
from trading.risk import checks, limits
from trading.risk.facts import Entries
from trading.risk.policy import RiskPolicy
from trading.rows import load_orders
from trading.states import OrderState
from trading.venues.base import Venue, VenueAnswer
from trading.wiring import venue

log = structlog.get_logger(__name__)

UNLIMITED = Decimal("Infinity")
PROBES = 8
"""Prices that a venue is asked for to find what the market takes: an error of at most 1/256 of what is wanted."""
CHUNK = 500
"""Orders whose sizes are computed at a time."""


@dataclass(frozen=True, slots=True)
class Market:
    """One side of one symbol at one venue."""

    venue: str
    symbol: str
    side: str
    """buy or sell."""


@dataclass(frozen=True, slots=True)
class Share:
    """The fraction (0 to 1) of its size that each entry in a market gets, and the limit that allows no more."""

    fraction: Decimal
    reason: str


Shares = Mapping[Market, Share]
"""Markets that are missing get their whole size."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """What may still be entered, in USD."""

    platform: Decimal
    symbols: Mapping[str, Decimal]
    """Symbol -> of the platform's limit per symbol."""
    depth: Mapping[Market, Decimal]
    """What the market takes within the slippage limit, where it was measured."""


def shares(wanted: Mapping[Market, Decimal], headroom: Headroom) -> dict[Market, Share]:
    """Return the share of each market whose crowd wants more than a limit allows. Pure function.

    The notionals scaled by their shares exceed no limit. Scaling again what is left over, after some orders were placed
    with their share, gives the same shares.

    Args:
        wanted: USD that all entries of a market want together.
    """
    by_symbol: dict[str, Decimal] = defaultdict(Decimal)
    for market, usd in wanted.items():
        by_symbol[market.symbol] += usd
    total = sum(wanted.values(), ZERO)
    found = {}
    for market, usd in wanted.items():
        symbol = market.symbol
        share = min(
            (
                Share(_part(headroom.platform, total), Reason.PLATFORM_EXPOSURE_CAP),
                Share(
                    _part(headroom.symbols[symbol], by_symbol[symbol]), Reason.PLATFORM_SYMBOL_EXPOSURE_CAP
                ),
                Share(_part(headroom.depth.get(market, usd), usd), Reason.SLIPPAGE),
            ),
            key=lambda one: one.fraction,
        )
        if share.fraction < 1:
            found[market] = share
    return found


def _part(available: Decimal, wanted: Decimal) -> Decimal:
    return min(max(available, ZERO) / wanted, Decimal(1)) if wanted > 0 else Decimal(1)


def read_shares(policy: RiskPolicy) -> Shares:
    """Return the shares of all planned entries.

    One look at their number is enough where even the largest sizes fit; otherwise each size is computed.
    """
    orders = Order.objects.filter(state=OrderState.PLANNED, purpose=Purpose.OPEN)
    orders = orders.exclude(reason=Reason.AWAITING_CONFIRMATION)
    ids = [row.pk for row in quarantine.due(orders)]
    if len(ids) < 2:
        return {}
    prices = {symbol: quote.price for symbol, quote in quotes.latest(list(all_instruments())).items()}
    holdings = limits.read_holdings([])
    platform = policy.platform
    used = holdings.platform_exposure(prices)
    if used is None:
        return {}  # the checks block every entry: the exposure cannot be read
    symbols = {
        symbol: platform.max_symbol_exposure_usd - (holdings.platform_exposure(prices, symbol) or ZERO)
        for symbol in prices
    }
    crowd = _Crowd(orders, ids, policy, prices)
    wanted = crowd.largest
    total = platform.max_total_exposure_usd - used
    fits = sum(wanted.values(), ZERO) <= total and all(
        sum((usd for other, usd in wanted.items() if other.symbol == market.symbol), ZERO)
        <= symbols[market.symbol]
        for market in wanted
    )
    depth = crowd.depth(wanted)
    if not fits or any(taken < wanted[market] for market, taken in depth.items()):
        wanted = crowd.wanted()
    return shares(wanted, Headroom(total, symbols, depth))


class _Crowd:
    """The planned entries of a pass."""

    def __init__(
        self, orders: QuerySet[Order], ids: Sequence[int], policy: RiskPolicy, prices: Mapping[str, Decimal]
    ) -> None:
        self._orders, self._ids, self._prices = orders, ids, prices
        platform = {"max_total_exposure_usd": UNLIMITED, "max_symbol_exposure_usd": UNLIMITED}
        self._policy = policy.model_copy(update={"platform": policy.platform.model_copy(update=platform)})
        self.largest: dict[Market, Decimal] = defaultdict(Decimal)
        """USD that the entries of a market want at most."""
        self._counts: Counter[Market] = Counter()
        self._accounts: dict[Market, str] = {}
        """An account of each market, for which the venue is asked."""
        limits_of = cache(policy.of)
        groups = (
            orders.filter(pk__in=ids)
            .order_by()
            .values_list("venue", "symbol", "side", "leverage", "deployment__agent__sizing_preset")
        )
        for *names, leverage, preset, count, account in groups.annotate(Count("pk"), Min("account")):
            market = Market(*names)
            if market.symbol in prices:  # without a price the entry is blocked
                largest = min(
                    policy.sizing[preset].max_usd * leverage, limits_of(market.symbol).max_trade_usd
                )
                self.largest[market] += count * largest
                self._counts[market] += count
                self._accounts.setdefault(market, account)

    def wanted(self) -> dict[Market, Decimal]:
        """Return the USD that the entries want which no other check blocks."""
        found: dict[Market, Decimal] = defaultdict(Decimal)
        for start in range(0, len(self._ids), CHUNK):
            rows = self._orders.filter(pk__in=self._ids[start : start + CHUNK])
            by_venue: dict[str, list[Order]] = defaultdict(list)
            for order in load_orders(rows):
                by_venue[order.venue].append(order)
            for at, batch in by_venue.items():
                entries = Entries.read(batch, at, self._policy)
                for order in batch:
                    if order.symbol in self._prices:  # a quote may have come since they were read
                        found[Market(at, order.symbol, order.side)] += _wanted(order, entries)
        return found

    def depth(self, wanted: Mapping[Market, Decimal]) -> dict[Market, Decimal]:
        """Return how much of `wanted` (USD) each market takes within the slippage limit; without those not read.

        The venue is not asked for a single entry: the check of its own slippage is enough.
        """
        found = {}
        for market, usd in wanted.items():
            if self._counts[market] < 2:
                continue
            try:
                found[market] = depth(
                    venue(market.venue),
                    self._accounts[market],
                    market,
                    self._prices[market.symbol],
                    usd,
                    self._policy.of(market.symbol).max_slippage_pct,
                )
            except Exception as error:  # one venue stops no other; the check of each order's slippage stands
                if ends_the_pass(error):
                    raise
                log.warning("depth_not_read", venue=market.venue, symbol=market.symbol, error=str(error))
        return found


def _wanted(order: Order, entries: Entries) -> Decimal:
    """Return the USD that an entry wants, zero where another check blocks it, and count it in `entries`."""
    try:
        facts = entries.of(order, VenueAnswer())
        if not checks.check_before_venue(facts, entries.policy(order)).allowed:
            return ZERO
        entries.reserve(order, facts)
    except Exception as error:  # counted when the order itself is placed
        if ends_the_pass(error):
            raise
        log.warning("entry_not_sized", order=order.pk, error=str(error))
        return ZERO
    return facts.notional_usd


def depth(
    at_venue: Venue, account: str, market: Market, price: Decimal, wanted: Decimal, max_slippage_pct: Decimal
) -> Decimal:
    """Return how many USD up to `wanted` the market takes within `max_slippage_pct` of `price` (USD).

    Raises what `Venue.expected_price` raises.
    """

    def fits(usd: Decimal) -> bool:
        expected = at_venue.expected_price(account, market.symbol, market.side, usd)
        return expected is not None and abs(expected - price) * 100 <= max_slippage_pct * price

    if wanted <= 0 or fits(wanted):
        return wanted
    low, high = ZERO, wanted
    for _ in range(PROBES):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
