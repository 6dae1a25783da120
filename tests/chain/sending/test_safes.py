"""Onboarding from the command line, and the ledger compared with the chain."""

import json
from datetime import date
from decimal import Decimal
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from eth_account import Account
from eth_utils.address import to_checksum_address
from safe_eth.safe import SafeTx

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.events.record import advance
from maxxit.evm import rpc
from maxxit.evm.codec import encode_call
from positions import guard
from positions.models import PnlSnapshot
from positions.performance import equity
from tests import builders as make
from tests.chain.sending.safe_trader import SafeTrader
from trading import ledger, reconcile, tasks, wiring
from trading.chain import chains
from trading.chain.models import ChainTransaction
from trading.deployments import wallet_setup
from trading.deployments.wallet_setup import Verified
from trading.models import JournalKind
from trading.venues.safe import onboarding, plans, safes
from trading.venues.safe.contract import module as m
from trading.venues.safe.onboarding import safe_tx
from trading.venues.safe.reconcile import gas_balances, reconcile_all
from trading.venues.safe.reconcile import reconcile as chain_reconcile

pytestmark = [pytest.mark.chain, pytest.mark.django_db]

D = Decimal


def run(*args: str) -> Any:
    """The command's JSON."""
    out = StringIO()
    call_command("safe", *args, "--json", stdout=out)
    return json.loads(out.getvalue())


def as_signed(told: dict[str, Any]) -> SafeTx:
    """The Safe transaction that the owner's wallet makes of the JSON."""
    return safe_tx(
        31337,
        told["safe"],
        told["to"],
        bytes.fromhex(told["data"][2:]),
        int(told["operation"]),
        int(told["nonce"]),
    )


@pytest.fixture
def deployment(trader: SafeTrader) -> Deployment:
    """A draft for the demo user's Safe, whose module was revoked again."""
    world = trader.world
    world.execute_as_owner(onboarding.revoke_tx(31337, world.safe, world.module, world.safe_nonce()))
    agent = make.agent(venue="safe", tokens=["ETH", "BTC"])
    make.account(agent)
    return make.deployment(agent, account="safe:new", funded=False, state="draft")


def test_from_plan_to_signature_to_verified_to_revoked(trader: SafeTrader, deployment: Deployment) -> None:
    world, number = trader.world, str(deployment.pk)
    told = run("plan", "--deployment", number, "--safe", world.safe)
    assert told["card"]["most_lost_per_day"] == 150_000_000
    assert told["card"]["most_lost_in_total"] == 25_500_000_000
    tx = as_signed(told["transaction"])
    assert told["transaction"]["contractTransactionHash"] == "0x" + onboarding.safe_tx_hash(tx).hex()
    with pytest.raises(SystemExit) as ended:
        run("verify", "--deployment", number)
    assert ended.value.code == 1
    deployment.refresh_from_db()
    assert (deployment.state, deployment.module_enabled, deployment.verified_at) == ("draft", False, None)
    assert trader.problem() == "safe_not_verified"

    world.execute_as_owner(tx)
    assert run("verify", "--deployment", number)["verified"] is True
    deployment.refresh_from_db()
    assert (deployment.state, deployment.module_enabled) == ("active", True)
    assert deployment.account == world.safe
    assert ledger.balances(deployment.pk) == {"USDC": D(10_000)}
    assert trader.problem() == ""

    world.execute_as_owner(as_signed(run("revoke", "--deployment", number)["transaction"]))
    assert trader.problem() == "module_disabled"
    with pytest.raises(SystemExit):
        run("verify", "--deployment", number)
    assert Deployment.objects.get().module_enabled is False
    with pytest.raises(CommandError, match="nothing to revoke"):
        run("revoke", "--deployment", number)


def test_the_card_is_shown_in_plain_words(trader: SafeTrader, deployment: Deployment) -> None:
    out = StringIO()
    call_command("safe", "plan", "--deployment", str(deployment.pk), "--safe", trader.world.safe, stdout=out)
    text = out.getvalue()
    assert "buy ETH, BTC with your USDC" in text
    assert "in any 24 hours: 150.00 USDC" in text
    assert "in total, until you sign again: 25,500.00 USDC" in text
    assert "contractTransactionHash" in text


