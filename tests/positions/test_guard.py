"""The triggers: what pulls the kill switch by itself, once, and what a person's release means."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import clock
from maxxit.core.errors import Retryable
from positions import guard, performance
from positions.guard import Health
from positions.models import PnlSnapshot
from tests import builders
from trading import gate
from trading.models import KillSwitch, PaperBalance
from trading.policy import policy

RULES = policy().triggers
WELL = Health(
    equity=D(10_000),
    pnl=D(0),
    pnl_at_midnight=D(0),
    equity_at_midnight=D(10_000),
    best_pnl=D(0),
    price_age=None,
    drift_usd=D(0),
    entries_decided=0,
    entries_blocked=0,
)


def causes(health: Health) -> list[str]:
    return [pull.cause for pull in guard.decide(health, RULES)]


def test_all_well_pulls_nothing() -> None:
    assert causes(WELL) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"pnl": D(-500), "best_pnl": D(0)}, ["daily_loss"]),
        ({"pnl": D(-499)}, []),
        ({"pnl_at_midnight": D(-900), "pnl": D(-1000), "equity": D(9000)}, ["drawdown"]),
        ({"price_age": timedelta(seconds=900)}, ["stale_prices"]),
        ({"price_age": timedelta(seconds=899)}, []),
        ({"drift_usd": D(1)}, ["ledger_drift"]),
        ({"drift_usd": None}, ["ledger_drift"]),
        ({"entries_decided": 20, "entries_blocked": 18}, ["blocked_rate"]),
        ({"entries_decided": 19, "entries_blocked": 19}, []),
    ],
)
def test_each_trigger_pulls_at_its_limit_and_not_before(change: dict[str, object], cause: list[str]) -> None:
    assert causes(replace(WELL, **change)) == cause  # type: ignore[arg-type]


@given(st.decimals(-9_000, 9_000, places=2), st.decimals(0, 100_000, places=2))
def test_a_deposit_is_neither_gain_nor_loss(pnl: D, deposit: D) -> None:
    before = replace(WELL, pnl=pnl, equity=D(10_000) + pnl)
    after = replace(before, equity=before.equity + deposit, equity_at_midnight=D(10_000) + deposit)
    assert set(causes(after)) <= set(causes(before)), "money paid in can only make a loss relatively smaller"


@pytest.mark.django_db
def test_a_daily_loss_latches_flatten_once_and_a_release_is_quiet_for_an_hour() -> None:
    morning = datetime(2026, 3, 2, 9, tzinfo=UTC)
    with clock.frozen(morning):
        builders.deployment(builders.agent(), usdc="1000")
        PnlSnapshot.objects.create(
            deployment=builders.deployment(builders.agent(), usdc="9000"),
            day=date(2026, 3, 1),
            equity=D(9600),
            deposits=D(9000),
            realised_pnl=0,
            unrealised_pnl=0,
        )
        assert guard.watch() == ["daily_loss"]
        assert gate.kill_level() == "flatten"
        assert guard.watch() == [], "it is latched already"
        gate.release(by="ann", reason="looked at it")
        assert guard.watch() == []
    with clock.frozen(morning + timedelta(minutes=61)):
        assert guard.watch() == ["daily_loss"]
    assert KillSwitch.objects.count() == 2


@pytest.mark.django_db
def test_a_venue_that_cannot_be_read_counts_as_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: bool) -> dict[str, D]:
        raise Retryable("no answer")

    monkeypatch.setattr("trading.reconcile.drifts", away)
    assert guard.watch() == ["ledger_drift"]
    assert gate.kill_level() == "no_entries"


@pytest.mark.django_db
def test_money_at_the_venue_that_we_did_not_book_is_drift() -> None:
    made = builders.deployment(builders.agent(), usdc="1000")
    assert guard.watch() == []

    PaperBalance.objects.filter(account=made.account).update(amount=D("1002"))
    assert guard.watch() == ["ledger_drift"]


@pytest.mark.django_db
def test_a_snapshot_knows_what_was_paid_in() -> None:
    builders.deployment(builders.agent(), usdc="1000")
    assert performance.take_snapshots(date(2026, 3, 1)) == 1
    assert performance.take_snapshots(date(2026, 3, 1)) == 0, "once a day"
    row = PnlSnapshot.objects.get()
    assert (row.equity, row.deposits) == (D(1000), D(1000))
