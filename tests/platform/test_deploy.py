"""docker-compose.yml and the systemd units run what `make up` runs, and each process gets the keys that it needs."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxxit.env import BASE_DIR, PLANS_ONCE, Env, read_env
from maxxit.ops.local import (
    PLANNING_ONCE,
    SIGNING_WORKERS,
    WORKERS,
    YIELDING,
    YIELDING_WORKERS,
    processes,
)
from maxxit.pipeline.stages import QUEUES
from maxxit.reports import status
from tests.tree import PACKAGES
from trading.chain.signer import CURRENT, PREVIOUS

UNITS = BASE_DIR / "deploy" / "systemd"
EXECUTOR = {
    getattr(key, part) for key in (CURRENT, PREVIOUS) for part in ("keystore", "password", "password_file")
}
AWS = {
    "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY_FILE", "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_KMS",
}  # fmt: skip
"""The identity that may use a key of AWS KMS."""
NOT_HANDED_ON = {
    # Each process has its own identity there, so that the web's cannot read what the workers that sign can.
    "VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "AWS_DEFAULT_REGION", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "MAXXIT_DATA_DIR", "MAXXIT_CONFIG_DIR", "BIND", "WEB_PORT",  # the image's
    "DEBUG", "LOG_JSON",  # production's
    "POSTGRES_IMAGE", "VALKEY_IMAGE", "PYTHON_IMAGE",  # compose's own
    "DEPLOYER_KEYSTORE", "DEPLOYER_PASSWORD", "DEPLOYER_PASSWORD_FILE",  # of one command that a person runs
}  # fmt: skip


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The containers."""
    found: dict[str, Any] = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())["services"]
    return found


