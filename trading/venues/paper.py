"""The paper exchange: a venue with play money that fills orders at the quote plus slippage, from its own tables.

It implements the same interface as every venue, so that paper trading runs the production code. Each `send` or `find`
fills up to `depth_usd` of an order; the rest fills at the next `find`, as in a thin market. Client order ids are
deduplicated for ever. With `max_leverage` above 1 it has perpetual futures with isolated margin
(`trading.venues.paper_margin`); its cash is then that of ADR 30.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cache
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import F

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.money import USDC, USDC_UNIT, ZERO, usdc
from maxxit.core.terms import BPS, OrderSide, Purpose
from maxxit.market import quotes
from maxxit.market.instruments import Instrument, instrument
from maxxit.postgres import bulk
from trading import ledger
from trading.models import PaperBalance, PaperFill, PaperFunding, PaperOrder
from trading.perps import funding, margin
from trading.perps.liquidations import Liquidation, explain
from trading.quarantine import by_halves
from trading.reasons import Reason
from trading.venues.base import (
    Capabilities,
    Prepared,
    Question,
    Report,
    Request,
    Venue,
    VenueAnswer,
    VenueFill,
)
from trading.venues.paper_balances import Move, move
from trading.venues.paper_margin import PaperMargin, Positions

TERMS = tuple(field.name for field in fields(Request))
"""What is stored of a request."""


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
        **margin_rules: Any,
    ) -> None:
        if not (0 <= slippage_bps < 10_000 and 0 <= fee_bps < 10_000 and depth_usd > 0):
            raise Misconfigured("venue paper: slippage_bps and fee_bps are 0 to 9999, depth_usd is positive")
        self.slippage, self.fee = Decimal(slippage_bps) / BPS, Decimal(fee_bps) / BPS
        self.depth_usd = Decimal(depth_usd)
        if margin_rules and max_leverage == 1:
            names = ", ".join(sorted(margin_rules))
            raise Misconfigured(f"venue paper: {names}: only with max_leverage above 1")
        self.margin: PaperMargin | None = None
        if max_leverage > 1:
            try:
                self.margin = PaperMargin(
                    max_leverage=max_leverage, most_slippage=self.slippage, **margin_rules
                )
            except TypeError as error:
                raise Misconfigured(f"venue paper: {error}") from error
        self.capabilities = Capabilities(
            dedup=True, shorts=shorts, max_leverage=max_leverage, collects_fees=False, find_lag=timedelta(0),
            play_money=True, local=True, batch=10_000, liquidates=self.margin is not None,
        )  # fmt: skip

    def prepare(self, request: Request) -> Prepared:
        """Return the order's terms as JSON."""
        payload = {name: str(getattr(request, name)) for name in TERMS}
        return Prepared(request.client_order_id, payload)

    def send(self, prepared: Prepared) -> None:
        """Accept the order and fill what the depth allows. Raises Rejected without a quote or past the deadline."""
        for error in self.send_many([prepared]).values():
            raise error

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Do the same for many orders; return ref -> error of those that were not accepted."""
        errors: dict[str, Exception] = {}

        def failed(order: Prepared, error: Exception) -> None:
            errors[order.ref] = error

        by_halves(orders, lambda part: self._accept(part, errors), failed)
        return errors

    @transaction.atomic
    def _accept(self, orders: Sequence[Prepared], errors: dict[str, Exception]) -> list[str]:
        priced = _quotes({order.payload["symbol"] for order in orders})
        check_margin = self._margin_check(orders, priced)
        terms: dict[str, dict[str, Any]] = {}
        for order in orders:
            try:
                _check(order.payload, priced)
                row = self._terms(order.payload)
                check_margin(order.ref, row)
            except Rejected as rejection:
                errors[order.ref] = rejection
            else:
                terms[order.ref] = row
        with connection.cursor() as cursor:
            columns = ("account", "symbol", "side", "quantity", "last_price", "leverage", "reduce_only")
            values = {name: [row[name] for row in terms.values()] for name in columns}
            cursor.execute(ACCEPT, values | {"refs": list(terms), "now": clock.now()})
            new = [PaperOrder(pk=pk, client_order_id=ref, **terms[ref]) for pk, ref in cursor.fetchall()]
        self._match(new, priced)
        return list(terms)

    def _margin_check(
        self, orders: Sequence[Prepared], priced: "Quotes"
    ) -> Callable[[str, Mapping[str, Any]], None]:
        """Bring the orders' accounts up to now; return a check that raises Rejected where the margin does not suffice.

        An order that was accepted before passes: it changes nothing.
        """
        if self.margin is None:
            return lambda ref, row: None
        rules, accounts = self.margin, {self._key(order.payload["account"]) for order in orders}
        rules.advance(accounts)
        free = rules.free(accounts)
        refs = [order.ref for order in orders]
        known = set(
            PaperOrder.objects.filter(client_order_id__in=refs).values_list("client_order_id", flat=True)
        )

        def check(ref: str, row: Mapping[str, Any]) -> None:
            if ref in known:
                return
            order = PaperOrder(client_order_id=ref, **row)
            quote = priced.of(order)
            price = quote.price if quote else order.last_price or ZERO
            rules.check(order, self._worse(price, order.symbol, order.side), self.fee, free)

        return check

    def find(self, ref: str) -> Report | None:
        """Fill what the depth allows and return the order's status."""
        found = self.find_many([ref])[ref]
        if isinstance(found, Exception):
            raise found
        return found

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        """Do the same for many orders."""
        found: dict[str, Report | Exception | None] = {}

        def failed(ref: str, error: Exception) -> None:
            found[ref] = error

        for ref, report in by_halves(refs, self._find, failed):
            found[ref] = report
        return found

    def _find(self, refs: Sequence[str]) -> list[tuple[str, Report | None]]:
        found = _stored(refs)
        if any(order.filled < order.quantity for order, _ in found.values()):
            self._fill_rest(refs)
            found = _stored(refs)
        return [(ref, _report(*found[ref]) if ref in found else None) for ref in refs]

    @transaction.atomic
    def _fill_rest(self, refs: Sequence[str]) -> None:
        rows = PaperOrder.objects.filter(client_order_id__in=refs, filled__lt=F("quantity"))
        unfilled = list(rows.select_for_update().order_by("pk"))
        if self.margin:
            self.margin.advance({order.account for order in unfilled})
        self._match(unfilled, _quotes({order.symbol for order in unfilled}))

    def cancel(self, ref: str) -> None:
        """Cancel the unfilled rest."""
        PaperOrder.objects.filter(client_order_id=ref).update(canceled=True)

    def balances(self, account: str) -> dict[str, Decimal]:
        """Return what the account holds here."""
        return self.balances_of([account])[account]

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the same of many accounts, in one query."""
        names = {self._key(account): account for account in accounts}
        balances: dict[str, dict[str, Decimal]] = {account: {} for account in accounts}
        if self.margin:
            self.margin.advance(names)
        rows = PaperBalance.objects.filter(account__in=names)
        for account, asset, amount in rows.values_list("account", "asset", "amount"):
            balances[names[account]][asset] = amount
        if self.margin:
            for key, account in names.items():
                margin.store(self.name, account, self.margin.margins(key))
        return balances

    def unexplained(self, account: str, differences: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Book the funding that was charged; return the differences that remain.

        A liquidation that is not adopted yet explains its own: `positions.liquidations` adopts it.
        """
        left = dict(differences)
        deployment = ledger.booking_deployment(account, self.name)
        if self.margin is None or deployment is None:
            return left
        if USDC in left:
            left[USDC] -= funding.book(deployment, self._payments(account, funding.last_booked(deployment)))
        return explain(self.name, account, left, self.liquidations(account))

    def _payments(self, account: str, since: datetime | None) -> list[funding.Funding]:
        rows = PaperFunding.objects.filter(account=self._key(account)).order_by("at", "pk")
        if since is not None:
            rows = rows.filter(at__gte=since)
        return [
            funding.Funding(row.symbol, row.amount, f"{row.symbol}:{row.at:%Y-%m-%dT%H:%M}", row.at)
            for row in rows
        ]

    def liquidations(self, account: str) -> Sequence[Liquidation]:
        """Return the liquidations of an account's positions, oldest first."""
        orders = PaperOrder.objects.filter(account=self._key(account), is_liquidation=True).order_by("pk")
        return [_liquidation(order) for order in orders.prefetch_related("fills")]

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the quote plus slippage; the depth only delays fills."""
        return self._entry_price(quotes.latest([symbol]).get(symbol), symbol, side)

    def _entry_price(self, quote: quotes.Quote | None, symbol: str, side: str) -> Decimal | None:
        price = self._worse(quote.price, symbol, side) if quote else ZERO
        return price if price > ZERO else None

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return the same for many orders, with one look at the quotes."""
        entered = {question.symbol for question in questions if question.purpose == Purpose.OPEN}
        trusted = quotes.latest(sorted(entered)) if entered else {}

        def answer(question: Question) -> VenueAnswer:
            if question.purpose == Purpose.CLOSE:
                return VenueAnswer("")
            return VenueAnswer(
                "", self._entry_price(trusted.get(question.symbol), question.symbol, question.side)
            )

        return [answer(question) for question in questions]

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return no objection: the paper exchange is always open."""
        return ""

    def deposit(self, account: str, amount: Decimal) -> None:
        """Add play money (USDC) to an account. The caller makes sure that a deployment is funded once."""
        move([(self._key(account), USDC, usdc(amount))])

    def _key(self, account: str) -> str:
        """Return the account's name in the exchange's tables: apart from that of another stanza where it has margin."""
        return f"{self.name}/{account}" if self.margin else account

    def _terms(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of an order; without margin leverage says nothing."""
        leverage = Decimal(terms.get("leverage") or 1)
        return {
            "account": self._key(terms["account"]),
            "symbol": terms["symbol"],
            "side": terms["side"],
            "quantity": Decimal(terms["quantity"]),
            "last_price": Decimal(terms["reference_price"]) if _is_urgent(terms) else None,
            "leverage": self.margin.leverage(leverage) if self.margin else Decimal(1),
            "reduce_only": self.margin is not None and terms["purpose"] == Purpose.CLOSE,
        }

    def _worse(self, price: Decimal, symbol: str, side: str) -> Decimal:
        return worse_price(price, symbol, side, self.slippage)

    def _match(self, orders: Sequence[PaperOrder], priced: "Quotes") -> None:
        """Fill the rest of each order, up to the depth, at the quote plus slippage; store fills and balances."""
        held = self.margin.positions(orders) if self.margin else None
        fills = []
        for order in orders:
            if held and held.is_pointless(order):
                order.canceled = True
                self.cancel(order.client_order_id)
            elif fill := self._fill(order, priced.of(order), held):
                fills.append(fill)
                if held:
                    held.apply(fill)
        if not fills:
            return
        names = ("order_id", "quantity", "price", "cash", "fee", "quote_age_seconds", "at")
        bulk.insert(PaperFill, {name: [getattr(fill, name) for fill in fills] for name in names})
        for fill in fills:
            fill.order.filled += fill.quantity
        filled = [fill.order.filled for fill in fills]
        bulk.update(PaperOrder, [fill.order_id for fill in fills], {"filled": filled})
        move([one for fill in fills for one in _moves(fill)])
        if held:
            held.save()

    def _fill(
        self, order: PaperOrder, quote: quotes.Quote | None, held: Positions | None = None
    ) -> PaperFill | None:
        """Return the next fill of an order; None where the price is below one tick.

        Cash is rounded against the trader to six decimals.
        """
        left = order.quantity - order.filled
        at = quote.price if quote else order.last_price
        if at is None or left <= ZERO or order.canceled:
            return None
        token, now = instrument(order.symbol), clock.now()
        price = self._worse(at, order.symbol, order.side)
        if price <= ZERO:
            return None
        quantity = min(left, available(token, price, self.depth_usd))
        if held:
            quantity = held.fillable(order, quantity)
        cash, fee = exchanged(quantity, price, order.side, self.fee)
        age = max(round((now - quote.at).total_seconds()), 0) if quote else None
        return PaperFill(
            order=order, quantity=quantity, price=price, cash=cash, fee=fee, quote_age_seconds=age, at=now
        )


