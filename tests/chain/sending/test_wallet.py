"""The wallet of a customer on the local chain: a new Safe by API and command, its figures, doctor, a dead chain."""

import json
import threading
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.ops.devchain.world import wait_receipt
from maxxit.reports import checks
from maxxit.reports.safes import wallet
from tests import builders as make
from tests.chain.lab import USDC
from tests.chain.sending.safe_trader import SafeTrader, store_plan, verified
from tests.chain.sending.test_safe_api import Web
from trading.chain.models import SafePlan
from trading.deployments import safe_revocation, wallet_setup
from trading.deployments.wallet_setup import Step
from trading.tasks import run_reconcile
from trading.venues.safe import limits, onboarding, plans, safes, snapshot
from trading.venues.safe.contract import module as m
from trading.wiring import venue

pytestmark = [pytest.mark.chain, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    cache.clear()


@pytest.fixture
def alice(trader: SafeTrader) -> Web:
    return Web("alice", "read", "safes")


def draft(owner: Web, capital: str = "500") -> Deployment:
    agent = make.agent(venue="safe", tokens=["ETH"], owner=owner.person, state="draft")
    make.account(agent)
    return make.deployment(
        agent,
        account=f"safe:{agent.pk}",
        funded=False,
        state="draft",
        owner=owner.person,
        safe_capital=Decimal(capital),
        usdc="0",
    )


def send(trader: SafeTrader, transaction: dict[str, str], role: str = "rogue") -> None:
    trader.lab.send(role, bytes.fromhex(transaction["data"][2:]), to=transaction["to"])


def get(owner: Web, path: str = "") -> tuple[int, dict[str, Any]]:
    answer = Client().get(f"/api/safes{path}", headers=owner.headers)
    return answer.status_code, answer.json()


def fresh() -> None:
    """As after the seconds that a read is kept."""
    cache.clear()


def test_a_new_safe_by_api_from_the_plan_to_the_figures(trader: SafeTrader, alice: Web) -> None:
    deployment, owner = draft(alice), trader.world.accounts["rogue"]
    assert get(alice, f"/{deployment.pk}")[0] == 409
    code, planned = alice.post(f"{deployment.pk}/new", owner=owner)
    assert code == 200, planned
    assert planned["card"]["most_lost_per_day"] == 42_500_000
    assert alice.post(f"{deployment.pk}/new", owner=owner)[1]["safe"] == planned["safe"]
    code, row = get(alice, f"/{deployment.pk}")
    assert (code, row["module"], row["unsigned_plan"]) == (200, "not created", "new Safe")
    assert (row["usdc"], row["missing_usdc"], row["problem"]) == (
        "0",
        None,
        "",
    )  # no money to a Safe that is not there

    send(trader, planned["transaction"])
    trader.world.mint("USDC", planned["safe"], 120 * USDC)
    fresh()
    assert alice.post(f"{deployment.pk}/verify")[1]["verified"] is True
    code, rows = get(alice)
    (row,) = rows["items"]
    assert (row["module"], row["usdc"], row["missing_usdc"]) == ("on", "120", "380")
    assert row["owners"] == [owner]
    assert (row["differences"], row["unsigned_plan"], row["max_trade"]) == ([], None, "100")
    assert [limit["name"] for limit in row["limits"]] == [
        "daily_notional", "trades_per_day", "loss_budget", "total_loss_budget",
    ]  # fmt: skip
    assert row["limits"][2] == {
        "name": "loss_budget", "used": "0", "left": "37.5", "limit": "37.5", "unit": "USDC",
    }  # fmt: skip


def test_a_plan_for_a_new_safe_is_refused_with_the_reason(trader: SafeTrader, alice: Web) -> None:
    deployment = draft(alice)
    assert alice.post(f"{deployment.pk}/new", owner="0xabc")[1]["code"] == "wrong_owner"
    other = draft(Web("bob", "safes"))
    assert alice.post(f"{other.pk}/new", owner=trader.world.accounts["rogue"])[0] == 404


def test_the_command_shows_and_creates_the_same(trader: SafeTrader, alice: Web) -> None:
    deployment, owner = draft(alice), trader.world.accounts["rogue"]
    made = json.loads(run("safe", "create", "--owner", owner, "--deployment", str(deployment.pk), "--json"))
    send(trader, made["transaction"])
    deployment.refresh_from_db()
    assert safes.check(deployment) == []
    shown = json.loads(run("safe", "show", "--user", "alice", "--json"))["items"]
    assert shown == get(alice)[1]["items"]
    text = run("safe", "show", "--deployment", str(deployment.pk))
    assert f"{deployment.agent.name}: {made['safe']}, module on" in text
    assert "Loss budget of 24 hours: 0 of 37.5 USDC used" in text
    assert "no deployment of these has a Safe" in run("safe", "show", "--user", "carol")
    with pytest.raises(CommandError, match="give one --owner"):
        call_command("safe", "create", "--owner", owner, "--owner", owner, "--deployment", deployment.pk)


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_what_is_used_of_the_limits(trader: SafeTrader) -> None:
    store_plan(trader.lab)
    deployment = verified(
        make.deployment(make.agent(venue="safe"), account=trader.world.safe, funded=False), trader.lab
    )
    assert trader.trade().state == "filled"
    (row,) = wallet.wallets([deployment])
    used = {gauge.name: (gauge.used, gauge.limit) for gauge in row.gauges}
    assert used["daily_notional"] == (500, 10_000)
    assert used["trades_per_day"] == (1, 24)
    assert 0 < used["loss_budget"][0] < 50
    assert row.tokens.keys() == {"ETH"}
    assert row.missing_usdc is None


def test_a_guardians_stop_and_a_revocation_are_shown(trader: SafeTrader) -> None:
    store_plan(trader.lab)
    deployment = verified(
        make.deployment(make.agent(venue="safe"), account=trader.world.safe, funded=False), trader.lab
    )
    trader.lab.send("guardian", m.call_data("stop", trader.world.safe, m.NO_ENTRIES))
    (row,) = wallet.wallets([deployment])
    assert row.stop.startswith("stopped: no position is opened")
    made = plans.revoke(deployment)
    assert made.send is not None
    send(trader, made.send.as_json(), "owner")
    (row,) = wallet.wallets([deployment], fresh=True)
    assert (row.module, row.can_revoke) == ("off", False)


def test_a_dead_chain_is_shown_with_the_age_and_costs_no_second_wait(
    trader: SafeTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_plan(trader.lab)
    deployment = verified(
        make.deployment(make.agent(venue="safe"), account=trader.world.safe, funded=False), trader.lab
    )
    (row,) = wallet.wallets([deployment])
    assert (row.usdc, row.seen.problem) == (10_000, "")
    reads = []

    def dead(at: object, asked: object) -> dict[str, snapshot.SafeState]:
        reads.append(asked)
        raise TimeoutError

    monkeypatch.setattr(snapshot, "read", dead)
    (row,) = wallet.wallets([deployment], fresh=True)
    assert row.usdc == 10_000
    assert row.seen.read_at is not None
    assert "could not be read" in row.seen.problem
    limits_of_pages = limits.policy().pages.model_copy(update={"fresh_seconds": 0})
    monkeypatch.setattr(
        snapshot, "safe_policy", lambda: limits.policy().model_copy(update={"pages": limits_of_pages})
    )
    assert wallet.wallets([deployment])[0].seen.problem
    assert len(reads) == 1  # nobody asks again for a while
    fresh()
    (row,) = wallet.wallets([deployment])
    assert (row.usdc, row.module, row.gauges) == (None, "unknown", [])


def test_a_slow_chain_is_waited_for_a_bounded_time(
    trader: SafeTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_plan(trader.lab)
    deployment = verified(
        make.deployment(make.agent(venue="safe"), account=trader.world.safe, funded=False), trader.lab
    )
    release = threading.Event()

    def slow(at: object, asked: object) -> dict[str, snapshot.SafeState]:
        release.wait(60)
        return {}

    monkeypatch.setattr(snapshot, "read", slow)
    pages = limits.policy().pages.model_copy(update={"read_seconds": 0.05})
    monkeypatch.setattr(snapshot, "safe_policy", lambda: limits.policy().model_copy(update={"pages": pages}))
    (row,) = wallet.wallets([deployment])
    release.set()
    assert row.seen.problem == "the chain did not answer within 0.05 s"


def test_doctor_is_red_while_plan_and_chain_differ(trader: SafeTrader) -> None:
    """A new plan disarms nothing, and doctor says that it waits."""
    store_plan(trader.lab)
    make.account(agent := make.agent(venue="safe"))
    deployment = verified(make.deployment(agent, account=trader.world.safe, funded=False), trader.lab)
    assert checks.safes().ok
    SafePlan.objects.update(safe_tx_hash="0x" + "11" * 32)
    plans.plan(deployment, loosen_delay=3_600)
    red = checks.safes()
    assert not red.ok
    assert "a plan that is not signed yet: loosen_delay is 0 s, not 3600 s" in red.detail
    deployment.refresh_from_db()
    assert deployment.verified_at is not None
    plan = SafePlan.objects.get(verified_at=None)
    trader.world.execute_as_owner(
        onboarding.enable_tx(
            31337,
            trader.world.safe,
            trader.world.module,
            m.Policy(**plan.policy),
            [m.TokenRule(**rule) for rule in plan.rules],
            trader.world.safe_nonce(),
            enabled=True,
        )
    )
    fresh()
    assert "which is not verified yet" in checks.safes().detail
    assert safes.check(deployment) == []
    fresh()
    assert checks.safes().ok
    trader.world.execute_as_owner(
        onboarding.revoke_tx(31337, trader.world.safe, trader.world.module, trader.world.safe_nonce())
    )
    fresh()
    assert "the plan in force: the module is not enabled in the Safe" in checks.safes().detail


def test_setup_tells_where_it_stands(trader: SafeTrader, alice: Web) -> None:
    deployment, owner = draft(alice), trader.world.accounts["rogue"]
    assert wallet_setup.look(deployment, by="alice").step == Step.CHOOSE
    made = wallet_setup.plan_new(deployment, owner.lower())
    assert wallet_setup.look(deployment, by="alice").step == Step.SIGN
    wallet_setup.note_sent(deployment, "0x" + "12" * 32)
    assert wallet_setup.look(deployment, by="alice").step == Step.SENT
    with pytest.raises(Rejected, match="no transaction hash"):
        wallet_setup.note_sent(deployment, "0x12")
    wallet_setup.forget(deployment)
    assert (deployment.safe_wallet, SafePlan.objects.count()) == ("", 0)
    assert wallet_setup.look(deployment, by="alice").step == Step.CHOOSE
    again = wallet_setup.plan_new(deployment, owner)
    assert again.safe == made.safe
    assert again.send is not None
    send(trader, again.send.as_json())
    status = wallet_setup.look(deployment, by="alice")
    assert (status.step, status.problems) == (Step.READY, ())
    deployment.refresh_from_db()
    assert (deployment.state, deployment.agent.state) == ("active", "active")
    with pytest.raises(Rejected, match="is in force"):
        wallet_setup.forget(deployment)


def test_another_safe_may_be_chosen_and_what_two_agents_share_is_named(
    trader: SafeTrader, alice: Web
) -> None:
    store_plan(trader.lab)
    first = draft(alice)
    first.account, first.state = trader.world.safe, "active"
    verified(first, trader.lab)
    second = draft(alice)
    wallet_setup.plan_existing(second, trader.world.safe, proven=[trader.world.accounts["owner"]])
    assert wallet_setup.sharing(second) == [first.agent.name]
    wallet_setup.forget(second)
    assert (second.safe_wallet, SafePlan.objects.get().verified_at is None) == ("", False)


def test_a_draft_that_leaves_a_safe_leaves_the_proposal_to_the_other_draft_of_it(
    trader: SafeTrader, alice: Web
) -> None:
    store_plan(trader.lab)
    first, second = draft(alice), draft(alice)
    for one in (first, second):
        wallet_setup.plan_existing(one, trader.world.safe, proven=[trader.world.accounts["owner"]])

    wallet_setup.forget(second)
    assert SafePlan.objects.filter(verified_at=None).count() == 1
    wallet_setup.forget(first)
    assert not SafePlan.objects.filter(verified_at=None).exists()


def test_a_draft_is_found_signed_however_many_newer_ones_were_abandoned(
    trader: SafeTrader, alice: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallet_setup, "CHUNK", 2)
    signed = draft(alice)
    made = wallet_setup.plan_new(signed, trader.world.accounts["rogue"])
    assert made.send is not None
    send(trader, made.send.as_json())
    for _ in range(3):
        abandoned = draft(alice)
        wallet_setup.plan_new(abandoned, trader.world.accounts["guardian"])

    assert wallet_setup.finish_due() == 1
    signed.refresh_from_db()
    assert signed.state == "active"


def test_a_revocation_ends_every_agent_of_the_safe_once_the_chain_shows_it(
    trader: SafeTrader, alice: Web
) -> None:
    store_plan(trader.lab)
    rows = [draft(alice), draft(alice)]
    for row in rows:
        row.account, row.state = trader.world.safe, "active"
        verified(row, trader.lab)
    first, second = rows
    assert safe_revocation.settle(first, "", by="alice").text == "The module is still on."
    assert "No block has it yet" in safe_revocation.settle(first, "0x" + "12" * 32, by="alice").text
    made = plans.revoke(first)
    assert made.send is not None
    call = {
        "from": trader.world.accounts["owner"],
        "to": made.send.to,
        "data": made.send.data,
        "gas": hex(60_000),
    }
    failed = trader.lab.rpc("eth_sendTransaction", call)
    wait_receipt(trader.lab.rpc, failed)
    outcome = safe_revocation.settle(first, failed, by="alice")
    assert (outcome.done, outcome.failed) == (False, True)
    send(trader, made.send.as_json(), "owner")
    assert safe_revocation.settle(first, failed, by="alice").done
    for row in rows:
        row.refresh_from_db()
        assert (row.state, row.module_enabled, row.verified_at) == ("revoked", False, None)
    assert second.owner == first.owner


def test_what_is_signed_while_the_page_is_closed_counts(trader: SafeTrader, alice: Web) -> None:
    deployment, waiting = draft(alice), draft(alice, "600")
    made = wallet_setup.plan_new(deployment, trader.world.accounts["rogue"])
    wallet_setup.plan_new(waiting, trader.world.accounts["rogue"])
    assert wallet_setup.finish_due() == 0
    assert made.send is not None
    send(trader, made.send.as_json())
    assert run_reconcile() == 0
    deployment.refresh_from_db()
    waiting.refresh_from_db()
    assert (deployment.state, deployment.agent.state, waiting.state) == ("active", "active", "draft")
    assert wallet_setup.finish_due() == 0


def test_an_agent_that_cannot_trade_is_verified_and_told_why(trader: SafeTrader, alice: Web) -> None:
    deployment = draft(alice)
    deployment.agent.subscriptions.all().delete()
    made = wallet_setup.plan_new(deployment, trader.world.accounts["rogue"])
    assert made.send is not None
    send(trader, made.send.as_json())
    status = wallet_setup.look(deployment, by="alice")
    assert status.step == Step.READY
    assert "follows no account" in status.problems[0]
    deployment.refresh_from_db()
    assert (deployment.state, deployment.module_enabled) == ("draft", True)


def test_limits_are_changed_by_api_and_command_and_the_choice_outlives_the_next_plan(
    trader: SafeTrader, alice: Web
) -> None:
    deployment, owner = draft(alice), trader.world.accounts["rogue"]
    assert alice.post(f"{deployment.pk}/limits", max_trade="50")[1]["code"] == "safe_not_planned"
    code, planned = alice.post(f"{deployment.pk}/new", owner=owner)
    send(trader, planned["transaction"])
    fresh()
    assert alice.post(f"{deployment.pk}/verify")[1]["verified"] is True
    code, refused = alice.post(f"{deployment.pk}/limits", max_trade="5000")
    assert (code, "1,000.00 USDC" in refused["message"]) == (422, True)
    assert alice.post(f"{deployment.pk}/limits", max_trade="30", min_trade="1")[0] == 422
    other = Web("bob", "safes")
    assert other.post(f"{deployment.pk}/limits", max_trade="30")[0] == 404
    code, made = alice.post(f"{deployment.pk}/limits", max_trade="30", trades_per_day=4)
    assert code == 200, made
    assert any("a limit of 30.00 USDC an order stops" in note for note in made["notes"])
    proposal = SafePlan.objects.get(verified_at=None)
    assert (proposal.policy["max_trade"], proposal.policy["trades_per_day"]) == (30 * USDC, 4)

    out = StringIO()
    call_command(
        "safe",
        "limits",
        "--deployment",
        str(deployment.pk),
        "--max-trade",
        "40",
        "--by",
        "olga",
        "--json",
        stdout=out,
    )
    answer = json.loads(out.getvalue())
    assert answer["changes"][0] == {"limit": "one order", "unit": "USDC", "before": "100", "after": "40"}
    deployment.refresh_from_db()
    assert deployment.verified_at is not None
    proposal = SafePlan.objects.get(verified_at=None)
    send(trader, proposal.onboarding["send"])
    fresh()
    assert safes.check(deployment) == []
    assert SafePlan.objects.filter(verified_at=None).count() == 0
    plans.plan(deployment)  # such as for other fees
    assert SafePlan.objects.get(verified_at=None).policy["max_trade"] == 40 * USDC


def test_the_wizard_offers_the_chain_that_answers(
    trader: SafeTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (choice,) = wallet_setup.venue_choices(local=True, ask="safe")
    assert (choice.name, choice.chain, choice.chain_id, choice.problem) == ("safe", "Local", 31337, "")
    assert wallet_setup.venue_choices(local=False) == []
    fresh()
    at = venue("safe").safe_access()
    assert at is not None
    monkeypatch.setattr(type(at.chain), "head", lambda self: 1 / 0)
    assert "could not be read" in wallet_setup.venue_choices(local=True, ask="safe")[0].problem
