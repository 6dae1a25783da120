"""The venue Alpaca: market orders on paper accounts, with the keys of each account.

`prepare` stores the exact body; a repeated client order id is refused by Alpaca, which proves that the order arrived.
What is not filled at the deadline is canceled by `find`. The hours of the stock exchange are Alpaca's own clock's.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from maxxit.core.money import USD, plain
from maxxit.core.terms import BPS, OrderSide, Purpose
from maxxit.market import calendar, quotes
from trading import ledger
from trading.reasons import Reason
from trading.venues.alpaca import transfers
from trading.venues.alpaca.access import Access, is_blocked, permissions
from trading.venues.alpaca.brackets import legs_of, open_parts
from trading.venues.alpaca.client import PAPER_URL, Client, Keys, Refusal, stream_url
from trading.venues.alpaca.orders import is_open
from trading.venues.alpaca.reader import Reader
from trading.venues.alpaca.terms import OrderOptions, terms_of
from trading.venues.base import (
    Capabilities,
    KeyAccess,
    Leg,
    Prepared,
    Question,
    Request,
    VenueAnswer,
)
from trading.venues.broker import BrokerVenue, Found, Ref

if TYPE_CHECKING:
    from trading.venues.alpaca.stream import TradeStream

log = structlog.get_logger(__name__)

BAD_REQUEST, DUPLICATE = 40010001, "client_order_id must be unique"
"""The number stands for other bad requests too; the words decide."""


class AlpacaVenue(BrokerVenue[Keys]):
    """Paper accounts at Alpaca. `stocks`: the symbols that are stocks; every other one is crypto, traded as SYMBOL/USD.

    `crypto_fee_bps`: what Alpaca keeps of what a crypto order receives, in basis points. `order_options`: see
    `OrderOptions`.
    """

    name = "alpaca"
    credential_fields = ("key_id", "secret")

    def __init__(
        self,
        *,
        base_url: str = PAPER_URL,
        stocks: Sequence[str] = (),
        crypto_fee_bps: int = 25,
        shorts: bool = False,
        max_leverage: Decimal = Decimal(1),
        **order_options: Any,
    ) -> None:
        super().__init__()
        if max_leverage != 1:
            raise Misconfigured("venue alpaca: trading on margin is not supported: set max_leverage 1")
        if not 0 <= crypto_fee_bps < BPS:
            raise Misconfigured("venue alpaca: crypto_fee_bps is 0 to 9999")
        self.client = Client(base_url)
        self.stream_url = stream_url(base_url)
        self.stocks = frozenset(stocks)
        self.crypto_fee = Decimal(crypto_fee_bps) / BPS
        self.order_options = OrderOptions.of(order_options)
        self.access = Access(self.client)
        self.capabilities = Capabilities(
            dedup=True, shorts=shorts, max_leverage=max_leverage, collects_fees=False,
            find_lag=timedelta(seconds=10), batch=100, resting_exits=True,
        )  # fmt: skip

    # -- orders

    def prepare(self, request: Request) -> Prepared:
        """Return the body as text, and a reference that names account, order and deadline."""
        ref = str(Ref(request.account, request.client_order_id, request.deadline))
        stock = request.symbol in self.stocks
        terms = terms_of(request, self._listed_as(request.symbol), self.order_options, stock=stock)
        payload = {
            "account": request.account,
            "body": terms.body,
            "deadline": request.deadline.isoformat(),
            **({"note": terms.note} if terms.note else {}),
        }
        return Prepared(ref, payload, rests_exits=terms.rests_exits and request.purpose == Purpose.OPEN)

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Send many orders, some at once; return ref -> error."""
        return self._send_each(orders, self._send)

    def _send(self, keys: Keys, order: Prepared) -> None:
        deadline = datetime.fromisoformat(order.payload["deadline"])
        if clock.now() >= deadline:
            raise Rejected(
                f"the order was not sent before its deadline, {deadline}", code=Reason.DEADLINE_PASSED
            )
        sent = Ref.parse(order.ref).client_order_id
        try:
            answer = self.client.post(keys, "/v2/orders", order.payload["body"])
        except Refusal as refusal:
            if (refusal.number == BAD_REQUEST and DUPLICATE in refusal.text) or self._arrived(keys, sent):
                return
            raise
        if not isinstance(answer, dict) or answer.get("client_order_id") != sent:
            raise Unknown(f"Alpaca's answer to the order {sent} names another order")

    def _arrived(self, keys: Keys, client_order_id: str) -> bool:
        """Return whether Alpaca has the order that it refuses: sent again, it may lack the cash that it took itself.

        Raises Unknown where Alpaca cannot be asked.
        """
        try:
            return Reader(self.client, keys, self.crypto_fee).order(client_order_id) is not None
        except (Retryable, Refusal) as error:
            raise Unknown(
                f"the order {client_order_id} was refused and cannot be looked up: {error}"
            ) from error

    def _find(self, keys: Keys, orders: Sequence[Ref]) -> dict[str, Found]:
        reader = Reader(self.client, keys, self.crypto_fee)
        found = reader.reports([order.client_order_id for order in orders])
        for order in orders:
            chain = reader.chains.get(order.client_order_id)
            if chain and is_open(chain[-1]) and order.is_over(clock.now()):
                self._cancel(keys, chain[-1]["id"])
        return {str(order): found[order.client_order_id] for order in orders}

    def cancel(self, ref: str) -> None:
        """Ask Alpaca to cancel what is not filled; nothing to do where the order has ended or never arrived."""
        order = Ref.parse(ref)
        keys = self._keys(order.account)
        row = Reader(self.client, keys, self.crypto_fee).newest(order.client_order_id)
        if row is not None and is_open(row):
            self._cancel(keys, row["id"])

    def _cancel(self, keys: Keys, order_id: str) -> None:
        """Cancel one order. A refusal means that it ended meanwhile; the next `find` shows how."""
        try:
            self.client.delete(keys, f"/v2/orders/{order_id}")
        except (Refusal, Retryable, Unknown) as error:
            log.warning("order_not_canceled", venue=self.name, order=order_id, error=str(error))

    # -- exits that Alpaca keeps

    def exits(self, refs: Sequence[str]) -> dict[str, tuple[Leg, ...] | Exception]:
        """Return the legs of brackets, account by account."""
        return self._of_orders(refs, self._exits)

    def _exits(self, keys: Keys, entries: Sequence[Ref]) -> dict[str, tuple[Leg, ...] | Exception]:
        reader = Reader(self.client, keys, self.crypto_fee)
        reader.list_many([entry.client_order_id for entry in entries])
        legs: dict[str, tuple[Leg, ...] | Exception] = {}
        for entry in entries:
            try:
                legs[str(entry)] = legs_of(reader, entry)
            except (Retryable, Rejected) as error:
                legs[str(entry)] = error
        return legs

    def release(self, refs: Sequence[str]) -> None:
        """Ask Alpaca to cancel the legs of brackets, or an entry that is not filled with its legs."""
        failed = [error for error in self._of_orders(refs, self._release).values() if error is not None]
        if failed:
            raise Unknown(f"{len(failed)} of {len(refs)} brackets may not be canceled: {failed[0]}")

    def _release(self, keys: Keys, entries: Sequence[Ref]) -> dict[str, Exception | None]:
        reader = Reader(self.client, keys, self.crypto_fee)
        reader.list_many([entry.client_order_id for entry in entries])
        errors: dict[str, Exception | None] = {}
        for entry in entries:
            try:
                for order_id in open_parts(reader, entry):
                    self._cancel(keys, order_id)
                errors[str(entry)] = None
            except (Retryable, Rejected) as error:
                errors[str(entry)] = error
        return errors

    # -- what it would take

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return whether Alpaca would take each order; the accounts of entries are read some at once first."""
        entries = {question.account for question in questions if question.purpose == Purpose.OPEN}
        self._with_keys({account: (account, self.access.account) for account in entries})
        return super().answers(questions)

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the quote, USD: Alpaca's own prices are on a host that we do not ask."""
        if side == OrderSide.SELL and not (self.capabilities.shorts and symbol in self.stocks):
            raise Rejected(f"Alpaca does not sell {symbol} short here", code=Reason.SHORTS_NOT_SUPPORTED)
        quote = quotes.latest([symbol]).get(symbol)
        return quote.price if quote else None

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return why Alpaca would refuse an order now; a closed exchange stops exits too.

        An exit waits for no other read: Alpaca itself refuses it where its account is blocked or the clock is unread.
        """
        keys = self._keys(account)
        if purpose == Purpose.CLOSE:
            return Reason.MARKET_CLOSED if symbol in self.stocks and self._is_closed(keys) else ""
        if purpose == Purpose.OPEN and not self.access.is_tradable(keys, self._listed_as(symbol)):
            return Reason.TOKEN_NOT_LISTED
        stock = symbol in self.stocks
        if is_blocked(self.access.account(keys), stock=stock):
            return Reason.ACCOUNT_BLOCKED
        if stock and not self.access.market_clock(keys)["is_open"]:
            return Reason.MARKET_CLOSED
        return ""

    def order_listener(self, account: str, heard: Callable[[str], None]) -> "TradeStream":
        """Return a listener of the account's trade stream."""
        from trading.venues.alpaca.stream import TradeStream  # loads websockets

        keys = self._keys(account)
        return TradeStream(account, self.stream_url, keys, heard=heard, connected=partial(heard, ""))

    def detail_of(self, problem: str) -> str:
        """Return when the exchange opens next, where it is closed."""
        return calendar.closed_text(clock.now()) if problem == Reason.MARKET_CLOSED else ""

    def sessions(self, account: str, first: date, last: date) -> list[calendar.Session]:
        """Return the sessions of /v2/calendar."""
        return self.access.sessions(self._keys(account), first, last)

    def _is_closed(self, keys: Keys) -> bool:
        """Return whether the exchange is known to be closed."""
        try:
            return not self.access.market_clock(keys)["is_open"]
        except (Retryable, Rejected) as error:
            log.warning("clock_not_read", venue=self.name, error=str(error))
            return False

    # -- accounts

    def unexplained(self, account: str, differences: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Book the owner's transfers of cash and return the differences that remain."""
        left = dict(differences)
        deployment = ledger.booking_deployment(account, self.name)
        started = ledger.first_deposit_at(deployment) if deployment else None
        if USD not in left or deployment is None or started is None:
            return left
        since = started.date()
        day = (since - timedelta(days=1)).isoformat()
        rows = Reader(self.client, self._keys(account), self.crypto_fee).activities(transfers.KINDS, day)
        left[USD] -= transfers.book(deployment, map(transfers.Transfer.of, rows), since, left[USD])
        return {asset: amount for asset, amount in left.items() if amount}

    def opening_balance(self, account: str) -> Decimal | None:
        """Return the cash of the account, USD."""
        return self._cash(self._keys(account))

    def parse_keys(self, secrets: Mapping[str, str]) -> Keys:
        """Return the keys of an account."""
        return Keys(secrets["key_id"], secrets["secret"])

    def key_access(self, secrets: Mapping[str, str]) -> KeyAccess:
        """Return what keys may do. A paper account has nothing that could be withdrawn."""
        account = Access(self.client).account(self.parse_keys(secrets))
        return KeyAccess(
            str(account.get("id") or ""),
            permissions(account),
            may_trade=not is_blocked(account, stock=True),
            may_withdraw=False,
        )

    def verify(self, account: str) -> dict[str, Any]:
        """Return what an account may do, its cash and the exchange's hours."""
        keys = self._keys(account)
        state, hours = self.access.account(keys), self.access.market_clock(keys)
        return {
            "permissions": list(permissions(state)),
            "may_trade": not is_blocked(state, stock=True),
            "cash": plain(self._cash(keys)),
            "notes": [
                f"the stock exchange is open until {hours.get('next_close')}"
                if hours["is_open"]
                else f"the stock exchange is closed; it opens at {hours.get('next_open')}"
            ],
            "clock": {name: hours.get(name) for name in ("timestamp", "is_open", "next_open", "next_close")},
        }

    def _balances(self, keys: Keys) -> dict[str, Decimal]:
        """Return USD and every position, in whole units; a short is negative."""
        self.client.leave_reserve(keys)
        held = {self._asset(row): _signed(row) for row in self.client.get_list(keys, "/v2/positions")}
        return {USD: self._cash(keys)} | {asset: amount for asset, amount in held.items() if amount}

    def _cash(self, keys: Keys) -> Decimal:
        self.client.leave_reserve(keys)
        return Decimal(self.client.get_object(keys, "/v2/account", "cash")["cash"])

    # -- helpers

    def _listed_as(self, symbol: str) -> str:
        """Return what Alpaca calls a symbol."""
        return symbol if symbol in self.stocks else f"{symbol}/{USD}"

    def _asset(self, position: Mapping[str, Any]) -> str:
        """Return our symbol of a position. A stock that shares its symbol with a coin of ours is not that coin."""
        symbol = str(position["symbol"])
        if position.get("asset_class") == "crypto":
            return symbol.replace("/", "").removesuffix(USD)
        return symbol if symbol in self.stocks else f"{symbol}.US"


def _signed(position: Mapping[str, Any]) -> Decimal:
    quantity = abs(Decimal(position["qty"]))
    return -quantity if position["side"] == "short" else quantity
