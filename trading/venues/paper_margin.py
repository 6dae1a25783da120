"""Isolated margin on the paper exchange: funding at stated times, liquidations, margin that entries need.

The exchange acts when it is asked: before it takes an order, fills one or shows an account, `PaperMargin.advance`
brings the account's positions up to now, bar by bar. The rules are those of `trading.perps.isolated`:

* margin of an entry = notional / leverage, from the account's free cash; fees are paid from the free cash too;
* maintenance margin = `maintenance_margin_pct` of the value, by default half of the initial margin at `max_leverage`;
* a position is liquidated where the worst price of a bar, or the newest quote, leaves it no more than that. The whole
  margin is lost, and nothing beyond it: the order is booked at the price at which nothing is left. A bar counts from
  the first one that opened after the entry;
* funding is charged every `funding_hours` from 00:00 UTC, on the value at the close of the bar before: at the recorded
  rate of the symbol and time, else at `funding_rate_pct`. Its default, 0.01 % each 8 hours, is the interest that
  Hyperliquid's funding begins with (https://hyperliquid.gitbook.io/hyperliquid-docs/trading/funding).

Recorded rates are a CSV file with the header `symbol,at,rate_pct`: `ETH,2026-03-02T08:00:00Z,0.0125` says that longs
paid shorts 0.0125 % of the value. A path that is not absolute begins at the folder of the configuration.
"""

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path

from django.db import transaction
from django.db.models import Sum

from maxxit.core import clock
from maxxit.core.config import config_dir
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.money import USDC, USDC_UNIT, ZERO, plain
from maxxit.core.terms import OrderSide
from maxxit.market import candles, quotes
from maxxit.market.feeds.bars import Bar
from trading.models import PaperBalance, PaperFill, PaperFunding, PaperOrder, PaperPosition
from trading.perps import isolated
from trading.perps.isolated import Isolated, Moment
from trading.perps.margin import Margin
from trading.reasons import Reason
from trading.venues.paper_balances import Move, move

