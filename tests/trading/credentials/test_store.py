"""Keys of accounts at venues: tested before they are stored, shown nowhere, opened only by adapters."""

import json
import os
from collections.abc import Callable, Mapping
from decimal import Decimal as D
from io import StringIO
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, transaction

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import InvalidInput, Misconfigured, Rejected, Retryable
from maxxit.events.models import Event
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from trading.credentials import sealing, store
from trading.credentials.models import VenueCredential
from trading.deployments import activation, funding
from trading.deployments.funding import book_deposits, fund_due
from trading.models import LedgerEntry, Order
from trading.venues.base import KeyAccess, Venue

pytestmark = pytest.mark.django_db

FIELDS = {"key_id": "PK-ABCD-1234", "secret": "do-not-show-this-secret"}
ACCOUNT = "paper:17"


class Broker(FakeVenue):
    """A venue whose customers bring keys."""

    credential_fields = ("key_id", "secret")
    access: KeyAccess | Exception = KeyAccess("venue-1", ("trade",), may_trade=True, may_withdraw=False)
    cash: Any = None

    def key_access(self, secrets: Mapping[str, str]) -> KeyAccess:
        """As the test says."""
        self.asked_with = dict(secrets)
        if isinstance(self.access, Exception):
            raise self.access
        return self.access

    def opening_balance(self, account: str) -> Any:
        """As the test says."""
        if isinstance(self.cash, Exception):
            raise self.cash
        return self.cash


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, use_venue: Callable[[Venue], None]) -> Broker:
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    broker = Broker()
    use_venue(broker)
    return broker


def test_keys_are_tested_then_stored_and_only_opened_for_the_adapter(broker: Broker) -> None:
    row = store.store("paper", ACCOUNT, {**FIELDS, "secret": f" {FIELDS['secret']}\n"}, by="alice")
    assert broker.asked_with == FIELDS
    assert store.secrets_of("paper", ACCOUNT) == FIELDS
    assert (row.hint, row.permissions, row.stored_by) == ("1234", ["trade"], "alice")
    assert b"secret" not in bytes(row.content)
    [event] = Event.objects.filter(name="credentials.stored")
    assert "secret" not in json.dumps(event.data)
    store.store("paper", ACCOUNT, {**FIELDS, "secret": "another secret"}, by="alice")
    assert store.secrets_of("paper", ACCOUNT)["secret"] == "another secret"
    assert VenueCredential.objects.count() == 1


@pytest.mark.parametrize(
    ("access", "code"),
    [
        (
            KeyAccess("venue-1", ("trade", "transfer"), may_trade=True, may_withdraw=True),
            "credentials_too_strong",
        ),
        (KeyAccess("venue-1", ("view",), may_trade=False, may_withdraw=False), "credentials_refused"),
        (Rejected("forbidden", code="credentials_refused"), "credentials_refused"),
    ],
)
def test_a_key_that_may_withdraw_or_not_trade_is_refused(broker: Broker, access: Any, code: str) -> None:
    broker.access = access
    with pytest.raises(Rejected) as refusal:
        store.store("paper", ACCOUNT, FIELDS, by="alice")
    assert refusal.value.code == code
    assert not VenueCredential.objects.exists()


def test_a_venue_that_does_not_answer_stores_nothing(broker: Broker) -> None:
    broker.access = Retryable("the venue is away")
    with pytest.raises(Retryable):
        store.store("paper", ACCOUNT, FIELDS, by="alice")
    assert not VenueCredential.objects.exists()


def test_each_wrong_field_is_named(broker: Broker) -> None:
    with pytest.raises(InvalidInput) as error:
        store.store("paper", ACCOUNT, {"key_id": "x" * 4_001, "pin": "1"}, by="alice")
    assert error.value.problems == {
        "key_id": "longer than 4000 characters",
        "pin": "not a field; known: key_id, secret",
        "secret": "missing",
    }


def test_a_venue_without_keys_says_so(use_venue: Callable[[Venue], None]) -> None:
    use_venue(FakeVenue())
    with pytest.raises(Rejected, match="paper needs no keys"):
        store.store("paper", ACCOUNT, FIELDS, by="alice")


def test_keys_of_another_account_do_not_open(broker: Broker) -> None:
    store.store("paper", ACCOUNT, FIELDS, by="alice")
    VenueCredential.objects.update(account="paper:18")
    with pytest.raises(Misconfigured, match="belong to another account"):
        store.secrets_of("paper", "paper:18")
    with pytest.raises(Rejected, match="no keys of paper:17"):
        store.secrets_of("paper", ACCOUNT)


def access(account_id: str) -> KeyAccess:
    return KeyAccess(account_id, ("trade",), may_trade=True, may_withdraw=False)


def test_an_account_at_the_venue_serves_one_deployment(broker: Broker) -> None:
    store.store("paper", ACCOUNT, FIELDS, by="alice")
    with pytest.raises(Rejected, match="serves another deployment already") as refusal:
        store.store("paper", "paper:18", {**FIELDS, "key_id": "another key of it"}, by="bob")
    assert refusal.value.code == "account_taken"
    assert "17" not in str(refusal.value)
    store.store("paper", ACCOUNT, {**FIELDS, "key_id": "its next key"}, by="alice")
    with pytest.raises(IntegrityError), transaction.atomic():
        VenueCredential.objects.create(
            venue="paper", account="paper:19", content=b"x", venue_account="venue-1", stored_at=clock.now()
        )


