"""The paper exchange: a venue with play money that fills orders at the quote plus slippage, from its own tables.

It implements the same interface as every venue, so that paper trading runs the production code. Each `send` or `find`
fills up to `depth_usd` of an order; the rest fills at the next `find`, as in a thin market. Client order ids are
deduplicated for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from django.db import transaction

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.money import USDC, USDC_UNIT, ZERO, usdc
from maxxit.core.terms import BPS, OrderSide
from maxxit.market import quotes
from maxxit.market.instruments import instrument
from trading.models import PaperBalance, PaperFill, PaperOrder
from trading.reasons import Reason
from trading.venues.base import Capabilities, Prepared, Report, Request, Venue, VenueFill


class PaperVenue(Venue):
    """Accepts any listed symbol with a fresh quote, long or short."""

    name = "paper"

    def __init__(
        self,
        *,
        slippage_bps: int,
        fee_bps: int,
        depth_usd: int,
        shorts: bool = True,
        max_leverage: Decimal = Decimal(1),
    ) -> None:
        if not (0 <= slippage_bps < 10_000 and 0 <= fee_bps < 10_000 and depth_usd > 0):
            raise Misconfigured("venue paper: slippage_bps and fee_bps are 0 to 9999, depth_usd is positive")
        self.slippage, self.fee = Decimal(slippage_bps) / BPS, Decimal(fee_bps) / BPS
        self.depth_usd = Decimal(depth_usd)
        self.capabilities = Capabilities(
            dedup=True, shorts=shorts, max_leverage=max_leverage, collects_fees=False, find_lag=timedelta(0),
            play_money=True,
        )  # fmt: skip

    def prepare(self, request: Request) -> Prepared:
        """Return the order's terms as JSON."""
        payload = {name: str(value) for name, value in asdict(request).items()}
        return Prepared(request.client_order_id, payload)

    @transaction.atomic
    def send(self, prepared: Prepared) -> None:
        """Accept the order and fill what the depth allows. Raises Rejected without a quote or past the deadline."""
        terms = prepared.payload
        if clock.now() >= datetime.fromisoformat(terms["deadline"]):
            raise Rejected(
                f"the order arrived after its deadline, {terms['deadline']}", code=Reason.DEADLINE_PASSED
            )
        if not quotes.latest([terms["symbol"]], closing=True) and not _is_urgent(terms):
            raise Rejected(f"the paper exchange has no quote of {terms['symbol']}", code=Reason.NO_PRICE)
        if Decimal(terms["quantity"]) <= ZERO:
            raise Rejected(
                f"the quantity is {terms['quantity']} {terms['symbol']}; it must be above zero",
                code=Reason.NO_QUANTITY,
            )
        order, new = PaperOrder.objects.get_or_create(
            client_order_id=prepared.ref, defaults=_terms(terms) | {"accepted_at": clock.now()}
        )
        if new:
            self._match(order)

    @transaction.atomic
    def find(self, ref: str) -> Report | None:
        """Fill what the depth allows and return the order's status."""
        order = PaperOrder.objects.select_for_update().filter(client_order_id=ref).first()
        if order is None:
            return None
        self._match(order)
        fills = tuple(
            VenueFill(str(f.pk), f.quantity, f.price, f.cash, f.fee, f.at) for f in order.fills.order_by("pk")
        )
        if order.filled == order.quantity:
            return Report("filled", fills)
        if order.canceled:
            return Report("canceled", fills)
        return Report("partially_filled" if fills else "accepted", fills)

    def cancel(self, ref: str) -> None:
        """Cancel the unfilled rest."""
        PaperOrder.objects.filter(client_order_id=ref).update(canceled=True)

    def balances(self, account: str) -> dict[str, Decimal]:
        """Return what the account holds here."""
        return self.balances_of([account])[account]

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the same of many accounts, in one query."""
        balances: dict[str, dict[str, Decimal]] = {account: {} for account in accounts}
        rows = PaperBalance.objects.filter(account__in=balances)
        for account, asset, amount in rows.values_list("account", "asset", "amount"):
            balances[account][asset] = amount
        return balances

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the quote plus slippage; the depth only delays fills."""
        quote = quotes.latest([symbol]).get(symbol)
        price = self._worse(quote.price, symbol, side) if quote else ZERO
        return price if price > ZERO else None

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return no objection: the paper exchange is always open."""
        return ""

    def deposit(self, account: str, amount: Decimal) -> None:
        """Add play money (USDC) to an account. The caller makes sure that a deployment is funded once."""
        self._move(account, USDC, usdc(amount))

    def _worse(self, price: Decimal, symbol: str, side: str) -> Decimal:
        worse = price * (1 + self.slippage if side == OrderSide.BUY else 1 - self.slippage)
        return instrument(symbol).round_price_against(worse, side)

    def _match(self, order: PaperOrder) -> None:
        """Fill the rest, up to the depth, at the quote plus slippage; nothing where that price is below one tick.

        Cash is rounded against the trader to six decimals.
        """
        quote, left = _quote(order), order.quantity - order.filled
        at = quote.price if quote else order.last_price
        if at is None or left <= ZERO or order.canceled:
            return
        token, now = instrument(order.symbol), clock.now()
        price = self._worse(at, order.symbol, order.side)
        if price <= ZERO:
            return
        quantity = min(left, max(token.round_quantity(self.depth_usd / price), token.lot))
        cash = (quantity * price).quantize(
            USDC_UNIT, ROUND_CEILING if order.side == OrderSide.BUY else ROUND_FLOOR
        )
        fee = (cash * self.fee).quantize(USDC_UNIT, ROUND_CEILING)
        age = max(round((now - quote.at).total_seconds()), 0) if quote else None
        PaperFill.objects.create(
            order=order, quantity=quantity, price=price, cash=cash, fee=fee, quote_age_seconds=age, at=now
        )
        order.filled += quantity
        order.save(update_fields=["filled"])
        sign = 1 if order.side == OrderSide.BUY else -1
        self._move(order.account, order.symbol, sign * quantity)
        self._move(order.account, USDC, -sign * cash - fee)

    def _move(self, account: str, asset: str, amount: Decimal) -> None:
        balance, _ = PaperBalance.objects.select_for_update().get_or_create(account=account, asset=asset)
        balance.amount += amount
        balance.save(update_fields=["amount"])


def _is_urgent(terms: Mapping[str, Any]) -> bool:
    return terms.get("urgent") == str(True)


def _terms(terms: Mapping[str, Any]) -> dict[str, Any]:
    return {name: terms[name] for name in ("account", "symbol", "side")} | {
        "quantity": Decimal(terms["quantity"]),
        "last_price": Decimal(terms["reference_price"]) if _is_urgent(terms) else None,
    }


def _quote(order: PaperOrder) -> quotes.Quote | None:
    """Return the fresh quote; for an urgent order without one, the last known quote."""
    fresh = quotes.latest([order.symbol], closing=True).get(order.symbol)
    return fresh or (quotes.last_known(order.symbol) if order.last_price is not None else None)
