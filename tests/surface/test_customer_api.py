"""What a customer does by the API: agents, followed accounts, deployments, keys; theirs alone, refused with reasons."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from agents import following
from agents.models import Agent, Deployment
from maxxit.access.auth import create_key
from maxxit.access.models import ApiKey
from maxxit.api.api import api
from maxxit.core import clock
from maxxit.events.models import Event
from tests import builders
from trading import gate
from trading.entries import planning

pytestmark = pytest.mark.django_db


class Customer:
    """A user with a key for the trade scope and one for keys."""

    def __init__(self, name: str, *scopes: str) -> None:
        self.person = User.objects.create_user(name)
        chosen = scopes or ("read", "trade", "keys")
        self.headers = {"x-api-key": create_key(self.person, "test", chosen, by="test")}

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        options: dict[str, Any] = {"headers": self.headers}
        if body is not None:
            options |= {"data": body, "content_type": "application/json"}
        answer = getattr(Client(), method)(f"/api/{path}", **options)
        assert answer.status_code == status, answer.content
        return answer.json()


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "post_sources", lambda: ("x", "jsonl"))


@pytest.fixture
def alice() -> Customer:
    return Customer("alice")


def test_a_customer_gets_to_a_running_paper_deployment_and_out_again(alice: Customer) -> None:
    agent = alice.call(
        "post", "agents", {"name": "Majors", "tokens": ["eth"], "sizing_preset": "moderate"}, 201
    )
    names = alice.call("post", f"agents/{agent['id']}/follows", {"names": ["@one", "not ok", "two"]})["items"]
    assert [(one["ok"], one["outcome"]) for one in names] == [
        (True, "followed"), (False, "invalid_name"), (True, "followed"),
    ]  # fmt: skip
    assert alice.call("get", "plan?capital=500&preset=conservative")["capital_needed"] == "1000"
    made = alice.call("post", "deployments", {"agent_id": agent["id"], "capital": "5000"}, 201)
    path = f"deployments/{made['id']}"
    assert alice.call("post", f"{path}/activate")["status"] == "ACTIVE"
    assert alice.call("get", f"agents/{agent['id']}")["status"] == "ACTIVE"
    assert alice.call("post", f"{path}/activate")["status"] == "ACTIVE"
    assert alice.call("post", f"{path}/pause")["status"] == "PAUSED"
    [stop] = alice.call("post", f"{path}/stop", {"level": "flatten", "reason": "enough"})["stops"]
    assert (stop["level"], stop["by_owner"]) == ("flatten", True)
    assert alice.call("post", f"{path}/release", {"reason": "on"})["stops"] == []
    assert alice.call("post", f"{path}/revoke")["status"] == "REVOKED"
    assert alice.call("post", f"{path}/activate", status=409)["code"] == "not_allowed_now"
    by = {event.data["by"] for event in Event.objects.filter(name__startswith="deployment.")}
    assert {one.partition(" by key mxk_")[0] for one in by} == {"alice"}


def test_what_cannot_work_is_refused_with_numbers(alice: Customer) -> None:
    agent = alice.call("post", "agents", {"name": "Small", "sizing_preset": "conservative"}, 201)
    made = alice.call("post", "deployments", {"agent_id": agent["id"], "capital": "500"}, 201)
    refused = alice.call("post", f"deployments/{made['id']}/activate", status=409)
    assert refused["code"] == "cannot_work"
    assert "follows no account" in refused["message"]
    assert "would place orders of 5, 10 or 20 USDC" in refused["message"]
    alice.call("post", f"agents/{agent['id']}/follows", {"names": ["one"]})
    assert alice.call("patch", f"deployments/{made['id']}", {"capital": "2000"})["starting_balance"] == "2000"
    alice.call("post", f"deployments/{made['id']}/activate")


def test_wrong_fields_are_422_and_each_is_named(alice: Customer) -> None:
    refused = alice.call("post", "agents", {"name": "x", "venue": "moon", "tokens": ["NOPE"]}, 422)
    assert {one["where"] for one in refused["detail"]} == {"venue", "tokens"}
    refused = alice.call("post", "agents", {"name": "x", "profit_share": "0", "owner": "bob"}, 422)
    assert "body.payload.profit_share" in str(refused["detail"])
    for body in ({"capital": "-1"}, {"capital": "0"}, {"capital": "NaN"}, {"capital": "1e30"}):
        alice.call("post", "deployments", {"agent_id": 1} | body, 422)


def test_an_agent_is_changed_field_by_field(alice: Customer) -> None:
    agent = alice.call("post", "agents", {"name": "A", "preferences": {"risk_tolerance": 90}}, 201)
    assert (agent["sizing_preset"], agent["preferences"]["trade_frequency"]) == ("aggressive", 50)
    changed = alice.call("patch", f"agents/{agent['id']}", {"min_confidence": "0.7"})
    assert (changed["min_confidence"], changed["sizing_preset"], changed["preferences"]) == (
        "0.7",
        "aggressive",
        None,
    )
    assert (
        alice.call("delete", f"agents/{agent['id']}/follows/nobody")["items"][0]["outcome"] == "not_followed"
    )


def test_of_each_customer_nothing_is_seen_or_changed_by_another(alice: Customer) -> None:
    bob = Customer("bob")
    agent = alice.call("post", "agents", {"name": "A"}, 201)
    made = alice.call("post", "deployments", {"agent_id": agent["id"]}, 201)
    key = alice.call("post", "keys", {"name": "k"}, 201)
    theirs = [
        ("get", f"agents/{agent['id']}", None), ("patch", f"agents/{agent['id']}", {"name": "B"}),
        ("post", f"agents/{agent['id']}/activate", None), ("get", f"agents/{agent['id']}/follows", None),
        ("post", f"agents/{agent['id']}/follows", {"names": ["x"]}), ("delete", f"keys/{key['id']}", None),
        ("post", "deployments", {"agent_id": agent["id"]}), ("get", f"deployments/{made['id']}", None),
        *(("post", f"deployments/{made['id']}/{what}", None) for what in ("activate", "pause", "revoke")),
        ("post", f"deployments/{made['id']}/stop", {"reason": "x"}),
        ("post", f"deployments/{made['id']}/release", {"reason": "x"}),
        ("patch", f"deployments/{made['id']}", {"capital": "1"}),
    ]  # fmt: skip
    for method, path, body in theirs:
        bob.call(method, path, body, 404)
    assert bob.call("get", "agents")["items"] == bob.call("get", "deployments")["items"] == []
    assert "alice" not in str(bob.call("get", "export"))
    assert Agent.objects.get(pk=agent["id"]).name == "A"


def test_one_who_deployed_anothers_agent_sees_it_and_does_not_change_it(alice: Customer) -> None:
    bob = Customer("bob")
    agent = builders.agent(owner=alice.person)
    builders.deployment(agent, owner=bob.person, funded=False)
    assert bob.call("get", f"agents/{agent.pk}")["owner"] == "alice"
    assert (
        "only its owner changes it" in bob.call("patch", f"agents/{agent.pk}", {"name": "x"}, 403)["message"]
    )
    bob.call("post", f"agents/{agent.pk}/follows", {"names": ["x"]}, 403)


def test_writing_needs_the_scope(alice: Customer) -> None:
    reader = Customer("reader", "read")
    assert "scope `trade`" in reader.call("post", "agents", {"name": "x"}, 403)["message"]
    assert "scope `keys`" in reader.call("post", "keys", {"name": "x"}, 403)["message"]
    assert reader.call("get", "agents")["count"] == 0


def test_a_key_gives_no_more_than_it_has(alice: Customer) -> None:
    until = clock.now() + timedelta(days=7)
    ApiKey.objects.update(expires_at=until)
    made = alice.call("post", "keys", {"name": "bot", "scopes": ["read", "trade"], "days": 90}, 201)
    assert ApiKey.objects.get(pk=made["id"]).expires_at == until
    assert alice.call("post", "keys", {"name": "bot", "scopes": ["safes"]}, 403)["code"] == "forbidden"
    assert alice.call("post", "keys", {"name": "bot", "scopes": ["nonsense"]}, 409)["code"] == "unknown_scope"
    assert "admin" in alice.call("post", "keys", {"name": "bot", "scopes": ["admin"]}, 403)["message"]
    assert alice.call("delete", f"keys/{made['id']}")["standing"] == "revoked"
    assert alice.call("delete", f"keys/{made['id']}")["standing"] == "revoked"
    assert {row["name"]: row["standing"] for row in alice.call("get", "keys")["items"]} == {
        "bot": "revoked", "test": "standing",
    }  # fmt: skip


def test_an_owner_cannot_release_what_a_trigger_pulled(alice: Customer) -> None:
    deployment = builders.deployment(builders.agent(owner=alice.person), owner=alice.person, funded=False)
    gate.kill("no_entries", by="guard", reason="x", cause="drawdown", account=deployment.account)
    path = f"deployments/{deployment.pk}"
    assert alice.call("post", f"{path}/release", {"reason": "x"}, 409)["code"] == "not_yours_to_release"
    assert gate.kill_level(deployment.account) == "no_entries"


def test_limits_are_set_one_by_one_and_lifted_with_null(alice: Customer) -> None:
    deployment = builders.deployment(builders.agent(owner=alice.person), owner=alice.person, funded=False)
    path = f"deployments/{deployment.pk}/limits"
    found = alice.call("patch", path, {"max_daily_usd": "50", "max_open_positions": 2})
    assert (found["max_daily_usd"], found["max_position_usd"], found["max_open_positions"]) == ("50", None, 2)
    assert found["changed_by"].startswith("alice by key mxk_")
    assert "your limit of 50 USD a day blocks orders" in found["notes"][0]
    assert alice.call("patch", path, {"max_daily_usd": None})["max_open_positions"] == 2
    assert alice.call("get", f"deployments/{deployment.pk}")["limits"]["max_daily_usd"] is None
    refused = alice.call("patch", path, {"max_position_usd": "10001"}, 422)
    assert "above the platform's 10000 USD" in refused["message"]
    for body in ({"max_daily_usd": "0"}, {"max_open_positions": 0}, {"max_total": "1"}):
        alice.call("patch", path, body, 422)


def test_an_entry_is_confirmed_or_declined_by_its_owner_alone(alice: Customer) -> None:
    bob = Customer("bob")
    agent = builders.agent(owner=alice.person)
    deployment = builders.deployment(agent, owner=alice.person)
    patched = alice.call("patch", f"deployments/{deployment.pk}", {"confirm_entries": True})
    assert patched["confirm_entries"] is True
    for _ in range(2):
        builders.signal(agent)
    planning.fan_out()
    builders.price("ETH", "2000")
    first, second = alice.call("get", "confirmations")["items"]
    assert (first["price"], first["notional_usd"], first["capital_share"]) == ("2000", "800", "0.080000")
    assert first["exits"]["stop_loss"] == {"price": "1880", "pct": "-6.0000"}
    assert first["exits"]["take_profit"] == {"price": "2360", "pct": "18.0000"}
    assert first["exits"]["max_holding_minutes"] == 10080
    assert bob.call("get", "confirmations") == {"items": [], "count": 0}
    bob.call("post", f"orders/{first['order_id']}/confirm", status=404)
    confirmed = alice.call("post", f"orders/{first['order_id']}/confirm")
    assert (confirmed["status"], confirmed["reason"]) == ("PLANNED", "")
    declined = alice.call("post", f"orders/{second['order_id']}/decline")
    assert (declined["status"], declined["reason"]) == ("BLOCKED", "declined")
    assert alice.call("post", f"orders/{second['order_id']}/confirm", status=409)["code"] == "not_waiting"
    assert alice.call("get", "confirmations")["count"] == 0


def test_an_export_holds_all_that_one_set_up_and_no_secret(alice: Customer) -> None:
    agent = alice.call("post", "agents", {"name": "A"}, 201)
    alice.call("post", f"agents/{agent['id']}/follows", {"names": ["one"]})
    made = alice.call("post", "deployments", {"agent_id": agent["id"]}, 201)
    found = alice.call("get", "export")
    assert [one["follows"] for one in found["agents"]] == [["one"]]
    assert [one["id"] for one in found["deployments"]] == [made["id"]]
    assert "sha256" not in str(found)
    assert alice.headers["x-api-key"] not in str(found)


@pytest.mark.parametrize(
    "path",
    [
        "agents?state=x",
        "deployments?page=2",
        "plan?capital=1&presets=x",
        "accounts?q=x",
        "export?x=1",
        "keys?y=1",
    ],
)
def test_an_unknown_query_parameter_is_named(alice: Customer, path: str) -> None:
    assert "known: " in alice.call("get", path, status=422)["message"]


def test_the_schema_is_read_with_a_key_and_says_everything(alice: Customer) -> None:
    schema = alice.call("get", "openapi.json")
    assert alice.call("get", "openapi.json")["paths"] == schema["paths"]
    posts = [path["post"] for path in schema["paths"].values() if "post" in path]
    posts = [one for one in posts if one["tags"] != ["sources"]]  # each item there has an id of its own
    for one in posts:
        [header] = [item for item in one["parameters"] if item["in"] == "header"]
        assert header["name"] == "Idempotency-Key", one["operationId"]
    mine = {name: model for name, model in schema["components"]["schemas"].items() if name.endswith("In")}
    for name in ("AgentIn", "FollowIn", "DeploymentIn", "StopIn", "KeyIn"):
        assert mine[name]["example"]
    for key in ({"x-api-key": "mxk_wrong"}, {"authorization": "Bearer mxk_wrong"}):
        answer = Client().get("/api/openapi.json", headers=key)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert Client().get("/api/openapi.json").status_code == 302
    assert len(api.get_openapi_schema()["paths"]) == len(schema["paths"])


def test_lists_are_those_of_the_states_and_pages_asked_for(alice: Customer) -> None:
    agent = builders.agent(owner=alice.person)
    for state in ("draft", "active", "active"):
        builders.deployment(agent, owner=alice.person, state=state, funded=False)
    assert alice.call("get", "deployments?status=active")["count"] == 2
    assert len(alice.call("get", "deployments?limit=1&offset=1")["items"]) == 1
    assert "known: DRAFT, ACTIVE" in alice.call("get", "deployments?status=x", status=422)["message"]
    assert Deployment.objects.count() == alice.call("get", "deployments")["count"] == 3
