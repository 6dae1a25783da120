"""docker-compose.yml and the systemd units run what `make up` runs, and each process gets the keys that it needs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxxit.console.local import SIGNING_WORKERS, WORKERS
from maxxit.env import BASE_DIR
from maxxit.pipeline.stages import QUEUES

UNITS = BASE_DIR / "deploy" / "systemd"
EXECUTOR = {"EXECUTOR_KEYSTORE", "EXECUTOR_PASSWORD", "EXECUTOR_PASSWORD_FILE"}
NOT_HANDED_ON = {
    "MAXXIT_DATA_DIR", "MAXXIT_CONFIG_DIR", "BIND", "WEB_PORT",  # the image's
    "DEBUG", "LOG_JSON",  # production's
}  # fmt: skip


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The containers."""
    found: dict[str, Any] = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())["services"]
    return found


def _variables() -> set[str]:
    """Everything that config/env.example knows."""
    return set(
        re.findall(r"^#?([A-Z_0-9]+)=", (BASE_DIR / "config" / "env.example").read_text(), re.MULTILINE)
    )


def test_every_variable_of_the_example_reaches_a_container(services: dict[str, Any]) -> None:
    handed = {name for one in services.values() for name in one.get("environment", {})}
    assert _variables() - handed - NOT_HANDED_ON == set()


def test_the_executors_key_reaches_the_workers_that_place_orders_alone(services: dict[str, Any]) -> None:
    holders = {name for name, one in services.items() if EXECUTOR & set(one.get("environment", {}))}
    assert holders == {f"worker-{name}" for name in SIGNING_WORKERS}


@pytest.mark.parametrize(("name", "queues"), WORKERS.items())
def test_a_worker_serves_the_same_queues_everywhere(services: dict[str, Any], name: str, queues: str) -> None:
    command = services[f"worker-{name}"]["command"]
    assert command[command.index("-Q") + 1] == queues
    assert f"QUEUES={queues}\n" in (UNITS / f"worker-{name}.env").read_text()


@pytest.mark.parametrize("queue", ["exits", "guard", "llm", "notify"])
def test_exits_guard_models_and_deliveries_have_a_worker_each_that_serves_nothing_else(queue: str) -> None:
    assert [queues for queues in WORKERS.values() if queue in queues.split(",")] == [queue]


def test_every_queue_has_one_worker() -> None:
    served = [queue for queues in WORKERS.values() for queue in queues.split(",")]
    assert sorted(served) == sorted(QUEUES)


@pytest.mark.parametrize("name", WORKERS)
def test_the_target_starts_every_worker(name: str) -> None:
    assert f"maxxit-worker@{name}.service" in (UNITS / "maxxit.target").read_text()


@pytest.mark.parametrize("name", ["web", "beat", "stream"])
def test_the_other_processes_run_everywhere(services: dict[str, Any], name: str) -> None:
    assert name in services
    assert f"maxxit-{name}.service" in (UNITS / "maxxit.target").read_text()
    assert (UNITS / f"maxxit-{name}.service").exists()


def _keys(folder: Path) -> set[str]:
    """The variables that config/*.yaml names as holding a key, an address or headers."""
    text = "\n".join(path.read_text() for path in folder.glob("*.yaml"))
    lines = "\n".join(line.partition("#")[0] for line in text.splitlines())
    return set(re.findall(r"\w*(?:key|headers|base_url)_env: (\w+)", lines))


def test_the_example_names_every_key_of_the_configuration() -> None:
    assert _keys(BASE_DIR / "config") - _variables() == set()
