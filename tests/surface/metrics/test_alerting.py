"""From the database to a receiver: our `/metrics`, real servers of Prometheus, our rules without their delays."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import transaction
from pytest_django.live_server_helper import LiveServer

from maxxit.ops import monitoring
from maxxit.ops.supervisor import Supervisor
from tests.surface.metrics.test_monitoring import with_tools
from trading import gate

pytestmark = [pytest.mark.django_db(transaction=True), with_tools]
SECONDS = 60


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a receiver, and the alerts that came in."""
    alerts: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["version"] == "4"
            alerts.extend(body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", alerts
    server.shutdown()
    server.server_close()


@pytest.fixture
def watch(
    tmp_path: Path,
    received: tuple[str, list[dict[str, Any]]],
    free_tcp_port_factory: Callable[[], int],
) -> Iterator[Callable[[int], None]]:
    """Starts both servers on free ports, to scrape a web process on a given port without the delays of minutes."""
    ports = {"9090": str(free_tcp_port_factory()), "9093": str(free_tcp_port_factory())}
    supervisor = Supervisor(tmp_path / "logs")

    def start(web_port: int) -> None:
        monitoring.prepare(tmp_path, web_port, received[0])
        hurried(tmp_path, ports["9093"])
        for server in monitoring.servers(tmp_path):
            server.command = [
                part.replace(":9090", f":{ports['9090']}").replace(":9093", f":{ports['9093']}")
                for part in server.command
            ]
            supervisor.start(server)

    yield start
    supervisor.stop()


def hurried(folder: Path, alertmanager: str) -> None:
    """Rewrite the files: a second for every interval, no delay of a rule or a group."""
    rules = yaml.safe_load((monitoring.FILES / "rules.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    prometheus = yaml.safe_load((folder / "prometheus.yml").read_text())
    prometheus["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    prometheus["rule_files"] = ["rules.yml"]
    prometheus["alerting"]["alertmanagers"][0]["static_configs"] = [
        {"targets": [f"127.0.0.1:{alertmanager}"]}
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(prometheus))
    alerting = yaml.safe_load((folder / "alertmanager.yml").read_text())
    alerting["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    alerting["route"]["routes"][0]["group_wait"] = "0s"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(alerting))


def wait_for(alerts: list[dict[str, Any]], name: str, status: str) -> dict[str, Any]:
    """The first alert of this name and status; fails after a minute."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for alert in list(alerts):
            if (alert["labels"]["alertname"], alert["status"]) == (name, status):
                return alert
        time.sleep(0.2)
    raise AssertionError(f"{name} was not {status} within {SECONDS} s; came in: {alerts}")


def test_a_kill_switch_reaches_the_receiver_and_so_does_its_end(
    watch: Callable[[int], None], received: tuple[str, list[dict[str, Any]]], live_server: LiveServer
) -> None:
    watch(int(live_server.url.rpartition(":")[2]))
    gate.kill("reduce_only", by="test", reason="drill")
    alert = wait_for(received[1], "KillSwitch", "firing")
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["fix"]
    with transaction.atomic():
        gate.release(by="test", reason="over")
    wait_for(received[1], "KillSwitch", "resolved")


def test_a_web_process_that_does_not_answer_reaches_the_receiver(
    watch: Callable[[int], None],
    received: tuple[str, list[dict[str, Any]]],
    free_tcp_port_factory: Callable[[], int],
) -> None:
    watch(free_tcp_port_factory())
    assert wait_for(received[1], "MaxxitDown", "firing")["labels"]["severity"] == "critical"
