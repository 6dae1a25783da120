"""Read the facts that the pre-trade checks use, of a whole batch of orders of one venue, each kind in one statement.

`Entries` and `Exits` hold them and count what the batch has reserved so far, so that each order is checked against
those before it. Read them while `limits.lock` is held.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache

from maxxit.core import clock
from maxxit.core.money import ZERO, usdc
from maxxit.core.terms import OrderSide
from maxxit.market import quotes
from maxxit.market.instruments import all_instruments, instrument, listed_on
from signals_app.models import Signal
from signals_app.size import scale_of
from trading import gate, ledger
from trading.deployments import owner_terms
from trading.entries import sizing
from trading.models import Fill, Order
from trading.risk import limits
from trading.risk.checks import Facts, GateFacts
from trading.risk.policy import RiskPolicy
from trading.risk.score import RiskInputs, TailForecast
from trading.venues.base import VenueAnswer

BAND_FIGURE = {"std": "volatility_pct", "ewma": "ewma_pct", "atr": "atr_pct"}
"""Method of the volatility band -> the indicator stored with the signal."""


class Exits:
    """Facts of closing orders. No throttle and no limit applies to them, so only their accounts are read."""

    room = math.inf
    """No pace holds exits back."""

    def __init__(self, orders: Sequence[Order], venue: str, policy: RiskPolicy) -> None:
        self._policy = policy
        self._gates = gate.read_many(venue, [order.account for order in orders])
        self._quotes = quotes.latest(sorted({order.symbol for order in orders}), closing=True)
        self._holdings = limits.read_holdings([order.account for order in orders], platform=False)
        self._last_known = cache(quotes.last_known)
        self._listed = listed_on(venue)

    def of(self, order: Order, answer: VenueAnswer) -> Facts:
        """Return the facts of one closing order."""
        price, quantity = self._price(order), order.quantity or ZERO
        return Facts(
            gate=self._gates[order.account],
            reduces=True,
            buys=order.side == OrderSide.BUY,
            duplicate=order.client_order_id is not None,
            price=price,
            notional_usd=usdc(quantity * price) if price else ZERO,
            quantity=quantity,
            listed=order.symbol in self._listed,
            held=self._holdings.held(order.account, order.symbol),
            venue_problem=answer.problem,
            venue_detail=answer.detail,
        )

    def policy(self, order: Order) -> RiskPolicy:
        """Return the policy: exceptions of a symbol concern entries only."""
        return self._policy

    def reserve(self, order: Order, facts: Facts) -> None:
        """Count nothing: a closing order uses up no limit."""

    def _price(self, order: Order) -> Decimal | None:
        """Return the reference price of a closing order in USD; None where there is none.

        A fresh quote counts even if its sources disagree. If an operator or the kill switch closes, the last known
        price is used: the venue's slippage limit protects the fill, and missing quotes must not prevent the exit.
        """
        fresh = self._quotes.get(order.symbol)
        if fresh is not None:
            return fresh.price
        if not order.is_urgent:
            return None
        known = self._last_known(order.symbol)
        if known is not None:
            return known.price
        fills = Fill.objects.filter(order__account=order.account, order__symbol=order.symbol)
        return fills.order_by("-pk").values_list("price", flat=True).first()


@dataclass(frozen=True, slots=True)
class Used:
    """What accounts and the platform have and use, for the facts of a batch of entries."""

    gates: Mapping[str, GateFacts]
    """Account -> its gate."""
    quotes: Mapping[str, quotes.Quote]
    """Symbol -> its fresh quote, also where its sources disagree."""
    prices: Mapping[str, Decimal]
    """The prices of those quotes, USD."""
    holdings: limits.Holdings
    rates: limits.OrderRates
    owners: owner_terms.OwnersTerms
    worth: Mapping[int, ledger.Worth]
    """Deployment -> what it holds and owes."""


class Entries:
    """Facts of entries: usage of the accounts and the platform, and each order's size in whole lots.

    Args:
        shares: (symbol, side) -> the fraction (0 to 1) of its size that each entry gets where all together would exceed
            a limit (`trading.entries.crowd`); 1 where missing.
    """

    def __init__(
        self,
        used: "Used",
        venue: str,
        policy: RiskPolicy,
        shares: Mapping[tuple[str, str], Decimal] | None = None,
    ) -> None:
        self._policy = policy
        self._policies: dict[str, RiskPolicy] = {}
        self._shares = shares or {}
        self._gates, self._quotes, self._prices = used.gates, used.quotes, used.prices
        self._holdings, self._rates, self._owners = used.holdings, used.rates, used.owners
        self._worth = used.worth
        self._listed = listed_on(venue)

    @classmethod
    def read(
        cls,
        orders: Sequence[Order],
        venue: str,
        policy: RiskPolicy,
        shares: Mapping[tuple[str, str], Decimal] | None = None,
    ) -> "Entries":
        """Read what the accounts of `orders` and the platform use now."""
        accounts, now = [order.account for order in orders], clock.now()
        deployments = [order.deployment_id for order in orders]
        fresh = quotes.latest(list(all_instruments()), closing=True)
        used = Used(
            gates=gate.read_many(venue, accounts),
            quotes=fresh,
            prices={symbol: quote.price for symbol, quote in fresh.items()},
            holdings=limits.read_holdings(accounts),
            rates=limits.read_order_rates(((order.account, order.symbol) for order in orders), now),
            owners=owner_terms.read(deployments, now),
            worth=ledger.worth(deployments),
        )
        return cls(used, venue, policy, shares)

    def policy(self, order: Order) -> RiskPolicy:
        """Return the policy with the exceptions of the order's symbol."""
        if order.symbol not in self._policies:
            self._policies[order.symbol] = self._policy.of(order.symbol)
        return self._policies[order.symbol]

    @property
    def room(self) -> int:
        """How many more entries the platform's pace allows now; zero or negative for none."""
        platform = self._policy.platform
        return min(
            platform.max_orders_per_minute - self._rates.platform_last_minute,
            platform.max_open_orders - self._holdings.platform_open_orders,
        )

    def of(self, order: Order, answer: VenueAnswer) -> Facts:
        """Return the facts of one entry, sized with what its account holds now."""
        prices, policy, account = self._prices_for(order), self.policy(order), order.account
        worth, price = self._worth[order.deployment_id], prices.get(order.symbol)
        spendable = limits.equity(worth.traded, worth.owed, prices)
        exposure = self._holdings.exposure(prices, account)
        preset = policy.sizing[order.deployment.agent.sizing_preset]  # type: ignore[index]  # the column's choices
        quantity = order.quantity or ZERO
        if order.signal and price and spendable is not None and exposure is not None:
            sized = sizing.size(
                preset,
                equity=spendable,
                exposure=exposure,
                confidence=order.signal.confidence,
                posts=order.signal.size_model.get("posts", 0),
            )
            wanted = sizing.notional(sized.notional, order.leverage, policy.max_trade_usd)
            fraction = scale_of(order.signal.size_model)
            quantity = self._share(order, wanted, price, preset.min_usd, fraction)
        return Facts(
            gate=self._gates[account],
            reduces=False,
            buys=order.side == OrderSide.BUY,
            duplicate=order.client_order_id is not None,
            owner=self._owners.of(order, self._holdings.by_account.get(account, {})),
            account=self._holdings.usage(
                prices, order.symbol, self._rates.account_last_minute[account], account
            ),
            platform=self._holdings.usage(prices, order.symbol, self._rates.platform_last_minute),
            symbol_orders_today=self._rates.symbol_today[account, order.symbol],
            since_last_order=self._rates.since_last(account, order.symbol),
            price=price,
            signal_price=order.signal.entry_price if order.signal else None,
            volatility_pct=self._volatility(order),
            notional_usd=usdc(quantity * price) if price else ZERO,
            quantity=quantity,
            listed=order.symbol in self._listed,
            min_usd=preset.min_usd,
            spendable_usd=spendable,
            expected_price=answer.expected_price,
            held=self._holdings.held(account, order.symbol),
            venue_problem=answer.problem,
            venue_detail=answer.detail,
            risk=self._risk(order, order.signal) if policy.risk_score.enabled and order.signal else None,
        )

    def _risk(self, order: Order, signal: Signal) -> RiskInputs:
        """Return what the risk score of an entry uses: what its signal stores, and what its account holds now."""
        way = 1 if order.side == OrderSide.BUY else -1
        stored = signal.risk_model.get("risk_inputs", {})
        forecast, correlations = stored.get("forecast", {}), stored.get("correlations", {})
        listed = all_instruments()
        held = {
            symbol: tokens
            for symbol, tokens in self._holdings.by_account.get(order.account, {}).items()
            if symbol != order.symbol and symbol in listed and listed[symbol].round_quantity(abs(tokens))
        }
        found = [
            Decimal(correlations[symbol]) * (way if tokens > 0 else -way)
            for symbol, tokens in held.items()
            if symbol in correlations
        ]
        return RiskInputs(
            side=order.position_side,
            confidence=signal.confidence,
            tail=TailForecast(*(Decimal(forecast[name]) for name in ("sigma", "q10", "q90")))
            if "sigma" in forecast
            else None,
            correlation=max(found, default=None),
            uncorrelated=tuple(sorted(held.keys() - correlations.keys())),
            reviewed=order.confirmed_at is not None,
        )

    def reserve(self, order: Order, facts: Facts) -> None:
        """Count an entry that was reserved."""
        tokens = facts.quantity if order.side == OrderSide.BUY else -facts.quantity
        self._holdings.add_entry(order.account, order.symbol, tokens)
        self._rates.add_entry(order.account, order.symbol)
        self._owners.add_entry(order, facts.notional_usd)

    def _prices_for(self, order: Order) -> Mapping[str, Decimal]:
        """Return symbol -> fresh price in USD.

        A quote whose sources disagree is good enough to value holdings but not to open this order.
        """
        quote = self._quotes.get(order.symbol)
        if quote is None or quote.trusted:
            return self._prices
        return {symbol: price for symbol, price in self._prices.items() if symbol != order.symbol}

    def _share(
        self, order: Order, notional: Decimal, price: Decimal, min_usd: Decimal, fraction: Decimal
    ) -> Decimal:
        """Return the quantity of an entry of `notional` USD in whole lots: its share, and not below the minimum.

        Args:
            fraction: of its size by the volatility target, 0 to 1.
        """
        token = instrument(order.symbol)
        whole = token.round_quantity(notional / price)
        share = self._shares.get((order.symbol, order.side), Decimal(1)) * fraction
        if share >= 1:
            return whole
        smallest = (min_usd / price / token.lot).quantize(Decimal(1), ROUND_CEILING) * token.lot
        return min(whole, max(token.round_quantity(notional * share / price), smallest))

    def _volatility(self, order: Order) -> Decimal | None:
        """Return the volatility in percent per bar stored with the signal; None (blocks the entry) where none was."""
        stored = (
            order.signal.market.get(BAND_FIGURE[self._policy.volatility_band.method])
            if order.signal
            else None
        )
        return None if stored is None else Decimal(repr(stored))