def worse_price(price: Decimal, symbol: str, side: str, slippage: Decimal) -> Decimal:
    """Return the price in USD at which an order fills: the quote plus slippage (a fraction), against the trader."""
    worse = price * (1 + slippage if side == OrderSide.BUY else 1 - slippage)
    return instrument(symbol).round_price_against(worse, side)


def available(token: Instrument, price: Decimal, depth_usd: Decimal) -> Decimal:
    """Return how many tokens one fill takes at most at `price` (USD): whole lots for `depth_usd`, at least one."""
    return max(token.round_quantity(depth_usd / price), token.lot)


def exchanged(quantity: Decimal, price: Decimal, side: str, fee: Decimal) -> tuple[Decimal, Decimal]:
    """Return the cash of a fill and the venue's fee, USDC, both rounded against the trader to six decimals.

    Args:
        quantity: tokens.
        price: USD.
        fee: fraction of the cash.
    """
    cash = (quantity * price).quantize(USDC_UNIT, ROUND_CEILING if side == OrderSide.BUY else ROUND_FLOOR)
    return cash, (cash * fee).quantize(USDC_UNIT, ROUND_CEILING)


ACCEPT = """
INSERT INTO paper_orders (client_order_id, account, symbol, side, quantity, filled, canceled, last_price, leverage,
                          reduce_only, accepted_at)
SELECT ref, account, symbol, side, quantity, 0, false, last_price, leverage, reduce_only, %(now)s
FROM unnest(%(refs)s::text[], %(account)s::text[], %(symbol)s::text[], %(side)s::text[], %(quantity)s::numeric[],
            %(last_price)s::numeric[], %(leverage)s::numeric[], %(reduce_only)s::boolean[]) WITH ORDINALITY
    AS new (ref, account, symbol, side, quantity, last_price, leverage, reduce_only, row)
ORDER BY row
ON CONFLICT (client_order_id) DO NOTHING
RETURNING id, client_order_id
"""


