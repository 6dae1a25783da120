"""Onboarding through the API: the same steps as `manage.py safe`, each tenant for their own, an owner's word first."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from eth_account import Account
from eth_account.messages import encode_defunct

from agents.models import Deployment
from maxxit.access.auth import create_key
from maxxit.ops.devchain.world import local_key
from tests import builders as make
from tests.chain.sending.safe_trader import SafeTrader
from trading.venues.safe import onboarding, plans
from trading.venues.safe.onboarding import safe_tx

pytestmark = [pytest.mark.chain, pytest.mark.django_db]


class Web:
    """A tenant who calls the API."""

    def __init__(self, name: str, *scopes: str) -> None:
        self.person, _ = User.objects.get_or_create(username=name)
        self.headers = {"x-api-key": create_key(self.person, "test", scopes, by="test")}

    def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = Client().post(
            f"/api/safes/{path}", body, content_type="application/json", headers=self.headers
        )
        return answer.status_code, answer.json()


@pytest.fixture
def alice(trader: SafeTrader) -> Web:
    cache.clear()
    return Web("alice", "read", "safes")


def draft(trader: SafeTrader, owner: Web) -> Deployment:
    """A deployment without a Safe."""
    agent = make.agent(venue="safe", tokens=["ETH", "BTC"], owner=owner.person)
    make.account(agent)
    account = f"safe:{owner.person.username}"
    return make.deployment(agent, account=account, funded=False, state="draft", owner=owner.person)


def word(deployment: Deployment, safe: str, role: str = "owner") -> str:
    """The signature of somebody of the local world."""
    text = encode_defunct(text=plans.consent(deployment, safe))
    signature: bytes = Account.sign_message(text, local_key(role)).signature
    return "0x" + signature.hex()


def test_from_plan_to_verified_to_revoked(trader: SafeTrader, alice: Web) -> None:
    world, deployment = trader.world, draft(trader, alice)
    world.execute_as_owner(onboarding.revoke_tx(31337, world.safe, world.module, world.safe_nonce()))

    code, refused = alice.post(f"{deployment.pk}/plan", safe=world.safe)
    assert (code, refused["code"]) == (409, "owner_signature")
    assert plans.consent(deployment, world.safe) in refused["message"]

    signature = word(deployment, world.safe)
    code, planned = alice.post(f"{deployment.pk}/plan", safe=world.safe, signature=signature)
    assert code == 200, planned
    assert planned["card"]["most_lost_per_day"] == 150_000_000
    assert "UNAUDITED" in planned["text"]
    code, early = alice.post(f"{deployment.pk}/verify")
    assert (code, early["verified"]) == (200, False)
    assert early["differences"]

    told = planned["transaction"]
    data = bytes.fromhex(told["data"][2:])
    world.execute_as_owner(
        safe_tx(31337, world.safe, told["to"], data, int(told["operation"]), int(told["nonce"]))
    )
    code, verified = alice.post(f"{deployment.pk}/verify")
    assert (code, verified["verified"]) == (200, True)
    assert "the scope trade" in verified["problems"][0]
    deployment.refresh_from_db()
    assert (deployment.state, deployment.module_enabled) == ("draft", True), "a key of the scope safes"

    trading = Web("alice", "safes", "trade")
    assert trading.post(f"{deployment.pk}/verify") == (
        200,
        {"deployment_id": deployment.pk, "verified": True, "differences": [], "problems": [], "stopped": {}},
    )
    deployment.refresh_from_db()
    assert (deployment.state, deployment.module_enabled, deployment.account) == ("active", True, world.safe)
    code, out = alice.post(f"{deployment.pk}/revoke")
    assert (code, out["safe"]) == (200, world.safe)
    assert out["transaction"]["contractTransactionHash"].startswith("0x")
    asked = [name for name in make.event_names() if name == "api.safe_asked"]
    assert len(asked) == 5


@pytest.mark.parametrize("signature", ["", "0x", "0x" + "00" * 65, "0x" + "1b" * 65, "no"])
def test_what_is_no_owners_signature_plans_nothing(trader: SafeTrader, alice: Web, signature: str) -> None:
    deployment = draft(trader, alice)
    code, told = alice.post(f"{deployment.pk}/plan", safe=trader.world.safe, signature=signature)
    assert (code, told["code"]) == (409, "owner_signature")


def test_a_strangers_signature_or_one_for_another_deployment_plans_nothing(
    trader: SafeTrader, alice: Web
) -> None:
    safe, deployment, other = trader.world.safe, draft(trader, alice), draft(trader, Web("bob", "safes"))
    for signature in (word(deployment, safe, "rogue"), word(other, safe)):
        code, told = alice.post(f"{deployment.pk}/plan", safe=safe, signature=signature)
        assert (code, told["code"]) == (409, "owner_signature")
    deployment.refresh_from_db()
    assert deployment.safe_wallet == ""


def test_a_safe_that_another_tenant_has_is_taken(trader: SafeTrader, alice: Web) -> None:
    bob, safe = Web("bob", "safes"), trader.world.safe
    his, hers = draft(trader, bob), draft(trader, alice)
    assert bob.post(f"{his.pk}/plan", safe=safe, signature=word(his, safe))[0] == 200
    code, told = alice.post(f"{hers.pk}/plan", safe=safe, signature=word(hers, safe))
    assert (code, told["code"]) == (409, "safe_taken")


@pytest.mark.parametrize("step", ["plan", "verify", "revoke"])
def test_another_tenants_deployment_is_not_there_and_a_reading_key_changes_nothing(
    trader: SafeTrader, alice: Web, step: str
) -> None:
    mine, hers = draft(trader, Web("bob", "safes")), draft(trader, alice)
    assert alice.post(f"{mine.pk}/{step}")[0] == 404
    code, told = alice.post(f"{hers.pk}/{step}")
    assert (code, told["code"]) in ((409, "wrong_safe"), (409, "safe_not_planned"))
    reader = Web("carol", "read")
    assert reader.post(f"{draft(trader, reader).pk}/{step}")[0] == 403


def test_where_a_new_safe_will_be(trader: SafeTrader, alice: Web) -> None:
    owner = trader.world.accounts["rogue"]
    code, told = alice.post("predict", owners=[owner], salt=7)
    assert code == 200, told
    assert trader.lab.rpc("eth_getCode", told["safe"], "latest") == "0x"
    trader.lab.send("rogue", bytes.fromhex(told["transaction"]["data"][2:]), to=told["transaction"]["to"])
    assert trader.lab.rpc("eth_getCode", told["safe"], "latest") != "0x"
    assert alice.post("predict", owners=["0xabc"])[0] == 409
    assert alice.post("predict", owners=[owner], threshold=2)[0] == 409
    assert alice.post("predict", owners=[])[0] == 422
    for name in ("paper", "moon"):
        assert alice.post("predict", owners=[owner], venue=name)[0] == 422