def test_under_open_positions_keys_of_another_account_and_none_are_refused(broker: Broker) -> None:
    row = make.booked_deployment(make.agent())
    store.store("paper", row.account, FIELDS, by="alice")
    make.price("ETH", "2000")
    order = make.order(row, by=make.signal(row.agent), state="accepted", quantity=D("0.4"))
    broker.access = access("venue-2")
    with pytest.raises(Rejected, match="1 order under way, which only these keys can close") as refusal:
        store.store("paper", row.account, FIELDS, by="alice")
    assert refusal.value.code == "credentials_in_use"
    with pytest.raises(Rejected, match="cannot be removed now"):
        store.remove("paper", row.account, by="alice")
    broker.access = access("venue-1")
    store.store(
        "paper", row.account, {**FIELDS, "secret": "rotated"}, by="alice"
    )  # a new key of the same account
    assert store.secrets_of("paper", row.account)["secret"] == "rotated"
    Order.objects.filter(pk=order.pk).update(**{"state": "canceled"})
    broker.access = access("venue-2")
    store.store("paper", row.account, FIELDS, by="alice")
    assert store.remove("paper", row.account, by="alice")


def test_keys_from_before_the_venues_id_was_kept_are_asked_for_it(broker: Broker) -> None:
    row = make.booked_deployment(make.agent())
    store.store("paper", row.account, FIELDS, by="alice")
    make.order(row, by=make.signal(row.agent), state="accepted", quantity=D("0.4"))
    VenueCredential.objects.update(venue_account="")
    store.store("paper", row.account, FIELDS, by="alice")  # both keys are of venue-1
    VenueCredential.objects.update(venue_account="")
    assert store.test("paper", row.account) == ["trade"]
    assert VenueCredential.objects.get().venue_account == "venue-1"


def test_a_rotation_encrypts_each_row_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        broker.access = access(f"venue-{number}")
        store.store("paper", f"paper:{number}", FIELDS, by="alice")
    monkeypatch.setenv(sealing.PREVIOUS, os.environ[sealing.PRIVATE])
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    assert (store.rotate(), store.rotate()) == (3, 0)
    monkeypatch.delenv(sealing.PREVIOUS)
    assert store.secrets_of("paper", "paper:2") == FIELDS


def draft(**fields: Any) -> Deployment:
    return make.deployment(make.agent(), state="draft", funded=False, usdc="0", **fields)


def test_a_deployment_needs_its_keys_and_starts_with_what_its_account_holds(
    broker: Broker, time: RecordedClock
) -> None:
    agent = make.agent()
    make.account(agent)
    row = make.deployment(agent, state="draft", funded=False, usdc="0", account=ACCOUNT)
    with pytest.raises(Rejected, match="no keys of its account at paper are stored"):
        activation.activate(row, by="alice")
    store.store("paper", ACCOUNT, FIELDS, by="alice")
    assert activation.activate(row, by="alice")
    for answer in (Retryable("the venue is away"), ValueError("no JSON"), D(0)):
        broker.cash = answer
        assert book_deposits() == 0
    broker.cash = D("812.5")
    assert fund_due() == 0, "the entry pass asks no broker"
    assert (book_deposits(), book_deposits()) == (1, 0)
    lines = LedgerEntry.objects.filter(account=f"deployment:{row.pk}")
    assert [(line.asset, line.amount, line.kind) for line in lines] == [("USDC", D("812.5"), "deposit")]


def test_a_slow_account_delays_the_others_by_one_pass_at_most(
    broker: Broker, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other = (
        make.deployment(make.agent(), funded=False, usdc="0", account=name) for name in (ACCOUNT, "paper:18")
    )
    asked: list[str] = []

    def opening_balance(account: str) -> Any:
        asked.append(account)
        if account == slow.account:
            monkeypatch.setattr(funding.TimeBudget, "left", lambda _: False)
            raise Retryable("no answer in time")
        return D(5)

    monkeypatch.setattr(broker, "opening_balance", opening_balance)
    assert book_deposits() == 0
    monkeypatch.undo()
    monkeypatch.setattr(broker, "opening_balance", opening_balance)
    assert book_deposits() == 1
    assert asked == [slow.account, other.account, slow.account]


def command(*words: str) -> str:
    out = StringIO()
    call_command("credentials", *words, stdout=out)
    return out.getvalue()


def test_the_command_stores_lists_tests_and_removes(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    number = str(draft(account=ACCOUNT).pk)
    monkeypatch.setattr("sys.stdin", StringIO(json.dumps(FIELDS)))
    answers = [command("set", number, "--stdin"), command("list"), command("test", number)]
    answers.append(command("list", "--json"))
    assert "keys of paper:17 at paper; they may trade" in answers[0]
    assert "paper accepts the keys of paper:17: trade" in answers[2]
    assert not any(FIELDS["secret"] in text or FIELDS["key_id"] in text for text in answers)
    monkeypatch.setattr("builtins.input", lambda: "n")
    with pytest.raises(CommandError, match="nothing was deleted"):
        command("remove", number)
    assert "are deleted" in command("remove", number, "--yes")
    assert "had no keys" in command("remove", number, "--yes")


def test_the_command_asks_without_echo(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []

    def answer(question: str) -> str:
        questions.append(question)
        return "typed text"

    monkeypatch.setattr("trading.management.commands.credentials.getpass", answer)
    command("set", str(draft(account=ACCOUNT).pk))
    assert questions == ["key id (not shown): ", "secret (not shown): "]


@pytest.mark.parametrize("text", ["not json", "[1]"])
def test_input_that_is_no_object_names_the_fields(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(text))
    with pytest.raises(CommandError, match="JSON object with key_id, secret"):
        command("set", str(draft(account=ACCOUNT).pk), "--stdin")
