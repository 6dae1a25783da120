"""What adapters share whose customers bring keys: references to orders, opened keys, many accounts asked at once."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Generic, TypeVar

import structlog

from maxxit.core.errors import InvalidInput, Misconfigured, Rejected
from trading.credentials import store
from trading.venues.base import Prepared, Report, Venue
from trading.venues.cache import Cache
from trading.venues.parallel import in_parallel

log = structlog.get_logger(__name__)

KEYS_SECONDS = 5
"""How long an account's opened keys are kept."""
NEVER = datetime.max.replace(tzinfo=UTC)
"""The deadline of an order that has none, as an exit that the venue keeps."""
NO_DEADLINE = "-"
A = TypeVar("A")
J = TypeVar("J", bound=Hashable)
K = TypeVar("K")
T = TypeVar("T")
Found = Report | Exception | None
"""What `find` returns or raises."""


@dataclass(frozen=True, slots=True)
class Ref:
    """What our reference to an order holds: whose keys find it, our id, and until when it may execute."""

    account: str
    client_order_id: str
    deadline: datetime = NEVER

    def __str__(self) -> str:
        until = NO_DEADLINE if self.deadline == NEVER else f"{self.deadline.timestamp():.0f}"
        return f"{self.account}/{self.client_order_id}/{until}"

    @classmethod
    def parse(cls, text: str) -> "Ref":
        """Parse what `str` gives. Raises ValueError for anything else."""
        account, client_order_id, until = text.rsplit("/", 2)
        deadline = NEVER if until == NO_DEADLINE else datetime.fromtimestamp(int(until), UTC)
        return cls(account, client_order_id, deadline)

    def is_over(self, now: datetime) -> bool:
        """Return whether the order may not execute any more."""
        return now >= self.deadline


class BrokerVenue(Venue, Generic[K]):
    """A venue whose accounts are asked one by one, each with its own keys (`K`), some at once.

    An adapter says what its keys are, and sends (`send_many` by `_send_each`), finds and reads for the keys of one
    account, in threads that use no database. `prepare` stores the account in the payload, and a `Ref` as reference.
    """

    def __init__(self) -> None:
        self._opened = Cache()

    @abstractmethod
    def parse_keys(self, secrets: Mapping[str, str]) -> K:
        """Return the keys of an account's stored secrets. Raises Rejected or InvalidInput for what is none."""

    @abstractmethod
    def _find(self, keys: K, orders: Sequence[Ref]) -> Mapping[str, Found]:
        """Return reference -> where each of an account's orders stands. Raises what concerns all of them."""

    @abstractmethod
    def _balances(self, keys: K) -> dict[str, Decimal]:
        """Return every asset of an account, in whole units."""

    # -- the interface of venues

    def send(self, prepared: Prepared) -> None:
        """Send the stored body. Raises Rejected, Retryable (not arrived) or Unknown."""
        for error in self.send_many([prepared]).values():
            raise error

    def find(self, ref: str) -> Report | None:
        """Return where the order stands; after its deadline, ask the venue to cancel what is not filled."""
        found = self.find_many([ref])[ref]
        if isinstance(found, Exception):
            raise found
        return found

    def find_many(self, refs: Sequence[str]) -> dict[str, Found]:
        """Do the same for many orders, account by account."""
        return self._of_orders(refs, self._find)

    def balances(self, account: str) -> dict[str, Decimal]:
        """Return the venue's cash and every other asset, in whole units; a short is negative."""
        return self._balances(self._keys(account))

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the same of many accounts; one that cannot be read is missing."""
        return self._read(accounts, self._balances)

    # -- many accounts

    def _keys(self, account: str) -> K:
        """Return the keys of an account. Raises Rejected where none are stored, Misconfigured where none are opened."""
        return self._opened.read(
            ("keys", account), KEYS_SECONDS, lambda: self.parse_keys(store.secrets_of(self.name, account))
        )

    def _keys_of(self, accounts: Iterable[str]) -> dict[str, K | Exception]:
        """Return account -> its keys, or why it has none. Read here, because the threads use no database."""
        keys: dict[str, K | Exception] = {}
        for account in accounts:
            try:
                keys[account] = self._keys(account)
            except (Rejected, InvalidInput, Misconfigured) as error:
                keys[account] = error
        return keys

    def _with_keys(self, jobs: Mapping[J, tuple[str, Callable[[K], T]]]) -> dict[J, T | Exception]:
        """Call each job with the keys of its account, some at once; return what it returned or raised.

        `jobs`: what names a job -> account and what to call.
        """
        keys = self._keys_of({account for account, _ in jobs.values()})
        ready: dict[J, Callable[[], T]] = {}
        answers: dict[J, T | Exception] = {}
        for name, (account, ask) in jobs.items():
            of_account = keys[account]
            if isinstance(of_account, Exception):
                answers[name] = of_account
            else:
                ready[name] = partial(ask, of_account)
        return answers | in_parallel(ready)

    def _read(self, accounts: Iterable[str], ask: Callable[[K], T]) -> dict[str, T]:
        """Return account -> what `ask` returned for its keys; one that cannot be read is logged and missing."""
        read: dict[str, T] = {}
        for account, answer in self._with_keys({account: (account, ask) for account in accounts}).items():
            if isinstance(answer, Exception):
                log.warning("account_not_read", venue=self.name, account=account, error=str(answer))
            else:
                read[account] = answer
        return read

    def _send_each(
        self, orders: Sequence[Prepared], send: Callable[[K, Prepared], None]
    ) -> dict[str, Exception]:
        """Call `send` for each order with the keys of its account, some at once; return ref -> error."""
        jobs = {order.ref: (str(order.payload["account"]), _about(send, order)) for order in orders}
        return {ref: error for ref, error in self._with_keys(jobs).items() if isinstance(error, Exception)}

    def _of_orders(
        self, refs: Sequence[str], ask: Callable[[K, Sequence[Ref]], Mapping[str, T]]
    ) -> dict[str, T | Exception]:
        """Ask for the orders of each account, some accounts at once; return ref -> the answer or an error.

        `ask`: keys of an account and its orders -> reference -> answer.
        """
        of_account: defaultdict[str, list[Ref]] = defaultdict(list)
        found: dict[str, T | Exception] = {}
        for text in refs:
            try:
                ref = Ref.parse(text)
            except ValueError as error:
                found[text] = error
            else:
                of_account[ref.account].append(ref)
        jobs = {account: (account, _about(ask, orders)) for account, orders in of_account.items()}
        for account, answer in self._with_keys(jobs).items():
            for ref in of_account[account]:
                found[str(ref)] = answer if isinstance(answer, Exception) else answer[str(ref)]
        return found


def _about(ask: Callable[[K, A], T], subject: A) -> Callable[[K], T]:
    """Return `ask` as a function of the keys alone."""
    return lambda keys: ask(keys, subject)
