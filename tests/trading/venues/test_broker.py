"""What adapters with customers' keys share: each account is asked with its own keys, and its errors are its own."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core.errors import InvalidInput, Rejected, Retryable
from tests.builders import T0
from trading.credentials import store
from trading.venues.base import Prepared, Report
from trading.venues.broker import NEVER, BrokerVenue, Found, Ref

ACCOUNTS = ("a:1", "a:2", "a:3", "a:4")


class Letters(BrokerVenue[str]):
    """A venue whose keys are letters."""

    name = "letters"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Any]] = []

    def parse_keys(self, secrets: Mapping[str, str]) -> str:
        """Return the letter."""
        if not secrets["key"].isalpha():
            raise InvalidInput({"key": "not a letter"})
        return secrets["key"]

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Send each."""
        return self._send_each(orders, self._take)

    def _take(self, keys: str, order: Prepared) -> None:
        self.asked.append((keys, order.ref))
        if keys == "z":
            raise Rejected("no")

    def _find(self, keys: str, orders: Sequence[Ref]) -> dict[str, Found]:
        if keys == "z":
            raise Retryable("maintenance")
        self.asked.append((keys, [ref.client_order_id for ref in orders]))
        return {str(ref): Report("filled") for ref in orders}

    def _balances(self, keys: str) -> dict[str, Decimal]:
        if keys == "z":
            raise Retryable("maintenance")
        return {"USD": Decimal(ord(keys))}


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Letters:
    """Its third account has keys that are none, its fourth has none stored, its second fails at the venue."""
    kept = {"a:1": "x", "a:2": "z", "a:3": "7"}

    def secrets_of(venue: str, account: str) -> dict[str, str]:
        if account not in kept:
            raise Rejected("no keys are stored", code="no_credentials")
        return {"key": kept[account]}

    monkeypatch.setattr(store, "secrets_of", secrets_of)
    return Letters()  # type: ignore[abstract]  # what it is asked for is there


def ref(account: str, name: str = "mx-1") -> str:
    return str(Ref(account, name, T0))


@pytest.mark.parametrize("deadline", [T0, T0 + timedelta(days=1), NEVER])
def test_a_reference_is_read_as_it_was_written(deadline: Any) -> None:
    one = Ref("a/b", "mx-1", deadline)
    assert Ref.parse(str(one)) == one
    assert one.is_over(T0 + timedelta(days=2)) == (deadline != NEVER)
    assert not one.is_over(T0 - timedelta(seconds=1))


def test_orders_are_found_with_the_keys_of_their_account_and_errors_are_theirs_alone(
    letters: Letters,
) -> None:
    texts = [ref("a:1"), ref("a:1", "mx-2"), *map(ref, ACCOUNTS[1:]), "nothing"]
    found = letters.find_many(texts)
    assert letters.asked == [("x", ["mx-1", "mx-2"])]
    assert [type(found[text]) for text in texts] == [
        Report, Report, Retryable, InvalidInput, Rejected, ValueError,
    ]  # fmt: skip
    assert letters.find(ref("a:1")) == Report("filled")
    with pytest.raises(Retryable):
        letters.find(ref("a:2"))


def test_orders_are_sent_with_the_keys_of_their_account(letters: Letters) -> None:
    orders = [Prepared(ref(account), {"account": account}) for account in ACCOUNTS]
    errors = letters.send_many(orders)
    assert sorted(letters.asked) == [("x", ref("a:1")), ("z", ref("a:2"))]
    assert {text: type(error) for text, error in errors.items()} == {
        ref("a:2"): Rejected, ref("a:3"): InvalidInput, ref("a:4"): Rejected,
    }  # fmt: skip
    with pytest.raises(Rejected):
        letters.send(orders[1])


def test_an_account_that_cannot_be_read_is_missing(letters: Letters) -> None:
    assert letters.balances_of(ACCOUNTS) == {"a:1": {"USD": Decimal(120)}}
    assert letters.balances("a:1") == {"USD": Decimal(120)}
