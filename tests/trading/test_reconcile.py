"""The ledger compared with the venues: what counts while trading goes on, and what a failed read leaves alone."""

from decimal import Decimal
from typing import Any

import pytest

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Retryable, Unknown
from tests import builders as make
from tests.builders import RecordedClock
from trading import ledger, reconcile
from trading.models import JournalKind, Order, PaperBalance
from trading.venues.paper import PaperVenue

pytestmark = pytest.mark.django_db

D = Decimal


@pytest.fixture
def deployments(time: RecordedClock) -> list[Deployment]:
    """Three paper accounts with 10,000 USDC each."""
    return [make.deployment(make.agent()) for _ in range(3)]


def missing(of: Deployment, amount: str = "5") -> None:
    """The venue holds so much less USDC than the ledger says."""
    PaperBalance.objects.filter(account=of.account).update(amount=D(10_000) - D(amount))


def apart() -> dict[str, dict[str, Decimal]]:
    """Account -> difference, as the guard sees it."""
    return {account: dict(found) for (_, account), found in reconcile.compare_settled().differences.items()}


def test_differences_are_told_by_account_and_asset(deployments: list[Deployment]) -> None:
    missing(deployments[1])
    assert reconcile.drifts() == {f"{deployments[1].account} USDC": D(-5)}
    assert apart() == {deployments[1].account: {"USDC": D(-5)}}
    assert reconcile.compare_settled().accounts == {"paper": 3}


@pytest.mark.parametrize("state", ["sending", "unknown", "accepted", "partially_filled"])
def test_an_order_in_flight_hides_its_own_token_and_cash_alone(
    deployments: list[Deployment], state: str
) -> None:
    busy, other, _ = deployments
    order = make.order(busy, by=make.signal(busy.agent), state=state, reserved_at=clock.now())
    missing(busy)
    missing(other)
    PaperBalance.objects.create(account=busy.account, asset="ETH", amount=D(1))
    PaperBalance.objects.create(account=busy.account, asset="SOL", amount=D(1))
    assert apart() == {busy.account: {"SOL": D(1)}, other.account: {"USDC": D(-5)}}

    Order.objects.filter(pk=order.pk).update(state="canceled")
    assert apart()[busy.account] == {"ETH": D(1), "SOL": D(1), "USDC": D(-5)}


def during(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Something happens while the venue is being read."""
    real = PaperVenue.balances_of

    def balances_of(self: PaperVenue, accounts: list[str]) -> dict[str, dict[str, Decimal]]:
        found = real(self, accounts)
        act()
        return found

    monkeypatch.setattr(PaperVenue, "balances_of", balances_of)


def test_what_is_booked_while_a_venue_is_read_is_no_difference(
    deployments: list[Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other, _ = deployments
    PaperBalance.objects.filter(account=mine.account).update(amount=D(10_500))  # paid in, and not booked yet
    missing(other)
    move = ledger.Move("external", ledger.account_of(mine.pk), "USDC", D(500), "external")
    during(monkeypatch, lambda: ledger.post(JournalKind.EXTERNAL, "late", [move]))

    assert apart() == {other.account: {"USDC": D(-5)}}


def test_an_order_that_left_while_a_venue_was_read_is_no_difference(
    deployments: list[Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing(deployments[0], "800")
    signal = make.signal(deployments[0].agent)
    during(
        monkeypatch, lambda: make.order(deployments[0], by=signal, state="sending", reserved_at=clock.now())
    )

    assert apart() == {}


@pytest.mark.parametrize("error", [Retryable("no answer"), Unknown("cut off"), KeyError("result")])
def test_a_venue_that_fails_is_unread_and_hides_no_other(
    deployments: list[Deployment], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    far = make.booked_deployment(make.agent(venue="safe"), account="0x1")
    real = reconcile.venue

    def venue(name: str) -> Any:
        if name == "safe":
            raise error
        return real(name)

    monkeypatch.setattr(reconcile, "venue", venue)
    missing(deployments[0])
    found = reconcile.compare_settled()
    assert found.unread == {("safe", far.account)}
    assert list(found.differences) == [("paper", deployments[0].account)]
    with pytest.raises(Retryable, match="0x1"):
        reconcile.drifts()


def test_an_account_whose_movements_cannot_be_explained_now_is_unread(
    deployments: list[Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexplained(self: PaperVenue, account: str, apart: dict[str, Decimal]) -> dict[str, Decimal]:
        if account == deployments[0].account:
            raise Retryable("the logs do not come")
        return apart

    monkeypatch.setattr(PaperVenue, "unexplained", unexplained)
    missing(deployments[0])
    missing(deployments[1])
    found = reconcile.compare_settled()
    assert found.unread == {("paper", deployments[0].account)}
    assert list(found.differences) == [("paper", deployments[1].account)]


def test_accounts_do_not_add_queries(deployments: list[Deployment], django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(3):
        reconcile.compare_settled()
    for _ in range(5):
        make.deployment(make.agent())
    with django_assert_num_queries(3):
        reconcile.compare_settled()
