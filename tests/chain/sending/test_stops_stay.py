"""What a deployment's verification, a new plan, a guardian's soft stop or a key rotation never take away: the exits.

And whose Safe it is: a deployment that was not verified itself trades nothing, whatever its account says.
"""

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from eth_account import Account

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.reports.safes import doctor
from positions.models import Position
from tests import builders as make
from tests.chain.sending.safe_trader import SafeTrader
from tests.chain.sending.test_safe_flow import Pipeline
from tests.chain.sending.test_safe_flow import pipeline as pipeline
from tests.chain.sending.test_safes import as_signed
from tests.passes import execute_pass, monitor_pass
from trading import ledger
from trading.chain import chains
from trading.chain.models import ChainTransaction, SafePlan
from trading.chain.signer import write_keystore
from trading.deployments import wallet_setup
from trading.models import Order
from trading.venues.safe import plans, reconcile, safes, verify
from trading.venues.safe.contract import module as m
from trading.wiring import venue

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]

D = Decimal


def again(pipeline: Pipeline, done: Callable[[], bool]) -> None:
    """Run a few passes more: on a busy machine the chain answers a broadcast after the client's time limit."""
    for _ in range(3):
        if done():
            return
        time.sleep(1)
        execute_pass()
        monitor_pass()


def buy(pipeline: Pipeline) -> None:
    """A position on the Safe."""
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.run()
    again(pipeline, lambda: Position.objects.exists())
    assert Position.objects.get().state == "open"
    pipeline.deployment.refresh_from_db()


def stopped_out(pipeline: Pipeline) -> bool:
    """Whether a fall of 20 % sells everything on chain."""
    pipeline.market("0.8")
    again(pipeline, lambda: Position.objects.latest("pk").state == "closed")
    return Position.objects.latest("pk").state == "closed" and not pipeline.world.balance(
        "WETH", pipeline.world.safe
    )


def soft_stop(pipeline: Pipeline) -> None:
    pipeline.trader.lab.send("guardian", m.call_data("stop", pipeline.world.safe, m.NO_ENTRIES))


@pytest.mark.parametrize("how", ["plan", "guardian", "guardian, checked", "never planned", "not verified"])
def test_a_stop_loss_is_sold(pipeline: Pipeline, how: str) -> None:
    buy(pipeline)
    if how == "plan":
        plans.plan(pipeline.deployment)
        assert "the listed tokens differ" in safes.check(pipeline.deployment)
        assert pipeline.deployment.verified_at is not None
    elif how.startswith("guardian"):
        soft_stop(pipeline)
    elif how == "never planned":
        SafePlan.objects.all().delete()
    else:
        Deployment.objects.update(verified_at=None, module_enabled=False)
    if how == "guardian, checked":
        assert safes.check(pipeline.deployment) == ["stopped at level 1"]
    assert stopped_out(pipeline)


def test_a_halted_safe_and_a_strange_executor_close_nothing(pipeline: Pipeline) -> None:
    buy(pipeline)
    pipeline.trader.lab.send("guardian", m.call_data("stop", pipeline.world.safe, m.HALTED))
    assert pipeline.trader.problem(purpose="close") == "stopped"
    pipeline.trader.lab.send(pipeline.world.safe, m.call_data("resume"))
    pipeline.trader.lab.set_policy(executor=pipeline.world.accounts["rogue"])
    assert pipeline.trader.problem(purpose="close") == "executor_not_allowed"
    assert not stopped_out(pipeline)


def test_a_proposal_changes_nothing_until_the_chain_shows_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = chains.terms().model_copy(update={"loss_budget": 60_000_000})
    monkeypatch.setattr(chains, "terms", lambda: wider)
    pipeline.deployment.refresh_from_db()
    planned = plans.plan(pipeline.deployment)

    assert "loss_budget is 50.00 USDC, not 60.00 USDC" in safes.check(pipeline.deployment)
    assert pipeline.trader.problem() == ""
    buy(pipeline)  # under the plan in force

    pipeline.world.execute_as_owner(as_signed(planned.transaction))
    assert safes.check(pipeline.deployment) == []
    kept = verify.plan_in_force(pipeline.world.chain_id, pipeline.world.safe)
    assert kept is not None
    assert kept.policy["loss_budget"] == 60_000_000
    assert verify.proposal(pipeline.world.chain_id, pipeline.world.safe) is None
    assert stopped_out(pipeline)


