"""Price rules: conditions, one match a minute, one delivery in five minutes, limits per user."""

import json
import os
import signal
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.market import intake, quotes
from maxxit.market.feeds.base import Tick
from maxxit.market.models import Candle, FundingRate, Quote, QuoteMove, SourceQuote
from maxxit.notify import endpoints, rules
from maxxit.notify.models import Alert, Endpoint, PriceRule, RuleDelivery, RuleMatch
from maxxit.notify.rules import Part
from maxxit.notify.tasks import match, tidy
from maxxit.pipeline.stages import WAKES
from maxxit.reports.status import queue_of
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
        rules.match()

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


def test_a_rule_is_named_without_trailing_zeros(ann: User) -> None:
    rule = rules.add(ann, ["ETH"], "gt", threshold=Decimal(2000))
    rule.refresh_from_db()
    assert str(rule) == f"{rule.rule_id} ETH gt 2000"


def test_a_change_beyond_the_column_stops_no_other_match(
    ann: User, says: Callable[..., None], time: RecordedClock
) -> None:
    rules.add(ann, ["BTC"], "change_pct", threshold=Decimal(10), window=timedelta(minutes=30))
    rules.add(ann, ["ETH"], "any")
    says(BTC="0.000000000001")
    time.move(minutes=31)
    says(BTC=10**15, ETH=3000)  # a change of 10**29 percent

    assert ("BTC", "1000000000000000") in told()
    assert RuleMatch.objects.get(symbol="BTC").value == Decimal("99999999999999999999")
    assert ("ETH", "3000") in told()


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


