"""A customer with perpetual futures only: chain reconciliation, the executor's balance, margins near liquidation."""

from decimal import Decimal

import pytest

from maxxit.events.models import Event
from positions import liquidation_warnings
from tests import builders as make
from tests.trading.venues.gmx.test_flow import Pipeline, pipeline  # noqa: F401  # fixture
from trading import tasks
from trading.models import LedgerEntry
from trading.perps.models import MarginPosition
from trading.reconciliation import cycle
from trading.reconciliation.models import AccountCheck
from trading.venues.safe.reconcile import reconcile

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
