"""Figures of closed positions: the same from single positions and from sums by day."""

from datetime import timedelta
from decimal import Decimal

import pytest

from agents.models import Deployment
from positions.models import Position
from positions.performance import figures, roll_up
from tests import builders

pytestmark = pytest.mark.django_db


def closed(of: Deployment, pnl: str, *, day: int = 0) -> Position:
    """A position that closed `day` days after T0."""
    at = builders.T0 + timedelta(days=day)
    return builders.position(of, state="closed", realised_pnl=Decimal(pnl), closed_at=at, fees=Decimal("0.5"))


@pytest.mark.parametrize("rolled_up", [False, True])
def test_figures_are_the_same_one_by_one_and_by_day(rolled_up: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = builders.deployment(builders.agent())
    for day, pnl in enumerate(("5", "-3", "-4", "6", "1")):
        closed(deployment, pnl, day=day)
    singly = figures.figures()
    if rolled_up:
        roll_up.roll_up()
    monkeypatch.setattr(figures, "SINGLY", 2)
    by_day = figures.figures()
    for name in ("realised", "closed", "winners", "average_win", "average_loss", "drawdown", "best"):
        assert getattr(by_day, name) == getattr(singly, name), name
    assert (singly.realised, singly.drawdown) == (Decimal(5), Decimal(7))
    assert [pnl for _, pnl, _ in figures.results().steps()] == [5, -3, -4, 6, 1]


def test_a_winner_has_earned_something_after_the_profit_share() -> None:
    deployment = builders.deployment(builders.agent())
    for pnl, share in (("10", "2"), ("0.01", "0.01"), ("-4", "0")):
        position = closed(deployment, pnl)
        Position.objects.filter(pk=position.pk).update(profit_share=Decimal(share))
    result = figures.figures()
    assert (result.winners, result.closed, result.average_win, result.average_loss) == (1, 3, 8, -2)
    assert (result.realised, result.profit_share) == (Decimal("6.01"), Decimal("2.01"))
