"""The processes behind a real PgBouncer in transaction mode, with fewer sessions than connections."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from celery import current_app
from django.conf import settings
from django.contrib.postgres import signals
from django.db import OperationalError, connections
from django.db.utils import ConnectionHandler

from maxxit.core.config import ROOT
from maxxit.embedded.processes import wait_until
from maxxit.env import read_env
from maxxit.ops import roles
from maxxit.pipeline import runs
from maxxit.pipeline.models import CanaryMark, StageRun
from maxxit.pipeline.stages import QUEUES, STAGES
from maxxit.postgres import SESSION, sessions
from tests.postgres.pgbouncer import MISSING, PROGRAM, pgbouncer
from tests.servers import Worker

LIMITED = "maxxit_limited"
"""A role that only these tests use."""
SESSIONS = 2
"""Of the pooler for each user and database."""
ADVISORY = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""

pytestmark = [pytest.mark.pooler, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]


@pytest.fixture(scope="module")
def urls(
    worker_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The variables of a process whose DATABASE_URL is a pooler before the test database."""
    direct = worker_environ["DATABASE_URL"]
    folder = Path(worker_environ["MAXXIT_DATA_DIR"]) / tmp_path_factory.mktemp("pgbouncer").name
    folder.mkdir(mode=0o755)
    with pgbouncer(direct, folder, SESSIONS, users=(LIMITED,)) as url:
        yield {"DATABASE_URL": url, "DATABASE_DIRECT_URL": direct}


@pytest.fixture
def behind(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectionHandler]:
    """Connections as a process behind the pooler has them."""
    for name, value in urls.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "DATABASES", read_env().databases(SESSION))
    handler = ConnectionHandler(settings.DATABASES)
    for module in (sessions, signals):  # the second looks types up on the connection of that alias
        monkeypatch.setattr(module, "connections", handler)
    yield handler
    handler.close_all()


@pytest.mark.django_db
def test_without_the_address_of_postgres_it_says_what_to_set(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", urls["DATABASE_URL"])
    alone = ConnectionHandler(read_env().databases(SESSION))
    assert list(alone) == ["default"]
    with pytest.raises(OperationalError, match="set DATABASE_DIRECT_URL"):
        alone["default"].ensure_connection()


@pytest.mark.django_db
def test_a_lock_that_is_held_over_transactions_is_one_sessions_own(
    urls: dict[str, str], behind: ConnectionHandler
) -> None:
    """Through the pooler, the unlock would reach another session, and the lock would stay for ever."""

    def busy() -> None:
        with psycopg.connect(urls["DATABASE_URL"], autocommit=True, prepare_threshold=None) as other:
            for _ in range(20):
                other.execute("SELECT pg_sleep(0.005)")

    with psycopg.connect(urls["DATABASE_DIRECT_URL"], autocommit=True) as watcher:
        for _ in range(3):
            others = [Thread(target=busy) for _ in range(3)]
            for one in others:
                one.start()
            with runs._stage_lock("execute") as acquired:
                assert acquired
                assert watcher.execute(ADVISORY).fetchone() == (1,)
                for one in others:
                    one.join()
            assert watcher.execute(ADVISORY).fetchone() == (0,)


@pytest.mark.django_db
def test_a_pass_outlives_the_session_of_its_lock(urls: dict[str, str], behind: ConnectionHandler) -> None:
    """The session is idle during a pass. Where it ended, the server has released the lock: the pass is no failure."""
    assert behind.settings[SESSION]["OPTIONS"]["keepalives_idle"] == 30
    with runs._stage_lock("execute") as acquired:
        assert acquired
        with behind[SESSION].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        with psycopg.connect(urls["DATABASE_DIRECT_URL"], autocommit=True) as other:
            assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)
    with runs._stage_lock("execute") as acquired:  # in a new session
        assert acquired


@pytest.mark.django_db
def test_a_transaction_reads_large_results_and_shares_no_parameters(behind: ConnectionHandler) -> None:
    assert behind.settings["default"]["DISABLE_SERVER_SIDE_CURSORS"]
    assert "options" not in behind.settings["default"]["OPTIONS"]
    assert "statement_timeout" in behind.settings[SESSION]["OPTIONS"]["options"]
    with behind["default"].cursor() as cursor:
        cursor.execute("SELECT current_setting('TimeZone'), count(*) FROM generate_series(1, 20000) AS n")
        assert cursor.fetchone() == ("UTC", 20000)


@pytest.mark.django_db(transaction=True)
def test_the_role_limits_the_sessions_of_the_pooler(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in urls.items():
        monkeypatch.setenv(name, value)
    with connections["default"].cursor() as cursor:
        cursor.execute(f"DROP ROLE IF EXISTS {LIMITED}")
        roles.create(cursor, LIMITED)
        cursor.execute(
            f"GRANT CONNECT ON DATABASE {connections['default'].settings_dict['NAME']} TO {LIMITED}"
        )
        roles.limit(cursor, LIMITED, read_env().limits)
    try:
        user, _, place = urls["DATABASE_URL"].partition("//")[2].partition("@")
        with psycopg.connect(f"postgresql://{LIMITED}@{place}", autocommit=True) as session:
            assert user != LIMITED
            assert session.execute("SHOW statement_timeout").fetchone() == ("5min",)
            assert session.execute("SHOW lock_timeout").fetchone() == ("30s",)
        server, _, _ = place.rpartition("/")
        with psycopg.connect(f"postgresql://{LIMITED}@{server}/web", autocommit=True) as session:
            assert session.execute("SHOW statement_timeout").fetchone() == ("30s",)
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute(f"DROP OWNED BY {LIMITED}")
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [LIMITED]
            )
            cursor.execute(f"DROP ROLE {LIMITED}")


@pytest.mark.django_db(transaction=True)
@pytest.mark.limit(240)
def test_a_worker_serves_every_queue_and_a_pipeline_run_through_the_pooler(
    worker_environ: dict[str, str], urls: dict[str, str], tmp_path: Path, empty_cache: None
) -> None:
    worker = Worker(worker_environ | urls, tmp_path / "worker.log", ",".join(QUEUES), node="pooled@localhost")
    worker.start()
    try:
        current_app.send_task("maxxit.pipeline.tasks.canary", queue="default")
        current_app.send_task("maxxit.pipeline.tasks.run_pipeline", queue="default")
        stages = {stage.name for stage in STAGES}

        def done() -> bool:
            served = set(CanaryMark.objects.values_list("queue", flat=True))
            passed = set(StageRun.objects.exclude(run=None).values_list("stage", flat=True))
            return served == set(QUEUES) and passed == stages

        assert wait_until(done, 90), worker.log.read_text()[-4000:]
        assert list(StageRun.objects.exclude(error="").values_list("stage", "error")) == []
    finally:
        worker.stop()
    with psycopg.connect(urls["DATABASE_DIRECT_URL"], autocommit=True) as watcher:
        assert watcher.execute(ADVISORY).fetchone() == (0,)
    assert "does not exist" not in worker.log.read_text()


def test_commands_connect_to_postgres_itself(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """They dump, create databases and hold locks for as long as they run."""
    for name, value in urls.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MAXXIT_DATABASE_DIRECT", "true")
    assert list(read_env().databases(SESSION)) == ["default"]
    assert read_env().database()["HOST"].startswith("/")
    assert 'setdefault("MAXXIT_DATABASE_DIRECT", "true")' in (ROOT / "manage.py").read_text()
