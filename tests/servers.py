"""The servers of a test run, as a pytest plugin (`-p tests.servers`): up before Django reads its settings.

One Postgres for the run (each xdist worker has a database of its own in it), one Redis for each xdist worker,
both thrown away at the end. With DATABASE_URL or REDIS_URL set, those servers are used instead. The fixture
`celery_worker_process` is a real worker on all queues: use it with `django_db(transaction=True)`.

Folders run in parallel, in three xdist workers on two CPU cores, at most four; named files and single tests run in this
one process, and so does everything with `-n 0`, `-p no:xdist`, `-s` or `--pdb`.

`--require-all` fails the run unless tests of every kind ran and none was skipped: a missing tool must not look
like success.
"""

import base64
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery

from maxxit.embedded.processes import bound_to_parent, stop_process, wait_until
from maxxit.embedded.servers import Postgres, Redis

KINDS = {
    "django_db": "database",
    "broker": "broker",
    "chain": "chain",
    "realdata": "recorded data",
    "browser": "browser",
    "pooler": "pooler",
}
"""Marker -> what it is called; each must have run under `--require-all`."""
BY_FOLDER = {"chaos": "chaos", "bench": "slow"}
MOST_WORKERS = 4
"""More would wait for the same Postgres."""
STOPPING = {"REMAP_SIGTERM": "SIGQUIT", "SOFT_SHUTDOWN_SECONDS": "2"}
TEMPLATES = "MAXXIT_TEST_TEMPLATES"
"""The environment variable with the folder for `migrated_template`."""
_running: list[Postgres | Redis] = []
_folder: list[Path] = []
_ran: Counter[str] = Counter()
_skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option of `.ci/run`."""
    parser.addoption("--require-all", action="store_true", help="fail unless tests of every kind ran")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Iterator[None]:
    """A wrapper goes before pytest-django's hook, which reads the settings."""
    start()
    return (yield)


def start() -> None:
    """Start what is not there, and tell this process and its children where it is."""
    home = Path(tempfile.mkdtemp(prefix="maxxit-test-"))
    home.chmod(0o711)  # so that `nobody`, who runs Postgres under root, can pass
    _folder.append(home)
    os.environ |= {"MAXXIT_DATA_DIR": str(home), "MAXXIT_ENV_FILE": os.devnull}
    os.environ.setdefault(TEMPLATES, str(home))  # one folder for the parent and all its xdist workers
    os.environ.setdefault("MAXXIT_PROFILE", "")
    os.environ.setdefault("NOTIFY_PRIVATE_KEY", base64.b64encode(secrets.token_bytes(32)).decode())
    if not os.environ.get("DATABASE_URL"):  # xdist's workers inherit the one of their parent
        postgres = Postgres(home, ephemeral=True)
        postgres.start()
        _running.append(postgres)
        os.environ["DATABASE_URL"] = postgres.url
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if not os.environ.get("REDIS_URL") or (worker and os.environ.get("MAXXIT_TEST_REDIS") == "own"):
        redis = Redis(home, ephemeral=True)
        redis.start()
        _running.append(redis)
        os.environ |= {"REDIS_URL": redis.url, "MAXXIT_TEST_REDIS": "own"}


def workers() -> int:
    """How many xdist workers this machine gets: half as many again as usable CPU cores, within a limit.

    A third of a test's time is a wait for a server, a worker process or a browser.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable + usable // 2, MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means."""
    return workers()


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Iterator[None]:
    """Choose parallel workers before xdist reads its options, unless the command line chose already."""
    if (
        config.pluginmanager.hasplugin("xdist")
        and not hasattr(config, "workerinput")
        and runs_folders(config)
    ):
        option = config.option
        if option.numprocesses is None and option.dist == "no" and not option.tx and workers() > 1:
            option.numprocesses, option.dist = workers(), "loadgroup"
    return (yield)


def runs_folders(config: pytest.Config) -> bool:
    """Whether a run is long enough for workers, each of which makes a database first, and needs no terminal."""
    option = config.option
    if option.usepdb or option.collectonly or option.capture == "no":
        return False
    return any(Path(name.partition("::")[0]).is_dir() for name in config.args)


