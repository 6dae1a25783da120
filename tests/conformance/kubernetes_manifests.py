"""Kubernetes' own schemas accept what kustomize builds of deploy/kubernetes, and KEDA's accept its scaled objects."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conformance.conftest import ROOT

HERE = Path(__file__).parent
OVERLAYS = sorted(
    path.parent for path in (ROOT / "deploy" / "kubernetes" / "overlays").glob("*/kustomization.yaml")
)
MODELS = HERE / "node_modules" / "@kubernetes-models" / "keda" / "keda.sh" / "v1alpha1"
VERSIONS = ("1.30", "1.37")
"""Oldest and newest that are checked."""
FIELD = re.compile(r'^    "(\w+)"\??: ', re.MULTILINE)

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl, which has kustomize built in"
)


@cache
def built(overlay: Path) -> str:
    """What `kubectl apply -k` would send."""
    run = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    return run.stdout


def build(overlay: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(built(overlay)) if one]


def of_keda(resource: dict[str, Any]) -> bool:
    return str(resource["apiVersion"]).startswith("keda.sh/")


def keda_objects_to(resources: list[dict[str, Any]]) -> list[str]:
    """The objections of KEDA's schema to types, and of its models to fields that they do not have."""
    run = subprocess.run(
        ["node", str(HERE / "keda.mjs"), json.dumps(resources)], capture_output=True, text=True, check=True
    )
    objections: list[str] = json.loads(run.stdout)
    for resource in resources:
        spec = resource["spec"]
        parts: list[tuple[str, dict[str, Any]]] = [(f"{resource['kind']}Spec", spec)]
        parts += [("ScaleTriggers", one) for one in spec.get("triggers", [])]
        parts += [("AuthTargetRef", one) for one in spec.get("secretTargetRef", [])]
        single = {"fallback": "Fallback", "scaleTargetRef": "ScaleTarget"}
        parts += [(model, spec[name]) for name, model in single.items() if name in spec]
        objections += [
            f"{model} has no {name}" for model, part in parts for name in part if name not in fields(model)
        ]
    return objections


@cache
def fields(model: str) -> frozenset[str]:
    return frozenset(FIELD.findall((MODELS / f"{model}.d.ts").read_text()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_schemas_accept_every_resource(overlay: Path, version: str) -> None:
    ours = [one for one in build(overlay) if not of_keda(one)]
    assert {"Deployment", "Job", "Service", "NetworkPolicy", "Ingress", "PersistentVolumeClaim"} <= {
        one["kind"] for one in ours
    }
    for resource in ours:
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [(("spec", "replicas"), "one"), (("spec", "template", "spec", "terminationGracePeriod"), 5)],
)
def test_the_schemas_refuse_a_wrong_type_and_a_misspelt_name(path: tuple[str, ...], value: object) -> None:
    [web] = [
        one for one in build(OVERLAYS[0]) if (one["kind"], one["metadata"]["name"]) == ("Deployment", "web")
    ]
    part = web
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(web, VERSIONS[-1], strict=True)


def test_kedas_schema_accepts_its_objects_and_refuses_others() -> None:
    found = [one for overlay in OVERLAYS for one in build(overlay) if of_keda(one)]
    assert {"ScaledObject", "TriggerAuthentication"} == {one["kind"] for one in found}
    assert keda_objects_to(found) == []
    scaled = next(one for one in found if one["kind"] == "ScaledObject")
    scaled["spec"]["maxReplicas"] = 3
    scaled["spec"]["triggers"][0]["metadata"]["listLength"] = 5
    assert len(keda_objects_to([scaled])) == 2
