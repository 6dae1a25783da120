"""What the tests of the money path share: a recorded clock, no stray messages, a venue to choose."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import HealthCheck, Phase, settings

from maxxit.embedded.template import ensure_template
from maxxit.env import PREPARED
from maxxit.events import wake
from tests.builders import RecordedClock
from tests.emptying import empty_tables
from tests.fakes import FakeModel
from trading.venues.base import Venue

settings.register_profile(
    "maxxit",
    deadline=None,  # this machine is shared: slow is not wrong
    database=None,
    print_blob=True,
    phases=[
        phase for phase in Phase if phase is not Phase.explain
    ],  # it takes minutes: the time limit hides the failure
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("maxxit")

HERE = Path(__file__).parent
OURS = frozenset(
    {
        *("core", "events", "market", "agents", "signals_app", "trading", "positions", "pipeline", "replay"),
        *("notify", "knowledge", "learning", "contracts"),
        *("test_flow.py", "test_lying_feeds.py", "test_architecture.py"),
    }
)


@pytest.fixture(autouse=True)
def woken(request: pytest.FixtureRequest) -> Iterator[set[str]]:
    """The tasks that the test woke: gathered, so that no worker of another test takes them up.

    Only in the folders of the money path, and not where a real worker is the point.
    """
    ours = request.path.is_relative_to(HERE) and request.path.relative_to(HERE).parts[0] in OURS
    if not ours or "celery_worker_process" in request.fixturenames:
        yield set()
        return
    with wake.collected() as names:
        yield names


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, django_db_blocker: Any
) -> None:
    """Bind parameters as the workers that place orders do; let the databases of xdist's workers copy one template.

    A server that binds them refuses what a client would have written into the statement, and not the other way round.
    """
    connection.settings_dict["OPTIONS"] |= PREPARED
    if os.environ.get("PYTEST_XDIST_WORKER"):
        with django_db_blocker.unblock():
            connection.settings_dict["TEST"]["TEMPLATE"] = ensure_template()


@pytest.fixture(autouse=True, scope="session")
def empty_what_was_filled() -> Iterator[None]:
    """Empty only the tables that a transactional test filled, past the triggers that refuse it (superuser only).

    Django's flush truncates all tables and makes content types, permissions and groups anew: ten times the work.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty_tables)
        yield


@pytest.fixture
def time() -> Iterator[RecordedClock]:
    """The recorded clock, at `builders.T0` to begin with."""
    clock = RecordedClock()
    yield clock
    clock.release()


@pytest.fixture
def empty_cache() -> Iterator[None]:
    """Django's cache (Redis) without what earlier tests left there."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def no_approval_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The approval file's place, in this test's own folder; it does not exist."""
    place = tmp_path / "APPROVE_EXECUTION"
    monkeypatch.setattr("trading.gate.APPROVAL_FILE", place)
    return place


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """What stands in for the language model in classification and generation."""
    fake = FakeModel()
    monkeypatch.setattr("signals_app.classify.ask", fake)
    monkeypatch.setattr("signals_app.generate.ask", fake)
    return fake


@pytest.fixture
def use_venue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Venue], None]]:
    """Call it with a venue: every step then finds that one under every name."""
    from trading import wiring

    def use(one: Venue) -> None:
        monkeypatch.setattr(wiring.VENUES, "open", lambda adapter, **options: one)
        wiring.venue.cache_clear()

    yield use
    wiring.venue.cache_clear()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that `nobody`, who runs Postgres under root, can enter; pytest's own are private."""
    made = Path(tempfile.mkdtemp(prefix="maxxit-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)
