"""The venue interface: prepare, send and find orders, read balances. Contract: `tests/contracts/test_venues.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from maxxit.core.terms import Purpose
from trading.passes import ENDS_THE_PASS

if TYPE_CHECKING:
    from trading.venues.safe.access import SafeAccess

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue supports."""

    dedup: bool
    """It recognises a repeated client order id, so that sending the same bytes again is safe."""
    shorts: bool
    max_leverage: Decimal
    collects_fees: bool
    """It collects platform fee and profit share from the account (the Safe module does)."""
    find_lag: timedelta
    """How long the venue may report an accepted order as not found."""
    play_money: bool = False
    """Its accounts are credited with play money by `deposit`."""
    local: bool = False
    """It answers from our own database. Any other venue is asked only about orders that no check of ours blocks."""
    batch: int = 1
    """How many orders `send_many` and `find_many` take together. The gate is read again before each batch."""


@dataclass(frozen=True, slots=True)
class Request:
    """One order, sized and checked."""

    client_order_id: str
    account: str
    symbol: str
    side: str
    """buy or sell."""
    purpose: str
    """open or close."""
    quantity: Decimal
    """Tokens, in whole lots."""
    reference_price: Decimal
    """The quote that the decision used, USD."""
    deadline: datetime
    """After this the venue must not execute it."""
    trade: str = ""
    """`deployment/signal`, the same for an entry and its exits, for venues that keep positions themselves."""
    urgent: bool = False
    """An operator or the kill switch closes; `reference_price` may be the last known price, of any age."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Exactly what will be sent. It is stored before `send`, and a retry sends the same."""

    ref: str
    """The reference to look the order up with at the venue, for instance the client order id."""
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One execution as the venue reports it."""

    fill_id: str
    quantity: Decimal
    """Tokens."""
    price: Decimal
    """USD."""
    cash: Decimal
    """USDC exchanged, positive, before the fee."""
    fee: Decimal
    """USDC."""
    at: datetime
    platform_fee: Decimal | None = None
    """USDC that the venue collected for the platform with this fill; None where it collects none (`collects_fees`)."""
    profit_share: Decimal | None = None
    """USDC that the venue collected as profit share with this fill."""
    share_receiver: str = ""
    """The address that received the profit share."""


@dataclass(frozen=True, slots=True)
class Report:
    """An order's status at the venue."""

    state: str
    """accepted, partially_filled, filled, canceled, rejected, expired or replaced."""
    fills: tuple[VenueFill, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What the venue is asked about an order before it is reserved."""

    deployment: int
    account: str
    symbol: str
    side: str
    """buy or sell."""
    purpose: str
    """open or close."""
    cash: Decimal
    """USDC of the largest entry that the sizing allows."""


@dataclass(frozen=True, slots=True)
class VenueAnswer:
    """The venue's answer about an order. None means that it could not be read, which blocks."""

    problem: str | None = None
    """The reason code of the venue's objection, empty for none."""
    expected_price: Decimal | None = None
    """USD per token that an entry would be filled at."""


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """What a customer's key may do at the venue, by the venue's own answer."""

    permissions: tuple[str, ...]
    """In the venue's words, for people."""
    may_trade: bool
    may_withdraw: bool
    """It could take money out; a venue that does not tell counts as True."""


class Venue(Protocol):
    """A venue that executes orders. Adapters inherit from it; methods with a body are defaults.

    `send` raises Rejected (refused by the venue), Retryable (certainly not arrived) or Unknown (may have arrived).
    """

    credential_fields: tuple[str, ...] = ()
    """Names of the keys that a customer gives for an account, the public one first; empty where the venue needs none.
    The adapter reads them by `trading.credentials.store.secrets_of`."""

    name: str
    """Its name in config/venues.yaml, which the gate uses too; set by `trading.wiring`."""
    capabilities: Capabilities

    def prepare(self, request: Request) -> Prepared:
        """Return what `send` will send. Runs in the reserving database transaction: no network."""
        ...

    def send(self, prepared: Prepared) -> None:
        """Send the order. Sending the same again is safe only where `capabilities.dedup`."""
        ...

    def find(self, ref: str) -> Report | None:
        """Return the order's status; None where the venue does not find it, which within `find_lag` proves nothing."""
        ...

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Send up to `capabilities.batch` orders; return ref -> error of those that `send` would have raised for."""
        return _errors(self.send, {order.ref: order for order in orders})

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        """Return ref -> what `find` returns or raises, of up to `capabilities.batch` orders."""
        found: dict[str, Report | Exception | None] = {}

        def find(ref: str) -> None:
            found[ref] = self.find(ref)

        return found | _errors(find, {ref: ref for ref in refs})

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return whether the venue would take each order, and the expected price of an entry. Never raises for one."""
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> VenueAnswer:
        try:
            problem = self.problem(question.deployment, question.account, question.symbol, question.purpose)
            if problem or question.purpose == Purpose.CLOSE:
                return VenueAnswer(problem)
            price = self.expected_price(question.account, question.symbol, question.side, question.cash)
            return VenueAnswer("", price)
        except Rejected as rejection:
            return VenueAnswer(rejection.code)
        except (Retryable, Unknown) as error:
            log.warning("venue_not_read", venue=self.name, error=str(error))
            return VenueAnswer()

    def cancel(self, ref: str) -> None:
        """Request the cancellation of the unfilled rest of an order."""
        ...

    def balances(self, account: str) -> dict[str, Decimal]:
        """Return every asset the account holds, in whole units; a short is negative."""
        ...

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the `balances` of many accounts; one that cannot be read is missing.

        An adapter that can read them together may raise Retryable, Unknown or Rejected when none can be read.
        """
        balances = {}
        for account in accounts:
            try:
                balances[account] = self.balances(account)
            except (Retryable, Unknown, Rejected) as error:
                log.warning("account_not_read", account=account, error=str(error))
        return balances

    def unexplained(self, account: str, differences: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Book the owners' own transfers and return the differences (venue minus ledger) that remain, in whole units.

        By default all of them: most venues cannot tell who moved what.
        """
        return dict(differences)

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the price in USD per token at which an entry of `cash` USDC would fill now; None if it is unknown.

        Raises Rejected with a reason code where the account cannot trade the symbol at all.
        """
        ...

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return the reason code why the venue would refuse an order of this deployment now; empty where it would not.

        `purpose` is open or close. A reason that blocks entries only must not be returned for a close.
        """
        ...

    def opening_balance(self, account: str) -> Decimal | None:
        """Return the cash that an account holds when its deployment starts, which is booked as its first deposit.

        None where that is known otherwise: play money, and transfers that `unexplained` books. Raises Retryable or
        Rejected where the account cannot be read: then the deployment does not start.
        """
        return None

    def key_access(self, secrets: Mapping[str, str]) -> KeyAccess:
        """Ask the venue what keys may do. Raises Rejected (`credentials_refused`) where it does not accept them."""
        raise Misconfigured(f"venue {self.name} needs no keys of its customers")

    def deposit(self, account: str, amount: Decimal) -> None:
        """Credit an account with play money (USDC). Raises Misconfigured unless `capabilities.play_money`."""
        raise Misconfigured(f"venue {self.name}: only paper accounts get play money")

    def safe_access(self) -> "SafeAccess | None":
        """Return access to the Safes that the venue trades from; None where its accounts are not Safes."""
        return None


def _errors(act: Callable[[T], None], orders: Mapping[str, T]) -> dict[str, Exception]:
    """Call `act` for each; return ref -> error. What ends the whole pass is raised."""
    errors: dict[str, Exception] = {}
    for ref, order in orders.items():
        try:
            act(order)
        except ENDS_THE_PASS:
            raise
        except Exception as error:
            errors[ref] = error
    return errors