def compose(empty: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run compose on our file with these variables alone; skip the test where the machine has no compose.

    Args:
        empty: an empty file, in place of the `.env` of this checkout.
    """
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    for program in (["docker", "compose"], ["docker-compose"]):
        known = (
            shutil.which(program[0])
            and not subprocess.run([*program, "version"], capture_output=True).returncode
        )
        if known:
            return subprocess.run(
                [*program, "-f", str(BASE_DIR / "docker-compose.yml"), "--env-file", str(empty), *words],
                capture_output=True, text=True, env=environ | variables, check=False,
            )  # fmt: skip
    pytest.skip("no docker compose here (Debian: apt-get install docker-compose)")


def test_compose_accepts_the_file_and_names_each_variable_that_is_missing(
    services: dict[str, Any], tmp_path: Path
) -> None:
    """No Docker daemon is asked."""
    empty = tmp_path / "empty.env"
    empty.touch()
    text = (BASE_DIR / "docker-compose.yml").read_text()
    needed = dict.fromkeys(re.findall(r"\$\{([A-Z_]+):\?", text), "secret") | dict.fromkeys(
        ("PYTHON_IMAGE", "POSTGRES_IMAGE", "VALKEY_IMAGE"), f"image@sha256:{'a' * 64}"
    )
    profiles = sorted({name for one in services.values() for name in one.get("profiles", ())})
    shown = compose(empty, *(word for name in profiles for word in ("--profile", name)), "config", **needed)
    assert shown.returncode == 0, shown.stderr
    assert set(yaml.safe_load(shown.stdout)["services"]) == set(services)
    for name in needed:
        refused = compose(empty, "config", **{key: value for key, value in needed.items() if key != name})
        assert refused.returncode
        assert name in refused.stderr


def _variables() -> set[str]:
    """Everything that config/env.example knows."""
    return set(
        re.findall(r"^#?([A-Z_0-9]+)=", (BASE_DIR / "config" / "env.example").read_text(), re.MULTILINE)
    )


def test_every_variable_of_the_example_reaches_a_container(services: dict[str, Any]) -> None:
    handed = {name for one in services.values() for name in one.get("environment", {})}
    assert _variables() - handed - NOT_HANDED_ON == set()


def test_the_executors_key_reaches_the_workers_that_place_orders_alone(services: dict[str, Any]) -> None:
    for names in (EXECUTOR, AWS):
        holders = {name for name, one in services.items() if names & set(one.get("environment", {}))}
        assert holders == {f"worker-{name}" for name in SIGNING_WORKERS}


def test_the_owner_of_the_tables_reaches_the_setup_alone(services: dict[str, Any]) -> None:
    holders = {name for name, one in services.items() if "DATABASE_OWNER_URL" in one.get("environment", {})}
    assert holders == {"setup"}
    units = {unit.name for unit in UNITS.glob("*.service") if "maxxit-owner.env" in unit.read_text()}
    assert units == {"maxxit-setup.service"}


MODELS, POSTS, PRICES = {"worker-llm", "worker-general"}, {"worker-general"}, {"worker-monitor", "stream"}
CUSTOMERS = {"worker-exits", "worker-execute", "worker-guard", "orderstream"}
NOTIFY = {"worker-notify"}
KEYS = {
    **dict.fromkeys(("PERPLEXITY_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"), MODELS),
    **dict.fromkeys(("X_BEARER_TOKEN", "LANGFUSE_SECRET_KEY", "OTEL_EXPORTER_OTLP_HEADERS"), POSTS),
    "PYTH_API_KEY": PRICES,
    **dict.fromkeys(("CREDENTIALS_PRIVATE_KEY", "CREDENTIALS_PREVIOUS_PRIVATE_KEY_FILE"), CUSTOMERS),
    **dict.fromkeys(("NOTIFY_PRIVATE_KEY", "EMAIL_URL", "PUSH_PRIVATE_KEY", "HEARTBEAT_URL"), NOTIFY),
    "TELEGRAM_BOT_TOKEN": {*NOTIFY, "chat"},
    "TELEGRAM_WEBHOOK_SECRET": {"web"},
    "KAFKA_PASSWORD": {"bus"},
    "SCHEMA_REGISTRY_AUTH": {"bus"},
    "MAXXIT_ADMIN_PASSWORD": {"setup"},
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_reaches_the_containers_whose_work_needs_it(services: dict[str, Any], name: str) -> None:
    assert {one for one, service in services.items() if name in service.get("environment", {})} == KEYS[name]


def test_images_are_named_by_digest(services: dict[str, Any]) -> None:
    images = [one["image"] for one in services.values() if one["image"] != "maxxit"]
    assert len(images) == 2
    assert all(re.search(r":\?.*@sha256:|@sha256:[0-9a-f]{64}$", image) for image in images)


def test_each_unit_has_a_user_of_its_own_and_two_get_the_key() -> None:
    units = [unit for unit in UNITS.glob("maxxit-*.service") if unit.is_file()]
    users = re.findall(r"^User=(\S+)$", "\n".join(unit.read_text() for unit in units), re.MULTILINE)
    assert len(users) == len(set(users)) == len(units) >= 5
    known = re.findall(r"^u (\S+)", (UNITS / "maxxit.sysusers").read_text(), re.MULTILINE)
    assert {user for user in users if "%" not in user} | {f"maxxit-{name}" for name in WORKERS} == set(known)
    holders = {
        path
        for path in UNITS.rglob("*")
        if path.is_file() and EXECUTOR & set(re.findall(r"\w+", path.read_text()))
    }
    parts = {UNITS / f"maxxit-worker@{name}.service.d" / "executor.conf" for name in ("exits", "execute")}
    assert holders == parts
    assert all(path.read_text().count("LoadCredential=") == 2 for path in parts)
    aws = {path for path in UNITS.rglob("*") if path.is_file() and "AWS_" in path.read_text()}
    assert aws == {UNITS / "executor-kms.conf"}  # copied by hand, in place of `parts`


@pytest.mark.parametrize(("name", "queues"), WORKERS.items())
def test_a_worker_serves_the_same_queues_everywhere(services: dict[str, Any], name: str, queues: str) -> None:
    command = services[f"worker-{name}"]["command"]
    assert command[command.index("-Q") + 1] == queues
    assert f"QUEUES={queues}\n" in (UNITS / f"worker-{name}.env").read_text()


@pytest.mark.parametrize("name", WORKERS)
def test_the_workers_that_place_and_book_orders_plan_once(services: dict[str, Any], name: str) -> None:
    wanted = PLANS_ONCE if name in PLANNING_ONCE else {}
    unit = dict(line.split("=") for line in (UNITS / f"worker-{name}.env").read_text().split())
    in_compose = services[f"worker-{name}"]["environment"]
    assert {key: unit[key] for key in PLANS_ONCE if key in unit} == wanted
    assert {key: in_compose[key] for key in PLANS_ONCE if key in in_compose} == wanted


@pytest.mark.parametrize("queue", ["exits", "guard", "llm", "notify"])
def test_exits_guard_models_and_deliveries_have_a_worker_each_that_serves_nothing_else(queue: str) -> None:
    assert [queues for queues in WORKERS.values() if queue in queues.split(",")] == [queue]


def test_what_protects_no_money_yields_the_processor_everywhere(services: dict[str, Any]) -> None:
    ours = {
        child.name for child in processes(read_env(), 1) if tuple(child.command[: len(YIELDING)]) == YIELDING
    }
    assert ours == {"flower", *(f"worker-{name}" for name in YIELDING_WORKERS)}
    # `make up` runs the bus only where a relay is configured.
    assert ours | {"bus"} == {name for name, one in services.items() if "cpu_shares" in one}
    units = {path.parent.name for path in UNITS.rglob("*.conf") if "CPUWeight=" in path.read_text()}
    assert units == {f"maxxit-worker@{name}.service.d" for name in YIELDING_WORKERS}
    assert not YIELDING_WORKERS & {"exits", "execute", "monitor", "guard"}


def test_flower_only_shows_everywhere(services: dict[str, Any]) -> None:
    ours = next(child for child in processes(read_env(), 1) if child.name == "flower")
    assert ours.environ["FLOWER_READ_ONLY"] == services["flower"]["environment"]["FLOWER_READ_ONLY"] == "True"


def test_workers_finish_or_hand_back_when_they_are_told_to_stop() -> None:
    """Supervisor, image and units set it: with plain SIGTERM the soft shutdown timeout is ignored."""
    ours = [child for child in processes(read_env(), 1) if child.name.startswith("worker-")]
    assert {child.environ.get("REMAP_SIGTERM") for child in ours} == {"SIGQUIT"}
    assert "REMAP_SIGTERM=SIGQUIT" in (BASE_DIR / "Dockerfile").read_text()
    assert "Environment=REMAP_SIGTERM=SIGQUIT\n" in (UNITS / "maxxit-worker@.service").read_text()


def test_the_worker_that_makes_backups_may_write_to_their_folder(services: dict[str, Any]) -> None:
    queue = status.queue_of("maxxit.ops.tasks.back_up")
    [worker] = [name for name, queues in WORKERS.items() if queue in queues.split(",")]
    assert "BACKUP_FOLDER" in services[f"worker-{worker}"]["environment"]
    folder = "/var/backups/maxxit"
    writers = {
        path
        for path in UNITS.rglob("*")
        if path.is_file() and re.search(rf"^ReadWritePaths=.*-{folder}$", path.read_text(), re.MULTILINE)
    }
    assert writers == {
        UNITS / "maxxit.service", UNITS / f"maxxit-worker@{worker}.service.d" / "backups.conf"
    }  # fmt: skip
    assert folder in (BASE_DIR / "docs" / "backups.md").read_text()


def test_there_is_one_beat(services: dict[str, Any]) -> None:
    """Two would send every job twice."""
    ours = [child.name for child in processes(read_env(), 1) if "beat" in child.command]
    theirs = [name for name, one in services.items() if "beat" in one.get("command", "")]
    units = [
        unit.name for unit in UNITS.glob("*.service") if re.search(r"celery .*\bbeat\b", unit.read_text())
    ]
    assert (ours, theirs, units) == (["beat"], ["beat"], ["maxxit-beat.service"])


def test_every_queue_has_one_worker() -> None:
    served = [queue for queues in WORKERS.values() for queue in queues.split(",")]
    assert sorted(served) == sorted(QUEUES)


@pytest.mark.parametrize("name", WORKERS)
def test_the_target_starts_every_worker(name: str) -> None:
    assert f"maxxit-worker@{name}.service" in (UNITS / "maxxit.target").read_text()


def test_the_units_that_get_the_key_of_customers_keys_are_those_of_the_containers() -> None:
    named = re.findall(r"maxxit-(?:worker@)?(\w+)\.service\.d", (UNITS / "customers-keys.conf").read_text())
    assert set(named) == {name.removeprefix("worker-") for name in CUSTOMERS}


@pytest.mark.parametrize("name", ["web", "beat", "stream", "orderstream", "bus"])
def test_the_other_processes_run_everywhere(services: dict[str, Any], name: str) -> None:
    assert name in services
    assert f"maxxit-{name}.service" in (UNITS / "maxxit.target").read_text()
    assert (UNITS / f"maxxit-{name}.service").exists()


def test_the_chat_runs_where_its_bot_has_a_token_and_no_webhook(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs() -> bool:
        return any("chat" in child.command for child in processes(read_env(), 1))

    monkeypatch.delenv("TELEGRAM_BOT_TOKEN", raising=False)
    assert not runs()
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "1:a")
    assert runs()
    monkeypatch.setenv("TELEGRAM_WEBHOOK_SECRET", "s")
    assert not runs()
    assert services["chat"]["profiles"] == ["chat"]
    assert "manage.py chat" in (UNITS / "maxxit-chat.service").read_text()


def _keys(folder: Path) -> set[str]:
    """The variables that config/*.yaml names as holding a key, an address or headers."""
    text = "\n".join(path.read_text() for path in folder.glob("*.yaml"))
    lines = "\n".join(line.partition("#")[0] for line in text.splitlines())
    return set(re.findall(r"\w*(?:key|headers|base_url)_env: (\w+)", lines))


def test_the_example_names_every_key_of_the_configuration() -> None:
    assert _keys(BASE_DIR / "config") - _variables() == set()


SET_BY_OURSELVES = {
    "DJANGO_SETTINGS_MODULE",
    "MAXXIT_DATABASE_DIRECT",
    "MAXXIT_DATABASE_ROLE",
    "MAXXIT_ENV_FILE",
    "NPROC",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
}
"""By `manage.py`, the code and the tests, never by a person."""


def test_the_example_names_every_variable_that_is_read() -> None:
    code = "".join(path.read_text() for one in PACKAGES for path in (BASE_DIR / one).rglob("*.py"))
    by_name = set(re.findall(r'environ(?:\.get\(|\[|\.setdefault\()"([A-Z_]+)"', code))
    fields = {name.upper() for name in Env.model_fields}
    assert len(by_name | fields | EXECUTOR) > 30
    assert (by_name | fields | EXECUTOR) - _variables() - SET_BY_OURSELVES == set()
