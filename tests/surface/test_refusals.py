"""What commands and the API refuse instead of ignoring it, and a command whose reader went away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from maxxit.access import auth
from maxxit.core.errors import Rejected
from positions.exits import pauses
from tests.surface.conftest import World
from tests.surface.test_commands import said, told
from trading.models import Order

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "words",
    [
        "exits watch --interval 0", "exits watch --interval -1", "exits watch --interval nan", "trades -n -1",
        "trades -n 0", "pipeline runs -n 0", "knowledge search ETH -n -3", "rules inbox --limit 0",
        "apikey create alice --days 0", "paper on --reason x --days -1", "approve paper --reason x --hours 0",
        "llm last -n -1", "llm watch --every 0", "evaluate-classifier x.jsonl --batch 0",
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused_before_anything_runs(words: str) -> None:
    with pytest.raises(CommandError, match=r"is not a (whole number from 1|number above 0)"):
        call_command(*words.split())


def test_a_statement_that_would_end_before_it_begins(world: World) -> None:
    number = str(world.of_alice.deployment.pk)
    with pytest.raises(CommandError, match=r"begins at 2026-02-02.*after its end"):
        said("statement", number, "--from", "2026-02-02", "--to", "2026-01-31")
    assert told("statement", number, "--from", "2026-02-02", "--to", "2026-02-02")["lines"] == []
    spans = (
        f"db/deployments/{number}/statement?since=2026-02-02T00:00:00Z&until=2026-01-31T00:00:00Z",
        "market/trades?symbol=ETH&since=2026-02-02T00:00:00Z&until=2026-01-31T00:00:00Z",
    )
    for path in spans:
        answer = Client().get(f"/api/{path}", headers=world.key(world.alice))
        assert (answer.status_code, answer.json()["code"]) == (422, "no_span")


def test_exits_come_back_by_the_command_that_off_names(world: World) -> None:
    assert "resume with `manage.py exits on --reason …`" in said("exits", "off", "--reason", "drill")
    assert pauses.current_pause()
    said("exits", "on", "--reason", "over")
    assert pauses.current_pause() is None


def test_the_scope_admin_is_for_staff(world: World) -> None:
    with pytest.raises(CommandError, match="alice is not staff"):
        said("apikey", "create", "alice", "--scope", "admin")
    with pytest.raises(Rejected):
        auth.create_key(world.bob, "x", ["read", "admin"], by="test")
    assert told("apikey", "create", "root", "--scope", "admin")["scopes"] == ["admin"]


@pytest.mark.parametrize(
    "path", ["api/nonsense", "api/db/nonsense/", "api", "api/", "api/market/rules/1/more"]
)
def test_an_unknown_path_of_the_api_is_json(path: str) -> None:
    answer = Client().get(f"/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_health_leads_to_readiness() -> None:
    answer = Client().get("/health")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/health/ready")


@pytest.mark.parametrize(
    "path",
    [
        "db/posts?state=nonsense", "db/orders?status=FILLED&state=x", "db/trades?status=FILLED", "signals?stat=x",
        "db/positions?limit=5&page=2", "market/quotes?symbols=ETH", "market/health?x=1", "market/deliveries?status=x",
        "market/rules?user=bob",
    ],
)  # fmt: skip
def test_a_parameter_or_state_that_is_not_known_is_named(world: World, path: str) -> None:
    answer = Client().get(f"/api/{path}", headers=world.key(world.alice))
    assert answer.status_code == 422
    assert "known: " in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("db/posts?outcome=too_late", "candidate:too_old"), ("db/posts?outcome=candidate", "prefiltered:chatter"),
        ("db/orders?reason=nonsense", "cooldown"), ("market/refused?source=nobody", "coinbase"),
    ],
)  # fmt: skip
def test_a_code_that_is_not_known_is_refused_with_the_known_ones(
    world: World, path: str, wanted: str
) -> None:
    answer = Client().get(f"/api/{path}", headers=world.key(world.alice))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert wanted in answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    ["db/posts?outcome=traded", "db/posts?outcome=unread:timeout", "db/orders?reason=cooldown",
     "market/refused?source=dex"],
)  # fmt: skip
def test_a_known_code_filters(world: World, path: str) -> None:
    assert Client().get(f"/api/{path}", headers=world.key(world.alice)).status_code == 200


def test_a_reason_that_a_venue_made_up_finds_its_orders(world: World) -> None:
    Order.objects.filter(deployment=world.of_alice.deployment).update(reason="houston")
    alice, bob = (
        Client().get("/api/db/orders?reason=houston", headers=world.key(one))
        for one in (world.alice, world.bob)
    )
    assert alice.json()["count"] > 0
    assert bob.status_code == 422


@pytest.mark.parametrize("path", ["db/posts", "market/webhook", "admin/run-pipeline", "chain/position/1"])
def test_a_method_that_a_path_does_not_take_is_refused_in_json(world: World, path: str) -> None:
    answer = Client().patch(f"/api/{path}", headers=world.key(world.alice))
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"]
    assert answer.headers["Allow"] in answer.json()["message"]


def test_known_parameters_pass(world: World) -> None:
    for path in ("db/posts?limit=2&offset=0&status=TRADED", "market/deliveries?status=SENT&rule_id="):
        answer = Client().get(f"/api/{path}", headers=world.key(world.alice))
        assert answer.status_code in (200, 422), path
        assert "query parameter" not in answer.content.decode()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_ends_quietly_when_nobody_reads_on(unbuffered: str) -> None:
    """As `manage.py help | head -0`: the reader's end is closed before the first line."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "manage.py", "help"], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")
