"""deploy/kubernetes runs what docker-compose.yml runs, with the same variables and keys, and stops nothing half way.

`kubectl kustomize` builds the manifests; tests/conformance/kubernetes_manifests.py holds them against the schemas.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client, override_settings

from maxxit.celery import app
from maxxit.core.errors import Misconfigured
from maxxit.env import BASE_DIR, PLANS_ONCE
from maxxit.ops.local import PLANNING_ONCE, SIGNING_WORKERS, WORKERS, YIELDING_WORKERS
from maxxit.pipeline.stages import QUEUES
from tests.platform.test_deploy import AWS, EXECUTOR, KEYS
from trading.chain.kms import region_of

FOLDER = BASE_DIR / "deploy" / "kubernetes"
OVERLAYS = ("small", "production")
RUN_BY_COMPOSE_ALONE = {"postgres", "redis", "demo"}
NAMED_OTHERWISE = {
    # A file for each process that may read it, in place of the text, or the other way round.
    *EXECUTOR,
    *AWS,  # the pod's identity, and the ARN names the region
    *(f"{key}_FILE" for key in (
        "CREDENTIALS_PRIVATE_KEY", "CREDENTIALS_PREVIOUS_PRIVATE_KEY", "NOTIFY_PRIVATE_KEY",
        "NOTIFY_PREVIOUS_PRIVATE_KEY", "PUSH_PRIVATE_KEY", "BACKUP_PASSPHRASE",
    )),
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl, which has kustomize built in"
)


def _kustomize(folder: Path) -> list[dict[str, Any]]:
    run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [one for one in yaml.safe_load_all(run.stdout) if one]


@cache
def overlay(name: str) -> list[dict[str, Any]]:
    """The resources of an overlay."""
    return _kustomize(FOLDER / "overlays" / name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everything at once: the base with all components."""
    folder = tmp_path_factory.mktemp("kustomize") / "kubernetes"
    shutil.copytree(FOLDER, folder)
    parts = [f"../components/{path.name}" for path in sorted((FOLDER / "components").iterdir())]
    (folder / "whole").mkdir()
    (folder / "whole" / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["../base"], "components": parts})
    )
    return _kustomize(folder / "whole")


def of_kind(resources: list[dict[str, Any]], *kinds: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in resources if one["kind"] in kinds}


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def main(workload: dict[str, Any]) -> dict[str, Any]:
    [container] = pod(workload)["containers"]
    found: dict[str, Any] = container
    return found


def given(container: dict[str, Any], resources: list[dict[str, Any]]) -> set[str]:
    """The variables that a container gets, from ConfigMaps too."""
    maps = of_kind(resources, "ConfigMap")
    names = [one["name"] for one in container.get("env", [])]
    assert len(names) == len(set(names))
    shared = {
        name for one in container.get("envFrom", []) for name in maps[one["configMapRef"]["name"]]["data"]
    }
    return {*names, *shared}


def ours(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every process of ours."""
    return of_kind(resources, "Deployment", "Job")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The containers of compose."""
    found: dict[str, Any] = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())["services"]
    return found


def queues_of(workload: dict[str, Any]) -> str | None:
    command = main(workload).get("command", [])
    return command[command.index("-Q") + 1] if "-Q" in command else None


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_queue_has_exactly_one_deployment(name: str) -> None:
    served = {one: queues for one, workload in ours(overlay(name)).items() if (queues := queues_of(workload))}
    assert served == {f"worker-{worker}": queues for worker, queues in WORKERS.items()}
    assert sorted(queue for queues in served.values() for queue in queues.split(",")) == sorted(QUEUES)


def test_what_compose_runs_runs_here_with_the_same_command(
    whole: list[dict[str, Any]], services: dict[str, Any]
) -> None:
    there = {name: one.get("command") for name, one in services.items() if name not in RUN_BY_COMPOSE_ALONE}
    assert {name: main(one).get("command") for name, one in ours(whole).items()} == there


def test_each_process_gets_the_variables_that_compose_gives_it(
    whole: list[dict[str, Any]], services: dict[str, Any]
) -> None:
    for name, workload in ours(whole).items():
        here, there = given(main(workload), whole), set(services[name]["environment"])
        assert here ^ there <= NAMED_OTHERWISE, (name, here ^ there)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_reaches_the_processes_whose_work_needs_it(whole: list[dict[str, Any]], key: str) -> None:
    here = key.removesuffix("_FILE") if key in NAMED_OTHERWISE else key
    assert {name for name, one in ours(whole).items() if here in given(main(one), whole)} == KEYS[key]


