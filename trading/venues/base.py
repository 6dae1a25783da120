"""The venue interface: prepare, send and find orders, read balances. Contract: `tests/contracts/test_venues.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from maxxit.core.terms import Purpose
from trading.passes import TimeBudget, ends_the_pass

if TYPE_CHECKING:
    from maxxit.market.calendar import Session
    from trading.perps.liquidations import Liquidation
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
    liquidates: bool = False
    """It closes positions whose margin is used up (`liquidations`), and charges funding."""
    resting_exits: bool = False
    """It can keep the stop and target of an entry itself: `Request.stop` and `target`, `exits`, `release`."""


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
    stop: Decimal | None = None
    """Of an entry at a venue with `resting_exits`: the price in USD, in whole ticks, at which it is left at a loss."""
    target: Decimal | None = None
    """The same with a profit."""
    leverage: Decimal = Decimal(1)
    """Notional / margin of an entry, at least 1; only venues with margin use it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Exactly what will be sent. It is stored before `send`, and a retry sends the same."""

    ref: str
    """The reference to look the order up with at the venue, for instance the client order id."""
    payload: Mapping[str, Any]
    rests_exits: bool = False
    """With this entry the venue gets exits that it keeps itself. Until all of them have ended, none of ours is sent."""
    deadline: datetime | None = None
    """Until when the venue takes it, where that is sooner than the request's deadline."""


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
class Leg:
    """One exit that the venue keeps for an entry: its stop or its target, at most one of each."""

    ref: str
    """`Venue.find` takes it, as the reference of any order."""
    reason: str
    """The exit reason: stop_loss or take_profit."""
    quantity: Decimal
    """Tokens, of the whole order."""
    filled: Decimal
    """Tokens sold (for a short: bought back) so far."""
    ended: bool
    """It can fill no more: filled, canceled, expired or rejected. False where its status is unknown or not final."""


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
    detail: str = ""
    """What belongs to the objection, for people: until when a market is closed."""


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """What a customer's key may do at the venue, by the venue's own answer."""

    account_id: str
    """The venue's own id of the account that the key opens: one account serves one deployment."""
    permissions: tuple[str, ...]
    """In the venue's words, for people."""
    may_trade: bool
    may_withdraw: bool
    """It could take money out; a venue that does not tell counts as True."""


@dataclass(frozen=True, slots=True)
class KeyCard:
    """What storing a key at a venue allows, in plain words, for its owner to read before they store it."""

    link: str
    """Where the owner makes the key."""
    can: tuple[str, ...]
    cannot: tuple[str, ...]
    bounded_by: str
    """Who enforces the limits under `can`."""
    not_bounded: tuple[str, ...]
    advice: str


class Listener(Protocol):
    """The thread of one account, as a venue's `order_listener` returns it."""

    def start(self) -> None:
        """Begin to listen."""

    def is_alive(self) -> bool:
        """Return whether it listens, or tries to."""

    def end(self) -> None:
        """Stop soon."""


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
        """Return ref -> what `find` returns or raises, of up to `capabilities.batch` orders, or all of one account."""
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
                return VenueAnswer(problem, detail=self.detail_of(problem) if problem else "")
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

    def exits(self, refs: Sequence[str]) -> dict[str, tuple[Leg, ...] | Exception]:
        """Return ref of an entry -> the exits that the venue keeps for it, or why that is not known.

        Only entries that were prepared with `rests_exits` are asked about, up to `capabilities.batch`. Empty is the
        venue's own word that none rests and none was filled; whatever is less certain is an error (Retryable, Unknown).
        """
        raise Misconfigured(f"venue {self.name} keeps no exits")

    def release(self, refs: Sequence[str]) -> None:
        """Request the cancellation of all exits of entries, and of what is not filled of the entries themselves.

        Asking again is safe. It proves nothing: only `exits` says what became of them. Raises Retryable or Unknown.
        """
        raise Misconfigured(f"venue {self.name} keeps no exits")

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

    def liquidations(self, account: str) -> "Sequence[Liquidation]":
        """Return the liquidations of an account's positions since its deployment started, oldest first.

        Empty at venues without margin. Raises Retryable or Rejected where they cannot be read.
        """
        return ()

    def claim_earned(self, budget: TimeBudget) -> int:
        """Claim what accounts have earned and the venue keeps until it is claimed; return how many claims were sent.

        Nothing at most venues, which pay by themselves. What the budget leaves over the next run claims. Raises
        Retryable where it cannot be read.
        """
        return 0

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

    def order_listener(self, account: str, heard: Callable[[str], None]) -> Listener | None:
        """Return a thread, not started, that calls `heard` with the client order id of each order that changes.

        With an empty text after each connect, when changes may have been missed. None where the venue has no stream.
        """
        return None

    def key_card(self) -> KeyCard | None:
        """Return the permission card of keys at the venue; None where it has none."""
        return None

    def detail_of(self, problem: str) -> str:
        """Return what belongs to a reason code of `problem`, for people; empty for nothing."""
        return ""

    def sessions(self, account: str, first: date, last: date) -> "list[Session] | None":
        """Return the sessions of the stock exchange, days in New York; None where the venue publishes none.

        Raises Retryable or Rejected where they cannot be read with the keys of this account.
        """
        return None

    def opening_balance(self, account: str) -> Decimal | None:
        """Return the cash that an account holds when its deployment starts, which is booked as its first deposit.

        None where that is known otherwise: play money, and transfers that `unexplained` books. Raises Retryable or
        Rejected where the account cannot be read: then the deployment does not start.
        """
        return None

    def key_access(self, secrets: Mapping[str, str]) -> KeyAccess:
        """Ask the venue what keys may do. Raises Rejected (`credentials_refused`) where it does not accept them."""
        raise Misconfigured(f"venue {self.name} needs no keys of its customers")

    def verify(self, account: str) -> dict[str, Any]:
        """Return what `manage.py verify-venue` shows: `permissions`, `may_trade`, `cash` and lines of `notes`.

        Raises Rejected where the keys are missing or refused, Retryable where the venue cannot be read.
        """
        raise Misconfigured(f"venue {self.name} has nothing to verify")

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
        except Exception as error:
            if ends_the_pass(error):
                raise
            errors[ref] = error
    return errors
