"""Prometheus and Alertmanager on this machine, from the files of `deploy/monitoring`."""

import shutil
from pathlib import Path

import yaml

from maxxit.core.config import ROOT
from maxxit.core.errors import Misconfigured
from maxxit.ops.supervisor import Child

FILES = ROOT / "deploy" / "monitoring"
PROMETHEUS, ALERTMANAGER = "http://127.0.0.1:9090", "http://127.0.0.1:9093"
HOST = "127.0.0.1"
PACKAGES = "apt-get install prometheus prometheus-alertmanager"


def prepare(folder: Path, web_port: int, receiver: str) -> None:
    """Write the files of both servers to `folder`: alerts go to `receiver`, samples come from the web process.

    Without a receiver alerts are only shown on Alertmanager's page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prometheus = yaml.safe_load((FILES / "prometheus.yml").read_text())
    prometheus["rule_files"] = [str(FILES / "rules.yml")]
    prometheus["scrape_configs"][0]["static_configs"] = [{"targets": [f"{HOST}:{web_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(prometheus))
    alerting = yaml.safe_load((FILES / "alertmanager.yml").read_text())
    to = {"webhook_configs": [{"url": receiver, "send_resolved": True}]} if receiver else {}
    alerting["receivers"] = [{"name": alerting["route"]["receiver"]} | to]
    path = folder / "alertmanager.yml"
    path.touch(0o600)
    path.write_text(yaml.safe_dump(alerting))


def servers(folder: Path) -> list[Child]:
    """Return both servers, which answer on this machine only. Raises Misconfigured where one is not installed."""
    binaries = {}
    for name in ("prometheus", "alertmanager"):
        found = shutil.which(name) or shutil.which(f"prometheus-{name}")
        if found is None:
            raise Misconfigured(f"{name} is not installed: {PACKAGES}")
        binaries[name] = found
    return [
        Child(
            "alertmanager",
            [
                binaries["alertmanager"],
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={HOST}:9093",
                "--cluster.listen-address=",
            ],
        ),
        Child(
            "prometheus",
            [
                binaries["prometheus"],
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                "--storage.tsdb.retention.time=30d",
                f"--web.listen-address={HOST}:9090",
            ],
        ),
    ]
