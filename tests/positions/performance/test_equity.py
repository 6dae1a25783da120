"""What open positions would earn: per row, in sum, and as closing them at that price would have it."""

from decimal import Decimal as D

import pytest

from positions.models import Position
from positions.performance.equity import total_unrealised, with_unrealised
from positions.performance.pnl import gross
from tests import builders as make

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("mark", ["1600", "2000", "2150.25"])
@pytest.mark.parametrize("side", ["long", "short"])
def test_unrealised_is_what_closing_at_the_quote_would_earn(side: str, mark: str) -> None:
    made = make.position(make.deployment(make.agent()), side=side, entry="2000", quantity="0.4")
    Position.objects.filter(pk=made.pk).update(closed_quantity=D("0.1"))
    make.price("ETH", mark)

    earned = gross(side, D("0.3") * 2000, D("0.3") * D(mark))
    (row,) = with_unrealised(Position.objects.all())
    assert (getattr(row, "unrealised"), total_unrealised()) == (earned, earned)  # noqa: B009 (an annotation)


def test_what_is_closed_or_has_no_quote_is_left_out() -> None:
    deployment = make.deployment(make.agent())
    make.position(deployment, state="closed")
    make.position(deployment)

    assert [getattr(row, "unrealised") for row in with_unrealised(Position.objects.all())] == [None, None]  # noqa: B009
    assert total_unrealised() == 0
