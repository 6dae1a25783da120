"""Digests: due at a wall-clock time of the user's zone, written once, with what happened in their slot."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.test import Client

from maxxit.notify import alerts, endpoints, preferences
from maxxit.notify.models import Alert, DigestSlot, NotificationSettings
from maxxit.reports import digests
from positions.models import Position
from signals_app.models import CtPost
from tests import builders as make
from tests.builders import RecordedClock
from trading.models import Order

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "begin", "due"),
    [
        # Berlin is UTC+1 until 2026-03-29 01:00 UTC, then UTC+2 until 2026-10-25 01:00 UTC.
        ("2026-03-28T12:00", "2026-03-28T07:00", "2026-03-28T11:00"),
        (
            "2026-03-29T02:30",
            "2026-03-28T23:00",
            "2026-03-29T02:00",
        ),  # three hours: 0:00 to 4:00 without 2:00
        ("2026-10-25T03:30", "2026-10-24T22:00", "2026-10-25T03:00"),  # five hours
        ("2026-10-25T02:59", "2026-10-24T18:00", "2026-10-24T22:00"),
    ],
)
def test_four_hours_are_by_the_users_clock_over_its_change(now: str, begin: str, due: str) -> None:
    span = digests.every_four_hours(at(now), BERLIN)
    assert (span.begin, span.end, span.due) == (at(begin), at(due), at(due))


@pytest.mark.parametrize(
    ("now", "begin", "end", "due"),
    [
        ("2026-03-29T05:59", "2026-03-26T23:00", "2026-03-27T23:00", "2026-03-28T07:00"),
        ("2026-03-29T06:00", "2026-03-27T23:00", "2026-03-28T23:00", "2026-03-29T06:00"),
        ("2026-03-30T06:00", "2026-03-28T23:00", "2026-03-29T22:00", "2026-03-30T06:00"),  # a day of 23 hours
        ("2026-10-26T07:00", "2026-10-24T22:00", "2026-10-25T23:00", "2026-10-26T07:00"),  # of 25
    ],
)
def test_the_day_before_is_a_local_day(now: str, begin: str, end: str, due: str) -> None:
    span = digests.yesterday(at(now), BERLIN)
    assert (span.begin, span.end, span.due) == (at(begin), at(end), at(due))


def test_the_week_goes_from_monday_to_monday() -> None:
    span = digests.last_week(at("2026-04-01T12:00"), BERLIN)
    assert (span.begin, span.end, span.due) == tuple(
        map(at, ("2026-03-22T23:00", "2026-03-29T22:00", "2026-03-30T06:00"))
    )
    assert digests.last_week(at("2026-03-30T05:59"), BERLIN).due == at("2026-03-23T07:00")


@pytest.mark.parametrize("slot", [digests.every_four_hours, digests.yesterday, digests.last_week])
@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe"]
)
def test_slots_follow_each_other_without_gap_or_overlap_all_year(slot: Any, zone: str) -> None:
    now, spans = at("2026-01-01T00:00"), list[digests.Span]()
    while now < at("2026-12-31T00:00"):
        span = slot(now, ZoneInfo(zone))
        assert span.begin < span.end <= span.due <= now
        if not spans or spans[-1] != span:
            spans.append(span)
        now += timedelta(minutes=30)
    assert all(before.end == after.begin for before, after in pairwise(spans))
    assert len(spans) >= 52


# --- written ---------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def morning(time: RecordedClock) -> RecordedClock:
    time.to(at("2026-03-30T06:00"))  # Monday, 8:00 in Berlin
    return time


def wants(user: User, *kinds: str) -> None:
    preferences.choose(user, kinds, None, None, "Europe/Berlin")


def told(user: User) -> dict[str, str]:
    alerts.write()
    return {row.event.name: alerts.text_of(row) for row in Alert.objects.filter(user=user, channel="inbox")}


def test_trades_of_the_day_before_and_of_the_week_are_told_once(ann: User, morning: RecordedClock) -> None:
    agent = make.agent()
    of = make.deployment(agent, owner=ann)
    closed: dict[str, Any] = {
        "state": "closed",
        "closed_quantity": D("0.4"),
        "fees": D(0),
        "profit_share": D(2),
    }
    make.position(of, **closed, realised_pnl=D("12.5"), exit_price=D(2030), closed_at=at("2026-03-29T21:59"))
    make.position(
        of, **closed, realised_pnl=D("-3"), exit_price=D(1990), closed_at=at("2026-03-29T22:00")
    )  # today
    make.position(make.deployment(agent, owner=User.objects.create(username="bob")))
    wants(ann, "digest_pnl", "digest_authors")
    assert digests.send_due() == 2
    assert digests.send_due() == 0
    said = told(ann)
    assert said["digest.pnl"].startswith(
        "1 trade closed, 1 with a profit: +10.50 USDC after 0.00 USDC of fees and 2.00"
    )
    assert said["digest.pnl"].endswith("0 positions open.")
    assert said["digest.authors"] == "Trades closed in the week, by author: no post +10.50 USDC in 1 trade."
    assert DigestSlot.objects.count() == 2


def test_blocked_entries_are_told_by_reason(ann: User, morning: RecordedClock) -> None:
    of = make.deployment(make.agent(), owner=ann)
    for reason in ("cooldown", "cooldown", "rate_limit"):
        row = make.order(of, state="blocked", reason=reason)
        Order.objects.filter(pk=row.pk).update(created_at=at("2026-03-29T10:00"))
    make.order(of, state="blocked", reason="cooldown")  # of today
    wants(ann, "digest_blocked")
    assert digests.send_due() == 1
    text = told(ann)["digest.blocked"]
    assert text.startswith("3 entries blocked: 2 × ")
    assert text.endswith("1 × too many entries within a minute on the account (rate_limit).")


def test_calls_of_followed_authors_are_told_each_four_hours(ann: User, time: RecordedClock) -> None:
    agent = make.agent()
    make.deployment(agent, owner=ann)
    followed, stranger = make.account(agent), make.account()
    time.to(at("2026-03-30T06:01"))
    for by, tokens, side in (
        (followed, ["ETH"], "long"),
        (followed, ["ETH", "BTC"], "short"),
        (stranger, ["ETH"], "long"),
    ):
        post = make.post(by)
        CtPost.objects.filter(pk=post.pk).update(
            is_signal_candidate=True,
            tokens=tokens,
            sides=dict.fromkeys(tokens, side),
            ingested_at=at("2026-03-30T03:00"),
        )
    wants(ann, "digest_sentiment")
    assert digests.send_due() == 1
    assert told(ann) == {
        "digest.sentiment": (
            "Calls of the authors whom your agents follow: ETH 1 bullish, 1 bearish; BTC 0 bullish, 1 bearish."
        )
    }
    time.to(at("2026-03-30T10:01"))
    assert digests.send_due() == 0, "nothing was called since"


def test_who_did_not_ask_gets_no_digest_and_a_late_one_is_not_made_up_for(
    ann: User, morning: RecordedClock
) -> None:
    make.position(make.deployment(make.agent(), owner=ann))
    preferences.choose(ann, [], None, None, "Europe/Berlin")
    assert digests.send_due() == 0
    wants(ann, "digest_pnl")
    morning.move(hours=3, minutes=1)
    assert digests.send_due() == 0
    morning.move(hours=21)
    assert digests.send_due() == 1


def test_a_digest_that_fails_keeps_nobody_elses_back(
    ann: User, morning: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = User.objects.create(username="bob")
    for user in (ann, bob):
        make.position(make.deployment(make.agent(), owner=user))
        wants(user, "digest_pnl")
    real, fails = digests._write, {ann.pk}

    def sometimes(user: int, kind: str, span: digests.Span) -> bool:
        if user in fails:
            raise ValueError("no")
        return real(user, kind, span)

    monkeypatch.setattr(digests, "_write", sometimes)
    monkeypatch.setattr(digests, "AT_ONCE", 1)
    assert digests.send_due() == 1
    fails.clear()
    assert digests.send_due() == 1
    assert told(ann) == told(bob) == {"digest.pnl": "No trade closed; 1 position open."}
    assert Position.objects.count() == 2


def test_one_click_ends_one_digest_on_one_channel(ann: User, morning: RecordedClock) -> None:
    hook = make.webhook(ann, "https://example.com/x")
    wants(ann, "digest_pnl", "trades")
    link = urlsplit(endpoints.unsubscribe_link(hook, "digest.pnl")).path
    browser = Client()
    assert "Digest each morning" in browser.get(link).content.decode()
    assert NotificationSettings.objects.get().by_channel == {}, "opening it ends nothing"
    browser.post(link, {"List-Unsubscribe": "One-Click"})
    row = NotificationSettings.objects.get()
    assert row.by_channel == {"webhook": {"severity": "info", "kinds": ["trades"]}}
    assert "digest_pnl" in row.kinds, "the other channels keep it"
    hook.refresh_from_db()
    assert hook.active
    make.position(make.deployment(make.agent(), owner=ann))
    digests.send_due()
    alerts.write()
    assert list(Alert.objects.values_list("channel", flat=True)) == ["inbox"]


def test_the_link_of_another_message_removes_the_address(ann: User) -> None:
    hook = make.webhook(ann, "https://example.com/x")
    Client().post(urlsplit(endpoints.unsubscribe_link(hook, "position.open")).path)
    hook.refresh_from_db()
    assert not hook.active
