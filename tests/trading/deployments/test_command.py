"""`manage.py deployments`: a deployment from its draft to its end, what is asked before, and refusals."""

import builtins
import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from agents.models import Deployment
from tests import builders

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent() -> Any:
    made = builders.agent(owner=User.objects.create_user("alice"), name="Majors", state="draft")
    builders.account(made)
    return made


def said(*words: str) -> str:
    out = StringIO()
    call_command("deployments", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def told(*words: str) -> Any:
    return json.loads(said(*words, "--json"))


def test_a_deployment_from_draft_to_revoked(agent: Any) -> None:
    made = told("create", "Majors", "--capital", "5000")
    number = str(made["id"])
    assert (made["status"], made["owner"], made["starting_balance"]) == ("DRAFT", "alice", "5000")
    assert told("activate", number)["status"] == "ACTIVE"
    assert "already" in said("activate", number)
    assert told("pause", number, "--by", "alice")["status"] == "PAUSED"
    [stop] = told("stop", number, "--level", "flatten", "--reason", "x")["stops"]
    assert (stop["level"], stop["by_owner"], stop["whole_platform"]) == ("flatten", True, False)
    assert told("release", number, "--reason", "y")["stops"] == []
    assert [row["id"] for row in told("list", "--owner", "alice")] == [made["id"]]
    assert f"account {made['account']}" in said("show", number)
    assert told("revoke", number, "--yes")["status"] == "REVOKED"


def test_limits_are_set_shown_and_lifted(agent: Any) -> None:
    number = str(builders.deployment(agent, funded=False).pk)
    assert "max_daily_usd: 50" in said("limit", number, "--daily", "50", "--open", "3")
    limits = told("limit", number, "--daily", "none", "--by", "alice")["limits"]
    assert (limits["max_daily_usd"], limits["max_open_positions"], limits["changed_by"]) == (None, 3, "alice")
    for words in (["--open", "1.5"], ["--position", "10001"], ["--daily", "-1"]):
        with pytest.raises(CommandError):
            said("limit", number, *words)


def test_a_waiting_entry_is_confirmed_or_declined(agent: Any) -> None:
    builders.price("ETH", "2000")
    deployment = builders.deployment(agent)
    orders = [builders.order(deployment, by=builders.signal(agent)) for _ in range(2)]
    assert "entries wait for confirmation; 2 wait now" in said("ask", str(deployment.pk), "on")
    assert [row["order_id"] for row in told("waiting")] == [order.pk for order in orders]
    text = said("waiting")
    assert "Buy 0.4 ETH, about 800.00 USD" in text
    assert "1880 (-6.00 %)" in text
    assert told("confirm", str(orders[0].pk)) == {
        "order_id": orders[0].pk,
        "outcome": "confirmed",
        "new": True,
    }
    declined = said("decline", str(orders[1].pk))
    assert (
        "(8.00 % of the capital); stop loss 1880 (-6.00 %), take profit 2360 (+18.00 %), time exit"
        in declined
    )
    assert "declined" in declined
    assert told("waiting", "--owner", "alice") == []
    with pytest.raises(CommandError, match="waits for no confirmation"):
        said("confirm", str(orders[1].pk))
    with pytest.raises(CommandError, match="no order 999999: "):
        said("confirm", "999999")


def nobody() -> str:
    raise EOFError


def test_revoking_asks_first(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    number = str(builders.deployment(agent, funded=False).pk)
    for answer, left in (("no", "active"), ("", "active"), ("yes", "revoked")):
        monkeypatch.setattr(builtins, "input", lambda answer=answer: answer)
        if left == "active":
            with pytest.raises(CommandError, match="nothing was revoked"):
                said("revoke", number)
        else:
            said("revoke", number)
        assert Deployment.objects.get().state == left
    Deployment.objects.update(**{"state": "paused"})
    monkeypatch.setattr(builtins, "input", nobody)
    with pytest.raises(CommandError, match="give --yes"):
        told("revoke", number)


def test_a_plan_that_cannot_work_exits_with_1(agent: Any) -> None:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("deployments", "check", "500", "--preset", "conservative", "--json", stdout=out)
    assert json.loads(out.getvalue())["capital_needed"] == "1000"
    assert "orders by confidence (USDC): low 100, medium 250, high 400" in said("check", "5000").replace(
        ".000000", ""
    )
    assert "would place orders" in said("create", "Majors", "--capital", "50")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["show", "999"], "no deployment 999: `manage.py deployments list` shows them"),
        (["create", "nobody's"], "no agent"),
        (["create", "Majors", "--capital", "-1"], "is not an amount"),
        (["create", "Majors", "--capital", "9999999"], "at most 1000000 USDC"),
        (["show", "x"], "not a whole number"),
    ],
)
def test_a_refusal_names_what_and_the_next_step(agent: Any, words: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text.replace("(", r"\(")):
        said(*words)
