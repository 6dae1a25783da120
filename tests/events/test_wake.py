"""A wake is a hint: it coalesces, it may be lost, and nothing depends on it."""

from itertools import pairwise
from typing import Any

import pytest
from celery.backends.redis import RedisBackend
from django.conf import settings
from django.core.cache import cache
from django.db import transaction

from maxxit.celery import app
from maxxit.events import wake
from maxxit.pipeline.stages import EXITS, STAGES

TASK = "positions.tasks.monitor"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr("maxxit.events.wake.current_app.send_task", lambda name, **_: names.append(name))
    return names


def test_wakes_coalesce_until_the_task_has_begun(sent: list[str]) -> None:
    for _ in range(5):
        wake.send(TASK)
    assert sent == [TASK]

    wake.started(TASK)
    wake.send(TASK)
    assert sent == [TASK, TASK]


def test_tasks_do_not_hold_each_other_back(sent: list[str]) -> None:
    wake.send(TASK)
    wake.send("trading.tasks.execute")

    assert sent == [TASK, "trading.tasks.execute"]


def test_a_wake_survives_a_dead_redis(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: Any, **__: Any) -> None:
        raise ConnectionError("redis is away")

    monkeypatch.setattr(cache, "add", dead)
    monkeypatch.setattr(cache, "delete", dead)
    wake.send(TASK)
    wake.started(TASK)

    assert sent == []


def test_a_wake_survives_a_dead_broker(empty_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def dead(name: str, **_: Any) -> None:
        asked.append(name)
        raise OSError("no broker")

    monkeypatch.setattr("maxxit.events.wake.current_app.send_task", dead)
    wake.send(TASK)

    assert asked == [TASK]


def test_nobody_waits_for_what_a_woken_task_returns(
    empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, awaited = [], []
    monkeypatch.setattr(RedisBackend, "on_task_call", lambda self, producer, task_id: awaited.append(task_id))
    monkeypatch.setattr("maxxit.events.wake.current_app", app)
    monkeypatch.setattr(app.amqp, "send_task_message", lambda producer, name, *_, **__: sent.append(name))
    wake.send(TASK)

    assert (sent, awaited) == ([TASK], [])


@pytest.mark.django_db
def test_a_stage_is_woken_after_the_commit_and_not_before(
    woken: set[str], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        wake.after_commit("quotes.moved")
        assert woken == set()
    for callback in callbacks:
        callback()

    assert woken == {EXITS.task}


@pytest.mark.django_db
def test_what_was_rolled_back_wakes_nobody(woken: set[str], django_capture_on_commit_callbacks: Any) -> None:
    @transaction.atomic
    def fails() -> None:
        wake.after_commit("quotes.moved")
        raise ZeroDivisionError

    with django_capture_on_commit_callbacks(execute=True), pytest.raises(ZeroDivisionError):
        fails()

    assert woken == set()


@pytest.mark.django_db
def test_an_event_that_nobody_waits_for_wakes_nobody(
    woken: set[str], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        wake.after_commit("order.planned")

    assert woken == set()


def test_every_stage_wakes_the_next() -> None:
    for before, after in pairwise(STAGES[:-1]):
        assert after.task in settings.WAKES[f"stage.{before.name}"]