def test_a_user_gets_at_most_so_many_deliveries_an_hour(
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


def test_a_price_is_matched_though_the_pass_comes_late_and_another_price_has_come(
    ann: User, time: RecordedClock
) -> None:
    rules.add(ann, ["BTC"], "gt", threshold=Decimal(70_000))
    for price in (69_000, 71_000, 72_000, 68_000):
        time.move(seconds=1)
        intake.take([Tick("BTC", Decimal(price), time.now, "coinbase")])
    time.move(minutes=20)

    assert rules.match() == 1
    assert told() == [("BTC", "71000")]
    assert not QuoteMove.objects.exists()
    assert rules.match() == 0


def test_a_late_pass_tells_once_in_five_minutes_as_well(ann: User, time: RecordedClock) -> None:
    rules.add(ann, ["BTC"], "any")
    for _ in range(10):
        intake.take([Tick("BTC", Decimal(60_000), time.now, "coinbase")])
        time.move(minutes=1)

    assert rules.match() == 2
    assert (RuleMatch.objects.count(), RuleDelivery.objects.count()) == (10, 2)


def test_a_rule_does_not_see_a_price_that_was_accepted_before_it_was_made(
    ann: User, time: RecordedClock
) -> None:
    intake.take([Tick("BTC", Decimal(60_000), time.now, "coinbase")])
    time.move(seconds=1)
    rules.add(ann, ["BTC"], "any")

    assert rules.match() == 0


def test_a_pass_takes_so_many_prices_and_wakes_the_next(
    ann: User,
    time: RecordedClock,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    monkeypatch.setattr(rules, "MAX_MOVES_PER_PASS", 2)
    rules.add(ann, ["*"], "any")
    intake.take([Tick(s, Decimal(1), time.now, "coinbase") for s in ("BTC", "ETH", "LTC")])

    with rules.wake.collected() as woken, django_capture_on_commit_callbacks(execute=True):
        assert rules.match() == 2
    assert rules.MATCH_TASK in woken
    with rules.wake.collected() as woken, django_capture_on_commit_callbacks(execute=True):
        assert rules.match() == 1
    assert rules.MATCH_TASK not in woken


def test_the_transaction_that_stores_a_price_reads_no_rule(ann: User, time: RecordedClock) -> None:
    rules.add(ann, ["BTC"], "any")
    with CaptureQueriesContext(connection) as queries:
        intake.take([Tick("BTC", Decimal(60_000), time.now, "coinbase")])

    assert Quote.objects.filter(symbol="BTC", price=60_000).exists()
    assert not [query["sql"] for query in queries if "rule" in query["sql"]]
    assert (QuoteMove.objects.count(), RuleMatch.objects.count()) == (1, 0)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(function: Callable[[], object]) -> None:
    """Run `function` in a process of its own and assert that SIGKILL ended it."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.django_db(transaction=True)
def test_a_process_that_dies_after_storing_a_price_loses_no_match(ann: User, time: RecordedClock) -> None:
    rules.add(ann, ["BTC"], "gt", threshold=Decimal(70_000))

    def store() -> None:
        intake.wake.wake_task = die  # type: ignore[assignment]  # called once the prices are committed
        intake.take([Tick("BTC", Decimal(71_000), time.now, "coinbase")])

    run_until_killed(store)
    assert (Quote.objects.get(symbol="BTC").price, RuleMatch.objects.count()) == (71_000, 0)
    time.move(seconds=10)
    intake.take([Tick("BTC", Decimal(69_000), time.now, "coinbase")])

    assert match() == 1  # the scheduled sweep
    assert told() == [("BTC", "71000")]


@pytest.mark.django_db(transaction=True)
def test_a_process_that_dies_while_it_matches_leaves_the_prices_to_the_next(
    ann: User, time: RecordedClock
) -> None:
    rules.add(ann, ["BTC"], "any")
    intake.take([Tick("BTC", Decimal(60_000), time.now, "coinbase")])

    def match_and_die() -> None:
        rules.wake.after_commit = die  # type: ignore[assignment]  # called once the statement has run
        rules.match()

    run_until_killed(match_and_die)
    assert (QuoteMove.objects.count(), RuleMatch.objects.count(), told()) == (1, 0, [])
    assert match() == 1
    assert match() == 0
    assert told() == [("BTC", "60000")]


@pytest.mark.django_db(transaction=True)
def test_two_passes_at_a_time_do_not_match_the_same_price(ann: User, time: RecordedClock) -> None:
    rules.add(ann, ["BTC"], "any")
    intake.take([Tick("BTC", Decimal(60_000), time.now, "coinbase")])
    other = connection.copy()
    try:
        with transaction.atomic():
            assert rules.match() == 1
            with other.cursor() as cursor:
                cursor.execute("SET lock_timeout = '5s'")
                cursor.execute(
                    "SELECT count(*) FROM (SELECT FROM quote_moves FOR UPDATE SKIP LOCKED) AS free"
                )
                assert cursor.fetchone() == (0,)
    finally:
        other.close()

    assert rules.match() == 0
    assert len(told()) == 1


def test_accepted_prices_wake_the_match_on_the_queue_of_prices(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(intake.wake, "after_commit", happened.append)
    intake.take([Tick("BTC", Decimal(1), time.now, "coinbase")])
    intake.take([Tick("BTC", Decimal(1), time.now, "coinbase")])  # no news

    assert happened.count("quotes.accepted") == 1
    assert WAKES["quotes.accepted"] == (rules.MATCH_TASK,)
    assert queue_of(rules.MATCH_TASK) == "market"


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


def test_the_command_shows_the_inbox_newest_first(ann: User, says: Callable[..., None]) -> None:
    call("add", "--user", "ann", "--symbols", "BTC", "--below", "70000")
    call("add", "--user", "ann", "--symbols", "ETH", "--any")
    made = call("add", "--user", "ann", "--symbols", "ETH", "--change", "5", "--window", "30")
    assert (made["condition"], made["threshold"], made["window_seconds"]) == ("change_pct", "5", 1800)
    says(BTC=60_000)
    says(ETH=3_000)
    shown = call("inbox", "--user", "ann")
    assert [(one["symbol"], one["price"]) for one in shown] == [("ETH", "3000"), ("BTC", "60000")]
    assert call("inbox", "--user", "ann", "--limit", "1") == shown[:1]


def test_the_command_prints_the_secret_of_a_webhook(ann: User) -> None:
    made = call("webhook", "--user", "ann", "--url", "https://1.1.1.1/hook")
    endpoint = Endpoint.objects.get()
    assert (made["url"], made["secret"]) == ("https://1.1.1.1/hook", endpoints.secret_of(endpoint))
    assert call("webhook", "--user", "ann", "--off") == {"user": "ann", "removed": True}
    for url in ("http://1.1.1.1/hook", "https://10.0.0.1/hook"):
        with pytest.raises(CommandError):
            call("webhook", "--user", "ann", "--url", url)


@pytest.mark.parametrize(
    "words",
    [
        ("add", "--user", "ann", "--symbols", "BTC", "--above", ""),
        ("add", "--user", "ann", "--symbols", "BTC", "--above", "1e30"),
        ("add", "--user", "ann", "--symbols", "BTC", "--change", "5", "--window", "99999999999999"),
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

    assert tidy() == {"alerts": 0, "matches": 2}
    assert not RuleMatch.objects.exists()


def test_old_alerts_are_dropped_and_their_events_stay(ann: User) -> None:
    now = timezone.now()
    event = Event.objects.create(at=now, name="test.happened", subject="a/1")
    for channel, age in (("inbox", 91), ("webhook", 89)):
        at = now - timedelta(days=age)
        Alert.objects.create(event=event, user=ann, channel=channel, at=at, due_at=at)

    assert tidy() == {"alerts": 1, "matches": 0}
    assert Alert.objects.get().channel == "webhook"
    assert Event.objects.filter(pk=event.pk).exists()


def bars_with_volume(symbol: str, until: datetime, *, each: int, volume: str) -> None:
    """`each` five-minute bars before `until`, closed at 100 USD."""
    opened = [until - timedelta(minutes=5 * (n + 1)) for n in range(each)]
    hundred = Decimal(100)
    Candle.objects.bulk_create(
        Candle(
            symbol=symbol, open_time=at, open=hundred, high=hundred, low=hundred, close=hundred,
            volume=Decimal(volume),
        )
        for at in opened
    )  # fmt: skip


@pytest.mark.parametrize(("threshold", "expected"), [(286_999, [("BTC", "60000")]), (287_000, [])])
def test_a_volume_is_that_of_the_last_24_hours(
    ann: User, says: Callable[..., None], time: RecordedClock, threshold: int, expected: Any
) -> None:
    rules.add(ann, ["BTC"], "volume_usd", threshold=Decimal(threshold))
    bars_with_volume(
        "BTC", time.now, each=400, volume="10"
    )  # 287 of them opened within 24 hours: 287,000 USD
    says(BTC=60_000)

    assert told() == expected


def test_without_volume_in_the_bars_nothing_is_known(
    ann: User, says: Callable[..., None], time: RecordedClock
) -> None:
    rules.add(ann, ["BTC"], "volume_usd", threshold=Decimal(1))
    bars_with_volume("BTC", time.now, each=20, volume="0")
    says(BTC=60_000)

    assert told() == []


@pytest.mark.parametrize(("threshold", "matches"), [("49.9", True), ("50", False)])
def test_a_spread_is_that_between_the_fresh_prices_of_two_sources(
    ann: User, says: Callable[..., None], time: RecordedClock, threshold: str, matches: bool
) -> None:
    rule = rules.add(ann, ["BTC"], "spread_bps", threshold=Decimal(threshold))
    at = time.now + timedelta(seconds=1)
    stale = at - timedelta(hours=1)
    for source, price, seen in (("pyth", "60300", at), ("coingecko", "90000", stale)):
        SourceQuote.objects.create(symbol="BTC", source=source, price=Decimal(price), at=seen, received_at=at)
    says(BTC=60_000)

    assert bool(told()) is matches
    assert [hit.value for hit in rules.holds_now(rule)] == ([Decimal(50)] if matches else [])


def test_one_source_has_no_spread(ann: User, says: Callable[..., None]) -> None:
    rules.add(ann, ["BTC"], "spread_bps", threshold=Decimal("0.1"))
    says(BTC=60_000)

    assert told() == []


@pytest.mark.parametrize(
    ("rate", "matches"), [("0.05", True), ("-0.06", True), ("0.049", False), (None, False)]
)
def test_a_funding_rate_counts_whichever_side_pays_while_it_is_fresh(
    ann: User, says: Callable[..., None], time: RecordedClock, rate: str | None, matches: bool
) -> None:
    rule = rules.add(ann, ["BTC"], "funding", threshold=Decimal("0.05"))
    rows = [("a", "0.01", time.now), ("b", "9", time.now - timedelta(hours=2)), ("c", rate, time.now)]
    for source, pct, at in rows:
        if pct is not None:
            FundingRate.objects.create(symbol="BTC", source=source, rate_pct=Decimal(pct), at=at)
    says(BTC=60_000)

    assert bool(told()) is matches
    assert [hit.value for hit in rules.holds_now(rule)] == ([Decimal(rate)] if matches and rate else [])
    assert rules.condition_text(rule) == "funding rate of eight hours, paid by either side, from 0.05 %"


def test_where_no_funding_rate_is_read_the_rule_is_refused(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = quotes.policy().model_copy(update={"funding_order": ()})
    monkeypatch.setattr(quotes, "policy", lambda: none)
    with pytest.raises(Rejected, match="funding_order"):
        rules.add(ann, ["BTC"], "all", parts=[ABOVE, Part("funding", Decimal(1))])


@pytest.mark.parametrize(
    ("parts", "read"),
    [
        ([Part("gt", Decimal(50_000)), Part("lt", Decimal(90_000))], False),
        ([Part("gt", Decimal(50_000)), Part("volume_usd", Decimal(1))], True),
    ],
)
def test_what_no_rule_compares_is_not_read(
    ann: User, time: RecordedClock, parts: list[Part], read: bool
) -> None:
    rule = rules.add(ann, ["BTC"], "all", parts=parts)
    bars_with_volume("BTC", time.now, each=20, volume="1")
    intake.take([Tick("BTC", Decimal(60_000), time.now, "coinbase")])
    executed: list[tuple[str, Any]] = []

    def explained(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        executed.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explained):
        rules.holds_now(rule)
    sql, params = next(one for one in executed if "price_rules" in one[0])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
        [plan] = cursor.fetchone()
    assert any(loops for loops in loops_of(plan[0]["Plan"], "candles")) is read


def loops_of(node: dict[str, Any], table: str) -> list[int]:
    """How often each node that reads `table`, or a part of it, ran."""
    own = [node["Actual Loops"]] if str(node.get("Relation Name", "")).startswith(table) else []
    return own + [found for child in node.get("Plans", ()) for found in loops_of(child, table)]


ABOVE, FALL = Part("gt", Decimal(50_000)), Part("change_pct", Decimal(10), timedelta(minutes=30))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("all", [("BTC", "54000")]), ("any_of", [("BTC", "60000"), ("BTC", "54000"), ("ETH", "2000")])],
)
def test_combined_conditions_hold_for_one_price_together(
    ann: User, says: Callable[..., None], time: RecordedClock, kind: str, expected: Any
) -> None:
    rules.add(ann, ["BTC", "ETH"], kind, parts=[ABOVE, FALL])
    says(BTC=60_000, ETH=3_000)
    time.move(minutes=31)
    says(BTC=54_000, ETH=2_000)

    assert sorted(told()) == sorted(expected)


def test_combined_conditions_are_named(ann: User) -> None:
    both = rules.add(ann, ["BTC"], "all", parts=[ABOVE, FALL])
    one = rules.add(ann, ["BTC"], "any_of", parts=[ABOVE, Part("spread_bps", Decimal(30))])

    assert rules.condition_text(both) == (
        "price above 50000 USD and price changes by percent, up or down, within a time 10 % within 30 minutes"
    )
    assert rules.condition_text(one) == "price above 50000 USD or spread between price sources above 30 bps"


@pytest.mark.parametrize(
    ("condition", "parts", "code"),
    [
        ("all", [ABOVE], "bad_condition"),
        ("any_of", [ABOVE] * 6, "bad_condition"),
        ("all", [ABOVE, Part("any")], "bad_condition"),
        ("all", [ABOVE, Part("all")], "bad_condition"),
        ("all", [ABOVE, Part("lt")], "bad_threshold"),
        ("all", [ABOVE, Part("change_pct", Decimal(5))], "bad_window"),
        ("gt", [ABOVE, FALL], "bad_condition"),
    ],
)
def test_conditions_that_cannot_be_combined_are_refused(
    ann: User, condition: str, parts: list[Part], code: str
) -> None:
    with pytest.raises(Rejected) as no:
        rules.add(ann, ["BTC"], condition, threshold=Decimal(1), parts=parts)

    assert no.value.code == code


def test_the_database_takes_no_combined_rule_of_one_part(ann: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceRule.objects.create(user=ann, symbols=["BTC"], condition="all", parts=[ABOVE.as_json()])


def test_the_command_combines_conditions(ann: User, says: Callable[..., None]) -> None:
    made = call(
        "add", "--user", "ann", "--symbols", "BTC", "--above", "50000", "--change-24h", "5", "--match", "any"
    )
    alone = call("add", "--user", "ann", "--symbols", "BTC", "--change-24h", "5")
    says(BTC=60_000)

    assert " or " in made["condition"]
    assert (alone["condition"], alone["window_seconds"]) == ("change_pct", 86_400)
    assert call("test", made["rule"])["matches"] is True
    with pytest.raises(CommandError, match="give a condition"):
        call("add", "--user", "ann", "--symbols", "BTC")
