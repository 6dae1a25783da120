"""The sums by day that the trigger on positions keeps, and the figures that are read from them."""

from datetime import timedelta
from decimal import Decimal

import pytest

from agents.models import Deployment
from positions.models import DailyResult, Position
from positions.performance import figures
from tests import builders

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployment() -> Deployment:
    """A deployment without positions."""
    return builders.deployment(builders.agent())


def closed(of: Deployment, pnl: str, *, day: int = 0) -> Position:
    """A position that closed `day` days after T0."""
    at = builders.T0 + timedelta(days=day)
    return builders.position(of, state="closed", realised_pnl=Decimal(pnl), closed_at=at, fees=Decimal("0.5"))


def test_each_closed_position_counts_once_in_the_sums_of_its_day(deployment: Deployment) -> None:
    closed(deployment, "5")
    closed(deployment, "-3")
    last = builders.position(deployment)
    assert DailyResult.objects.get().closed == 2
    Position.objects.filter(pk=last.pk).update(
        state="closed", closed_at=builders.T0, realised_pnl=Decimal(7), fees=Decimal(1)
    )
    one = DailyResult.objects.get()
    assert (one.day, one.symbol, one.closed, one.winners) == (builders.T0.date(), "ETH", 3, 2)
    assert (one.won, one.lost, one.fees) == (Decimal(12), Decimal(-3), Decimal(2))


def test_a_corrected_or_deleted_position_leaves_the_sums_right(deployment: Deployment) -> None:
    kept, gone = closed(deployment, "5"), closed(deployment, "-3")
    Position.objects.filter(pk=kept.pk).update(realised_pnl=Decimal(-1))
    gone.delete()
    one = DailyResult.objects.get()
    assert (one.closed, one.winners, one.won, one.lost) == (1, 0, Decimal(0), Decimal(-1))


def test_figures_are_the_same_one_by_one_and_by_day(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, pnl in enumerate(("5", "-3", "-4", "6", "1")):
        closed(deployment, pnl, day=day)
    singly = figures.figures()
    monkeypatch.setattr(figures, "SINGLY", 2)
    by_day = figures.figures()
    for name in ("realised", "closed", "winners", "average_win", "average_loss", "drawdown", "best"):
        assert getattr(by_day, name) == getattr(singly, name), name
    assert (singly.realised, singly.drawdown) == (Decimal(5), Decimal(7))
    assert [pnl for _, pnl, _ in figures.results().steps()] == [5, -3, -4, 6, 1]
