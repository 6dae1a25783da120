"""A worker of another release hands execution tasks back: what decides about orders is one set of rules at a time."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import Reject

from maxxit.celery import app
from maxxit.core.config import ROOT
from maxxit.embedded.processes import wait_until
from maxxit.pipeline import release
from maxxit.pipeline.models import PipelineRun, Release, StageRun
from tests import builders as make
from tests.servers import Worker
from trading import tasks


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A configuration that differs in one limit."""
    folder = tmp_path / "config"
    shutil.copytree(ROOT / "config", folder)
    risk = folder / "risk.yaml"
    risk.write_text(risk.read_text().replace("price_band_pct: 2.5", "price_band_pct: 2.6"))
    return folder


def test_the_fingerprint_follows_code_and_configuration(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = release.fingerprint()
    assert release.fingerprint() == here
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(other))
    changed = release.fingerprint()
    assert changed != here

    (other / "profiles" / "demo" / "risk.yaml").write_text("price_band_pct: 3")
    assert release.fingerprint() == changed  # of a profile that is not in force
    monkeypatch.setenv("MAXXIT_PROFILE", "demo")
    assert release.fingerprint() != changed


@pytest.mark.django_db
def test_a_release_is_declared_once_and_again_after_another() -> None:
    assert release.declare()
    assert not release.declare()
    Release.objects.create(fingerprint="newer", declared_at=release.clock.now())
    assert release.declared() == "newer"

    assert release.declare()
    assert release.declared() == release.mine()
    assert make.event_names().count("release.declared") == 2


@pytest.mark.django_db
@pytest.mark.parametrize("task", [tasks.run_execute, tasks.run_settle])
def test_a_worker_of_another_release_hands_the_task_back(
    task: release.Fenced, empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "PAUSE_SECONDS", 0)
    Release.objects.create(fingerprint="newer", declared_at=release.clock.now())
    task.push_request(called_directly=False)
    try:
        with pytest.raises(Reject) as refused:
            task()
        assert refused.value.requeue
        assert not StageRun.objects.exists()

        release.declare()
        task()
    finally:
        task.pop_request()


@pytest.fixture
def two_workers(worker_environ: dict[str, str], other: Path, tmp_path: Path) -> Iterator[list[str]]:
    """One of this release and one of another, both on the execution queue; the names of their nodes."""
    stale = worker_environ | {"MAXXIT_CONFIG_DIR": str(other)}
    workers = [
        Worker(worker_environ, tmp_path / "ours.log", "execute", "ours@localhost"),
        Worker(stale, tmp_path / "other.log", "execute", "other@localhost"),
    ]
    for worker in workers:
        worker.start()
    yield [worker.node for worker in workers]
    for worker in workers:
        worker.kill()


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_on_the_execution_queue_only_the_declared_release_takes_tasks(
    two_workers: list[str], other: Path, empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = two_workers
    release.declare()
    assert _who_takes(12) == [ours] * 12

    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(other))
    Release.objects.create(fingerprint=release.fingerprint(), declared_at=release.clock.now())
    assert _who_takes(12) == [theirs] * 12


def _who_takes(count: int) -> list[str]:
    """The worker of each of so many passes."""
    run = PipelineRun.objects.create(cause="command", started_at=release.clock.now())
    for _ in range(count):
        app.send_task("trading.tasks.execute", kwargs={"run_id": run.pk}, queue="execute")
    passes = StageRun.objects.filter(run=run)
    wait_until(lambda: passes.count() == count, 40)
    return [one.worker for one in passes]
