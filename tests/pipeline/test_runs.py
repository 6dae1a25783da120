"""Stage runs: recorded, exclusive, once per slot; and a whole pipeline run through a real worker."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from maxxit.embedded.processes import wait_until
from maxxit.pipeline import runs
from maxxit.pipeline.models import PipelineRun, StageRun
from maxxit.pipeline.runs import Counts, due_slot, run_stage, start_run
from maxxit.pipeline.stages import STAGES
from tests.servers import Worker
from tests.trading.test_race import at_once

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def step(into: int = 3, out: int = 2, **detail: Any) -> Callable[[], Counts]:
    return lambda: Counts(into, out, detail)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No message leaves; what would have been sent, and a failing broker on demand."""
    sent: list[Any] = []

    class Sent:
        id, parent = "root", None

    def send(links: Any) -> Sent:
        sent.append(links)
        return Sent()

    monkeypatch.setattr("celery.canvas._chain.apply_async", send)
    return sent


@pytest.mark.django_db
def test_a_pass_is_written_down_with_its_counts(empty_cache: None) -> None:
    assert run_stage("classify", step(why="x")) == {"in": 3, "out": 2, "why": "x"}
    row = StageRun.objects.get()

    assert (row.stage, row.counted_in, row.counted_out, row.detail, row.error) == (
        "classify",
        3,
        2,
        {"why": "x"},
        "",
    )
    assert row.duration_ms is not None


@pytest.mark.django_db
def test_a_pass_that_fails_is_written_down_with_its_traceback_and_fails(empty_cache: None) -> None:
    run = PipelineRun.objects.create(cause="command", started_at=NOON)

    def broken() -> Counts:
        raise KeyError("no such thing")

    with pytest.raises(KeyError):
        run_stage("generate", broken, run_id=run.pk)
    row = StageRun.objects.get()
    run.refresh_from_db()

    assert "KeyError: 'no such thing'" in row.error
    assert row.run == run
    assert run.finished_at is not None
    assert "no such thing" in run.error


@pytest.mark.django_db
def test_of_idle_sweeps_only_the_newest_is_kept(empty_cache: None) -> None:
    run_stage("monitor", step())
    for _ in range(3):
        run_stage("monitor", step(0, 0))

    assert list(StageRun.objects.order_by("pk").values_list("idle", flat=True)) == [False, True]


@pytest.mark.django_db
def test_the_last_link_finishes_the_run(empty_cache: None) -> None:
    run = PipelineRun.objects.create(cause="command", started_at=NOON)
    run_stage("execute", step(), run_id=run.pk)
    assert PipelineRun.objects.get().finished_at is None

    run_stage(STAGES[-1].name, step(), run_id=run.pk)
    assert PipelineRun.objects.get().finished_at is not None


@pytest.mark.django_db
def test_a_sweep_that_moved_something_wakes_the_next_stage_and_a_link_of_a_run_does_not(
    empty_cache: None, woken: set[str], django_capture_on_commit_callbacks: Any
) -> None:
    run = PipelineRun.objects.create(cause="command", started_at=NOON)
    with django_capture_on_commit_callbacks(execute=True):
        run_stage("ingest", step(3, 0))
        run_stage("ingest", step(3, 2), run_id=run.pk)
    assert woken == set()

    with django_capture_on_commit_callbacks(execute=True):
        run_stage("ingest", step(3, 2))
    assert woken == {"signals_app.tasks.classify"}


@pytest.mark.django_db(transaction=True)
def test_two_passes_of_one_stage_never_overlap(empty_cache: None) -> None:
    inside, seen = [0], []

    def careful() -> Counts:
        inside[0] += 1
        seen.append(inside[0])
        inside[0] -= 1
        return Counts(1, 0)

    at_once([lambda: run_stage("execute", careful)] * 6)

    assert seen == [1] * 6
    assert StageRun.objects.count() == 6