def test_secrets_come_from_secrets_and_no_init_container_has_more_than_it_needs(
    whole: list[dict[str, Any]],
) -> None:
    for workload in ours(whole).values():
        for container in (main(workload), *pod(workload).get("initContainers", [])):
            typed = {one["name"] for one in container["env"] if "value" in one}
            assert {
                name
                for name in typed
                if re.search("KEY$|SECRET|PASSWORD$|PASSPHRASE$|TOKEN|AUTH|_URL$|_RPC$", name)
            } == set()
        for container in pod(workload).get("initContainers", []):
            read = {one["name"] for one in container["env"] if "valueFrom" in one}
            assert read == {"SECRET_KEY", "DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL"}


def test_the_owner_of_the_tables_reaches_the_setup_alone(whole: list[dict[str, Any]]) -> None:
    assert {name for name, one in ours(whole).items() if "DATABASE_OWNER_URL" in given(main(one), whole)} == {
        "setup"
    }


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_executors_key_is_mounted_only_where_it_signs(name: str) -> None:
    mounted = {
        one
        for one, workload in ours(overlay(name)).items()
        if any("maxxit-executor" in str(volume) for volume in pod(workload)["volumes"])
    }
    named = {one for one, workload in ours(overlay(name)).items() if "maxxit-executor" in str(workload)}
    assert (
        mounted == named == ({f"worker-{one}" for one in SIGNING_WORKERS} if name == "production" else set())
    )
    for one in mounted:
        container = main(ours(overlay(name))[one])
        [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "executor"]
        files = {one["value"] for one in container["env"] if one["name"] in EXECUTOR and "value" in one}
        assert files == {f"{mount['mountPath']}/executor.json", f"{mount['mountPath']}/executor.password"}
        assert mount["readOnly"]


def test_the_identity_that_uses_a_key_of_kms_is_that_of_the_pods_that_sign(
    whole: list[dict[str, Any]],
) -> None:
    signing = {f"worker-{one}" for one in SIGNING_WORKERS}
    accounts = {name: pod(one).get("serviceAccountName") for name, one in ours(whole).items()}
    assert {name for name, account in accounts.items() if account} == signing
    [account] = of_kind(whole, "ServiceAccount").values()
    assert {accounts[name] for name in signing} == {account["metadata"]["name"]}
    policy = of_kind(whole, "NetworkPolicy")["executor-identity"]["spec"]
    assert set(policy["podSelector"]["matchExpressions"][0]["values"]) == signing
    for name in signing:
        [key] = [one for one in main(ours(whole)[name])["env"] if one["name"] == "EXECUTOR_KEYSTORE"]
        assert key["value"].startswith("aws-kms:arn:aws:kms:")
        with pytest.raises(Misconfigured, match="is no key id"):  # until yours is set
            region_of(key["name"], key["value"].removeprefix("aws-kms:"))


