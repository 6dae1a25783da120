"""A customer with perpetual futures only: chain reconciliation, the executor's balance, margins near liquidation."""

import threading
import time
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from agents.models import Agent
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable
from maxxit.events.models import Event
from positions import liquidation_warnings
from tests import builders as make
from tests.trading.venues.gmx.test_flow import Pipeline, pipeline  # noqa: F401  # fixture
from trading import tasks
from trading.chain.models import SafePlan
from trading.deployments import wallet_setup
from trading.models import LedgerEntry
from trading.perps.models import MarginPosition
from trading.reconciliation import cycle
from trading.reconciliation.models import AccountCheck
from trading.venues.gmx import scan
from trading.venues.gmx.models import GmxScan
from trading.venues.safe.reconcile import gas_balances, reconcile, reconcile_all

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]

D = Decimal


def open_position(flow: Pipeline) -> None:
    flow.says("buying $ETH here, this is the bottom")
    flow.run()


def test_the_safe_is_reconciled_and_a_low_executor_alerts_staff(pipeline: Pipeline) -> None:  # noqa: F811
    open_position(pipeline)
    pipeline.world.mint("USDC", pipeline.lab.safe, 500 * 10**6)
    assert tasks.run_reconcile() == 0
    deposits = LedgerEntry.objects.filter(kind="external", deployment=pipeline.deployment, amount=500)
    assert deposits.count() == 1
    assert not Event.objects.filter(name="executor.balance_low").exists()

    pipeline.lab.rpc("anvil_setBalance", pipeline.world.accounts["executor"], hex(10**15))
    tasks.run_reconcile()
    assert Event.objects.get(name="executor.balance_low").data["left"] == "0.001 ETH"


def test_an_executor_that_cannot_pay_the_execution_fees_of_one_entry_alerts_staff(
    pipeline: Pipeline,  # noqa: F811
) -> None:
    """Three orders' execution fees are more than the chain's threshold, which is for gas."""
    lab, at = pipeline.lab, pipeline.trader.venue_of()
    lab.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    lab.mine()
    cost = at.entry_cost()
    assert cost > 3 * at.stanza.executor_low_wei
    lab.rpc("anvil_setBalance", pipeline.world.accounts["executor"], hex(cost - 10**15))
    with pytest.raises(Rejected, match="send it ETH"):
        pipeline.trader.send(pipeline.trader.request(stop=D(2_000), target=D(3_500)))
    gas_balances()

    told = Event.objects.get(name="executor.balance_low")
    assert D(told.data["limit"].removesuffix(" ETH")) > 3 * D("0.01")


def test_what_gmx_did_meanwhile_is_read_before_the_safe_is_compared(pipeline: Pipeline) -> None:  # noqa: F811
    open_position(pipeline)
    pipeline.lab.later(600)
    pipeline.move("0.9")
    pipeline.trader.keep()  # the stop, while our workers are stopped
    at = pipeline.trader.venue_of()

    seen = reconcile(at, pipeline.lab.safe)
    assert seen.unbooked or seen.in_flight
    assert seen.unexplained == {}
    for _ in range(3):
        pipeline.keep()
    assert reconcile(at, pipeline.lab.safe).sound
    pipeline.sound()


