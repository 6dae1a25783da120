"""The venue Coinbase Advanced: spot orders against USD, with the API key of each account. Real money.

Coinbase says that it knows a repeated client order id, and others deny it: so nothing is sent twice. The signature of
an order ends two minutes after it was prepared: that is its deadline, and an order that Coinbase does not list 30
seconds later never arrived.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from maxxit.core.money import USD, ZERO, plain
from maxxit.core.terms import BPS, Purpose
from maxxit.market import quotes
from maxxit.market.instruments import all_instruments, instrument
from trading.reasons import Reason
from trading.venues.base import (
    Capabilities,
    KeyAccess,
    Prepared,
    Question,
    Request,
    VenueAnswer,
)
from trading.venues.broker import BrokerVenue, Found, Ref
from trading.venues.coinbase.access import Access
from trading.venues.coinbase.client import UNREADABLE, URL, Client, number, reading
from trading.venues.coinbase.orders import (
    LIFETIME,
    body_of,
    bound,
    is_open,
    preview_of,
    product_of,
    reason_of,
    refused_word,
    sent_id_of,
)  # fmt: skip
from trading.venues.coinbase.reader import OrderIds, Reader
from trading.venues.coinbase.token import Keys

if TYPE_CHECKING:
    from trading.venues.coinbase.stream import UserStream

log = structlog.get_logger(__name__)

STREAM_URL = "wss://advanced-trade-ws-user.coinbase.com"
FIND_LAG = timedelta(seconds=30)
FEE_ROOM = Decimal("0.02")
"""Part of the cash that is left out of a preview, for fees: the highest taker fee is 1.2 %."""


class CoinbaseVenue(BrokerVenue[Keys]):
    """Spot accounts at Coinbase. `slippage_bps`: how much worse than its quote an entry may fill, in basis points."""

    name = "coinbase"
    credential_fields = ("key_name", "private_key")

    def __init__(
        self,
        *,
        base_url: str = URL,
        slippage_bps: int = 50,
        shorts: bool = False,
        max_leverage: Decimal = Decimal(1),
    ) -> None:
        super().__init__()
        if shorts or max_leverage != 1:
            raise Misconfigured("venue coinbase: spot only: set shorts false and max_leverage 1")
        if not 0 < slippage_bps < BPS:
            raise Misconfigured("venue coinbase: slippage_bps is 1 to 9999")
        self.client = Client(base_url)
        self.stream_url = STREAM_URL if base_url.rstrip("/") == URL else ""
        self.slippage = Decimal(slippage_bps) / BPS
        self.access = Access(self.client)
        self._ids = OrderIds()
        self.capabilities = Capabilities(
            dedup=False,
            shorts=False,
            max_leverage=max_leverage,
            collects_fees=False,
            find_lag=FIND_LAG,
            batch=100,
        )

    # -- orders

    def prepare(self, request: Request) -> Prepared:
        """Return the body as text, and a reference that names account, order and until when Coinbase takes it."""
        until = min(request.deadline, clock.now() + LIFETIME)
        ref = Ref(request.account, request.client_order_id, until)
        limit = None
        if request.purpose == Purpose.OPEN:
            limit = self._bound(request.reference_price, request.symbol, request.side)
        payload = {
            "account": request.account,
            "body": body_of(request, sent_id_of(ref), limit),
            "side": request.side,
            "deadline": until.isoformat(),
        }
        return Prepared(str(ref), payload, deadline=until)

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Send many orders, some at once; return ref -> error."""
        return self._send_each(orders, self._send)

    def _send(self, keys: Keys, order: Prepared) -> None:
        ref, deadline = Ref.parse(order.ref), datetime.fromisoformat(order.payload["deadline"])
        if clock.now() >= deadline:
            raise Rejected(
                f"the order was not sent before {deadline}, when its signature ends",
                code=Reason.DEADLINE_PASSED,
            )
        try:
            answer = self.client.post(keys, "/orders", order.payload["body"], expires_at=deadline)
        except Retryable as error:  # nothing is sent twice, so this is the end of it; an exit is decided anew
            raise Rejected(f"the order did not reach Coinbase: {error}", code=Reason.NEVER_ARRIVED) from error
        try:
            self._note_answer(ref, answer, order.payload["side"])
        except UNREADABLE as error:
            raise Unknown(f"Coinbase's answer to the order {ref.client_order_id} cannot be read") from error

    def _note_answer(self, ref: Ref, answer: Any, side: str) -> None:
        """Keep Coinbase's id of an order that was taken. Raises Rejected, or Unknown for another order's answer."""
        if answer["success"] is False:
            self._refuse(ref, answer, side)
        taken = answer["success_response"]
        if (
            answer["success"] is not True
            or taken["client_order_id"] != sent_id_of(ref)
            or not taken["order_id"]
        ):
            raise Unknown(f"Coinbase's answer to the order {ref.client_order_id} names another order")
        self._ids.put(sent_id_of(ref), str(taken["order_id"]))

    def _refuse(self, ref: Ref, answer: Mapping[str, Any], side: str) -> None:
        """Raise Rejected with Coinbase's reason (HTTP 200, success false), or Unknown where it gives none."""
        word = refused_word(answer)
        if not word:
            raise Unknown(f"Coinbase refused the order {ref.client_order_id} without a reason")
        message = (answer.get("error_response") or {}).get("message") or ""
        raise Rejected(f"Coinbase refused it ({word}): {message}", code=reason_of(word, side))

    def _find(self, keys: Keys, orders: Sequence[Ref]) -> dict[str, Found]:
        reader = Reader(self.client, keys, self._ids)
        reports = reader.reports(orders)
        for ref in orders:
            if ref.is_over(clock.now()):
                rows = reader.rows.get(sent_id_of(ref), [])
                self._cancel(keys, [row["order_id"] for row in rows if is_open(row)])
        return reports

    def cancel(self, ref: str) -> None:
        """Ask Coinbase to cancel what is not filled; nothing to do where the order has ended or never arrived."""
        order = Ref.parse(ref)
        keys = self._keys(order.account)
        reader = Reader(self.client, keys, self._ids)
        reader.read([order])
        if error := reader.unread.get(sent_id_of(order)):
            raise error
        rows = reader.rows.get(sent_id_of(order), [])
        self._cancel(keys, [row["order_id"] for row in rows if is_open(row)])

    def _cancel(self, keys: Keys, order_ids: Sequence[str]) -> None:
        """Cancel orders. A refusal means that one ended meanwhile; the next `find` shows how."""
        if not order_ids:
            return
        try:
            answer = self.client.post(
                keys, "/orders/batch_cancel", json.dumps({"order_ids": list(order_ids)})
            )
            failed = [row for row in answer["results"] if not row["success"]]
        except (Rejected, Retryable, Unknown, *UNREADABLE) as error:
            log.warning("order_not_canceled", venue=self.name, orders=order_ids, error=str(error))
            return
        for row in failed:
            log.warning(
                "order_not_canceled",
                venue=self.name,
                order=row.get("order_id"),
                error=row.get("failure_reason"),
            )

    # -- what it would take

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return whether Coinbase would take each order; entries are previewed, some at once."""
        entries = {number: row for number, row in enumerate(questions) if row.purpose == Purpose.OPEN}
        quoted = quotes.latest(sorted({entry.symbol for entry in entries.values()}))
        prices = {symbol: quote.price for symbol, quote in quoted.items()}
        answers = self._with_keys(
            {
                number: (entry.account, partial(self._ask, entry, prices.get(entry.symbol)))
                for number, entry in entries.items()
            }
        )
        return [
            self._as_answer(answers[number]) if number in entries else VenueAnswer("")
            for number in range(len(questions))
        ]

    def _ask(self, question: Question, price: Decimal | None, keys: Keys) -> VenueAnswer:
        if problem := self.access.product(keys, question.symbol).problem:
            return VenueAnswer(problem)
        return VenueAnswer("", self._preview(keys, question.symbol, question.side, question.cash, price))

    def _as_answer(self, answer: VenueAnswer | Exception) -> VenueAnswer:
        if isinstance(answer, VenueAnswer):
            return answer
        if isinstance(answer, Rejected):
            return VenueAnswer(answer.code)
        if not isinstance(answer, Retryable | Unknown):
            raise answer
        log.warning("venue_not_read", venue=self.name, error=str(answer))
        return VenueAnswer()

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the average price, USD, at which Coinbase previews an entry of `cash`, or of what the account has."""
        quote = quotes.latest([symbol]).get(symbol)
        return self._preview(self._keys(account), symbol, side, cash, quote.price if quote else None)

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return why Coinbase would take no entry now. An exit waits for no read: Coinbase itself refuses it."""
        if purpose == Purpose.CLOSE:
            return ""
        return self.access.product(self._keys(account), symbol).problem

    def _preview(
        self, keys: Keys, symbol: str, side: str, cash: Decimal, quote: Decimal | None
    ) -> Decimal | None:
        """Return the previewed average price of an entry; `quote`: USD, without which there is none."""
        if quote is None:
            return None
        usd = min(cash, self.access.cash(keys) * (1 - FEE_ROOM))
        size = instrument(symbol).round_quantity(max(usd, ZERO) / quote)
        if not size:
            raise Rejected(
                f"the account may spend {usd:.2f} USD at Coinbase: less than one lot of {symbol}",
                code=Reason.INSUFFICIENT_BALANCE,
            )
        body = preview_of(symbol, side, size, self._bound(quote, symbol, side))
        preview = self.client.ask(keys, "/orders/preview", body)
        with reading("preview"):
            words = [str(word) for word in preview.get("errs") or ()]
        if words:
            raise Rejected(f"Coinbase would refuse it ({', '.join(words)})", code=reason_of(words[0], side))
        with reading("preview"):
            price = number(preview["est_average_filled_price"])
        if price <= 0:
            raise Retryable(f"Coinbase's preview of {symbol} has the price {price}")
        return price

    def order_listener(self, account: str, heard: Callable[[str], None]) -> "UserStream | None":
        """Return a listener of the account's user stream, which asks for all of the account to be polled."""
        if not self.stream_url:
            return None
        from trading.venues.coinbase.stream import UserStream  # loads websockets

        return UserStream(account, self.stream_url, self._keys(account), changed=partial(heard, ""))

    def _bound(self, price: Decimal, symbol: str, side: str) -> Decimal:
        return bound(price, side, self.slippage, self.access.price_step(symbol))

    # -- accounts

    def _balances(self, keys: Keys) -> dict[str, Decimal]:
        """Return USD and every other asset, in whole units, with what open orders hold."""
        return self.access.balances(keys)

    def opening_balance(self, account: str) -> Decimal | None:
        """Return the USD of the account."""
        return self.balances(account)[USD]

    def parse_keys(self, secrets: Mapping[str, str]) -> Keys:
        """Return the keys of an account. Raises Rejected for a private key that is none."""
        return Keys.parse(secrets["key_name"], secrets["private_key"])

    def key_access(self, secrets: Mapping[str, str]) -> KeyAccess:
        """Return what a key may do, by Coinbase's own answer, and the portfolio that it belongs to."""
        return self.access.key_access(self.parse_keys(secrets))

    def verify(self, account: str) -> dict[str, Any]:
        """Return what an account's key may do, its cash, the products of its tokens and how far our clock is off."""
        keys = self._keys(account)
        access = self.access.key_access(keys)
        symbols = [token.symbol for token in all_instruments().values() if self.name in token.venues]
        return {
            "permissions": list(access.permissions),
            "may_trade": access.may_trade and not access.may_withdraw,
            "cash": plain(self.access.balances(keys)[USD]),
            "notes": [
                *(
                    f"{product_of(symbol)}: {self.access.product(keys, symbol).problem or 'open'}"
                    for symbol in symbols
                ),
                f"its clock is {self.client.clock_skew():+.1f} s from ours",
            ],
        }