def pytest_unconfigure() -> None:
    """Stop what we started; also after a failure."""
    while _running:
        _running.pop().stop()
    while _folder:
        shutil.rmtree(_folder.pop(), ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker that this plugin sets."""
    config.addinivalue_line("markers", "broker: needs a real Celery worker (set by its fixture)")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the worker, and what lives in the folders of `make chaos` and `make bench`.

    What is marked `share` there is run by `make test`, too.
    """
    for item in items:
        if "celery_worker_process" in getattr(item, "fixturenames", ()):
            item.add_marker("broker")
        for folder, marker in BY_FOLDER.items():
            if folder in item.path.parts and not item.get_closest_marker("share"):
                item.add_marker(marker)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what ran, of which kind; under xdist this is the parent process."""
    kinds = [kind for kind in KINDS if kind in report.keywords]
    if report.skipped and kinds:
        _skipped.append(report.nodeid)
    elif report.when == "call":
        _ran.update(kinds)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under `--require-all`, turn a green run that left a kind out into a failure."""
    if not session.config.getoption("--require-all") or os.environ.get("PYTEST_XDIST_WORKER"):
        return
    missing = [name for marker, name in KINDS.items() if not _ran[marker]]
    if missing or _skipped:
        said = [f"no {name} test ran" for name in missing] + [f"skipped: {test}" for test in _skipped]
        print("\n--require-all: " + "; ".join(said), file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def migrated_template(django_db_blocker: Any) -> Path:
    """A data folder of Postgres with all migrations applied, made once in a run: to start more servers from."""
    from django.test import override_settings

    from maxxit.embedded.scratch import embedded_template

    home = Path(os.environ[TEMPLATES])
    with (home / "templates.lock").open("w") as lock, django_db_blocker.unblock():
        fcntl.flock(lock, fcntl.LOCK_EX)  # another xdist worker may be making it
        with override_settings(DATA_DIR=home):
            return embedded_template()


@dataclass
class Worker:
    """A real Celery worker in a process of its own. `include` names a module with more tasks."""

    environ: dict[str, str]
    log: Path
    queues: str
    node: str = "tests@localhost"
    include: str = "maxxit.celery"
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "celery", "--quiet", "-A", "maxxit.celery", "worker", "-c", "2"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "-Q", self.queues, "-n", self.node, "-I", self.include, "--without-mingle"],
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=bound_to_parent(signal.SIGQUIT),
                process_group=0,
            )
        if not wait_until(self.answers, 30, lambda: not self.alive):
            raise RuntimeError(f"the worker does not answer:\n{self.log.read_text()[-3000:]}")

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def answers(self) -> bool:
        """Whether it consumes."""
        with Celery("asking", broker=self.environ["REDIS_URL"]) as app:
            return bool(app.control.ping([self.node], timeout=0.2))

    def stop(self) -> None:
        """A soft stop."""
        stop_process(self.process, signal.SIGTERM, 15)

    def kill(self) -> None:
        """What the kernel does when memory runs out: the parent and all its children, at once."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="session")
def worker_environ(django_db_setup: None) -> dict[str, str]:
    """The environment of a process that is to work on the *test* database and this run's Redis."""
    from django.conf import settings

    one = settings.DATABASES["default"]
    login = quote(one["USER"], safe="") + (f":{quote(one['PASSWORD'], safe='')}" if one["PASSWORD"] else "")
    where = f"host={quote(one['HOST'], safe='')}" + (f"&port={one['PORT']}" if one["PORT"] else "")
    url = f"postgresql://{login}@/{one['NAME']}?{where}"
    return os.environ | {"DATABASE_URL": url, "REDIS_URL": settings.ENV.broker, **STOPPING}


@pytest.fixture(scope="session")
def celery_worker_process(
    worker_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """One real worker (prefork, two children) on every queue, for the whole session."""
    from maxxit.pipeline.stages import QUEUES

    worker = Worker(worker_environ, tmp_path_factory.mktemp("worker") / "worker.log", ",".join(QUEUES))
    worker.start()
    yield worker
    worker.stop()
