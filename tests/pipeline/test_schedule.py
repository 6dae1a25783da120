"""What runs by the clock: the file, its moments, and beat's tables."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.conf import settings
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from maxxit.celery import app
from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.pipeline import schedule as scheduling
from maxxit.pipeline.schedule import Entry, schedule
from maxxit.pipeline.sync import report_disabled_jobs, sync_schedule
from tests.builders import T0

STEP = timedelta(minutes=5)


def entry(**fields: Any) -> Entry:
    return Entry(**{"task": "some.task", "reason": "because it must be so"} | fields)


@pytest.mark.parametrize(
    "wrong",
    [
        *[
            {},
            {"every": 60, "cron": "* * * * *"},
            {"every": 0},
            {"every": -1},
            {"every": 60, "reason": "short"},
        ],
        *[{"every": 60, "colour": "red"}],
        *[
            {"cron": one}
            for one in ("", "*", "* * * *", "* * * * * *", "61 * * * *", "* 24 * * *", "* * 0 * *")
        ],
        *[
            {"cron": one}
            for one in ("x * * * *", ", * * * *", "*/0 * * * *", "* * * 13 *", "* * * * funday", "1- * * * *")
        ],
    ],
    ids=str,
)
def test_a_rhythm_that_is_none_is_refused_when_the_file_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        entry(**wrong)


@given(
    st.integers(1, 100_000), st.integers(0, 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
)
def test_the_moments_of_an_interval_lie_in_the_span_evenly(every: int, start: datetime) -> None:
    width = max(timedelta(seconds=every), STEP)
    end = start + 5 * width
    moments = list(entry(every=every).moments(start, end, STEP))

    assert len(moments) == 5
    assert all(start < moment <= end for moment in moments)
    assert {later - earlier for earlier, later in pairwise(moments)} == {width}


def test_two_spans_that_touch_share_no_moment() -> None:
    job, noon = entry(cron="0 */6 * * *"), T0
    before = list(job.moments(noon - timedelta(hours=12), noon, STEP))
    after = list(job.moments(noon, noon + timedelta(hours=12), STEP))

    assert before == [noon - timedelta(hours=6), noon]
    assert after == [noon + timedelta(hours=6), noon + timedelta(hours=12)]


@pytest.mark.parametrize(
    ("cron", "day", "times"),
    [
        ("15 */6 * * *", "2026-03-02", ["00:15", "06:15", "12:15", "18:15"]),
        ("0 9 * * 1", "2026-03-02", ["09:00"]),  # a Monday
        ("0 9 * * 0", "2026-03-02", []),
        ("0 9 * * 0", "2026-03-01", ["09:00"]),  # a Sunday
        ("0 0 1 * *", "2026-03-01", ["00:00"]),
        ("0 0 1 4 *", "2026-03-01", []),
        ("*/30 9-10 * 3 mon-fri", "2026-03-02", ["09:00", "09:30", "10:00", "10:30"]),
    ],
)
def test_a_cron_line_means_what_cron_means(cron: str, day: str, times: list[str]) -> None:
    start = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(seconds=1)
    moments = entry(cron=cron).moments(start, start + timedelta(days=1), STEP)

    assert [f"{moment:%H:%M}" for moment in moments] == times


def test_every_job_of_the_file_is_a_task_that_exists() -> None:
    app.loader.import_default_modules()

    assert {one.task for one in schedule().values()} <= set(app.tasks)


@pytest.mark.django_db
def test_the_first_sync_adds_every_job_with_its_reason() -> None:
    PeriodicTask.objects.all().delete()
    done = sync_schedule()

    assert done["added"] == list(schedule())
    for name, one in schedule().items():
        job = PeriodicTask.objects.get(name=name)
        assert (job.task, job.description, job.enabled) == (one.task, one.reason, True)
        assert (job.interval is None) == (one.every is None)
        assert (job.crontab is None) == (one.cron is None)


@pytest.mark.django_db
def test_after_that_the_admins_word_counts_until_a_reset() -> None:
    sync_schedule()
    hourly, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.HOURS)
    PeriodicTask.objects.filter(name="monitor").update(interval=hourly, enabled=False)
    sync_schedule()
    kept = PeriodicTask.objects.get(name="monitor")
    assert (kept.interval, kept.enabled) == (hourly, False)

    sync_schedule(reset=True)
    back = PeriodicTask.objects.get(name="monitor")
    assert (back.interval.every, back.enabled) == (schedule()["monitor"].every, True)


@pytest.mark.django_db
def test_a_job_that_left_the_file_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    sync_schedule()
    fewer = {name: one for name, one in schedule().items() if name != "tidy"}
    monkeypatch.setattr("maxxit.pipeline.sync.schedule", lambda: fewer)

    assert sync_schedule()["removed"] == ["tidy"]
    assert not PeriodicTask.objects.filter(name="tidy").exists()


@pytest.mark.django_db
def test_a_job_that_the_admin_made_stays() -> None:
    minutely, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.MINUTES)
    PeriodicTask.objects.create(name="my own", task="maxxit.pipeline.tasks.tidy", interval=minutely)
    sync_schedule()

    assert PeriodicTask.objects.filter(name="my own").exists()


@pytest.mark.django_db
def test_a_cron_job_of_beat_is_due_when_the_file_says() -> None:
    sync_schedule()
    job = PeriodicTask.objects.get(name="generate")
    cron = CrontabSchedule.objects.get(pk=job.crontab_id).schedule
    line = scheduling.schedule()["generate"].crontab()

    assert (cron.minute, cron.hour, cron.day_of_week) == (line.minute, line.hour, line.day_of_week)


@pytest.mark.django_db
def test_a_job_that_is_switched_off_or_deleted_alerts_staff_once_a_day() -> None:
    sync_schedule()
    assert report_disabled_jobs() == []
    first, second, *_ = sorted(schedule())
    PeriodicTask.objects.filter(name=first).update(
        enabled=False
    )  # as the admin's action does it: no signal is sent
    PeriodicTask.objects.filter(name=second).delete()
    now = clock.now()
    with clock.frozen(now):
        assert report_disabled_jobs(by="root") == [first, second]
        assert report_disabled_jobs() == []
    with clock.frozen(now + timedelta(days=1, seconds=1)):
        assert report_disabled_jobs() == [first, second]
    assert "schedule.disabled" in settings.ALERTS
    assert Event.objects.filter(name="schedule.disabled", data__job=second, data__by="root").count() == 1