def test_a_new_safe_is_where_it_was_said_to_be(trader: SafeTrader) -> None:
    world = trader.world
    told = run("create", "--owner", world.accounts["rogue"], "--salt", "77")
    assert trader.lab.rpc("eth_getCode", told["safe"], "latest") == "0x"
    world.send("trader", told["transaction"]["to"], bytes.fromhex(told["transaction"]["data"][2:]))
    assert trader.lab.rpc("eth_getCode", told["safe"], "latest") != "0x"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("plan", "--deployment", "999999"), "no deployment 999999"),
        (("create", "--owner", "0xabc"), "checksum"),
        (("create", "--owner", "{rogue}", "--threshold", "2"), "threshold is 2"),
    ],
)
def test_mistakes_are_one_clear_line(trader: SafeTrader, args: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        run(*(one.format(**trader.world.accounts) for one in args))


def test_what_is_no_safe_is_refused(trader: SafeTrader, deployment: Deployment) -> None:
    for wrong in (trader.world.accounts["rogue"], trader.world.usdc, "0x1234", ""):
        with pytest.raises(CommandError, match=r"is not a Safe|give the Safe"):
            run("plan", "--deployment", str(deployment.pk), "--safe", wrong)
    paper = make.deployment(make.agent())
    with pytest.raises(CommandError, match="not from a Safe"):
        run("plan", "--deployment", str(paper.pk), "--safe", trader.world.safe)


def test_a_keystore_is_made_once_and_holds_no_key_in_the_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECUTOR_PASSWORD", "a good long password")
    path = tmp_path / "executor.json"
    made = run("keystore", str(path))
    assert made["address"].startswith("0x")
    assert path.stat().st_mode & 0o077 == 0
    kept = json.loads(path.read_text())
    assert kept["version"] == 3
    key = Account.decrypt(kept, "a good long password")
    assert Account.from_key(key).address == made["address"]
    assert key.hex() not in path.read_text() + str(made)
    with pytest.raises(CommandError, match="not overwritten"):
        run("keystore", str(path))


@pytest.fixture
def onboarded(trader: SafeTrader, deployment: Deployment) -> Deployment:
    """Planned, signed and verified."""
    planned = plans.plan(deployment, trader.world.safe)
    trader.world.execute_as_owner(as_signed(planned.transaction))
    assert wallet_setup.verify_and_activate(deployment, by="test") == Verified([])
    return deployment


def test_a_deployment_keeps_the_safe_that_its_money_is_in(trader: SafeTrader, onboarded: Deployment) -> None:
    with pytest.raises(Rejected, match="create another deployment"):
        plans.plan(onboarded, trader.world.accounts["rogue"])
    onboarded.refresh_from_db()
    assert (onboarded.account, onboarded.verified_at is None) == (trader.world.safe, False)
    assert plans.plan(onboarded).safe == trader.world.safe, "the same Safe can be planned anew"


def test_a_plan_has_the_agents_fees_and_refuses_those_that_the_module_cannot_take(
    trader: SafeTrader, deployment: Deployment
) -> None:
    agent = deployment.agent
    agent.trade_fee, agent.profit_share = "flat amount_usdc=0.1", D("0.1")
    agent.save()
    card = plans.plan(deployment, trader.world.safe).card
    assert card is not None
    assert "0.10 USDC" in card.as_text()

    agent.monthly_fee = "subscription monthly_usdc=20"
    agent.save()
    with pytest.raises(Rejected, match=r"month is subscription.*Change the agent's fees"):
        plans.plan(deployment, trader.world.safe)


def test_the_next_deployment_of_a_safe_has_what_the_revoked_one_held(
    trader: SafeTrader, onboarded: Deployment
) -> None:
    world = trader.world
    with pytest.raises(Rejected, match="with this agent"):
        plans.plan(make.deployment(onboarded.agent, account="safe:twin", funded=False), world.safe)
    advance(onboarded, "revoked")
    agent = make.agent(venue="safe", tokens=["ETH", "BTC"])
    make.account(agent)
    after = make.deployment(agent, account="safe:next", funded=False, state="draft")
    world.execute_as_owner(as_signed(plans.plan(after, world.safe).transaction))

    assert wallet_setup.verify_and_activate(after, by="test") == Verified([])
    assert (ledger.balances(onboarded.pk)["USDC"], ledger.balances(after.pk)["USDC"]) == (D(0), D(10_000))
    world.mint("USDC", world.safe, 500_000_000)
    reconcile_all()
    assert ledger.balances(after.pk)["USDC"] == D(10_500)
    assert reconcile.drifts() == {}
    assert (guard.read().equity, guard.read().pnl) == (D(10_500), D(0))


def test_deposits_and_withdrawals_of_the_owner_are_booked_once(
    trader: SafeTrader, onboarded: Deployment
) -> None:
    world = trader.world
    world.mint("USDC", world.safe, 500_000_001)
    pay = encode_call("transfer(address,uint256)", world.accounts["owner"], 200_000_000)
    world.execute_as_owner(safe_tx(31337, world.safe, world.usdc, pay, 0, world.safe_nonce()))

    (found,) = reconcile_all()
    assert (found.sound, found.external, found.unexplained) == (True, {"USDC": D("300.000001")}, {})
    (again,) = reconcile_all()
    assert (again.sound, again.external) == (True, {})
    assert ledger.balances(onboarded.pk)["USDC"] == D("10300.000001")
    assert reconcile.drifts() == {}


def test_reconcile_books_what_owners_moved_before_it_compares(
    trader: SafeTrader, onboarded: Deployment
) -> None:
    trader.world.mint("USDC", trader.world.safe, 500_000_000)
    assert list(reconcile.drifts()) == [f"{trader.world.safe} USDC"]
    out = StringIO()
    call_command("reconcile", "--chain", "--json", stdout=out)  # no exit code 1
    told = json.loads(out.getvalue())

    assert (told["ok"], told["venues"], told["safes"][0]["external"]) == (True, {}, {"USDC": "500.000000"})
    assert ledger.balances(onboarded.pk)["USDC"] == D(10_500)


def test_what_an_owner_moves_pulls_no_kill_switch_and_is_neither_gain_nor_loss(
    trader: SafeTrader, onboarded: Deployment
) -> None:
    world = trader.world
    make.price("ETH", "2000")
    assert guard.watch() == []

    world.mint("USDC", world.safe, 500_000_001)
    world.mint("WETH", world.safe, 3 * 10**18)
    assert reconcile.drifts() == {f"{world.safe} ETH": D(3), f"{world.safe} USDC": D("500.000001")}
    assert guard.watch() == []
    assert reconcile.drifts() == {}
    assert (guard.read().equity, guard.read().pnl) == (D("16500.000001"), D(0))
    equity.take_snapshots(date(2026, 3, 1))
    (kept,) = PnlSnapshot.objects.filter(deployment=onboarded)
    assert (kept.equity, kept.deposits) == (D("16500.000001"), D("16500.000001"))

    out = encode_call("transfer(address,uint256)", world.accounts["owner"], 3 * 10**18)
    world.execute_as_owner(
        safe_tx(31337, world.safe, world.token("WETH").address, out, 0, world.safe_nonce())
    )
    assert guard.watch() == []
    assert guard.read().pnl == D(0)


def test_what_nobody_moved_pulls_the_kill_switch(trader: SafeTrader, onboarded: Deployment) -> None:
    make.price("ETH", "2000")
    move = ledger.Move("external", ledger.account_of(onboarded.pk), "ETH", D(1), "external")
    ledger.post(JournalKind.FILL, "test:wrong", [move])

    assert guard.watch() == ["ledger_drift"]


def test_a_hundred_safes_are_read_by_a_handful_of_calls(
    trader: SafeTrader, onboarded: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.price("ETH", "2000")
    others = [to_checksum_address(f"0x{number:040x}") for number in range(1, 100)]
    for address in others:
        one = make.booked_deployment(onboarded.agent, account=address)
        ledger.post(
            JournalKind.FILL,
            f"test:{one.pk}",
            [ledger.Move(ledger.account_of(one.pk), "external", "USDC", D(10_000), "trade")],
        )
    odd = make.booked_deployment(onboarded.agent, account="no address")
    asked: list[str] = []
    real = rpc.Endpoint.batch

    def batch(self: rpc.Endpoint, calls: Any, **how: Any) -> Any:
        asked.extend(method for method, _ in calls)
        return real(self, calls, **how)

    monkeypatch.setattr(rpc.Endpoint, "batch", batch)
    found = reconcile.compare_settled()

    assert (found.accounts, found.differences, found.unread) == ({"safe": 101}, {}, {("safe", odd.account)})
    assert len(asked) <= 6, asked
    assert wiring.venue("safe").balances_of([trader.world.safe])[trader.world.safe]["USDC"] == D(10_000)


def test_what_nothing_explains_is_booked_with_an_alert(trader: SafeTrader, onboarded: Deployment) -> None:
    at = wiring.venue("safe")
    ledger.post(
        JournalKind.FILL,
        "test:wrong",
        [ledger.Move("external", ledger.account_of(onboarded.pk), "ETH", D(1), "external")],
    )

    found = chain_reconcile(at, trader.world.safe)  # type: ignore[arg-type]
    assert (found.sound, found.unexplained) == (False, {"ETH": D(-1)})
    assert "reconcile.unexplained" in make.event_names()
    assert chain_reconcile(at, trader.world.safe).sound  # type: ignore[arg-type]


def test_a_trade_whose_fill_is_not_booked_yet_is_no_external_entry(
    trader: SafeTrader, onboarded: Deployment
) -> None:
    at = wiring.venue("safe")
    request = trader.request(trade=f"{onboarded.pk}/1")
    ref = trader.send(request)

    found = chain_reconcile(at, trader.world.safe)  # type: ignore[arg-type]
    assert (found.sound, found.unbooked, found.external) == (False, [ref], {})
    assert ledger.balances(onboarded.pk) == {"USDC": D(10_000)}


def ether(trader: SafeTrader) -> Decimal:
    """What the executor holds on chain."""
    return D(int(trader.lab.rpc("eth_getBalance", trader.world.accounts["executor"], "latest"), 16)).scaleb(
        -18
    )


def test_an_executor_that_never_sent_is_watched(trader: SafeTrader, onboarded: Deployment) -> None:
    executor = trader.world.accounts["executor"]
    assert not ChainTransaction.objects.exists()
    trader.lab.rpc("anvil_setBalance", executor, hex(10**15))
    trader.lab.rpc("evm_mine")
    (balance,) = gas_balances()
    assert (balance.executor, balance.external) == (executor, D("0.001"))
    assert Event.objects.filter(name="executor.balance_low").count() == 1


def test_gas_is_booked_and_the_executor_s_balance_is_held_against_the_chain(
    trader: SafeTrader, onboarded: Deployment
) -> None:
    executor = trader.world.accounts["executor"]
    booked = partial(ledger.balance, ledger.executor_of(executor), "ETH")
    before = ether(trader)
    trader.send(trader.request(trade=f"{onboarded.pk}/1"))
    assert booked() == ether(trader) - before < 0

    (opening,) = gas_balances()  # what it held before we ever looked
    assert (opening.sound, opening.external, booked()) == (True, before, ether(trader))
    trader.lab.rpc("anvil_setBalance", executor, hex(int((ether(trader) + 2).scaleb(18))))
    trader.lab.rpc("evm_mine")
    (topped,) = gas_balances()
    assert (topped.sound, topped.external, booked()) == (True, D(2), ether(trader))

    assert tasks.run_reconcile() == 0
    trader.world.send("executor", trader.world.accounts["rogue"], b"")  # somebody else has the key
    assert tasks.run_reconcile() == 1
    (told,) = Event.objects.filter(name="reconcile.unexplained")
    assert Decimal(told.data["unexplained"]) < 0
    assert told.name in settings.ALERTS
    (again,) = gas_balances()
    assert (again.sound, booked()) == (True, ether(trader))


def test_another_policy_than_the_planned_one_is_named(trader: SafeTrader, onboarded: Deployment) -> None:
    delay = chains.terms().loosen_delay
    trader.lab.set_policy(loss_budget=40_000_000, loosen_delay=delay)
    assert "loss_budget is 40.00 USDC, not 50.00 USDC" in safes.check(onboarded)
    trader.lab.set_policy(loosen_delay=delay)
    assert any("the planned policy is pending" in one for one in safes.check(onboarded))
    trader.lab.send("guardian", m.call_data("stop", trader.world.safe, m.HALTED))
    assert "stopped at level 2" in safes.check(onboarded)
