"""What venues hold is mirrored: discovered, orphaned, zeroed out when gone; a failed read changes nothing."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.events.models import Event
from tests import builders as make
from tests.builders import RecordedClock
from trading.models import PaperBalance, VenueHolding
from trading.operations import differences
from trading.reconciliation import holdings
from trading.reconciliation.holdings import Origin, Seen, origin_of
from trading.venues.paper import PaperVenue

D = Decimal
AMOUNTS = st.decimals(min_value=-100, max_value=100, places=4)


@pytest.fixture
def deployment(time: RecordedClock) -> Deployment:
    """A paper account with 10,000 USDC, as booked."""
    make.price("ETH", "2000")
    return make.deployment(make.agent())


def hold(of: Deployment, asset: str, amount: str) -> None:
    PaperBalance.objects.update_or_create(account=of.account, asset=asset, defaults={"amount": D(amount)})


def look(of: Deployment) -> None:
    holdings.look({("paper", of.account)})


def row(of: Deployment, asset: str) -> VenueHolding:
    return VenueHolding.objects.get(account=of.account, asset=asset)


def events() -> list[tuple[str, str, str]]:
    found = Event.objects.filter(name__startswith="position.").order_by("pk")
    return [(one.name, one.data["asset"], one.data["quantity"]) for one in found]


@given(quantity=AMOUNTS, booked=AMOUNTS)
def test_a_difference_away_from_zero_is_more_and_one_towards_it_is_less(
    quantity: Decimal, booked: Decimal
) -> None:
    origin = origin_of("ETH", Seen(quantity, booked, quantity - booked))
    if quantity == booked:
        assert origin == Origin.BOOKED
    elif booked and quantity * booked >= 0 and abs(quantity) < abs(booked):
        assert origin == Origin.ORPHANED
    elif booked and quantity * booked < 0:
        assert origin == Origin.ORPHANED, "the other side: ours is gone"
    else:
        assert origin == Origin.AUTO_DISCOVERED


@given(quantity=AMOUNTS, booked=AMOUNTS)
def test_cash_is_no_position(quantity: Decimal, booked: Decimal) -> None:
    wanted = Origin.BOOKED if quantity == booked else Origin.CASH
    assert origin_of("USD", Seen(quantity, booked, quantity - booked)) == wanted


@pytest.mark.django_db
def test_what_is_booked_is_shown_as_booked(deployment: Deployment) -> None:
    look(deployment)
    one = row(deployment, "USDC")
    assert (one.quantity, one.booked, one.unexplained, one.origin) == (10_000, 10_000, 0, "booked")
    assert events() == []


@pytest.mark.django_db
def test_a_token_that_no_order_of_ours_explains_is_discovered_once(
    deployment: Deployment, time: RecordedClock
) -> None:
    hold(deployment, "ETH", "2")
    look(deployment)
    time.move(minutes=2)
    look(deployment)
    one = row(deployment, "ETH")
    assert (one.quantity, one.booked, one.unexplained, one.origin) == (2, 0, 2, "AUTO_DISCOVERED")
    assert one.since < one.seen_at
    assert events() == [("position.discovered", "ETH", "2")]


@pytest.mark.django_db
def test_what_is_gone_is_zeroed_out(deployment: Deployment) -> None:
    hold(deployment, "ETH", "2")
    look(deployment)
    PaperBalance.objects.filter(asset="ETH").delete()
    look(deployment)
    one = row(deployment, "ETH")
    assert (one.quantity, one.origin) == (0, "booked")
    assert events() == [("position.discovered", "ETH", "2"), ("position.gone", "ETH", "0")]


@pytest.mark.django_db
def test_a_holding_of_ours_that_the_venue_lacks_is_orphaned(deployment: Deployment) -> None:
    hold(deployment, "ETH", "2")
    differences.apply(deployment.account, "ETH", D(2), by="olga", reason="moved in")
    hold(deployment, "ETH", "0.5")
    look(deployment)
    one = row(deployment, "ETH")
    assert (one.quantity, one.booked, one.unexplained, one.origin) == (D("0.5"), 2, D("-1.5"), "ORPHANED")
    assert events() == [("position.orphaned", "ETH", "0.5")]


@pytest.mark.django_db
def test_an_order_under_way_may_explain_a_difference(deployment: Deployment) -> None:
    make.order(deployment, by=make.signal(deployment.agent), state="sending", symbol="ETH")
    hold(deployment, "ETH", "2")
    look(deployment)
    assert row(deployment, "ETH").origin == "booked"
    assert row(deployment, "ETH").unexplained == 0


@pytest.mark.django_db
def test_an_account_that_cannot_be_read_keeps_what_is_known(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(deployment, "ETH", "2")
    look(deployment)
    monkeypatch.setattr(PaperVenue, "balances_of", lambda self, accounts: {})
    compared = holdings.look({("paper", deployment.account)})
    assert compared.unread == {("paper", deployment.account)}
    assert row(deployment, "ETH").quantity == 2


@pytest.mark.django_db
def test_one_account_that_cannot_be_stored_stops_no_other(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make.deployment(make.agent())
    store = holdings._store

    def failing(key: tuple[str, str], *args: object) -> None:
        if key[1] == deployment.account:
            raise ValueError("too large")
        store(key, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(holdings, "_store", failing)
    compared = holdings.look({("paper", deployment.account), ("paper", other.account)})
    assert compared.unread == {("paper", deployment.account)}
    assert row(other, "USDC").quantity == 10_000