def test_entries_go_on_under_the_stricter_limits_while_a_looser_one_waits(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain_id, safe = pipeline.world.chain_id, pipeline.world.safe
    pipeline.trader.lab.set_policy(loosen_delay=3_600)
    signed = verify.plan_in_force(chain_id, safe)
    assert signed is not None
    signed.policy["loosen_delay"] = 3_600
    signed.save()
    other = {"loss_budget": 60_000_000, "max_trade": 900_000_000, "loosen_delay": 3_600}
    terms = chains.terms().model_copy(update=other)
    monkeypatch.setattr(chains, "terms", lambda: terms)
    pipeline.deployment.refresh_from_db()
    pipeline.world.execute_as_owner(as_signed(plans.plan(pipeline.deployment).transaction))

    now = pipeline.trader.lab.policy()
    assert (now.loss_budget, now.max_trade) == (50_000_000, 900_000_000), "of each limit the stricter one"
    assert any("the planned policy is pending" in line for line in safes.check(pipeline.deployment))
    assert pipeline.deployment.verified_at is not None
    shown = wallet_setup.look(pipeline.deployment, by="its owner")
    assert (shown.step, shown.waits) == ("differs", True), "signed, though no transaction of a page is known"
    assert "a plan that waits for its delay" in doctor.differing()[1][0]
    assert pipeline.trader.problem() == ""
    buy(pipeline)
    with pytest.raises(Rejected, match="above_max_trade"):
        pipeline.trader.send(pipeline.trader.request(quantity=str(950 / pipeline.price), trade="9/9"))
    with pytest.raises(Rejected, match="token_not_listed"):
        pipeline.trader.send(
            pipeline.trader.request(
                symbol="BTC", quantity="0.001", reference_price=pipeline.world.price("WBTC")
            )
        )

    pipeline.trader.lab.set_policy(loss_budget=55_000_000, loosen_delay=3_600)
    safes.check(pipeline.deployment)
    assert pipeline.deployment.verified_at is None, "another policy than the planned one is pending"
    assert pipeline.trader.problem() == "safe_not_verified"
    assert stopped_out(pipeline)


def test_a_deployment_is_not_verified_by_the_plan_before_its_own(pipeline: Pipeline) -> None:
    after = make.deployment(
        make.agent(venue="safe", tokens=["ETH"]), account="safe:next", funded=False, state="draft"
    )
    plans.plan(after, pipeline.world.safe)
    assert "the listed tokens differ" in safes.check(after)
    after.refresh_from_db()
    assert (after.state, after.verified_at) == ("draft", None)
    assert "the listed tokens differ" in safes.check(pipeline.deployment)
    assert pipeline.deployment.verified_at is not None


def test_a_safe_whose_entries_are_stopped_is_still_reconciled(pipeline: Pipeline) -> None:
    safes.check(pipeline.deployment)
    soft_stop(pipeline)
    safes.check(pipeline.deployment)
    assert pipeline.deployment.verified_at is None
    assert [one.safe for one in reconcile.reconcile_all()] == [pipeline.world.safe]


# -- rotation of the executor's key


@pytest.fixture
def new_key(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor_keystore: Path
) -> str:
    """The address of a new current key; the old one is the previous one from now on."""
    account = Account.create()
    pipeline.trader.lab.rpc("anvil_setBalance", account.address, hex(10**18))
    write_keystore(tmp_path / "new.json", bytes(account.key), "a new long password", iterations=1_000)
    monkeypatch.setenv("EXECUTOR_KEYSTORE", str(tmp_path / "new.json"))
    monkeypatch.setenv("EXECUTOR_PASSWORD", "a new long password")
    monkeypatch.setenv("EXECUTOR_PREVIOUS_KEYSTORE", str(executor_keystore))
    monkeypatch.setenv("EXECUTOR_PREVIOUS_PASSWORD", "correct horse battery staple")
    venue.cache_clear()
    return str(account.address)


def signers() -> list[str]:
    """Who signed, in order."""
    return list(ChainTransaction.objects.order_by("pk").values_list("signer__address", flat=True))


@pytest.mark.parametrize("signed", [False, True])
def test_two_executors_overlap_and_the_one_on_chain_signs(
    pipeline: Pipeline, new_key: str, signed: bool
) -> None:
    old = pipeline.world.accounts["executor"]
    planned = plans.plan(pipeline.deployment)
    buy(pipeline)
    if signed:
        pipeline.world.execute_as_owner(as_signed(planned.transaction))
        assert safes.check(pipeline.deployment) == []
    assert stopped_out(pipeline)
    assert signers() == [old, new_key if signed else old]


def test_a_process_without_a_keystore_reads_the_executors_of_the_configuration(
    trader: SafeTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXECUTOR_KEYSTORE")
    current, previous = trader.world.accounts["executor"], trader.world.accounts["rogue"]
    assert trader.venue.executors == (current,)
    trader.venue.places = trader.venue.places.model_copy(update={"previous_executor": previous})
    assert trader.venue.executors == (current, previous)


def test_a_retired_key_signs_no_more(
    pipeline: Pipeline, new_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXECUTOR_PREVIOUS_KEYSTORE")
    venue.cache_clear()
    assert pipeline.trader.problem(purpose="close") == "executor_not_allowed"


# -- whose Safe it is


def test_a_draft_with_the_account_of_a_safe_trades_nothing(pipeline: Pipeline) -> None:
    rogue = make.deployment(make.agent(venue="safe"), account=pipeline.world.safe, funded=False)
    ledger.deposit(rogue, D(10_000))
    make.signal(rogue.agent, usd=str(pipeline.price))
    execute_pass()
    monitor_pass()

    order = Order.objects.get(deployment=rogue)
    assert (order.state, order.reason) == ("blocked", "safe_not_verified")
    assert pipeline.world.balance("WETH", pipeline.world.safe) == 0


@pytest.mark.parametrize(
    "changes",
    [{"safe_wallet": ""}, {"chain_id": 1}, {"verified_at": None}, {"account": "x", "safe_wallet": "x"}],
)
def test_only_the_verified_deployment_of_this_very_safe_opens(
    pipeline: Pipeline, changes: dict[str, str]
) -> None:
    assert pipeline.trader.problem() == ""
    Deployment.objects.update(**changes)
    assert pipeline.trader.problem() == "safe_not_verified"


def test_an_account_at_a_real_venue_has_one_owner(trader: SafeTrader) -> None:
    victim, other = (User.objects.create_user(name) for name in ("victim", "other"))
    agent = make.agent(venue="safe")
    make.deployment(agent, account="shared", owner=victim, funded=False)
    with pytest.raises(IntegrityError, match="another owner"), transaction.atomic():
        make.deployment(make.agent(venue="safe"), account="shared", owner=other, funded=False)
    with pytest.raises(ValidationError, match="another owner"):
        Deployment(agent=make.agent(venue="safe"), account="shared", owner=other).full_clean()
    make.deployment(make.agent(venue="safe"), account="shared", owner=victim, funded=False)
    make.deployment(
        make.agent(), account="shared", owner=other, funded=False
    )  # another venue, another account


def test_no_form_sets_the_account_of_a_safe(trader: SafeTrader) -> None:
    draft = Deployment(agent=make.agent(venue="safe"), account=trader.world.safe)
    with pytest.raises(ValidationError, match="safe plan"):
        draft.full_clean()
    draft.account = trader.world.safe.lower()
    with pytest.raises(ValidationError, match="safe plan"):
        draft.full_clean()
    draft.account = "a name"
    draft.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        make.deployment(draft.agent, account="a name", safe_wallet=trader.world.safe, funded=False)
