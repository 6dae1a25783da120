"""Trade the signals of a run on the paper venue: checks, sizes, fills, exits, fees and shares by the live functions.

It loops over trades, not over candles: an entry's exit is found at once (`maxxit.backtest.exits`), and is booked when
the next entry comes after it.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, cast

from agents.fees import share_profit
from maxxit.backtest.decisions import Decided, Decision
from maxxit.backtest.exits import find_exit
from maxxit.backtest.market import Market
from maxxit.backtest.settings import Account, Settings, Trader
from maxxit.core.errors import Misconfigured
from maxxit.core.money import USDC, ZERO, plain, usdc
from maxxit.core.terms import OrderSide, Side
from maxxit.market.instruments import instrument
from maxxit.market.quotes import Quote
from maxxit.replay.tape import TapedPosition
from positions.exits.levels import levels
from positions.performance import pnl
from trading import ledger
from trading.deployments.owner_terms import OwnersTerms
from trading.models import Order
from trading.risk import checks, limits
from trading.risk.checks import GateFacts, OwnerTerms
from trading.risk.facts import Entries, Used
from trading.venues.base import VenueAnswer
from trading.venues.paper import available, exchanged, worse_price

OPEN_GATE = GateFacts(dry_run=False, approved=True, kill_level="")
NO_TERMS = OwnerTerms()


class _NoOwners(OwnersTerms):
    """Owners without limits of their own and without confirmations: a tape with others is refused."""

    def of(self, order: Order, held: Mapping[str, Decimal]) -> OwnerTerms:
        return NO_TERMS

    def add_entry(self, order: Order, usd: Decimal) -> None:
        """Count nothing: no limit needs it."""


NO_OWNERS = _NoOwners()
FILLS = 2
"""Fills that an order gets at one moment: when it is sent, and when it is settled right after."""


@dataclass(frozen=True, slots=True)
class Fill:
    """An order that was filled at one moment; amounts in USDC, price in USD."""

    quantity: Decimal
    price: Decimal
    cash: Decimal
    fee: Decimal


@dataclass(frozen=True, slots=True)
class Trade:
    """A position."""

    number: int
    trader: int
    account: str
    deployment: int
    symbol: str
    side: str
    opened_at: datetime
    entry: Fill
    platform_fee: Decimal
    """USDC."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed position. PnL and share in USDC; the PnL is after fees and before the profit share."""

    trade: Trade
    closed_at: datetime
    reason: str
    exit: Fill
    pnl: Decimal
    share: Decimal

    @property
    def fees(self) -> Decimal:
        """Venue fees and platform fee, USDC."""
        return self.trade.entry.fee + self.trade.platform_fee + self.exit.fee


def taped(one: Closed) -> TapedPosition:
    """Return a closed position as a tape holds it."""
    trade = one.trade
    return TapedPosition(
        trade.account, trade.symbol, trade.side, int(trade.opened_at.timestamp()), int(one.closed_at.timestamp()),
        one.reason, plain(one.pnl), plain(trade.entry.quantity), plain(trade.entry.price), plain(one.exit.price),
        plain(one.share),
    )  # fmt: skip


@dataclass
class Traded:
    """What a run traded."""

    closed: list[Closed] = field(default_factory=list)
    """In the order in which they closed."""
    open: list[Trade] = field(default_factory=list)
    blocked: Counter[str] = field(default_factory=Counter)
    orders: int = 0


class _Agent(NamedTuple):
    sizing_preset: str


class _Deployment(NamedTuple):
    agent: _Agent


class _Signal(NamedTuple):
    entry_price: Decimal
    confidence: Decimal
    size_model: Mapping[str, int]
    market: Mapping[str, float]


class _Entry(NamedTuple):
    """An entry order as `trading.risk.facts.Entries` reads it."""

    symbol: str
    account: str
    deployment_id: int
    side: str
    leverage: Decimal
    deployment: _Deployment
    signal: _Signal
    quantity: None = None
    client_order_id: None = None
    confirmed_at: None = None


class _Leaving(NamedTuple):
    """An exit that was found, in the order in which exits are booked."""

    place: int
    number: int
    trade: Trade
    found: "_Found"


