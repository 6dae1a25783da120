"""Price rules: who is told of what, once."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.market import intake, rules
from maxxit.market.feeds.base import Tick
from maxxit.market.models import PriceRule, RuleDelivery, RuleMatch
from maxxit.market.tasks import tidy
from tests.builders import RecordedClock

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def says(time: RecordedClock) -> Callable[..., None]:
    """The market moves: says(BTC=60000), at the recorded clock, a second later than before."""

    def move(**prices: Any) -> None:
        time.move(seconds=1)
        intake.take([Tick(s, Decimal(str(price)), time.now, "coinbase") for s, price in prices.items()])

    return move


def told() -> list[tuple[str, str]]:
    return [
        (e.data["symbol"], e.data["price"]) for e in Event.objects.filter(name="rule.matched").order_by("id")
    ]


@pytest.mark.parametrize(
    ("condition", "threshold", "prices", "expected"),
    [
        ("gt", 60_000, (60_000, 60_000.5), [("BTC", "60000.5")]),
        ("lt", 60_000, (60_000, 59_999.5), [("BTC", "59999.5")]),
        ("any", None, (60_000,), [("BTC", "60000")]),
    ],
)
def test_a_rule_tells_when_its_condition_holds(
    ann: User, says: Callable[..., None], condition: str, threshold: Any, prices: Any, expected: Any
) -> None:
    rules.add(ann, ["BTC"], condition, threshold=Decimal(threshold) if threshold else None)
    for price in prices:
        says(BTC=price, ETH=3000)

    assert told() == expected
    delivery = RuleDelivery.objects.get()
    assert (delivery.user, delivery.channel, delivery.match.price) == (ann, "inbox", Decimal(expected[0][1]))


@pytest.mark.parametrize(("now", "value"), [(66_000, "10"), (54_000, "-10"), (65_999, None)])
def test_a_change_is_measured_over_its_window(
    ann: User, says: Callable[..., None], time: RecordedClock, now: int, value: str | None
) -> None:
    rules.add(ann, ["*"], "change_pct", threshold=Decimal(10), window=timedelta(minutes=30))
    says(BTC=60_000)
    time.move(minutes=31)
    says(BTC=now)

    assert [event.data["value"] for event in Event.objects.filter(name="rule.matched")] == (
        [value] if value else []
    )


def test_over_a_hole_in_the_bars_nobody_knows_the_change(
    ann: User, says: Callable[..., None], time: RecordedClock
) -> None:
    rules.add(ann, ["BTC"], "change_pct", threshold=Decimal(10), window=timedelta(minutes=30))
    says(BTC=60_000)
    time.move(minutes=40)
    says(BTC=90_000)

    assert told() == []


def test_the_same_match_counts_once_a_minute_and_is_told_once_in_five(
    ann: User, says: Callable[..., None], time: RecordedClock
) -> None:
    rules.add(ann, ["BTC"], "gt", threshold=Decimal(1))
    for _ in range(10 * 6):  # ten minutes from the full hour
        says(BTC=60_000)
        time.move(seconds=9)

    assert RuleMatch.objects.count() == 10
    assert RuleDelivery.objects.count() == len(told()) == 2


def test_one_user_is_told_no_more_than_so_often_an_hour(
    ann: User, says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = rules.quotes.policy().model_copy(update={"rule_deliveries_per_hour": 3})
    monkeypatch.setattr(rules.quotes, "policy", lambda: limited)
    bob = User.objects.create(username="bob")
    for user in (ann, bob):
        rules.add(user, ["*"], "any")
    says(BTC=1, ETH=1)
    says(LTC=1, XRP=1, SOL=1)

    assert {name: RuleDelivery.objects.filter(user__username=name).count() for name in ("ann", "bob")} == {
        "ann": 3,
        "bob": 3,
    }
    assert RuleMatch.objects.count() == 10


def test_many_rules_are_one_statement(ann: User, says: Callable[..., None]) -> None:
    for number in range(50):
        rules.add(ann, ["BTC"], "gt", threshold=Decimal(50_000 + number))
    says(BTC=1)
    with CaptureQueriesContext(connection) as queries:
        says(BTC=1.1)
    few = len(queries)
    with CaptureQueriesContext(connection) as queries:
        says(BTC=1.2, ETH=2, SOL=3)

    assert len(queries) == few
    assert sum("price_rules" in query["sql"] for query in queries) == 1


def test_a_rule_made_while_the_stream_was_down_counts_from_the_next_price(
    ann: User, says: Callable[..., None], time: RecordedClock
) -> None:
    says(BTC=1)
    rules.add(ann, ["BTC"], "any")
    time.move(hours=5)
    says(BTC=2)

    assert told() == [("BTC", "2")]


def test_a_removed_rule_is_silent_and_what_it_did_stays(ann: User, says: Callable[..., None]) -> None:
    rule = rules.add(ann, ["BTC"], "any")
    says(BTC=1)
    assert rules.remove(rule)
    assert not rules.remove(rule)
    says(BTC=2)

    assert RuleMatch.objects.count() == 1


@pytest.mark.parametrize(
    ("symbols", "condition", "options", "code"),
    [
        (["DOGE"], "any", {}, "unknown_symbol"),
        ([], "any", {}, "unknown_symbol"),
        (["BTC"], "near", {}, "bad_condition"),
        (["BTC"], "gt", {}, "bad_threshold"),
        (["BTC"], "gt", {"threshold": Decimal("NaN")}, "bad_threshold"),
        (["BTC"], "lt", {"threshold": Decimal(0)}, "bad_threshold"),
        (["BTC"], "change_pct", {"threshold": Decimal(5)}, "bad_window"),
    ],
)
def test_a_rule_that_could_never_match_is_refused(
    ann: User, symbols: list[str], condition: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(Rejected) as no:
        rules.add(ann, symbols, condition, **options)
    assert no.value.code == code


def test_the_database_takes_no_half_rule_and_a_user_not_endlessly_many(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceRule.objects.create(user=ann, symbols=["BTC"], condition="gt")
    limited = rules.quotes.policy().model_copy(update={"rules_per_user": 1})
    monkeypatch.setattr(rules.quotes, "policy", lambda: limited)
    rules.add(ann, ["BTC"], "any")
    with pytest.raises(Rejected, match="at most 1"):
        rules.add(ann, ["ETH"], "any")


def call(*words: str) -> Any:
    out = StringIO()
    call_command("rules", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_command_adds_lists_tests_and_removes(ann: User, says: Callable[..., None]) -> None:
    made = call("add", "--user", "ann", "--symbols", "BTC,ETH", "--above", "70000")
    assert (made["rule"][:2], len(made["rule"]), made["symbols"]) == ("r_", 10, "BTC,ETH")
    assert call("list", "--user", "ann") == [made]
    says(BTC=60_000)
    assert call("test", made["rule"])["matches"] is False
    says(BTC=71_000)
    assert call("test", made["rule"])["hits"] == [{"symbol": "BTC", "price": "71000", "value": "71000"}]
    assert call("remove", made["rule"]) == {"rule": made["rule"], "removed": True}
    assert call("list") == []


@pytest.mark.parametrize(
    "words",
    [
        ("add", "--user", "nobody", "--symbols", "BTC", "--any"),
        ("add", "--user", "ann", "--symbols", "DOGE", "--any"),
        ("add", "--user", "ann", "--symbols", "BTC", "--above", "dear"),
        ("remove", "r_00000000"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(ann: User, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("rules", *words)


def test_old_matches_are_dropped(ann: User, says: Callable[..., None]) -> None:
    rules.add(ann, ["BTC"], "any")
    says(BTC=1)  # at the recorded clock: months ago

    assert tidy()["matches"] == 2
    assert not RuleMatch.objects.exists()
