"""Notification settings: kinds, quiet hours in the user's zone, test messages."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.market import intake, quotes
from maxxit.market.feeds.base import Tick
from maxxit.notify import alerts, endpoints, kinds, preferences, rules, trials, worker
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Alert, Endpoint, NotificationSettings, PriceRule
from maxxit.pipeline.stages import ALERTS, OWNER_ALERTS, WAKES
from tests import builders
from tests.builders import RecordedClock
from tests.trading.test_race import at_once

database = pytest.mark.django_db
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The messages of the webhook channel, which leaves nothing."""
    messages: list[Any] = []
    webhook = CHANNELS.open("webhook")
    monkeypatch.setattr(type(webhook), "verify", lambda self, address: address)
    monkeypatch.setattr(type(webhook), "send", lambda self, message: messages.append(message))
    return messages


def endpoint(user: User, time: RecordedClock) -> Endpoint:
    return endpoints.set_endpoint(user, "webhook", "https://93.184.216.34/")


@given(
    at=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001  # hypothesis wants naive bounds
    begin=st.times(),
    end=st.times(),
    zone=st.sampled_from(ZONES),
)
def test_quiet_hours_end_at_their_end_and_hold_nothing_outside(
    at: datetime, begin: time, end: time, zone: str
) -> None:
    """Inside, the end lies ahead, at most a day and an hour away; outside, nothing waits."""
    now = at.replace(tzinfo=UTC)
    row = NotificationSettings(quiet_from=begin, quiet_to=end, time_zone=zone)
    until = preferences.quiet_until(row, now)
    local = now.astimezone(ZoneInfo(zone)).time()
    inside = begin <= local < end if begin <= end else local >= begin or local < end
    if until is None:
        return
    assert inside
    assert now < until <= now + timedelta(hours=25)
    assert until.astimezone(ZoneInfo(zone)).time() in (
        end,
        (datetime.combine(at, end) + timedelta(hours=1)).time(),
    )


def test_quiet_hours_over_midnight_end_in_the_morning_of_their_zone() -> None:
    row = NotificationSettings(quiet_from=time(22), quiet_to=time(7), time_zone="Europe/Berlin")
    at = datetime(2026, 3, 28, 21, 30, tzinfo=UTC)  # 22:30 in Berlin; the clocks change that night
    assert preferences.quiet_until(row, at) == datetime(2026, 3, 29, 5, tzinfo=UTC)
    assert preferences.quiet_until(row, datetime(2026, 3, 28, 20, 59, tzinfo=UTC)) is None
    assert preferences.quiet_until(None, at) is None
    unknown = NotificationSettings(quiet_from=time(22), quiet_to=time(7), time_zone="Mars/Base")
    assert preferences.quiet_until(unknown, at) is None  # as in UTC


@database
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"names": ["weather"]}, "no kind of notification 'weather'"),
        ({"quiet_from": time(22)}, "both a begin and an end"),
        ({"quiet_from": time(7), "quiet_to": time(7)}, "have no length"),
        ({"time_zone": "Mars/Base"}, "no time zone 'Mars/Base'"),
    ],
)
def test_what_cannot_be_chosen_is_refused(ann: User, change: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"names": [], "quiet_from": None, "quiet_to": None, "time_zone": "UTC"} | change
    with pytest.raises(Rejected, match=says):
        preferences.choose(ann, **given)
    assert not NotificationSettings.objects.exists()


@database
def test_a_message_waits_for_the_end_of_quiet_hours_and_a_stop_does_not(
    ann: User, time: RecordedClock, sent: list[Any]
) -> None:
    endpoint(ann, time)
    preferences.choose(
        ann,
        kinds.KINDS,
        (time.now - timedelta(hours=1)).time(),
        (time.now + timedelta(hours=2)).time(),
        "UTC",
    )
    record("kill_switch.pulled", ann, owner_id=ann.pk)
    record("safe.entries_stopped", ann, owner_id=ann.pk)
    record("kill_switch.released", ann, owner_id=ann.pk)
    worker.deliver()
    assert sorted(one.name for one in sent) == ["kill_switch.pulled", "safe.entries_stopped"]
    waiting = Alert.objects.get(channel="webhook", state="pending")
    assert (waiting.event.name, waiting.attempts) == ("kill_switch.released", 0)
    assert Alert.objects.get(event=waiting.event, channel="inbox").state == "sent"
    time.move(hours=1)
    worker.deliver()
    assert len(sent) == 2
    time.move(hours=1, seconds=1)
    worker.deliver()
    assert sent[-1].name == "kill_switch.released"