def test_an_event_that_is_booked_after_the_compared_block_stops_the_comparison(
    pipeline: Pipeline,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another worker reads and books GMX's newer events between our look at the chain and at the ledger."""
    open_position(pipeline)
    at = pipeline.trader.venue_of()
    held_at = at.balances_at

    def slow(safe: str, block: int) -> dict[str, Decimal]:
        held = held_at(safe, block)
        pipeline.lab.later(600)
        pipeline.move("0.9")
        for _ in range(4):
            pipeline.keep()
        return held

    monkeypatch.setattr(at, "balances_at", slow)
    assert reconcile(at, pipeline.lab.safe).unexplained == {}
    monkeypatch.setattr(at, "balances_at", held_at)
    pipeline.sound()


def test_the_comparison_waits_for_a_worker_that_books_at_the_same_moment(pipeline: Pipeline) -> None:  # noqa: F811
    open_position(pipeline)
    at, safe = pipeline.trader.venue_of(), pipeline.lab.safe
    block, booking = at.read_block(safe), threading.Event()

    def book() -> None:
        try:
            with transaction.atomic():
                row = GmxScan.objects.select_for_update().get(safe=safe)
                row.scanned_to = block + 1
                row.save()
                booking.set()
                time.sleep(0.5)
        finally:
            connection.close()

    worker = threading.Thread(target=book)
    worker.start()
    assert booking.wait(20)
    with transaction.atomic():
        moved = at.has_moved(safe, block)
    worker.join(20)
    assert moved


def test_gmx_is_read_once_for_an_explanation(
    pipeline: Pipeline,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_position(pipeline)
    at, read = pipeline.trader.venue_of(), scan.read_new
    times = []

    def counted(*args: Any) -> Any:
        times.append(args)
        return read(*args)

    monkeypatch.setattr(scan, "read_new", counted)
    assert at.unexplained(pipeline.trader.account, {"USDC": D(1)}) == {}
    assert len(times) == 1


@pytest.mark.parametrize(
    ("error", "problem"),
    [(Retryable("no answer"), "no answer"), (ValueError("no answer"), "ValueError: no answer")],
)
def test_a_venue_or_a_safe_that_fails_keeps_no_other_from_being_compared(
    pipeline: Pipeline,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    problem: str,
) -> None:
    """Another deployment's venue is not configured any more, and another Safe cannot be read."""
    open_position(pipeline)
    executor = pipeline.world.accounts["executor"]
    other, gone = "0x" + "1" * 40, "0x" + "2" * 40
    for name, safe, account in (("gmx", other, f"gmx:{other}"), ("before", gone, gone)):
        agent = make.agent(venue="gmx")
        make.deployment(
            agent, funded=False, account=account, safe_wallet=safe, chain_id=31337, verified_at=clock.now()
        )
        Agent.objects.filter(pk=agent.pk).update(venue=name)
        SafePlan.objects.create(
            chain_id=31337, safe=safe, module=pipeline.lab.perps, policy={}, rules=[], created_at=clock.now(),
            verified_at=clock.now(),
        )  # fmt: skip
    at, finished = pipeline.trader.venue_of(), []
    balances_at = at.balances_at
    monkeypatch.setattr(
        at, "balances_at", lambda safe, block: unread(error) if safe == other else balances_at(safe, block)
    )
    monkeypatch.setattr(wallet_setup, "finish_due", lambda: finished.append(1))
    pipeline.lab.rpc("anvil_setBalance", executor, hex(10**15))
    assert tasks.run_reconcile() == 0

    found = {one.safe: one for one in reconcile_all()}
    assert found[pipeline.lab.safe].sound
    assert found[other].problem == problem
    told = Event.objects.filter(name="safe.check_failed").values_list("data__safe", "data__error")
    assert list(told) == ([] if isinstance(error, Retryable) else [(other, problem)]), "once a day"
    assert "'before' is not in config/venues.yaml" in found[gone].problem
    assert not found[gone].sound
    assert finished == [1]
    assert Event.objects.filter(name="executor.balance_low").count() == 1
    compared = {one.executor: one.problem for one in gas_balances()}
    assert compared[executor] == ""
    assert "'before' is not in config/venues.yaml" in compared[""]
    with pytest.raises(SystemExit):
        call_command("reconcile", "--chain", stdout=(out := StringIO()), stderr=out)
    assert f"{other}: not compared: {problem}" in out.getvalue()
    assert "executors: not compared: venue before: " in out.getvalue()


def test_a_chain_that_does_not_answer_is_not_asked_for_each_safe(
    pipeline: Pipeline,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_position(pipeline)
    for digit in "345":
        safe = "0x" + digit * 40
        make.deployment(
            make.agent(venue="gmx"), funded=False, account=f"gmx:{safe}", safe_wallet=safe, chain_id=31337,
            verified_at=clock.now(),
        )  # fmt: skip
        SafePlan.objects.create(
            chain_id=31337, safe=safe, module=pipeline.lab.perps, policy={}, rules=[], created_at=clock.now(),
            verified_at=clock.now(),
        )  # fmt: skip
    asked = []

    def head() -> None:
        asked.append(1)
        raise Retryable("no endpoint is healthy")

    monkeypatch.setattr(pipeline.trader.venue_of().chain, "head", head)
    found = reconcile_all()
    assert {one.problem for one in found} == {"no endpoint is healthy"}
    assert len(found) == 4
    assert len(asked) == 2


def unread(error: Exception) -> dict[str, Decimal]:
    raise error


def test_an_executor_that_cannot_be_compared_by_a_fault_of_ours_alerts_staff_and_stops_nothing(
    pipeline: Pipeline,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_position(pipeline)
    finished: list[int] = []
    monkeypatch.setattr(wallet_setup, "finish_due", lambda: finished.append(1))
    monkeypatch.setattr(pipeline.trader.venue_of(), "entry_cost", lambda: dict[str, int]()["fee"])
    tasks.run_reconcile()

    assert [one.problem for one in gas_balances()] == ["KeyError: 'fee'"]
    assert finished == [1]
    told = Event.objects.get(name="safe.check_failed")
    assert told.data["executor"] == pipeline.world.accounts["executor"]


def test_margins_are_read_with_each_comparison_and_a_near_liquidation_warns_once(
    pipeline: Pipeline,  # noqa: F811
) -> None:
    open_position(pipeline)
    MarginPosition.objects.all().delete()
    AccountCheck.objects.all().delete()
    cycle.run_now(venues=["gmx"], kinds=["positions"])

    row = MarginPosition.objects.get(venue="gmx", account=pipeline.trader.account, symbol="ETH")
    assert row.margin > 0
    assert row.liquidation_price is not None
    assert row.maintenance == D("0.01")
    assert liquidation_warnings.warn() == 0
    make.price("ETH", str(row.liquidation_price * D("1.01")))
    assert liquidation_warnings.warn() == 1
    assert liquidation_warnings.warn() == 0
    told = Event.objects.get(name="liquidation.near").data
    assert told["account"] == pipeline.trader.account
    assert told["margin_ratio_pct"] != "None"
