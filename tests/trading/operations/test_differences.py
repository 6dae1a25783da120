"""Differences between ledger and venue: named with their cause, booked by an operator, never twice."""

from decimal import Decimal

import pytest

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from tests import builders
from trading import ledger, reconcile
from trading.models import PaperBalance
from trading.operations import differences

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def deployment() -> Deployment:
    """A paper deployment whose account holds 2 ETH that nobody booked."""
    made = builders.deployment(builders.agent())
    PaperBalance.objects.update_or_create(account=made.account, asset="ETH", defaults={"amount": D(2)})
    return made


def test_each_difference_has_a_cause_and_a_fix(deployment: Deployment) -> None:
    found = differences.compare()
    row = next(row for row in found.rows if row.asset == "ETH")
    assert (row.account, row.amount, row.cause) == (deployment.account, 2, "more")
    assert "moved in elsewhere" in row.likely
    assert "transfer of the owner" in row.fix
    assert not found.ok


def test_a_difference_is_booked_as_a_transfer_and_is_no_profit(deployment: Deployment) -> None:
    differences.apply(deployment.account, "ETH", D(2), by="olga", reason="an airdrop")
    assert ledger.balances(deployment.pk)["ETH"] == 2
    assert ledger.traded(deployment.pk).get("ETH", 0) == 0  # the owner's tokens, not the agent's
    assert f"{deployment.account} ETH" not in reconcile.drifts()
    event = Event.objects.get(name="reconcile.applied")
    assert (event.data["by"], event.data["reason"], event.data["amount"]) == ("olga", "an airdrop", "2")


def test_a_loss_of_tokens_is_booked_too(deployment: Deployment) -> None:
    differences.apply(deployment.account, "ETH", D(2), by="olga", reason="an airdrop")
    PaperBalance.objects.filter(account=deployment.account, asset="ETH").update(amount=D("0.5"))
    row = differences.apply(deployment.account, "ETH", D("-1.5"), by="olga", reason="withdrawn")
    assert row.cause == "less"
    assert "transfer to outside" in row.fix
    assert ledger.balances(deployment.pk)["ETH"] == D("0.5")


@pytest.mark.parametrize(
    ("asset", "amount", "reason", "says"),
    [
        ("ETH", D(3), "an airdrop", "differs by 2 ETH now, not by 3: compare again"),
        ("BTC", D(2), "an airdrop", "differs by 0 BTC now"),
        ("ETH", D(2), " ", "needs a reason"),
    ],
)
def test_what_is_not_the_present_difference_is_not_booked(
    deployment: Deployment, asset: str, amount: Decimal, reason: str, says: str
) -> None:
    with pytest.raises(Rejected, match=says):
        differences.apply(deployment.account, asset, amount, by="olga", reason=reason)
    assert not Event.objects.filter(name="reconcile.applied").exists()


def test_a_second_click_books_nothing_more(deployment: Deployment) -> None:
    differences.apply(deployment.account, "ETH", D(2), by="olga", reason="an airdrop")
    with pytest.raises(Rejected, match="compare again"):
        differences.apply(deployment.account, "ETH", D(2), by="olga", reason="an airdrop")
    assert ledger.balances(deployment.pk)["ETH"] == 2


def test_what_an_order_under_way_may_change_is_left_out(deployment: Deployment) -> None:
    by = builders.signal(deployment.agent, token="ETH")
    builders.order(deployment, by=by, symbol="ETH", state="sending")
    found = differences.compare()
    assert [row for row in found.rows if row.asset == "ETH"] == []
    assert found.under_way == 1


def test_what_was_booked_while_it_was_compared_is_not_booked_twice(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = differences.compare()
    monkeypatch.setattr(differences, "compare", lambda account="": compared)

    def other_operator(account: str = "") -> differences.Differences:
        monkeypatch.setattr(differences, "compare", lambda account="": compared)
        differences.apply(deployment.account, "ETH", D(2), by="otto", reason="an airdrop")
        return compared

    monkeypatch.setattr(differences, "compare", other_operator)
    with pytest.raises(Rejected, match="compare again"):
        differences.apply(deployment.account, "ETH", D(2), by="olga", reason="an airdrop")
    assert ledger.balances(deployment.pk)["ETH"] == 2
