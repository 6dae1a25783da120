"""What was opened elsewhere is never traded until it is adopted; then it is a position like any other."""

from decimal import Decimal

import pytest

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from positions import discovered, withdrawals
from positions.exits import sweep
from positions.models import Position
from positions.performance.identity import read_identity
from tests import builders as make
from tests.builders import RecordedClock
from trading import ledger, reconcile
from trading.models import Order, PaperBalance, VenueHolding
from trading.operations import differences
from trading.reconciliation import holdings

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def deployment(time: RecordedClock) -> Deployment:
    """A paper account that holds 2 ETH which nobody booked, at 2,000 USD."""
    make.price("ETH", "2000")
    made = make.deployment(make.agent())
    PaperBalance.objects.create(account=made.account, asset="ETH", amount=D(2))
    holdings.look({("paper", made.account)})
    return made


def adopt(of: Deployment, amount: str = "2", asset: str = "ETH") -> Position:
    return discovered.adopt(of.account, asset, D(amount), by="olga", reason="bought by hand")


def test_what_was_opened_elsewhere_is_never_traded(deployment: Deployment) -> None:
    make.open_gate()
    make.price("ETH", "9000")
    assert sweep.Sweep(10)().positions == 0
    assert not Position.objects.exists()
    assert not Order.objects.exists()
    assert ledger.traded(deployment.pk).get("ETH", 0) == 0


def test_an_adopted_holding_is_a_position_with_stop_and_target(deployment: Deployment) -> None:
    position = adopt(deployment)
    assert (position.symbol, position.side, position.quantity, position.entry_price) == (
        "ETH",
        "long",
        2,
        2000,
    )
    assert position.stop_loss < 2000 < position.take_profit
    assert position.state == "open"
    assert ledger.balances(deployment.pk) == {"ETH": 2, "USDC": 10_000}
    assert ledger.drift() == {}
    assert reconcile.drifts() == {}
    row = VenueHolding.objects.get(account=deployment.account, asset="ETH")
    assert (row.origin, row.unexplained, row.booked) == ("booked", 0, 2)
    event = Event.objects.get(name="position.adopted")
    assert (event.data["by"], event.data["reason"], event.data["price"]) == ("olga", "bought by hand", "2000")


def test_adopting_earns_nothing_and_the_books_agree_at_any_price(deployment: Deployment) -> None:
    adopt(deployment)
    [books] = read_identity().deployments
    assert (books.pnl, books.equity, books.deposits, books.difference) == (0, 14_000, 14_000, 0)
    make.price("ETH", "2100")
    [books] = read_identity().deployments
    assert (books.pnl, books.equity, books.difference) == (200, 14_200, 0)


def test_an_adopted_position_is_closed_by_its_target(deployment: Deployment) -> None:
    position = adopt(deployment)
    make.open_gate()
    make.price("ETH", "9000")
    assert sweep.Sweep(10)().positions == 1
    position.refresh_from_db()
    assert (position.state, position.exit_reason) == ("closing", "take_profit")
    assert position.exit_order is not None
    assert (position.exit_order.side, position.exit_order.quantity) == ("sell", 2)


def test_it_is_adopted_once(deployment: Deployment) -> None:
    adopt(deployment)
    with pytest.raises(Rejected, match="compare again"):
        adopt(deployment)
    assert Position.objects.count() == 1


@pytest.mark.parametrize(
    ("amount", "asset", "says"),
    [
        ("3", "ETH", "differs by 2 ETH now, not by 3"),
        ("5", "USDC", "USDC is cash"),
        ("4", "XYZ", "XYZ is not listed on paper"),
    ],
)
def test_what_cannot_be_closed_from_here_is_not_adopted(
    deployment: Deployment, amount: str, asset: str, says: str
) -> None:
    PaperBalance.objects.filter(asset="USDC").update(amount=D(10_005))
    PaperBalance.objects.create(account=deployment.account, asset="XYZ", amount=D(4))
    with pytest.raises(Rejected, match=says):
        adopt(deployment, amount, asset)
    assert not Position.objects.exists()


def test_without_a_quote_nothing_is_adopted(deployment: Deployment, time: RecordedClock) -> None:
    time.move(hours=2)
    with pytest.raises(Rejected, match="no fresh quote"):
        adopt(deployment)


def test_less_than_booked_cannot_be_adopted(deployment: Deployment) -> None:
    adopt(deployment)
    PaperBalance.objects.filter(asset="ETH").update(amount=D(1))
    with pytest.raises(Rejected, match="only what it holds more"):
        adopt(deployment, "-1")


# --- orphans


def test_a_position_whose_tokens_are_gone_stays_open_until_an_operator_says_so(
    deployment: Deployment,
) -> None:
    position = adopt(deployment)
    PaperBalance.objects.filter(asset="ETH").delete()
    holdings.look({("paper", deployment.account)})
    assert VenueHolding.objects.get(asset="ETH").origin == "ORPHANED"
    assert withdrawals.close_withdrawn_positions() == 0
    differences.apply(deployment.account, "ETH", D(-2), by="olga", reason="sold by hand")
    assert withdrawals.close_withdrawn_positions() == 1
    position.refresh_from_db()
    assert (position.state, position.exit_reason, position.exit_price) == ("closed", "reconciled", 2000)
    assert withdrawals.close_withdrawn_positions() == 0
    [books] = read_identity().deployments
    assert books.difference == 0
    holdings.look({("paper", deployment.account)})
    row = VenueHolding.objects.get(asset="ETH")
    assert (row.origin, row.quantity, row.booked) == ("booked", 0, 0)


def test_another_account_is_untouched(deployment: Deployment) -> None:
    other = make.deployment(make.agent())
    PaperBalance.objects.create(account=other.account, asset="ETH", amount=D(2))
    adopt(deployment)
    adopt(other)
    PaperBalance.objects.filter(asset="ETH", account=deployment.account).delete()
    differences.apply(deployment.account, "ETH", D(-2), by="olga", reason="sold by hand")
    assert withdrawals.close_withdrawn_positions() == 1
    assert Position.objects.get(deployment=other).state == "open"