ExitKey = tuple[Any, ...]


class _Venue(NamedTuple):
    """Options of a paper venue."""

    slippage: Decimal
    """A fraction."""
    fee: Decimal
    """A fraction."""
    depth_usd: Decimal


class _Found(NamedTuple):
    """The exit of a trade, and the quote at which it leaves."""

    place: int
    reason: str
    quote: Quote


class Exchange:
    """Trades on one market, and remembers the exits of the same trades."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.exits: dict[ExitKey, _Found | None] = {}
        self.fill_price = cache(worse_price)

    def trade(self, settings: Settings, decided: Decided) -> Traded:
        """Trade `decided` by these settings.

        Raises `Misconfigured` naming what happened that the fast path does not represent.
        """
        return _Run(self, settings).trade(decided)


class _Run:
    """The accounts of one run."""

    def __init__(self, exchange: Exchange, settings: Settings) -> None:
        self._market, self._exits, self._fill_price = exchange.market, exchange.exits, exchange.fill_price
        self._settings = settings
        self._policy = settings.risk
        self._traded: dict[int, dict[str, Decimal]] = {}
        self._worth: dict[int, ledger.Worth] = {}
        self._terms: dict[int, Account] = {}
        self._gates: dict[str, GateFacts] = {}
        for trader in settings.traders:
            for one in trader.accounts:
                self._terms[one.id] = one
                self._traded[one.id] = {USDC: usdc(one.balance)}
                self._worth[one.id] = ledger.Worth(self._traded[one.id])
                self._gates[one.account] = OPEN_GATE
        traded = sorted({trader.venue for trader in settings.traders})
        self._venues = {name: _venue(settings.venues[name].options) for name in traded}
        self._rules = {
            trader.exit_preset: settings.risk.exits[trader.exit_preset]  # type: ignore[index]  # the choices
            for trader in settings.traders
        }
        self._rules_keys = {name: tuple(rules.model_dump().values()) for name, rules in self._rules.items()}
        self._deployments = [_Deployment(_Agent(one.sizing_preset)) for one in settings.traders]
        self._largest = [settings.risk.sizing[one.sizing_preset].max_usd for one in settings.traders]  # type: ignore[index]
        self._served: dict[int, int] = defaultdict(int)
        self._carried: dict[int, Decimal] = defaultdict(Decimal)
        self._holdings = limits.Holdings()
        self._last_entry: dict[tuple[str, str], datetime] = {}
        self._today: dict[tuple[str, str], int] = defaultdict(int)
        self._day: date | None = None
        self._leaving: list[_Leaving] = []
        self._staying: list[Trade] = []
        self._done = Traded()

    def trade(self, decided: Decided) -> Traded:
        signals = decided.signals
        begins = 0
        while begins < len(signals):
            ends = begins
            while ends < len(signals) and signals[ends].found is signals[begins].found:
                ends += 1
            self._enter(signals[begins:ends])
            begins = ends
        self._close_before(len(self._market.moments))
        self._done.open = self._staying
        return self._done

    def _enter(self, decisions: list[Decision]) -> None:
        """Place the entries of one pass."""
        at = decisions[0].found
        self._close_before(at.place)
        now = at.at
        if now.date() != self._day:
            self._day = now.date()
            self._today = defaultdict(int)
        rates = limits.OrderRates(now, symbol_today=self._today, last_entry=self._last_entry)
        used = Used(self._gates, at.quotes, at.prices, self._holdings, rates, NO_OWNERS, self._worth)
        entries = {name: Entries(used, name, self._policy) for name in self._venues}
        orders = [
            (decision, account)
            for decision in decisions
            for account in sorted(
                self._settings.traders[decision.trader].accounts,
                key=lambda one: (self._served[one.id], one.id),
            )
        ]
        self._refuse_crowds(orders, at.prices, now)
        for decision, account in orders:
            trader = self._settings.traders[decision.trader]
            self._place(decision, account, trader, entries[trader.venue])

    def _place(self, decision: Decision, account: Account, trader: Trader, entries: Entries) -> None:
        proposed, token = decision.proposed, decision.token
        venue = self._venues[trader.venue]
        side = OrderSide.BUY if decision.side == Side.LONG else OrderSide.SELL
        signal = _Signal(
            decision.signal_price,
            proposed.scored.confidence,
            {"posts": len(proposed.scored.calls)},
            decision.market,
        )
        entry = _Entry(
            token, account.account, account.id, side, proposed.leverage, self._deployments[decision.trader], signal
        )  # fmt: skip
        order = cast(Order, entry)
        quote = decision.found.quotes.get(token)
        expected = None
        if quote is not None and quote.trusted:
            price = self._fill_price(quote.price, token, side, venue.slippage)
            expected = price if price > ZERO else None
        if entries.room <= 0:
            raise Misconfigured(
                "more entries at one moment than the platform's pace allows: use `manage.py replay`"
            )
        facts = entries.of(order, VenueAnswer("", expected))
        verdict = checks.check(facts, entries.policy(order))
        self._done.orders += 1
        if not verdict.allowed or quote is None:
            self._done.blocked[verdict.reason] += 1
            return
        entries.reserve(order, facts)
        self._served[account.id] = self._done.orders
        filled = self._filled(facts.quantity, quote, token, side, venue)
        self._holdings.open_orders[account.account] -= 1
        self._holdings.platform_open_orders -= 1
        self._open(decision, account, trader, filled)

    def _open(self, decision: Decision, account: Account, trader: Trader, filled: Fill) -> None:
        """Book a filled entry and find its exit."""
        at, proposed = decision.found, decision.proposed
        rules = self._rules[trader.exit_preset]
        platform_fee = account.terms.trade.charge(filled.cash)
        trade = Trade(
            self._done.orders, decision.trader, account.account, account.id, decision.token, decision.side, at.at,
            filled, platform_fee,
        )  # fmt: skip
        sign = 1 if decision.side == Side.LONG else -1
        self._book(account.id, decision.token, sign * filled.quantity, -sign * filled.cash - filled.fee)
        self._owe(account.id, platform_fee)
        key = (
            at.place, decision.token, decision.side, filled.price, self._rules_keys[trader.exit_preset],
            proposed.stop_loss_pct, proposed.take_profit_pct,
        )  # fmt: skip
        if key not in self._exits:
            columns = levels(
                rules,
                side=decision.side,
                entry=filled.price,
                opened_at=at.at,
                stop_loss_pct=proposed.stop_loss_pct,
                take_profit_pct=proposed.take_profit_pct,
            ).columns(instrument(decision.token).round_price)
            track = self._market.track(decision.token)
            found = find_exit(track, decision.side, at.place, columns)
            quote = self._market.quote(decision.token, found.place) if found else None
            self._exits[key] = _Found(found.place, found.reason, quote) if found and quote else None
        leaves = self._exits[key]
        if leaves is None:
            self._staying.append(trade)
        else:
            heapq.heappush(self._leaving, _Leaving(leaves.place, trade.number, trade, leaves))

    def _close_before(self, place: int) -> None:
        """Book the exits of moments before that of `place`, in order."""
        while self._leaving and self._leaving[0].place < place:
            self._close(heapq.heappop(self._leaving))

    def _close(self, leaving: _Leaving) -> None:
        trade = leaving.trade
        trader = self._settings.traders[trade.trader]
        side = OrderSide.SELL if trade.side == Side.LONG else OrderSide.BUY
        filled = self._filled(
            trade.entry.quantity, leaving.found.quote, trade.symbol, side, self._venues[trader.venue]
        )
        sign = 1 if trade.side == Side.LONG else -1
        self._book(trade.deployment, trade.symbol, -sign * filled.quantity, sign * filled.cash - filled.fee)
        self._release(trade, sign)
        fees = trade.entry.fee + trade.platform_fee + filled.fee
        earned = pnl.gross(trade.side, trade.entry.cash, filled.cash) - fees
        rule = self._terms[trade.deployment].terms.profit
        shared = share_profit(rule, earned, self._carried[trade.deployment])
        self._carried[trade.deployment] = shared.carried_loss
        self._owe(trade.deployment, shared.share)
        moment = self._market.moments[leaving.place]
        self._done.closed.append(
            Closed(trade, moment, leaving.found.reason, filled, usdc(earned), shared.share)
        )

    def _release(self, trade: Trade, sign: int) -> None:
        """Take a closed position out of the holdings."""
        account, symbol = trade.account, trade.symbol
        of_account, gross = self._holdings.by_account[account], self._holdings.gross
        before = of_account.pop(symbol, ZERO)
        after = before - sign * trade.entry.quantity
        if after:
            of_account[symbol] = after
        total = gross.pop(symbol) + abs(after) - abs(before)
        if total:
            gross[symbol] = total

    def _book(self, deployment: int, symbol: str, tokens: Decimal, cash: Decimal) -> None:
        traded = self._traded[deployment]
        traded[USDC] += cash
        held = traded.pop(symbol, ZERO) + tokens
        if held:
            traded[symbol] = held

    def _filled(self, quantity: Decimal, quote: Quote, symbol: str, side: str, venue: _Venue) -> Fill:
        """Fill an order at one moment as the paper venue does, in `FILLS` fills at most.

        Raises `Misconfigured` where the depth is too small for that: the rest would fill at later prices.
        """
        price = self._fill_price(quote.price, symbol, side, venue.slippage)
        if price <= ZERO:
            raise Misconfigured(f"{symbol} at {quote.price} USD is below one tick: use `manage.py replay`")
        if quantity * price <= venue.depth_usd:  # whole lots that the depth takes at once
            return Fill(quantity, price, *exchanged(quantity, price, side, venue.fee))
        most = available(instrument(symbol), price, venue.depth_usd)
        left, cash, fee = quantity, ZERO, ZERO
        for _ in range(FILLS):
            part = min(left, most)
            part_cash, part_fee = exchanged(part, price, side, venue.fee)
            left, cash, fee = left - part, cash + part_cash, fee + part_fee
            if left <= ZERO:
                return Fill(quantity, price, cash, fee)
        raise Misconfigured(
            f"an order of {quantity * price:.2f} USD of {symbol} is more than {FILLS} × depth_usd "
            f"{venue.depth_usd}: its rest fills later, which the fast backtest does not represent; raise "
            "venues.paper.depth_usd or use `manage.py replay`"
        )

    def _owe(self, deployment: int, amount: Decimal) -> None:
        worth = self._worth[deployment]
        self._worth[deployment] = ledger.Worth(worth.traded, worth.owed - amount)

    def _refuse_crowds(
        self, orders: list[tuple[Decision, Account]], prices: Mapping[str, Decimal], now: datetime
    ) -> None:
        """Refuse entries that the platform's limits would scale (`trading.entries.crowd`)."""
        platform = self._policy.platform
        used = self._holdings.platform_exposure(prices)
        if len(orders) < 2 or used is None:
            return
        most = sum((self._largest[decision.trader] for decision, _ in orders), used)
        if most <= min(platform.max_total_exposure_usd, platform.max_symbol_exposure_usd):
            return  # not even if all were in one token
        wanted: dict[str, Decimal] = defaultdict(Decimal)
        for decision, _ in orders:
            preset = self._policy.sizing[self._settings.traders[decision.trader].sizing_preset]  # type: ignore[index]
            wanted[decision.token] += min(preset.max_usd, self._policy.of(decision.token).max_trade_usd)
        free = {
            token: platform.max_symbol_exposure_usd
            - (self._holdings.platform_exposure(prices, token) or ZERO)
            for token in wanted
        }
        if sum(wanted.values(), ZERO) > platform.max_total_exposure_usd - used or any(
            usd > free[token] for token, usd in wanted.items()
        ):
            raise Misconfigured(
                f"the entries of {now:%Y-%m-%d %H:%M} may exceed a limit of the platform, which scales them: the fast "
                "backtest does not represent that; use `manage.py replay`"
            )


def _venue(options: Mapping[str, Any]) -> _Venue:
    bps = Decimal(10_000)
    return _Venue(options["slippage_bps"] / bps, options["fee_bps"] / bps, Decimal(options["depth_usd"]))