@database
def test_a_match_of_a_rule_waits_for_the_end_of_quiet_hours(
    ann: User, time: RecordedClock, sent: list[Any]
) -> None:
    endpoint(ann, time)
    rule = rules.add(ann, ["BTC"], "any", channel="webhook")
    preferences.choose(
        ann, [], (time.now - timedelta(hours=1)).time(), (time.now + timedelta(hours=2)).time(), "UTC"
    )
    time.move(seconds=1)
    intake.take([Tick("BTC", Decimal(70_000), time.now, "coinbase")])
    rules.match()
    worker.deliver()
    assert (rule.deliveries.get().state, sent) == ("pending", [])


@database
def test_a_customer_hears_of_the_kinds_they_chose_and_staff_of_all(ann: User, time: RecordedClock) -> None:
    root = User.objects.create_superuser("root")
    for person in (ann, root):
        endpoint(person, time)
        preferences.choose(person, ["limits"], None, None, "UTC")
    record("kill_switch.pulled", ann, owner_id=ann.pk)
    record("order.awaiting_confirmation", ann, owner_id=ann.pk)
    alerts.write()
    rows = set(Alert.objects.values_list("user__username", "channel", "event__name"))
    assert rows == {
        ("ann", "inbox", "kill_switch.pulled"),
        ("ann", "inbox", "order.awaiting_confirmation"),
        ("root", "inbox", "kill_switch.pulled"),
        ("root", "webhook", "kill_switch.pulled"),
    }


@database
def test_what_threatens_an_account_is_a_kind_of_its_own(ann: User, time: RecordedClock) -> None:
    endpoint(ann, time)
    preferences.choose(ann, ["accounts"], None, None, "UTC")
    record("account.money_left", ann, owner_id=ann.pk)
    preferences.choose(ann, [], None, None, "UTC")
    record("account.unknown_agent", ann, owner_id=ann.pk)
    alerts.write()
    sent_to_channel = Alert.objects.exclude(channel="inbox").values_list("event__name", flat=True)
    assert set(sent_to_channel) == set(), "nothing is chosen"
    preferences.choose(ann, ["accounts"], None, None, "UTC")
    alerts.write()
    assert set(sent_to_channel.all()) == set(), "what was decided once is not decided again"
    record("account.money_left", ann, owner_id=ann.pk)
    record("account.unknown_agent", ann, owner_id=ann.pk)
    alerts.write()
    assert set(sent_to_channel.all()) == {"account.money_left", "account.unknown_agent"}
    assert kinds.title("account.money_left") == kinds.KINDS["accounts"].title


def test_every_kind_is_alerted_and_wakes_the_sender() -> None:
    events = {event for kind in kinds.KINDS.values() for event in kind.events}
    assert events <= {*ALERTS, *OWNER_ALERTS}
    assert {*kinds.FOR_OWNERS, *kinds.TESTS} == set(OWNER_ALERTS)
    assert all(worker.ALERT_TASK in WAKES[event] for event in OWNER_ALERTS)


@database
def test_a_test_message_goes_the_way_of_real_ones_and_resumes_a_paused_address(
    ann: User, time: RecordedClock, sent: list[Any]
) -> None:
    row = endpoint(ann, time)
    Endpoint.objects.update(rests_until=time.now + timedelta(hours=1), failures=9)
    alert = trials.send_to_channel(ann, "webhook")
    worker.deliver()
    assert [one.text for one in sent] == ["Test message for ann on the channel Webhook: it works"]
    alert.refresh_from_db()
    row.refresh_from_db()
    assert (alert.state, row.failures) == ("sent", 0)
    assert Alert.objects.count() == 1  # no staff, no other channel


@database
def test_what_quiet_hours_hold_is_sent_when_they_are_switched_off(
    ann: User, time: RecordedClock, sent: list[Any]
) -> None:
    endpoint(ann, time)
    now = time.now.astimezone(UTC)
    begin, end = ((now + timedelta(hours=hours)).time().replace(microsecond=0) for hours in (-1, 5))
    preferences.choose(ann, sorted(kinds.KINDS), begin, end, "UTC")
    builders.price("BTC", "71000")
    alert = trials.send_to_channel(ann, "webhook")
    Alert.objects.filter(pk=alert.pk).update(event=record("deployment.limited", ann, owner_id=ann.pk))
    worker.deliver()
    assert sent == []
    alert.refresh_from_db()
    assert alert.due_at > time.now + timedelta(hours=4)
    preferences.choose(ann, sorted(kinds.KINDS), None, None, "UTC")
    worker.deliver()
    assert len(sent) == 1