@pytest.mark.parametrize("name", OVERLAYS)
def test_there_is_one_beat_and_it_ends_before_another_starts(name: str) -> None:
    [beat] = [one for one in ours(overlay(name)).values() if "beat" in main(one).get("command", [])]
    assert (beat["spec"]["replicas"], beat["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert "beat" not in {
        one["spec"]["scaleTargetRef"]["name"] for one in of_kind(overlay(name), "ScaledObject").values()
    }


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_that_is_told_to_stop_has_time_for_its_longest_task(
    whole: list[dict[str, Any]], worker: str
) -> None:
    longest = max(task.time_limit or app.conf.task_time_limit for task in app.tasks.values())
    allowed = float(of_kind(whole, "ConfigMap")[_settings(whole)]["data"]["SOFT_SHUTDOWN_SECONDS"])
    grace = pod(ours(whole)[f"worker-{worker}"])["terminationGracePeriodSeconds"]
    assert longest < allowed < grace


def _settings(resources: list[dict[str, Any]]) -> str:
    [name] = [name for name in of_kind(resources, "ConfigMap") if name.startswith("settings")]
    return name


def probes(resources: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, workload in of_kind(resources, "Deployment", "StatefulSet").items():
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind in main(workload):
                yield name, kind, main(workload)[kind]


def test_probes_of_the_web_process_hit_a_page_that_answers_as_in_production(
    whole: list[dict[str, Any]], client: Client
) -> None:
    settings = of_kind(whole, "ConfigMap")[_settings(whole)]["data"]
    asked = [probe["httpGet"] for name, _, probe in probes(whole) if name == "web"]
    assert len(asked) == 3
    hosts = settings["ALLOWED_HOSTS"].split(",")
    with override_settings(ALLOWED_HOSTS=hosts, SECURE_SSL_REDIRECT=True, DEBUG=False):
        for probe in asked:
            [host] = [one["value"] for one in probe["httpHeaders"] if one["name"] == "Host"]
            assert client.get(probe["path"], headers={"host": host}).status_code == 200
            assert client.get(probe["path"], headers={"host": "10.1.2.3"}).status_code == 400
    [port] = {one["containerPort"] for one in main(ours(whole)["web"])["ports"]}
    assert f"EXPOSE {port}\n" in (BASE_DIR / "Dockerfile").read_text()


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_is_asked_as_in_compose_whether_it_works(
    whole: list[dict[str, Any]], services: dict[str, Any], worker: str
) -> None:
    """By the name that its command gives it."""
    asked = {
        kind: probe["exec"]["command"] for name, kind, probe in probes(whole) if name == f"worker-{worker}"
    }
    assert set(asked) == {"startupProbe", "livenessProbe"}
    there = services[f"worker-{worker}"]["healthcheck"]["test"][1].replace("$$", "$")
    for command in asked.values():
        assert command[:2] == ["sh", "-c"]
        assert command[2].removeprefix("exec ").replace('"', "") == there
    container = main(ours(whole)[f"worker-{worker}"])
    assert f"{worker}@%h" in container["command"]
    assert {"name": "WORKER", "value": worker} in container["env"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_pod_runs_as_root_writes_to_its_root_or_talks_to_the_cluster(name: str) -> None:
    [uid] = re.findall(r"^USER (\d+):\d+$", (BASE_DIR / "Dockerfile").read_text(), re.MULTILINE)
    for resource in overlay(name):
        if resource["kind"] not in {"Deployment", "Job", "StatefulSet"}:
            continue
        spec = pod(resource)
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # a Service `web` would set WEB_PORT
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert str(spec["securityContext"]["runAsUser"]) == uid or resource["kind"] == "StatefulSet"
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
    [namespace] = of_kind(overlay(name), "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_deployment_waits_for_the_migrations_of_its_release(whole: list[dict[str, Any]]) -> None:
    for name, workload in of_kind(whole, "Deployment").items():
        [waits] = pod(workload)["initContainers"]
        assert waits["command"] == ["python", "manage.py", "migrate", "--check"], name
        assert waits["image"] == main(workload)["image"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_images_are_named_by_digest(name: str) -> None:
    images = {
        container["image"]
        for resource in overlay(name)
        if resource["kind"] in {"Deployment", "Job", "StatefulSet"}
        for container in (*pod(resource)["containers"], *pod(resource).get("initContainers", []))
    }
    assert images
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images), images


@pytest.mark.parametrize("name", WORKERS)
def test_the_workers_that_place_and_book_orders_plan_once(whole: list[dict[str, Any]], name: str) -> None:
    env = {one["name"]: one.get("value") for one in main(ours(whole)[f"worker-{name}"])["env"]}
    assert {key: env[key] for key in PLANS_ONCE if key in env} == (
        PLANS_ONCE if name in PLANNING_ONCE else {}
    )


def _millicores(workload: dict[str, Any]) -> int:
    asked = main(workload)["resources"]["requests"]["cpu"]
    return int(asked.removesuffix("m")) if asked.endswith("m") else int(asked) * 1000


def test_what_protects_no_money_yields_the_processor(whole: list[dict[str, Any]]) -> None:
    """Where the processor is short, Linux shares it by the requests."""
    shares = {name: _millicores(ours(whole)[f"worker-{name}"]) for name in WORKERS}
    assert max(shares[name] for name in YIELDING_WORKERS) < min(
        shares[name] for name in WORKERS if name not in YIELDING_WORKERS
    )
    assert max(shares, key=shares.__getitem__) == "exits"


def test_each_worker_is_scaled_by_the_length_of_each_of_its_queues() -> None:
    resources = overlay("production")
    scaled = of_kind(resources, "ScaledObject")
    assert {one["spec"]["scaleTargetRef"]["name"] for one in scaled.values()} == {
        f"worker-{name}" for name in WORKERS
    }
    for name, queues in WORKERS.items():
        spec = scaled[f"worker-{name}"]["spec"]
        assert [one["metadata"]["listName"] for one in spec["triggers"]] == queues.split(",")
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
        assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
        assert "replicas" not in of_kind(resources, "Deployment")[f"worker-{name}"]["spec"]
    known = of_kind(resources, "TriggerAuthentication")
    refs = {one["authenticationRef"]["name"] for item in scaled.values() for one in item["spec"]["triggers"]}
    assert refs == set(known)


def test_emptying_a_machine_leaves_web_and_exits_running() -> None:
    resources = overlay("production")
    budgets = of_kind(resources, "PodDisruptionBudget")
    deployments = of_kind(resources, "Deployment")
    for name, budget in budgets.items():
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    held = {name for name, one in budgets.items() if one["spec"].get("minAvailable") == 1}
    assert held == {"web", "worker-exits"}
    # One that must stay needs a second one, or no machine could ever be emptied.
    assert deployments["web"]["spec"]["replicas"] == 2
    assert of_kind(resources, "ScaledObject")["worker-exits"]["spec"]["minReplicaCount"] == 2
    assert {f"worker-{name}" for name in WORKERS} <= set(budgets)


def _selects(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    for one in selector.get("matchExpressions", []):
        inside = labels.get(one["key"]) in one["values"]
        if inside != (one["operator"] == "In"):
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_pod_reaches_only_what_its_work_needs(name: str) -> None:
    resources = overlay(name)
    policies = of_kind(resources, "NetworkPolicy")
    assert policies["nothing-else"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    reached: dict[str, set[str]] = {
        workload: {
            policy
            for policy, one in policies.items()
            if "Egress" in one["spec"]["policyTypes"]
            and one["spec"].get("egress")
            and _selects(one, resource["spec"]["template"]["metadata"]["labels"])
        }
        for workload, resource in of_kind(resources, "Deployment", "Job", "StatefulSet").items()
    }
    databases = {"postgres", "redis"}
    for workload, rules in reached.items():
        assert "names" in rules
        assert ("to-databases" in rules) == (workload not in databases)
        assert ("internet" in rules) == (workload not in {*databases, "beat", "flower", "setup"})
        assert ("mail" in rules) == (workload == "worker-notify")
    for policy in ("internet", "mail"):
        for rule in policies[policy]["spec"]["egress"]:
            excepted = {one for block in rule["to"] for one in block["ipBlock"].get("except", [])}
            assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= excepted


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_service_and_prometheus_reach_the_web_process(name: str) -> None:
    resources = overlay(name)
    labels = of_kind(resources, "Deployment")["web"]["spec"]["template"]["metadata"]["labels"]
    service = of_kind(resources, "Service")["web"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] in {
        one["name"] for one in main(ours(resources)["web"])["ports"]
    }
    [path] = of_kind(resources, "Ingress")["web"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {
        "name": "web",
        "port": {"name": service["spec"]["ports"][0]["name"]},
    }
    policy = of_kind(resources, "NetworkPolicy")["to-web"]
    assert _selects(policy, labels)
    assert "kubernetes.io/metadata.name: monitoring" in yaml.safe_dump(policy)
    # Under that name Prometheus asks for /metrics.
    hosts = of_kind(resources, "ConfigMap")[_settings(resources)]["data"]["ALLOWED_HOSTS"].split(",")
    assert f"web.{service['metadata']['namespace']}.svc" in hosts
    public = of_kind(resources, "Ingress")["web"]["spec"]["rules"][0]["host"]
    assert public in hosts


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_secret_that_is_named_stands_in_the_guide(name: str) -> None:
    secrets = set(re.findall(r"(?:secretName|'name'|\"name\"|name): '?(maxxit-?\w*)", yaml.safe_dump(
        [one for one in overlay(name) if one["kind"] not in {"Namespace"}])))  # fmt: skip
    read = {one for one in secrets if one != "maxxit-tls"} - {"maxxit-"}
    guide = (BASE_DIR / "docs" / "deploy.md").read_text()
    assert read
    assert {one for one in read if f"`{one}`" not in guide} == set()
