"""Staff is told when a check of the health page fails for a while, once, and when it passes again."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from maxxit.events.models import Event
from maxxit.notify import alerts
from maxxit.notify.models import Alert
from maxxit.reports.checks import Check
from maxxit.reports.operators import watch
from maxxit.reports.operators.health import Health, Section
from tests.builders import RecordedClock

pytestmark = pytest.mark.django_db
Show = Callable[..., None]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> Show:
    """Call it with checks of the section Feeds."""

    def show(*checks: Check, section: str = "Feeds") -> None:
        monkeypatch.setattr(watch, "read_health", lambda: Health([Section(section, list(checks))]))

    return show


SILENT = Check("feeds", False, "BTC: no price for 300 s", "see the log of the worker monitor")
GOOD = Check("feeds", True, "all fresh")


def test_a_failure_of_two_minutes_is_told_once_and_its_end_too(page: Show, time: RecordedClock) -> None:
    boss = User.objects.create_superuser("boss")
    page(SILENT)
    assert watch.watch_health() == []
    time.move(minutes=1)
    assert watch.watch_health() == []
    time.move(minutes=1)
    assert watch.watch_health() == ["health/Feeds/feeds"]
    for _ in range(3):
        time.move(hours=1)
        assert watch.watch_health() == []
    page(GOOD)
    assert watch.watch_health() == ["health/Feeds/feeds"]
    assert watch.watch_health() == []
    alerts.write()
    told = Alert.objects.filter(user=boss, channel="inbox").order_by("pk")
    assert [(row.event.name, alerts.text_of(row)) for row in told] == [
        ("check.failing", "feeds: BTC: no price for 300 s. see the log of the worker monitor"),
        ("check.recovered", "feeds passes again"),
    ]


def test_a_short_failure_is_not_told(page: Show, time: RecordedClock) -> None:
    for checks in (SILENT, GOOD, SILENT, GOOD):
        page(checks)
        assert watch.watch_health() == []
        time.move(seconds=90)


def test_a_check_that_is_there_only_while_it_fails_ends(page: Show, time: RecordedClock) -> None:
    late = Check("job:quotes", False, "5 min late")
    page(late, section="Jobs")
    watch.watch_health()
    time.move(minutes=2)
    assert watch.watch_health() == ["health/Jobs/job:quotes"]
    page(Check("jobs", False, "cannot be read: timeout"), section="Jobs")
    assert watch.watch_health() == [], "what cannot be read has not recovered"
    page(Check("jobs", True, "all on time"), section="Jobs")
    assert watch.watch_health() == ["health/Jobs/job:quotes"]


def test_the_real_page_is_watched(time: RecordedClock, empty_cache: None) -> None:
    watch.watch_health()
    time.move(minutes=3)
    subjects = watch.watch_health()
    assert len(set(subjects)) == len(subjects)
    assert Event.objects.filter(name="check.failing").count() == len(subjects)