HEADER = ["symbol", "at", "rate_pct"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Key = tuple[str, str]
"""(account, symbol)"""


class PaperMargin:
    """The margin rules of one stanza.

    Args:
        most_slippage: fraction by which a fill may be worse than its quote; the maintenance margin must be larger, so
            that no close takes more than the margin.
    """

    def __init__(
        self,
        *,
        max_leverage: Decimal,
        most_slippage: Decimal,
        maintenance_margin_pct: Decimal | str | None = None,
        funding_hours: int = 8,
        funding_rate_pct: Decimal | str = "0.01",
        funding_rates: str = "",
    ) -> None:
        self.max_leverage = max_leverage
        self.maintenance = isolated.maintenance(max_leverage)
        if maintenance_margin_pct is not None:
            self.maintenance = _number(maintenance_margin_pct, "maintenance_margin_pct") / 100
        if not most_slippage < self.maintenance < 1 / max_leverage:
            raise Misconfigured(
                f"venue paper: the maintenance margin, {plain(self.maintenance * 100)} %, must be above slippage_bps "
                f"and below the initial margin at max_leverage, {plain(100 / max_leverage)} %"
            )
        if not isinstance(funding_hours, int) or not 0 < funding_hours <= 24 or 24 % funding_hours:
            raise Misconfigured("venue paper: funding_hours divides 24: 1, 2, 3, 4, 6, 8, 12 or 24")
        self.interval = timedelta(hours=funding_hours)
        self.rate = _number(funding_rate_pct, "funding_rate_pct") / 100
        self._file = funding_rates

    # -- time

    @transaction.atomic
    def advance(self, accounts: Collection[str]) -> None:
        """Charge funding that is due and liquidate positions whose margin was used up, in the order of time."""
        open_ = PaperPosition.objects.filter(account__in=accounts).exclude(tokens=ZERO)
        rows = list(open_.select_for_update().order_by("account", "symbol"))
        if not rows:
            return
        now = clock.now()
        symbols = sorted({row.symbol for row in rows})
        bars = candles.closed_bars(symbols, min(row.checked_until for row in rows), now)
        newest = {symbol: quotes.last_known(symbol) for symbol in symbols}
        moves: list[Move] = []
        for row in rows:
            quote = newest[row.symbol]
            own = [bar for bar in bars.get(row.symbol, ()) if bar.open_time >= row.checked_until]
            path = self._path(row, own, quote.price if quote else None, now)
            lived = isolated.live(Isolated(row.tokens, row.cash), path, self.maintenance)
            PaperFunding.objects.bulk_create(
                PaperFunding(account=row.account, symbol=row.symbol, amount=amount, at=at)
                for at, amount in lived.paid
                if amount
            )
            moves += [(row.account, USDC, amount) for _, amount in lived.paid]
            row.cash, row.funded_until = lived.held.cash, now
            row.checked_until = own[-1].known_at if own else row.checked_until
            if lived.liquidated_at is not None:
                moves += _liquidate(row, lived.held, lived.liquidated_at)
            row.save()
        move(moves)

    def _path(
        self, row: PaperPosition, bars: Sequence[Bar], quote: Decimal | None, now: datetime
    ) -> Iterator[Moment]:
        """Yield what happened to a position since it was last looked at: bars, funding times, and the newest quote."""
        due = list(self._funding_times(row.funded_until, now))
        last = quote
        for bar in bars:
            while due and due[0] < bar.known_at and last is not None:
                yield self._funding(row.symbol, due.pop(0), last)
            rate = self._rate(row.symbol, due.pop(0)) if due and due[0] == bar.known_at else ZERO
            yield Moment(bar.known_at, bar.low, bar.high, bar.close, rate)
            last = bar.close
        if last is not None:
            yield from (self._funding(row.symbol, at, last) for at in due)
        if quote is not None:
            yield Moment(now, quote, quote, quote)

    def _funding(self, symbol: str, at: datetime, price: Decimal) -> Moment:
        """Return a funding time without a bar that closed then: at the last price known."""
        return Moment(at, price, price, price, self._rate(symbol, at))

    def _funding_times(self, after: datetime, until: datetime) -> Iterator[datetime]:
        at = EPOCH + ((after - EPOCH) // self.interval + 1) * self.interval
        while at <= until:
            yield at
            at += self.interval

    def _rate(self, symbol: str, at: datetime) -> Decimal:
        """Return the funding rate at a time, a fraction: the recorded one, else the stanza's."""
        return self._recorded.get((symbol, at), self.rate)

    @cached_property
    def _recorded(self) -> Mapping[tuple[str, datetime], Decimal]:
        return read_rates(config_dir() / self._file, self.interval) if self._file else {}

    # -- orders

    def leverage(self, wanted: Decimal) -> Decimal:
        """Return the leverage of an entry: what was wanted, at least 1 and at most the stanza's."""
        return max(min(wanted, self.max_leverage), Decimal(1))

    def positions(self, orders: Iterable[PaperOrder]) -> "Positions":
        """Lock and return the positions of orders, in the caller's transaction."""
        return Positions.lock({(order.account, order.symbol) for order in orders})

    def check(self, order: PaperOrder, price: Decimal, fee: Decimal, free: dict[str, Decimal]) -> None:
        """Raise Rejected where an order is larger than its account's free cash, or closes what is not there.

        Args:
            price: USD per token that it would fill at.
            fee: a fraction of the cash.
            free: account -> USDC that no position uses; what the order needs is taken off it.
        """
        if order.reduce_only:
            side = 1 if order.side == OrderSide.SELL else -1
            held = PaperPosition.objects.filter(account=order.account, symbol=order.symbol).first()
            if held is None or held.tokens * side <= 0:
                raise Rejected(f"the account has no {order.symbol} to close", code=Reason.NO_POSITION)
            return
        notional = order.quantity * price
        needed = isolated.initial_margin(notional, order.leverage) + (notional * fee).quantize(
            USDC_UNIT, ROUND_CEILING
        )
        have = free[order.account]
        if needed > have:
            raise Rejected(
                f"the margin is {needed:.2f} USDC with the fee; the account has {have:.2f} USDC that no position uses",
                code=Reason.INSUFFICIENT_BALANCE,
            )
        free[order.account] = have - needed

    def free(self, accounts: Collection[str]) -> dict[str, Decimal]:
        """Return account -> USDC that is the margin of no position."""
        held = PaperBalance.objects.filter(account__in=accounts, asset=USDC)
        used = PaperPosition.objects.filter(account__in=accounts).order_by().values_list("account")
        in_positions = dict(used.annotate(Sum("cash")))
        cash = dict(held.values_list("account", "amount"))
        return {account: cash.get(account, ZERO) - in_positions.get(account, ZERO) for account in accounts}

    # -- what the account shows

    def margins(self, account: str) -> list[Margin]:
        """Return leverage, margin at the newest quote and liquidation price of an account's positions."""
        rows = PaperPosition.objects.filter(account=account).exclude(tokens=ZERO).order_by("symbol")
        return [self._margin(row) for row in rows]

    def _margin(self, row: PaperPosition) -> Margin:
        held = Isolated(row.tokens, row.cash)
        quote = quotes.last_known(row.symbol)
        return Margin(
            symbol=row.symbol,
            leverage=row.leverage,
            isolated=True,
            margin=held.equity(quote.price) if quote else ZERO,
            liquidation_price=isolated.liquidation_price(held, self.maintenance),
            maintenance=self.maintenance,
        )


def _number(value: Decimal | str, name: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) > 100:
        raise Misconfigured(f"venue paper: {name} is a number of percent, not {value!r}")
    return number


def read_rates(path: Path, interval: timedelta) -> dict[tuple[str, datetime], Decimal]:
    """Return (symbol, time) -> funding rate, a fraction of the value, from a file of recorded rates.

    Raises Misconfigured with file and line for a line that is no rate, is given twice, or is not on a funding time.
    """
    rates: dict[tuple[str, datetime], Decimal] = {}
    try:
        lines = list(csv.reader(path.read_text().splitlines()))
    except OSError as error:
        raise Misconfigured(f"funding_rates of a paper venue: {path} cannot be read: {error}") from error
    if not lines or lines[0] != HEADER:
        raise Misconfigured(f"{path} begins with the line {','.join(HEADER)}")
    for number, line in enumerate(lines[1:], 2):
        try:
            symbol, moment, percent = line
            at, rate = datetime.fromisoformat(moment), Decimal(percent) / 100
            on_time = at.utcoffset() is not None and not (at - EPOCH) % interval
        except (ValueError, InvalidOperation):
            on_time = False
        if not on_time or not rate.is_finite() or abs(rate) > 1 or (symbol, at) in rates:
            raise Misconfigured(
                f"{path}, line {number}: {','.join(line)!r} is no rate of its own: symbol, a funding time with its "
                f"time zone (every {interval // timedelta(hours=1)} h from 00:00 UTC), percent of the value"
            )
        rates[symbol, at.astimezone(UTC)] = rate
    return rates


@dataclass(slots=True)
class Positions:
    """Positions of orders that are matched together, locked; each fill is applied to what the last one left."""

    rows: dict[Key, PaperPosition]
    changed: set[Key] = field(default_factory=set)

    @classmethod
    def lock(cls, keys: Collection[Key]) -> "Positions":
        """Lock the positions of (account, symbol) pairs; those that never were are created without tokens."""
        now = clock.now()
        PaperPosition.objects.bulk_create(
            [
                PaperPosition(
                    account=account, symbol=symbol, opened_at=now, checked_until=now, funded_until=now
                )
                for account, symbol in sorted(keys)
            ],
            ignore_conflicts=True,
        )
        accounts, symbols = {account for account, _ in keys}, {symbol for _, symbol in keys}
        found = PaperPosition.objects.select_for_update().filter(account__in=accounts, symbol__in=symbols)
        rows = {(row.account, row.symbol): row for row in found.order_by("account", "symbol")}
        return cls({key: row for key, row in rows.items() if key in keys})

    def is_pointless(self, order: PaperOrder) -> bool:
        """Return whether a reduce-only order has nothing left to close."""
        return order.reduce_only and not self.fillable(order, order.quantity)

    def fillable(self, order: PaperOrder, quantity: Decimal) -> Decimal:
        """Return how much of `quantity` an order may fill: a reduce-only one no more than there is to close."""
        if not order.reduce_only:
            return quantity
        side = 1 if order.side == OrderSide.SELL else -1
        return min(quantity, max(side * self.rows[order.account, order.symbol].tokens, ZERO))

    def apply(self, fill: PaperFill) -> None:
        """Change the position of a fill's order."""
        order, now = fill.order, clock.now()
        key = (order.account, order.symbol)
        row, sign = self.rows[key], 1 if order.side == OrderSide.BUY else -1
        before = Isolated(row.tokens, row.cash)
        after = isolated.traded(before, sign * fill.quantity, fill.cash, order.leverage)
        row.tokens, row.cash = after.tokens, after.cash
        if before.tokens * after.tokens <= 0:  # it begins anew: what the price did before concerns it no more
            row.opened_at = row.checked_until = row.funded_until = now
        if not order.reduce_only:
            row.leverage = order.leverage
        self.changed.add(key)

    def save(self) -> None:
        """Store what changed."""
        for key in sorted(self.changed):
            self.rows[key].save()


def _liquidate(row: PaperPosition, held: Isolated, at: datetime) -> list[Move]:
    """Close a position at the price at which its whole margin is lost; return the moves of the account's balances.

    The order is the exchange's own; `PaperVenue.find` reports it as any other.
    """
    sells, quantity = held.tokens > 0, abs(held.tokens)
    cash = abs(held.cash)
    order = PaperOrder.objects.create(
        client_order_id=f"liquidation-{row.pk}-{row.opened_at:%Y%m%d%H%M%S%f}", account=row.account,
        symbol=row.symbol, side=OrderSide.SELL if sells else OrderSide.BUY, quantity=quantity, filled=quantity,
        leverage=row.leverage, reduce_only=True, is_liquidation=True, accepted_at=at,
    )  # fmt: skip
    PaperFill.objects.create(
        order=order, quantity=quantity, price=isolated.bankruptcy_price(held), cash=cash, fee=ZERO, at=at
    )
    row.tokens = row.cash = ZERO
    return [(row.account, row.symbol, -held.tokens), (row.account, USDC, cash if sells else -cash)]
