"""The venue Alpaca: market orders on paper accounts, with the keys of each account.

`prepare` stores the exact body; a repeated client order id is refused by Alpaca, which proves that the order arrived.
What is not filled at the deadline is canceled by `find`. The hours of the stock exchange are Alpaca's own clock's.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from maxxit.core.money import USD, plain
from maxxit.core.terms import BPS, OrderSide, Purpose
from maxxit.market import quotes
from trading.credentials import store
from trading.reasons import Reason
from trading.venues.alpaca import transfers
from trading.venues.alpaca.access import Access, Cache, is_blocked, permissions
from trading.venues.alpaca.client import PAPER_URL, Client, Keys, Refusal
from trading.venues.alpaca.orders import Ref, body_of, is_open
from trading.venues.alpaca.parallel import in_parallel
from trading.venues.alpaca.reader import Found, Reader
from trading.venues.base import (
    Capabilities,
    KeyAccess,
    Prepared,
    Question,
    Report,
    Request,
    Venue,
    VenueAnswer,
)

log = structlog.get_logger(__name__)

BAD_REQUEST, DUPLICATE = 40010001, "client_order_id must be unique"
"""The number stands for other bad requests too; the words decide."""
KEYS_SECONDS = 5
"""How long an account's opened keys are kept."""


class AlpacaVenue(Venue):
    """Paper accounts at Alpaca. `stocks`: the symbols that are stocks; every other one is crypto, traded as SYMBOL/USD.

    `crypto_fee_bps`: what Alpaca keeps of what a crypto order receives, in basis points.
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
    ) -> None:
        if max_leverage != 1:
            raise Misconfigured("venue alpaca: trading on margin is not supported: set max_leverage 1")
        if not 0 <= crypto_fee_bps < BPS:
            raise Misconfigured("venue alpaca: crypto_fee_bps is 0 to 9999")
        self.client = Client(base_url)
        self.stocks = frozenset(stocks)
        self.crypto_fee = Decimal(crypto_fee_bps) / BPS
        self.access = Access(self.client)
        self._opened = Cache()
        self.capabilities = Capabilities(
            dedup=True, shorts=shorts, max_leverage=max_leverage, collects_fees=False,
            find_lag=timedelta(seconds=10), batch=100,
        )  # fmt: skip

    # -- orders

    def prepare(self, request: Request) -> Prepared:
        """Return the body as text, and a reference that names account, order and deadline."""
        ref = str(Ref(request.account, request.client_order_id, request.deadline))
        stock = request.symbol in self.stocks
        payload = {
            "account": request.account,
            "body": body_of(request, self._listed_as(request.symbol), stock=stock),
            "deadline": request.deadline.isoformat(),
        }
        return Prepared(ref, payload)

    def send(self, prepared: Prepared) -> None:
        """Send the stored body. Raises Rejected, Retryable (not arrived) or Unknown."""
        for error in self.send_many([prepared]).values():
            raise error

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Send many orders, some at once; return ref -> error."""
        keys = self._keys_of({order.payload["account"] for order in orders})
        errors: dict[str, Exception] = {}
        jobs: dict[str, Callable[[], None]] = {}
        for order in orders:
            of_account = keys[order.payload["account"]]
            if isinstance(of_account, Exception):
                errors[order.ref] = of_account
            else:
                jobs[order.ref] = partial(self._send, of_account, order)
        return errors | {ref: error for ref, error in in_parallel(jobs).items() if error is not None}

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

    def find(self, ref: str) -> Report | None:
        """Return where the order stands; after its deadline, ask Alpaca to cancel what is not filled."""
        found = self.find_many([ref])[ref]
        if isinstance(found, Exception):
            raise found
        return found

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        """Do the same for many orders, account by account."""
        of_account: dict[str, list[Ref]] = defaultdict(list)
        found: dict[str, Report | Exception | None] = {}
        for text in refs:
            try:
                ref = Ref.parse(text)
            except ValueError as error:
                found[text] = error
            else:
                of_account[ref.account].append(ref)
        keys = self._keys_of(of_account)
        jobs = {
            account: partial(self._find, of_keys, of_account[account])
            for account, of_keys in keys.items()
            if isinstance(of_keys, Keys)
        }
        answers = keys | in_parallel(jobs)
        for account, orders in of_account.items():
            answer = answers[account]
            for ref in orders:
                found[str(ref)] = answer[ref.client_order_id] if isinstance(answer, dict) else answer
        return found

    def _find(self, keys: Keys, orders: Sequence[Ref]) -> Found:
        reader = Reader(self.client, keys, self.crypto_fee)
        found = reader.reports([order.client_order_id for order in orders])
        for order in orders:
            chain = reader.chains.get(order.client_order_id)
            if chain and is_open(chain[-1]) and clock.now() >= order.deadline:
                self._cancel(keys, chain[-1]["id"])
        return found

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

    # -- what it would take

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return whether Alpaca would take each order; the accounts of entries are read some at once first."""
        keys = self._keys_of({question.account for question in questions if question.purpose == Purpose.OPEN})
        in_parallel(
            {name: partial(self.access.account, one) for name, one in keys.items() if isinstance(one, Keys)}
        )
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

    def _is_closed(self, keys: Keys) -> bool:
        """Return whether the exchange is known to be closed."""
        try:
            return not self.access.market_clock(keys)["is_open"]
        except (Retryable, Rejected) as error:
            log.warning("clock_not_read", venue=self.name, error=str(error))
            return False

    # -- accounts

    def balances(self, account: str) -> dict[str, Decimal]:
        """Return USD and every position, in whole units; a short is negative."""
        return self._balances(self._keys(account))

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the same of many accounts; one that cannot be read is missing."""
        keys = self._keys_of(accounts)
        jobs = {
            account: partial(self._balances, one) for account, one in keys.items() if isinstance(one, Keys)
        }
        balances = {}
        for account, answer in (keys | in_parallel(jobs)).items():
            if isinstance(answer, dict):
                balances[account] = answer
            else:
                log.warning("account_not_read", account=account, error=str(answer))
        return balances

    def unexplained(self, account: str, differences: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Book the owner's transfers of cash and return the differences that remain."""
        left = dict(differences)
        deployment = transfers.booking_deployment(self.name, account)
        since = transfers.first_deposit_day(deployment) if deployment else None
        if USD not in left or deployment is None or since is None:
            return left
        day = (since - timedelta(days=1)).isoformat()
        rows = Reader(self.client, self._keys(account), self.crypto_fee).activities(transfers.KINDS, day)
        left[USD] -= transfers.book(deployment, map(transfers.Transfer.of, rows), since, left[USD])
        return {asset: amount for asset, amount in left.items() if amount}

    def opening_balance(self, account: str) -> Decimal | None:
        """Return the cash of the account, USD."""
        return self._cash(self._keys(account))

    def key_access(self, secrets: Mapping[str, str]) -> KeyAccess:
        """Return what keys may do. A paper account has nothing that could be withdrawn."""
        account = Access(self.client).account(Keys(secrets["key_id"], secrets["secret"]))
        return KeyAccess(
            permissions(account), may_trade=not is_blocked(account, stock=True), may_withdraw=False
        )

    def verify(self, account: str) -> dict[str, Any]:
        """Return what an account may do, its cash and the exchange's hours, for people and `--json`.

        Raises Rejected where the keys are missing or refused, Retryable where Alpaca cannot be read.
        """
        keys = self._keys(account)
        state, hours = self.access.account(keys), self.access.market_clock(keys)
        return {
            "permissions": list(permissions(state)),
            "may_trade": not is_blocked(state, stock=True),
            "cash": plain(self._cash(keys)),
            "clock": {name: hours.get(name) for name in ("timestamp", "is_open", "next_open", "next_close")},
        }

    def _balances(self, keys: Keys) -> dict[str, Decimal]:
        held = {self._asset(row): _signed(row) for row in self.client.get_list(keys, "/v2/positions")}
        return {USD: self._cash(keys)} | {asset: amount for asset, amount in held.items() if amount}

    def _cash(self, keys: Keys) -> Decimal:
        return Decimal(self.client.get_object(keys, "/v2/account", "cash")["cash"])

    # -- helpers

    def _keys(self, account: str) -> Keys:
        def ask() -> Keys:
            secrets = store.secrets_of(self.name, account)
            return Keys(secrets["key_id"], secrets["secret"])

        return self._opened.read(("keys", account), KEYS_SECONDS, ask)

    def _keys_of(self, accounts: Sequence[str] | set[str] | Mapping[str, Any]) -> dict[str, Any]:
        """Return account -> its keys, or why it has none: read here, because the threads use no database."""
        found: dict[str, Any] = {}
        for account in accounts:
            try:
                found[account] = self._keys(account)
            except (Rejected, Misconfigured) as error:
                found[account] = error
        return found

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