@pytest.mark.django_db(transaction=True)
def test_a_pass_that_cannot_get_its_turn_leaves_the_work_to_the_other(
    empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LOCK_WAIT_MS", 50)
    ran: list[int] = []

    def outer() -> Counts:
        def inner() -> Any:
            return run_stage("execute", lambda: Counts(len(ran), 0))

        [result] = at_once([inner])
        assert result["skipped"] == "another pass of this stage is running"
        ran.append(1)
        return Counts(1, 0)

    run_stage("execute", outer)
    assert ran == [1]
    assert run_stage("execute", step())["out"] == 2  # the lock was let go


@pytest.mark.django_db(transaction=True)
def test_a_pass_that_loses_the_database_while_it_waits_for_its_turn_fails(empty_cache: None) -> None:
    waiting: list[int] = []

    def outer() -> Counts:
        def inner() -> Any:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                waiting.extend(cursor.fetchone())
            with runs._stage_lock("execute") as acquired:
                return acquired

        def end() -> None:
            wait_until(lambda: bool(waiting) and _waits(waiting[0]), 30)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", waiting)

        [result, _] = at_once([inner, end])
        assert isinstance(result, OperationalError)
        return Counts(1, 0)

    assert run_stage("execute", outer)["out"] == 0


@pytest.mark.django_db(transaction=True)
def test_a_finished_pass_whose_session_has_ended_is_no_failure(empty_cache: None) -> None:
    def loses_its_session() -> Counts:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()

        def end() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", pid)

        at_once([end])
        return Counts(3, 2)

    assert run_stage("execute", loses_its_session)["out"] == 2
    assert StageRun.objects.get().error == ""
    assert run_stage("execute", step())["out"] == 2


def _waits(pid: int) -> bool:
    """Return whether a session waits for an advisory lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", [pid])
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_slot_runs_once_under_two_beats(empty_cache: None, quiet: list[Any]) -> None:
    results = at_once([lambda: start_run("schedule", slot=NOON)] * 6)

    assert sum(isinstance(one, PipelineRun) for one in results) == 1
    assert results.count(None) == 5
    assert (PipelineRun.objects.count(), len(quiet)) == (1, 1)


@pytest.mark.django_db
def test_runs_without_a_slot_are_as_many_as_are_asked_for(quiet: list[Any]) -> None:
    for _ in range(3):
        start_run("admin", asked_by="me")

    assert PipelineRun.objects.count() == 3


@pytest.mark.django_db
def test_a_slot_whose_chain_could_not_be_sent_is_free_again(
    monkeypatch: pytest.MonkeyPatch, quiet: list[Any]
) -> None:
    def dead(*_: Any, **__: Any) -> None:
        raise OSError("no broker")

    with monkeypatch.context() as patch:
        patch.setattr("celery.canvas._chain.apply_async", dead)
        with pytest.raises(OSError, match="no broker"):
            start_run("schedule", slot=NOON)

    assert start_run("schedule", slot=NOON) is not None


@pytest.fixture
def cron(db: None) -> None:
    line = CrontabSchedule.objects.create(minute="0", hour="*/6", timezone="UTC")
    PeriodicTask.objects.create(name="six hours", task="x", crontab=line)
    every, _ = IntervalSchedule.objects.get_or_create(every=120, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name="two minutes", task="x", interval=every)


@pytest.mark.parametrize("late", [0, 1, 59, 61, 3_600, 6 * 3_600 - 1])
def test_a_beat_that_is_late_gets_the_slot_that_it_was_late_for(cron: None, late: int) -> None:
    with time_machine.travel(NOON + timedelta(seconds=late), tick=False):
        assert due_slot("six hours") == NOON


@pytest.mark.parametrize("late", [0, 1, 119])
def test_the_slot_of_an_interval_is_its_bucket(cron: None, late: int) -> None:
    with time_machine.travel(NOON + timedelta(seconds=late), tick=False):
        assert due_slot("two minutes") == NOON


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2026-03-08T08:30-04:00", "2026-03-08T12:00+00:00"),  # clocks went forward at 2
        ("2026-11-01T08:30-05:00", "2026-11-01T13:00+00:00"),  # clocks went back at 2
    ],
)
def test_a_slot_in_a_zone_with_summer_time_is_a_moment_all_the_same(db: None, local: str, utc: str) -> None:
    line = CrontabSchedule.objects.create(minute="0", hour="8", timezone="America/New_York")
    PeriodicTask.objects.create(name="eight in New York", task="x", crontab=line)
    with time_machine.travel(datetime.fromisoformat(local), tick=False):
        assert due_slot("eight in New York") == datetime.fromisoformat(utc)


@pytest.mark.parametrize(
    ("hour", "moment", "slot"),
    [
        ("1", "2026-11-01T05:31+00:00", "2026-11-01T05:30+00:00"),
        ("1", "2026-11-01T06:31+00:00", "2026-11-01T05:30+00:00"),  # half past one, again
        ("1", "2026-11-02T06:31+00:00", "2026-11-02T06:30+00:00"),
        ("*", "2026-11-01T06:31+00:00", "2026-11-01T06:30+00:00"),  # each hour is one
    ],
)
def test_an_hour_that_comes_twice_has_its_slot_once(db: None, hour: str, moment: str, slot: str) -> None:
    line = CrontabSchedule.objects.create(minute="30", hour=hour, timezone="America/New_York")
    PeriodicTask.objects.create(name="half past", task="x", crontab=line)
    with time_machine.travel(datetime.fromisoformat(moment), tick=False):
        assert due_slot("half past") == datetime.fromisoformat(slot)


@pytest.mark.django_db(transaction=True)
def test_a_run_is_one_chain_over_every_stage_through_a_real_worker(celery_worker_process: Worker) -> None:
    run = start_run("command", asked_by="test")
    assert run is not None
    wait_until(lambda: PipelineRun.objects.get(pk=run.pk).finished_at is not None, 60)
    run.refresh_from_db()
    passes = list(StageRun.objects.filter(run=run).order_by("pk"))

    assert run.error == ""
    assert [one.stage for one in passes] == [stage.name for stage in STAGES]
    assert passes[0].task_id == run.root_task_id
    assert len({one.task_id for one in passes}) == len(STAGES)
    assert {one.worker for one in passes} == {"tests@localhost"}
