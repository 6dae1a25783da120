"""Perpetual futures of a Safe through the API: new or existing Safe, limits, verification, state, revocation."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from eth_account import Account
from eth_account.messages import encode_defunct

from agents.models import Deployment
from maxxit.access.auth import create_key
from maxxit.ops.devchain.world import Builder, local_key, transact
from tests import builders as make
from tests.trading.venues.gmx.world import PerpsTrader
from trading.chain.models import SafePlan
from trading.deployments import wallet_setup
from trading.models import LedgerEntry
from trading.venues.safe import plans

pytestmark = [pytest.mark.chain, pytest.mark.django_db]

USDC = 10**6


class Web:
    """A customer who calls the API."""

    def __init__(self, name: str) -> None:
        cache.clear()
        self.person = User.objects.create_user(name)
        key = create_key(self.person, "test", ("read", "safes", "trade"), by="test")
        self.headers = {"x-api-key": key}

    def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = Client().post(
            f"/api/safes/{path}", body, content_type="application/json", headers=self.headers
        )
        return answer.status_code, answer.json()

    def get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = Client().get(f"/api/{path}", headers=self.headers).json()
        return answer


@pytest.fixture
def alice(trader: PerpsTrader) -> Web:
    return Web("alice")


def draft(owner: Web, **values: Any) -> Deployment:
    """A deployment at GMX without a Safe."""
    agent = make.agent(venue="gmx", tokens=["ETH"], owner=owner.person)
    make.account(agent)
    values = {"account": f"gmx:{owner.person.username}", "safe_capital": 500, "state": "draft"} | values
    return make.deployment(agent, usdc="0", funded=False, owner=owner.person, **values)


def send(trader: PerpsTrader, call: dict[str, str], role: str = "owner") -> None:
    """The owner's wallet sends a transaction."""
    transact(trader.lab.rpc, trader.world.accounts[role], call["to"], bytes.fromhex(call["data"][2:]))


def signature_of(deployment: Deployment, safe: str, role: str = "owner") -> str:
    text = encode_defunct(text=plans.consent(deployment, safe))
    signature: bytes = Account.sign_message(text, local_key(role)).signature
    return "0x" + signature.hex()


def test_a_new_safe_from_one_transaction_to_its_revocation(trader: PerpsTrader, alice: Web) -> None:
    deployment = draft(alice)
    code, made = alice.post(f"{deployment.pk}/new", owner=trader.world.accounts["owner"])
    assert code == 200, made
    assert made["card"]["most_lost_per_day"] == 200 * USDC
    assert "perpetual" not in made["safe"]
    assert "leveraged positions at GMX in ETH (long and short)" in made["text"]
    send(trader, made["transaction"])
    trader.world.mint("USDC", made["safe"], 500 * USDC)

    code, verified = alice.post(f"{deployment.pk}/verify")
    assert (code, verified["verified"], verified["problems"]) == (200, True, [])
    deployment.refresh_from_db()
    assert (deployment.state, deployment.safe_wallet) == ("active", made["safe"])
    assert deployment.account == f"gmx:{made['safe']}"
    assert deployment.trades_perps
    assert LedgerEntry.objects.filter(deployment=deployment, asset="USDC", amount=500).exists()

    ref = trader.send(trader.request(quantity="0.05", account=deployment.account, trade=f"{deployment.pk}/1"))
    trader.keep()
    assert trader.find(ref).state == "filled"
    cache.clear()
    shown = alice.get(f"safes/{deployment.pk}")
    assert (shown["kind"], shown["module"], shown["problem"]) == ("perps", "on", "")
    used = {row["name"]: row for row in shown["limits"]}
    assert used["trades_per_day"]["used"] == "1"
    assert used["daily_collateral"]["limit"] == "500"
    assert float(used["loss_budget"]["used"]) > 0, "the collateral is reserved"
    assert shown["signed_limits"]["max_leverage"] == "5"
    assert shown["max_trade"] == "100"
    trader.venue_of().balances(deployment.account)
    assert float(alice.get(f"safes/{deployment.pk}")["collateral"]) > 0

    code, out = alice.post(f"{deployment.pk}/revoke")
    assert code == 200, out
    calls = plans.revocation(deployment).calls
    assert [call.to for call in calls] == [trader.lab.perps, made["safe"]]