def _moves(fill: PaperFill) -> list[Move]:
    order, sign = fill.order, 1 if fill.order.side == OrderSide.BUY else -1
    return [
        (order.account, order.symbol, sign * fill.quantity),
        (order.account, USDC, -sign * fill.cash - fill.fee),
    ]


@dataclass(frozen=True, slots=True)
class Quotes:
    """The fresh quotes of some symbols, and the last known ones for urgent closing orders."""

    fresh: Mapping[str, quotes.Quote]
    last_known: Callable[[str], quotes.Quote | None]

    def of(self, order: PaperOrder) -> quotes.Quote | None:
        """Return the fresh quote; for an urgent order without one, the last known quote."""
        fresh = self.fresh.get(order.symbol)
        return fresh or (self.last_known(order.symbol) if order.last_price is not None else None)


def _quotes(symbols: Collection[str]) -> Quotes:
    return Quotes(quotes.latest(sorted(symbols), closing=True), cache(quotes.last_known))


def _check(terms: Mapping[str, Any], priced: Quotes) -> None:
    """Raise Rejected where the order arrives late, has no quote or no quantity."""
    if clock.now() >= datetime.fromisoformat(terms["deadline"]):
        raise Rejected(
            f"the order arrived after its deadline, {terms['deadline']}", code=Reason.DEADLINE_PASSED
        )
    if terms["symbol"] not in priced.fresh and not _is_urgent(terms):
        raise Rejected(f"the paper exchange has no quote of {terms['symbol']}", code=Reason.NO_PRICE)
    if Decimal(terms["quantity"]) <= ZERO:
        raise Rejected(
            f"the quantity is {terms['quantity']} {terms['symbol']}; it must be above zero",
            code=Reason.NO_QUANTITY,
        )


