"""Staff is warned before an approval expires and when it has, once each."""

from datetime import timedelta

import pytest

from maxxit.events.models import Event
from maxxit.pipeline.stages import ALERTS
from tests.builders import T0, RecordedClock
from trading import gate
from trading.operations import approvals

pytestmark = pytest.mark.django_db


def approve(scope: str = "paper", **until: float) -> None:
    gate.approve(scope, by="ana", until=T0 + timedelta(**until), reason="test")


def warnings() -> list[tuple[str, str]]:
    found = Event.objects.filter(name__startswith="approval.").order_by("pk")
    return [(one.name.removeprefix("approval."), one.data["step"]) for one in found]


def test_each_step_is_told_once_in_its_time(time: RecordedClock) -> None:
    approve(days=3)
    seen = []
    for hours in range(0, 100, 1):
        time.to(T0 + timedelta(hours=hours, minutes=30))
        approvals.warn()
        approvals.warn()
        seen.append(len(warnings()))

    assert warnings() == [("expiring", "24 h"), ("expiring", "1 h"), ("expired", "expired")]
    assert [seen.index(count) for count in (1, 2, 3)] == [48, 71, 72]


def test_a_short_approval_has_the_steps_that_lie_within_it(time: RecordedClock) -> None:
    approve(hours=8)
    approvals.warn()
    assert warnings() == []
    time.move(hours=7, minutes=1)
    approvals.warn()

    assert warnings() == [("expiring", "1 h")]


@pytest.mark.parametrize("scope", ["paper", "*"])
def test_one_that_a_longer_approval_replaces_is_no_news(time: RecordedClock, scope: str) -> None:
    approve(hours=30)
    approve(scope, days=30)
    time.move(hours=31)

    assert (approvals.warn(), warnings()) == (0, [])


def test_an_approval_of_another_venue_replaces_nothing(time: RecordedClock) -> None:
    approve(hours=30)
    approve("safe", days=30)
    time.move(hours=31)
    approvals.warn()

    assert warnings() == [("expired", "expired")]


def test_a_revoked_approval_and_one_that_expired_long_ago_are_no_news(time: RecordedClock) -> None:
    approve(hours=30)
    gate.revoke("paper", by="ana", reason="test")
    approve("safe", hours=30)
    time.move(days=3)

    assert approvals.warn() == 0


def test_staff_hears_of_it() -> None:
    assert {"approval.expiring", "approval.expired", "flatten.unclosed"} <= set(ALERTS)