def test_an_existing_safe_needs_an_owners_word_for_perpetual_futures(trader: PerpsTrader, alice: Web) -> None:
    safe = Builder(trader.world.rpc_url).safe([trader.world.accounts["owner"]])
    deployment = draft(alice)
    code, refused = alice.post(f"{deployment.pk}/plan", safe=safe)
    assert (code, refused["code"]) == (409, "owner_signature")
    assert "may plan perpetual futures for the Safe" in refused["message"]
    stranger = signature_of(deployment, safe, "rogue")
    assert alice.post(f"{deployment.pk}/plan", safe=safe, signature=stranger)[0] == 409

    code, planned = alice.post(
        f"{deployment.pk}/plan", safe=safe, signature=signature_of(deployment, safe), loosen_delay=3_600
    )
    assert code == 200, planned
    assert "UNAUDITED" in planned["text"]
    plan = SafePlan.objects.get(safe=safe)
    assert (plan.module, plan.policy["loosen_delay"]) == (trader.lab.perps, 3_600)
    send(trader, plan.onboarding["send"])
    assert wallet_setup.finish_due() == 1, "signed while nobody looked"
    deployment.refresh_from_db()
    assert deployment.state == "active"


def test_limits_change_with_the_owners_signature_and_trade_within_the_stricter_meanwhile(
    trader: PerpsTrader, alice: Web
) -> None:
    deployment = draft(alice)
    _, made = alice.post(f"{deployment.pk}/new", owner=trader.world.accounts["owner"])
    send(trader, made["transaction"])
    trader.world.mint("USDC", made["safe"], 500 * USDC)
    assert alice.post(f"{deployment.pk}/verify")[1]["verified"]
    deployment.refresh_from_db()

    code, wrong = alice.post(f"{deployment.pk}/limits", max_trade="5", max_leverage="7")
    assert code == 422
    assert "no such limit; known: max_collateral" in str(wrong)
    code, planned = alice.post(f"{deployment.pk}/limits", max_leverage="3", max_collateral="60")
    assert code == 200, planned
    newest = SafePlan.objects.filter(safe=made["safe"]).get(verified_at=None)
    assert newest.policy["max_leverage_bps"] == 30_000
    assert newest.onboarding["limits"]["max_collateral"] == 60 * USDC
    send(trader, newest.onboarding["send"])
    assert alice.post(f"{deployment.pk}/verify")[1]["verified"], "stricter: at once"

    code, planned = alice.post(f"{deployment.pk}/limits", max_collateral="90", trades_per_day=4)
    assert code == 200, planned
    newest = SafePlan.objects.filter(safe=made["safe"]).get(verified_at=None)
    send(trader, newest.onboarding["send"])
    code, waits = alice.post(f"{deployment.pk}/verify")
    assert not waits["verified"]
    assert any("is pending: in force from" in line for line in waits["differences"])
    deployment.refresh_from_db()
    assert deployment.verified_at is not None, "the stricter of both is in force"
    order = trader.request(
        quantity="0.03", account=deployment.account, trade=f"{deployment.pk}/1", leverage=Decimal(3)
    )
    ref = trader.send(order)
    trader.keep()
    assert trader.find(ref).state == "filled"

    trader.lab.later(86_401)
    assert alice.post(f"{deployment.pk}/verify")[1]["verified"]


def test_one_safe_trades_spot_or_perpetual_futures_for_one_customer(trader: PerpsTrader, alice: Web) -> None:
    safe, deployment = trader.lab.safe, draft(alice)
    code, told = alice.post(f"{deployment.pk}/plan", safe=safe, signature=signature_of(deployment, safe))
    assert (code, told["code"]) == (409, "safe_taken")
    agent = make.agent(venue="safe", tokens=["ETH"], owner=alice.person)
    spot = make.deployment(
        agent, usdc="0", funded=False, account="safe:alice", owner=alice.person, state="draft"
    )
    code, told = alice.post(f"{spot.pk}/plan", safe=safe, signature=signature_of(spot, safe))
    assert (code, told["code"]) == (409, "safe_taken")
    assert "trades perpetual futures from" in told["message"]


def test_a_safe_whose_agent_has_ended_serves_another_agent_of_its_owner(
    trader: PerpsTrader, alice: Web
) -> None:
    ended = trader.deployment
    ended.owner, ended.state = alice.person, "revoked"
    ended.save()
    again = draft(alice)
    code, planned = alice.post(
        f"{again.pk}/plan", safe=trader.lab.safe, signature=signature_of(again, trader.lab.safe)
    )
    assert code == 200, planned
    bob = Web("bob")
    his = draft(bob)
    code, told = bob.post(
        f"{his.pk}/plan", safe=trader.lab.safe, signature=signature_of(his, trader.lab.safe)
    )
    assert (code, told["code"]) == (409, "safe_taken")
