"""The files of deploy/monitoring: each alert fires and resolves, and what they ask for is what `/metrics` gives."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client

from maxxit.core.config import ROOT
from maxxit.reports.metrics import totals
from tests.surface.conftest import World

FOLDER = ROOT / "deploy" / "monitoring"
RULES = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
METRIC = re.compile(r"\bmaxxit_\w+")

with_tools = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("amtool") is None,
    reason="promtool and amtool are not installed (Debian's packages prometheus and prometheus-alertmanager)",
)

STEADY = {"maxxit_stage_passes_total{stage='exits'}": "0+10x60"}
"""Series of a machine that runs, each 15 seconds."""
SERIES: dict[str, dict[str, str]] = {
    "MaxxitDown": {"up{job='maxxit'}": "0x8 1x60"},
    "WorkerSilent": {"maxxit_canary_age_seconds{queue='exits'}": "200x8 20x60"},
    "SchedulerSilent": {
        "maxxit_job_lag_seconds{job='a'}": "90x8 1x60",
        "maxxit_job_lag_seconds{job='b'}": "70x70",
    },
    "NothingRuns": {"maxxit_stage_passes_total{stage='exits'}": "5x44 6+1x60"},
    "StagesFail": {
        "maxxit_events_failed_total{stage='exits'}": "0+2x30 60x60",
        "maxxit_stage_passes_total{stage='exits'}": "0+10x90",
    },
    "StagesSlow": {
        "maxxit_event_latency_seconds_bucket{stage='exits',le='5.0'}": "0x44 0+10x60",
        "maxxit_event_latency_seconds_bucket{stage='exits',le='10.0'}": "0+10x44 440+10x60",
        "maxxit_event_latency_seconds_bucket{stage='exits',le='+Inf'}": "0+10x44 440+10x60",
    },
    "QueueLong": {"maxxit_queue_length{queue='llm'}": "1200x8 10x60"},
    "KillSwitch": {
        "maxxit_kill_switch{level='reduce_only'}": "1x8 0x60",
        "maxxit_kill_switch{level='flatten'}": "0x70",
    },
    "OrdersRefused": {
        "maxxit_risk_decisions_total{decision='blocked',reason='no_price'}": "0+10x44 440x60",
        "maxxit_risk_decisions_total{decision='allowed',reason=''}": "0x44 0+10x60",
    },
    "OrderUnknown": {"maxxit_order_age_seconds{state='unknown'}": "290+15x8 1x60"},
    "HoldingsUnexplained": {"maxxit_unexplained_holdings{origin='paper'}": "1x8 0x60"},
    "BooksDiffer": {"maxxit_books_differ": "1x8 0x60"},
    "TwinDrifts": {
        "maxxit_twin_drifts{measure='price'}": "1x8 0x60",
        "maxxit_twin_drifts{measure='fee'}": "0x70",
    },
    "FeedSilent": {
        "maxxit_feed_age_seconds{source='a'}": "70+15x8 1x60",
        "maxxit_feed_age_seconds{source='b'}": "400x70",
    },
    "ModelAway": {"maxxit_check_failing{section='Models',check='provider:a'}": "1x16 0x60"},
    "ChainEndpointsDisagree": {"maxxit_check_failing{section='Chain',check='outbox'}": "1x16 0x60"},
    "ExecutorLow": {"maxxit_executors_low": "1x8 0x60"},
    "DeadLetters": {"maxxit_check_failing{section='Queues',check='dead letters'}": "1x8 0x60"},
    "DiskFull": {"maxxit_check_failing{section='Machine',check='disk'}": "1x8 0x60"},
    "BackupOld": {"maxxit_check_failing{section='Machine',check='backup'}": "1x16 0x60"},
    "CheckFails": {"maxxit_check_failing{section='Machine',check='clocks'}": "1x16 0x60"},
}
"""Alert -> its series: first those that it is for, then healthy ones."""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool, at most 30 seconds."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=30, check=False
    )


def names(text: str) -> set[str]:
    """The metrics that an expression asks for."""
    return set(METRIC.findall(text))


def panels() -> list[tuple[str, str]]:
    """Each panel of a dashboard with its expression."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            found += [(f"{path.stem}: {panel['title']}", one["expr"]) for one in panel.get("targets", ())]
    return found


@with_tools
def test_the_files_are_what_the_tools_take() -> None:
    for command in (
        ("promtool", "check", "config", FOLDER / "prometheus.yml"),
        ("promtool", "check", "rules", FOLDER / "rules.yml"),
        ("amtool", "check-config", FOLDER / "alertmanager.yml"),
    ):
        done = run(*command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_its_case() -> None:
    assert [rule["alert"] for rule in RULES] == list(SERIES)


@with_tools
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_fires_and_resolves(rule: dict[str, Any], tmp_path: Path) -> None:
    series = SERIES[rule["alert"]]
    late = any("x44" in values or "x30" in values for values in series.values())
    fires, over = ("10m", "24m") if late else ("1m45s" if "x8 " in str(series) else "3m", "15m")
    if rule["alert"] == "StagesFail":
        fires = "7m"
    case = {
        "rule_files": [str(FOLDER / "rules.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": name, "values": values} for name, values in (STEADY | series).items()
                ],
                "promql_expr_test": [
                    {
                        "expr": f"count(ALERTS{{alertname='{rule['alert']}',alertstate='firing'}}) or vector(0)",
                        "eval_time": moment,
                        "exp_samples": [{"labels": "{}", "value": number}],
                    }
                    for moment, number in ((fires, 1), (over, 0))
                ],
            }
        ],
    }
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(case))
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_lists_the_alerts_and_the_metrics() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    for rule in RULES:
        line = next(line for line in page.splitlines() if line.startswith(f"| `{rule['alert']}` |"))
        assert line.endswith(f"| {rule['labels']['severity']} |")
    for name in (*totals.COUNTERS, *totals.HISTOGRAMS):
        assert f"`{name}" in page, name


def test_each_alert_says_what_to_do() -> None:
    for rule in RULES:
        assert {"summary", "fix"} == set(rule["annotations"]), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]


@pytest.mark.django_db
def test_what_alerts_and_dashboards_ask_for_is_there(world: World) -> None:
    totals.count_new_rows()
    text = Client().get("/metrics").content.decode()
    given = set(re.findall(r"^# TYPE (\w+) (?:gauge|histogram)", text, re.M))
    given |= {f"{name}_bucket" for name in totals.HISTOGRAMS for name in (f"maxxit_{name}",)}
    given |= set(re.findall(r"^# TYPE (\w+_total) counter", text, re.M))
    asked = {name: rule["alert"] for rule in RULES for name in names(rule["expr"])}
    asked |= {name: title for title, expression in panels() for name in names(expression)}
    assert {name: where for name, where in asked.items() if name not in given} == {}
    assert len(panels()) > 15
