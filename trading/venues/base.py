"""What a venue is. Every adapter passes `tests/contracts/test_venues.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

import structlog

from maxxit.core.errors import Rejected, Retryable, Unknown

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue can do."""

    dedup: bool
    """A repeated client order id is recognised, so resending the same bytes is safe."""
    shorts: bool
    max_leverage: Decimal
    collects_fees: bool
    """It takes platform fee and profit share from the account itself (the Safe module does)."""
    find_lag: timedelta
    """How long the venue may deny an order that it has taken: until then "not found" proves nothing."""


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
    """After this the venue must not act on it any more."""
    trade: str = ""
    """deployment/signal: what an entry and its exits have in common, for venues that keep positions themselves."""
    urgent: bool = False
    """A person or the kill switch closes; `reference_price` may then be the last known, of any age."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What will leave, byte for byte. It is stored before `send`, and only this is ever sent again."""

    ref: str
    """How the venue can be asked about it: the client order id, or the hash of the signed transaction."""
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
    """USDC that changed hands, positive, before the fee."""
    fee: Decimal
    """USDC."""
    at: datetime
    platform_fee: Decimal | None = None
    """USDC that the venue took for the platform with this; None where it takes none (`collects_fees`)."""
    profit_share: Decimal | None = None
    """USDC that the venue took as profit share with this."""
    share_receiver: str = ""
    """Who got the profit share."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where an order stands at the venue."""

    state: str
    """accepted, partially_filled, filled, canceled, rejected, expired or replaced."""
    fills: tuple[VenueFill, ...] = ()
    reason: str = ""


class Venue(Protocol):
    """A place where orders go. Adapters inherit from it: what has a body here is what they do unless they know better.

    `send` raises Rejected (it said no), Retryable (it certainly did not arrive) or Unknown (it may have arrived).
    """

    name: str
    """Its name in config/venues.yaml, by which the gate knows it; `trading.wiring` sets it."""
    capabilities: Capabilities

    def prepare(self, request: Request) -> Prepared:
        """What `send` will send. Runs in the reserving transaction: no network."""
        ...

    def send(self, prepared: Prepared) -> None:
        """Let it leave. Sending the same again is safe only where `capabilities.dedup`."""
        ...

    def find(self, ref: str) -> Report | None:
        """What the venue knows of `ref`; None when it knows nothing (which alone proves nothing)."""
        ...

    def cancel(self, ref: str) -> None:
        """Ask for what is not yet filled to be withdrawn."""
        ...

    def balances(self, account: str) -> dict[str, Decimal]:
        """Every asset the account holds, in whole units; a short is negative."""
        ...

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """`balances` of many accounts; one that cannot be read is missing.

        An adapter that can read them together may raise Retryable, Unknown or Rejected when none can be read.
        """
        found = {}
        for account in accounts:
            try:
                found[account] = self.balances(account)
            except (Retryable, Unknown, Rejected) as error:
                log.warning("account_not_read", account=account, error=str(error))
        return found

    def unexplained(self, account: str, apart: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """What is left of a difference (venue minus ledger) once the owners' own movements are booked.

        All of it where the venue cannot say who moved what.
        """
        return dict(apart)

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """What an entry of `cash` USDC would be filled at now, USD a token; None where that cannot be said.

        Raises Rejected with the code where the account could not trade it at all.
        """
        ...

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Why the venue would not take an order of this deployment for this account and symbol now: a coded reason,
        or empty. `purpose` is open or close; what refuses an entry only must not be said of a close."""
        ...