@database
def test_quiet_hours_with_an_offset_are_refused(ann: User) -> None:
    with pytest.raises(Rejected, match=r"local times without an offset, not 22:00:00\+00:00: give 22:00"):
        preferences.choose(ann, [], time(22, tzinfo=UTC), time(7), "Europe/Berlin")


@pytest.mark.django_db(transaction=True)
def test_parallel_resumes_count_in_turn(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = [rules.add(ann, ["BTC"], "any") for _ in range(4)]
    for rule in paused:
        rules.pause(rule)
    one_allowed = quotes.policy().model_copy(update={"rules_per_user": 1})
    monkeypatch.setattr(quotes, "policy", lambda: one_allowed)
    rows = list(PriceRule.objects.select_related("user"))
    answers = at_once([partial(rules.resume, rule) for rule in rows])
    assert answers.count(True) == 1
    assert PriceRule.objects.filter(active=True).count() == 1


@database
def test_a_test_of_a_rule_says_whether_it_matches_now(ann: User, time: RecordedClock) -> None:
    builders.price("BTC", "71000")
    above = rules.add(ann, ["BTC"], "gt", threshold=Decimal(70_000))
    below = rules.add(ann, ["BTC"], "lt", threshold=Decimal(70_000))
    matches, misses = (trials.send_of_rule(rule).event.data["text"] for rule in (above, below))
    assert matches.endswith("it matches now, BTC is at 71000 USD")
    assert misses.endswith("it does not match at the present quotes")


@database
def test_test_messages_need_an_address_and_are_limited(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Rejected, match="no webhook address"):
        trials.send_to_channel(ann, "webhook")
    monkeypatch.setattr(endpoints, "PER_HOUR", 2)
    trials.send_to_channel(ann, "inbox")
    trials.send_to_channel(ann, "inbox")
    with pytest.raises(Rejected, match="2 test messages an hour"):
        trials.send_to_channel(ann, "inbox")


@database
def test_a_paused_rule_matches_nothing_until_it_is_resumed_and_a_deleted_one_never(
    ann: User, time: RecordedClock
) -> None:
    rule = rules.add(ann, ["BTC"], "any")
    assert rules.pause(rule)
    assert not rules.pause(rule)
    rule.refresh_from_db()
    assert rule.state == "paused"
    assert rules.resume(rule)
    rule.refresh_from_db()
    assert rule.state == "active"
    assert not rules.resume(rule)
    assert rules.remove(rule)
    rule.refresh_from_db()
    assert (rule.state, rules.pause(rule)) == ("deleted", False)
    with pytest.raises(Rejected, match="is deleted"):
        rules.resume(rule)
    with pytest.raises(Rejected, match="is deleted"):
        trials.send_of_rule(rule)


@database
def test_a_rule_is_not_resumed_where_its_address_is_gone_or_there_are_too_many(
    ann: User, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(ann, time)
    rule = rules.add(ann, ["BTC"], "any", channel="webhook")
    rules.pause(rule)
    rule.refresh_from_db()
    none_allowed = quotes.policy().model_copy(update={"rules_per_user": 0})
    monkeypatch.setattr(quotes, "policy", lambda: none_allowed)
    with pytest.raises(Rejected, match="at most 0 active rules"):
        rules.resume(rule)
    Endpoint.objects.update(active=False)
    with pytest.raises(Rejected, match="no webhook address"):
        rules.resume(rule)


@database
def test_each_channel_gets_the_kinds_and_severities_that_were_chosen_for_it(
    ann: User, time: RecordedClock
) -> None:
    endpoint(ann, time)
    slack = endpoints.set_endpoint(ann, "webhook", "https://93.184.216.34/")
    Endpoint.objects.filter(pk=slack.pk).update(channel="slack")
    endpoint(ann, time)
    preferences.choose(
        ann,
        kinds.KINDS,
        None,
        None,
        "UTC",
        by_channel={
            "slack": {"kinds": ["stops"], "severity": "critical"},
            "webhook": {"kinds": ["limits", "stops"]},
        },
    )
    record("kill_switch.pulled", ann, owner_id=ann.pk)
    record("kill_switch.released", ann, owner_id=ann.pk)
    record("order.awaiting_confirmation", ann, owner_id=ann.pk)
    alerts.write()
    got = set(Alert.objects.exclude(channel="inbox").values_list("channel", "event__name"))
    assert got == {
        ("slack", "kill_switch.pulled"),
        ("webhook", "kill_switch.pulled"),
        ("webhook", "kill_switch.released"),
    }
    assert Alert.objects.filter(channel="inbox").count() == 3
    wrong: dict[str, Any]
    for wrong in (
        {"pigeon": {}},
        {"inbox": {}},
        {"slack": {"severity": "loud"}},
        {"slack": {"kinds": ["weather"]}},
    ):
        with pytest.raises(Rejected):
            preferences.choose(ann, [], None, None, "UTC", by_channel=wrong)
    assert preferences.choose(ann, [], None, None, "UTC").by_channel["slack"]["severity"] == "critical"


@database
def test_the_lowest_severity_holds_for_staff_too(time: RecordedClock) -> None:
    root = User.objects.create_superuser("root")
    endpoint(root, time)
    preferences.choose(root, kinds.KINDS, None, None, "UTC", by_channel={"webhook": {"severity": "warning"}})
    record("gate.opened", root)
    record("gate.closed", root)
    record("books.differ", root)
    alerts.write()
    got = Alert.objects.filter(channel="webhook").values_list("event__name", flat=True)
    assert set(got) == {"gate.closed", "books.differ"}


@database
def test_a_snooze_holds_all_but_critical_messages_and_ends_by_itself_or_at_once(
    ann: User, time: RecordedClock, sent: list[Any]
) -> None:
    endpoint(ann, time)
    preferences.snooze(ann, 8)
    assert preferences.of(ann).kinds == kinds.DEFAULT
    record("kill_switch.pulled", ann, owner_id=ann.pk)
    record("kill_switch.released", ann, owner_id=ann.pk)
    worker.deliver()
    assert [one.name for one in sent] == ["kill_switch.pulled"]
    time.move(hours=7, minutes=59)
    worker.deliver()
    assert len(sent) == 1
    preferences.snooze(ann, 0)
    worker.deliver()
    assert [one.name for one in sent][1:] == ["kill_switch.released"]
    with pytest.raises(Rejected, match="1 to 72 hours"):
        preferences.snooze(ann, 73)
    assert preferences.snooze(ann, 1).snoozed_until == time.now + timedelta(hours=1)


@database
def test_a_message_that_a_channel_gave_up_goes_to_the_fallback_once(
    ann: User, time: RecordedClock, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = type(CHANNELS.open("slack"))
    monkeypatch.setattr(slack, "verify", lambda self, address: address)
    monkeypatch.setattr(slack, "send", lambda self, message: sent.append(message))
    endpoints.set_endpoint(ann, "slack", "https://hooks.slack.com/services/T/B/x")
    endpoint(ann, time)
    preferences.choose(
        ann, ["stops"], None, None, "UTC", by_channel={"slack": {"kinds": []}}, fallback="slack"
    )
    webhook = type(CHANNELS.open("webhook"))

    def refuse(self: Any, message: Any) -> None:
        raise Rejected("no")

    monkeypatch.setattr(webhook, "send", refuse)
    record("kill_switch.pulled", ann, owner_id=ann.pk)
    rule = rules.add(ann, ["BTC"], "any", channel="webhook")
    time.move(seconds=1)
    intake.take([Tick("BTC", Decimal(70_000), time.now, "coinbase")])
    rules.match()
    for _ in range(3):
        worker.deliver()
    assert [one.name for one in sent] == ["kill_switch.pulled", "rule.matched"]
    assert sent[1].text == f"BTC is at 70000 USD (rule {rule.rule_id})"
    assert Alert.objects.filter(event__name="kill_switch.pulled", channel="webhook").get().state == "dead"


@database
def test_a_fallback_needs_an_address_and_never_repeats_itself(
    ann: User, time: RecordedClock, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Rejected, match="has no webhook address"):
        preferences.choose(ann, [], None, None, "UTC", fallback="webhook")
    endpoint(ann, time)
    preferences.choose(ann, ["stops"], None, None, "UTC", fallback="webhook")
    webhook = type(CHANNELS.open("webhook"))

    def refuse(self: Any, message: Any) -> None:
        raise Rejected("no")

    monkeypatch.setattr(webhook, "send", refuse)
    record("kill_switch.pulled", ann, owner_id=ann.pk)
    worker.deliver()
    worker.deliver()
    assert Alert.objects.filter(channel="webhook").count() == 1
