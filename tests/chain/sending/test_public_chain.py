"""Arbitrum One is real money: nothing is signed there until its venue's gate is open, with all else set up."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from agents.models import Agent, Deployment
from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.market.venues import venue_policy
from maxxit.ops.devchain import local
from tests import builders as make
from tests.chain.lab import Lab
from tests.chain.public import OWN, configure, stanza
from tests.chain.sending.safe_trader import SafeTrader
from trading import gate, wiring
from trading.chain.models import ChainTransaction, Signer
from trading.deployments import activation
from trading.models import Approval, Gate
from trading.venues.safe import plans
from trading.venues.safe.venue import SafeVenue

pytestmark = [pytest.mark.chain, pytest.mark.django_db]
REAL = "arbitrum-one"


@pytest.fixture
def trader(
    environment: None, sending_lab: Lab, monkeypatch: pytest.MonkeyPatch, no_approval_file: Path
) -> SafeTrader:
    """A venue of Arbitrum One (as configured: the node behind it is the local one), its gate as it is installed."""
    sending_lab.fresh()
    chain = stanza(sending_lab.world).model_copy(update={"chain_id": 42161})
    configure(monkeypatch, **{REAL: chain, "local": chain})
    made = SafeTrader(sending_lab)
    made.venue = SafeVenue(chain=REAL, slippage_bps=50)
    return made


@pytest.mark.parametrize("missing", ["dry run", "approval", "kill switch"])
def test_nothing_is_signed_while_one_lock_of_the_gate_is_shut(trader: SafeTrader, missing: str) -> None:
    if missing != "dry run":
        gate.set_dry_run("safe", False, by="me", reason="test")
    if missing != "approval":
        gate.approve("safe", by="me", until=clock.now() + timedelta(hours=1), reason="test")
    if missing == "kill switch":
        gate.kill("no_entries", by="me", reason="test")
    prepared = trader.venue.prepare(trader.request())
    with pytest.raises(Retryable, match=r"the gate of safe is closed: .* is not signed"):
        trader.venue.send(prepared)
    tx = ChainTransaction.objects.get()
    assert (tx.chain_id, tx.state, tx.nonce) == (42161, "planned", None)
    assert not Signer.objects.exists()


def test_with_the_gate_open_a_public_test_key_is_refused(trader: SafeTrader) -> None:
    make.open_gate("safe")
    with pytest.raises(Misconfigured, match="public"):
        dict(trader.venue.signers)
    assert not Signer.objects.exists()


def test_its_venue_counts_as_real_money_and_no_command_opens_its_gate(trader: SafeTrader) -> None:
    real = venue_policy("safe").model_copy(update={"options": {"chain": REAL}})
    assert wiring.money_at_stake(real) == "REAL MONEY"
    local.enter_demo(trader.world)  # the demo opens the gate of play money only
    call_command("paper", "on")
    assert not Gate.objects.filter(venue="safe", dry_run=False).exists()
    assert not Approval.objects.exclude(scope="paper").exists()


def unset(world_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment at a venue whose chain has no module yet."""
    chain = stanza(world_lab.world, without=OWN)
    configure(monkeypatch, **{REAL: chain, "local": chain})
    wiring.venue.cache_clear()
    agent: Agent = make.agent(venue="safe")
    return make.deployment(agent, account=world_lab.world.safe, state="draft", funded=False)


def test_a_chain_without_a_module_is_named_where_a_deployment_is_activated_or_planned(
    trader: SafeTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = unset(trader.lab, monkeypatch)
    said = r"has no address of `module`.*manage\.py chain deploy-module"
    told = r"the venue safe is not set up yet, because its chain local has no address of `module`.*line chain:local"
    with pytest.raises(Rejected, match=told):
        activation.activate(deployment, by="me")
    with pytest.raises(Misconfigured, match=said):
        plans.plan(deployment, trader.world.safe)
    with pytest.raises(CommandError, match=said):
        call_command("safe", "plan", "--deployment", str(deployment.pk), "--safe", trader.world.safe)
    with pytest.raises(CommandError, match=told):
        call_command("deployments", "activate", str(deployment.pk))
    deployment.refresh_from_db()
    assert deployment.state == "draft"
    wiring.venue.cache_clear()


def test_the_page_of_a_wallet_says_that_the_venue_is_not_set_up(
    trader: SafeTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = get_user_model()._default_manager.create(username="alice")
    person.user_permissions.set(Permission.objects.filter(content_type__app_label="agents"))
    deployment = unset(trader.lab, monkeypatch)
    Agent.objects.filter(pk=deployment.agent_id).update(owner=person.pk)
    Deployment.objects.filter(pk=deployment.pk).update(owner=person.pk)
    browser = Client()
    browser.force_login(person)
    page = browser.get(reverse("wallet-setup", args=[deployment.pk]), follow=True)
    assert page.redirect_chain[-1][0] == reverse("my-agents")
    assert "The venue safe is not set up yet" in page.content.decode()
    for name, body in (("wallet-plan-new", {"owner": trader.world.accounts["owner"]}), ("wallet-check", {})):
        url = reverse(name, args=[deployment.pk])
        answer = browser.post(url, json.dumps(body), content_type="application/json")
        assert answer.status_code in (422, 503), name
        assert "set up" in answer.json()["message"], name
    wiring.venue.cache_clear()