STORED = """
SELECT o.client_order_id, o.quantity, o.filled, o.canceled, f.id, f.quantity, f.price, f.cash, f.fee, f.at
FROM paper_orders o LEFT JOIN paper_fills f ON f.order_id = o.id WHERE o.client_order_id = ANY(%s) ORDER BY f.id
"""


class _Stored(NamedTuple):
    """What an order's status follows from, in tokens."""

    quantity: Decimal
    filled: Decimal
    canceled: bool


def _stored(refs: Sequence[str]) -> dict[str, tuple[_Stored, list[VenueFill]]]:
    """Return ref -> the order and its fills, oldest first; one statement, so that both are of one moment."""
    found: dict[str, tuple[_Stored, list[VenueFill]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(STORED, [list(refs)])
        for ref, quantity, filled, canceled, fill_id, *fill in cursor.fetchall():
            _, fills = found.setdefault(ref, (_Stored(quantity, filled, canceled), []))
            if fill_id is not None:
                fills.append(VenueFill(str(fill_id), *fill))
    return found


def _report(order: _Stored, fills: Sequence[VenueFill]) -> Report:
    if order.filled == order.quantity:
        return Report("filled", tuple(fills))
    if order.canceled:
        return Report("canceled", tuple(fills))
    return Report("partially_filled" if fills else "accepted", tuple(fills))


def _is_urgent(terms: Mapping[str, Any]) -> bool:
    return terms.get("urgent") == str(True)


def _liquidation(order: PaperOrder) -> Liquidation:
    cash = sum((fill.cash - fill.fee for fill in order.fills.all()), ZERO)
    sells = order.side == OrderSide.SELL
    return Liquidation(
        ref=order.client_order_id, number=str(order.pk), symbol=order.symbol, quantity=order.quantity,
        sells=sells, cash=cash if sells else -cash, at=order.accepted_at,
    )  # fmt: skip
