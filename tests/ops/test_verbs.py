"""Each verb of the older runbooks is a target of make whose command runs."""

import contextlib
import shlex
import subprocess
import time as real_time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from maxxit.core.config import ROOT
from maxxit.llm.models import LlmTrace
from maxxit.ops.verbs import VERBS, Verb
from tests import builders as make
from tests.builders import RecordedClock
from tests.passes import execute_pass, monitor_pass
from trading.models import Order

WATCHES = {
    "positions-watch",
    "reconcile-watch",
    "exit-watch",
    "llm-watch",
    "llm-follow",
    "pnl-watch",
    "ops-watch",
}
"""They go on until Ctrl-C."""
MAY_FAIL = {
    "doctor",
    "doctor-json",
    "doctor-quiet",
    "portals",
    "monitoring-status",
    "ops-snapshot",
    "ops-status",
    "pnl-eod",
}
"""They end with exit code 1 where something is not as it should be: in a test nothing runs."""
SILENT = {"verify-db"}


@pytest.fixture
def world(
    time: RecordedClock, no_approval_file: Path, empty_cache: None, tmp_path: Path, settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Order:  # fmt: skip
    """A filled order, its model call, log files; Ctrl-C at the first pause of a loop."""
    make.price("ETH", "2000")
    agent = make.agent(name="Momentum")
    make.deployment(agent)
    make.open_gate()
    make.signal(agent, token="ETH")
    execute_pass()
    monitor_pass()
    order = Order.objects.get()
    LlmTrace.objects.create(
        ts=time.now, correlation_id=order.correlation_id, model="test", status="ok", latency_ms=3
    )
    settings.DATA_DIR = tmp_path
    (tmp_path / "logs").mkdir()
    for name in ("worker-guard", "worker-execute", "worker-exits"):
        (tmp_path / "logs" / f"{name}.log").write_text("RECONCILE_CYCLE pending_found=0\n")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(real_time, "sleep", interrupt)
    return order


def command_of(verb: Verb, **given: str) -> list[str]:
    """What the target runs, after `manage.py`."""
    words = [f"{name}={value}" for name, value in given.items()]
    shown = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", verb.name, *words], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    words = shlex.split(shown)
    return words[words.index("manage.py") + 1 :]


@pytest.mark.django_db
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: str(verb.name))
def test_a_verb_runs(verb: Verb, world: Order) -> None:
    given = {"trade-chain": {"ORDER": world.venue_ref}, "trade-chain-json": {"TRADE": str(world.pk)}}
    given["llm-agent"] = {"AGENT": "Momentum"}
    given["exit-on"] = {"REASON": "prices are right again"}
    said, stop = StringIO(), (KeyboardInterrupt,) if verb.name in WATCHES else ()
    words = command_of(verb, **given.get(verb.name, {}))
    ends = (SystemExit,) if verb.name in MAY_FAIL else ()
    with contextlib.suppress(*stop, *ends):
        call_command(*words, stdout=said, stderr=said)
    assert said.getvalue() or verb.name in SILENT


def test_values_with_spaces_stay_one_word() -> None:
    approve = next(verb for verb in VERBS if verb.name == "approve")
    assert command_of(approve, VENUE="alpaca", HOURS="2", REASON="two words") == [
        "approve", "alpaca", "--hours", "2", "--reason", "two words",
    ]  # fmt: skip
    assert command_of(approve) == ["approve", "paper", "--reason", "make approve"]
