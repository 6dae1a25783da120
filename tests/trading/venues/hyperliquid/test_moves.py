"""Funding, the owner's transfers and liquidations: in the ledger once, and told as what they are."""

from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from maxxit.core.errors import Retryable
from maxxit.core.money import USDC
from maxxit.events.models import Event
from maxxit.reports.trades import trade as trade_report
from positions import book, guard, liquidations
from positions.exits import at_venue, sweep
from positions.models import Position
from positions.performance import identity
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.venues.hyperliquid.conftest import ACCOUNT
from tests.trading.venues.hyperliquid.server import Server
from tests.trading.venues.hyperliquid.test_orders import CLOSE
from tests.trading.venues.hyperliquid.world import KnownKeys, keys_of
from trading import ledger, reconcile, settle
from trading.models import KillSwitch, LedgerEntry, Order
from trading.perps import funding
from trading.perps.margin import MarginFacts
from trading.perps.models import FundingPayment, MarginPosition
from trading.risk.policy import policy
from trading.venues.hyperliquid.moves import LiquidationRef, amount_of

D = Decimal
ADDRESS = keys_of(ACCOUNT).address
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quoted(time: RecordedClock, db: None) -> None:
    make.price("ETH", "2000")
    make.price("BTC", "50000")


@pytest.fixture
def opened(
    fake: Server,
    venue: KnownKeys,
    time: RecordedClock,
    deployment: Any,
    no_approval_file: object,
    request: Any,
) -> Position:
    """A position of the deployment; `long` unless the test asks for a short."""
    side = getattr(request, "param", "long")
    make.open_gate()
    time.move(minutes=1)
    make.price("ETH", "2000")
    by = make.signal(deployment.agent, side=side, leverage=D(3))
    order = make.order(deployment, by=by, side="buy" if side == "long" else "sell", leverage=D(3))
    make.place(order, venue, policy())
    book.book()
    return Position.objects.get()


def difference() -> dict[str, Decimal]:
    """What the reconciliation leaves once moves are booked."""
    return dict(reconcile.compare_settled().differences.get(("paper", ACCOUNT), {}))


def cash(deployment: Any) -> Decimal:
    return ledger.balances(deployment.pk).get(USDC, D(0))


# --- funding


def test_funding_is_booked_once_as_a_cost_and_the_books_agree(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    account = venue.account(ACCOUNT)
    for hour, usdc in enumerate(("-0.125", "-0.25", "0.05")):
        time.move(hours=1)
        fake.exchange.pay_funding(account, "ETH", usdc)
        if hour == 1:
            assert difference() == {}
    for _ in range(2):
        assert difference() == {}
    assert cash(opened.deployment) == account.cash
    assert LedgerEntry.objects.filter(kind="funding", deployment=opened.deployment).count() == 3
    assert FundingPayment.objects.count() == 3
    paid = funding.of_position(opened.deployment_id, "ETH", opened.opened_at, None)
    assert paid == D("-0.325")
    make.price("ETH", "2000")
    read = identity.read_identity()
    assert (read.wrong, read.total.funding) == ([], D("-0.325"))
    assert identity.read_books().pnl == read.total.equity - read.total.deposits
    assert ledger.drift() == {}


def test_many_payments_on_several_pages_are_all_booked(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.venues.hyperliquid.reader.ROW_PAGE", 3)
    real = fake.exchange._info_userFunding
    monkeypatch.setattr(fake.exchange, "_info_userFunding", lambda ask: real(ask)[:3])
    for _ in range(10):
        time.move(hours=1)
        fake.exchange.pay_funding(venue.account(ACCOUNT), "ETH", "-0.01")
    assert difference() == {}
    assert FundingPayment.objects.count() == 10


# --- margin


def test_leverage_margin_liquidation_price_and_funding_are_shown(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position, client: Client
) -> None:
    before = trade_report.trade_figures(opened.pk).margin
    assert before == MarginFacts(D(3), D(0), None, None, 1, opened.entry_price, D(2000))
    fake.exchange.pay_funding(venue.account(ACCOUNT), "ETH", "-0.5")
    time.move(hours=1)
    make.price("ETH", "2000")
    assert difference() == {}
    told = trade_report.trade(opened.pk).as_json()["margin"]
    quantity = opened.quantity
    level = (2000 * quantity - 2000 * quantity / 3) / (quantity * (1 - D(1) / 50))
    assert D(told.pop("liquidation_price")) == pytest.approx(level, abs=D("0.000001"))
    assert D(told.pop("margin")) == pytest.approx(2000 * quantity / 3, abs=D("0.000001"))
    assert told == {
        "leverage": "3", "isolated": True, "funding": "-0.5", "at": "2026-03-02T13:01:00.000Z",
        "margin_ratio_pct": "6", "room_pct": "95.92", "near_liquidation": False,
    }  # fmt: skip
    client.force_login(get_user_model().objects.create_superuser("root"))
    page = client.get(f"/trades/{opened.pk}").content.decode()
    for text in (
        "Leverage, isolated margin",
        "3×",
        "Liquidation, USD",
        "Margin ratio",
        "Funding, USDC",
        "PnL with funding",
    ):
        assert text in page

    fake.exchange.triggers = False
    fake.exchange.liquidate(venue.account(ACCOUNT), "ETH", "1300")
    assert difference() == {}
    assert not MarginPosition.objects.exists()


def test_the_command_shows_positions_with_their_liquidation_price(
    fake: Server, venue: KnownKeys, opened: Position
) -> None:
    out = StringIO()
    call_command("verify-venue", "paper", stdout=out)
    assert "no withdrawals and no transfers: they need the main wallet" in out.getvalue()
    assert "leverage 3, liquidated at 136" in out.getvalue()


# --- transfers


def test_what_the_owner_moved_is_booked_once_and_money_that_left_is_told(
    fake: Server, venue: KnownKeys, time: RecordedClock, deployment: Any
) -> None:
    account, move = venue.account(ACCOUNT), fake.exchange.move
    time.move(minutes=1)
    move(account, "500", type="deposit", usdc="500.0")
    move(account, "-121", type="withdraw", usdc="120.0", nonce=1, fee="1.0")
    move(account, "30", type="accountClassTransfer", usdc="30.0", toPerp=True)
    move(account, "-10", type="accountClassTransfer", usdc="10.0", toPerp=False)
    move(
        account,
        "7",
        type="internalTransfer",
        usdc="7.0",
        user="0x" + "1" * 40,
        destination=ADDRESS,
        fee="0.0",
    )
    move(
        account,
        "-6",
        type="internalTransfer",
        usdc="5.0",
        user=ADDRESS,
        destination="0x" + "1" * 40,
        fee="1.0",
    )
    for _ in range(2):
        assert difference() == {}
    assert cash(deployment) == account.cash == 10_400
    assert LedgerEntry.objects.filter(kind="external", deployment=deployment).count() == 6
    left = Event.objects.filter(name="account.money_left").order_by("pk")
    assert [(event.data["kind"], event.data["amount"]) for event in left] == [
        ("withdraw", "121"), ("accountClassTransfer", "10"), ("internalTransfer", "6"),
    ]  # fmt: skip


def test_an_update_of_tomorrow_is_no_transfer_and_its_difference_remains(
    fake: Server, venue: KnownKeys, time: RecordedClock, deployment: Any
) -> None:
    time.move(minutes=1)
    fake.exchange.move(venue.account(ACCOUNT), "-3", type="aKindOfTomorrow", usdc="3.0")
    assert difference() == {USDC: D(-3)}
    assert amount_of({"type": "aKindOfTomorrow"}, ADDRESS) is None


def test_moves_that_cannot_be_read_change_nothing(
    fake: Server, venue: KnownKeys, time: RecordedClock, deployment: Any
) -> None:
    time.move(minutes=1)
    fake.exchange.move(venue.account(ACCOUNT), "500", type="deposit", usdc="500.0")
    fake.misbehaves("maintenance", "userNonFundingLedgerUpdates")
    with pytest.raises(Retryable):
        venue.unexplained(ACCOUNT, {USDC: D(500)})
    assert cash(deployment) == 10_000


# --- agents


def test_an_agent_that_is_not_ours_is_told_once_to_staff_and_the_owner(
    fake: Server, venue: KnownKeys, time: RecordedClock, deployment: Any
) -> None:
    stranger = "0x" + "ee" * 20
    fake.exchange.approve(venue.account(ACCOUNT), stranger, "new", days=7)
    for _ in range(2):
        assert difference() == {}
        time.move(minutes=10)
    [event] = Event.objects.filter(name="account.unknown_agent")
    assert (event.data["address"], event.data["agent"]) == (stranger, "new")
    fake.misbehaves("maintenance", "extraAgents")
    assert difference() == {}, "agents that cannot be read hide no balance"


# --- liquidation


@pytest.mark.parametrize("opened", ["long", "short"], indirect=True)
def test_a_liquidated_position_is_closed_with_its_loss_and_its_reason(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    time.move(minutes=1)
    usd = "1400" if opened.side == "long" else "2600"
    fake.exchange.triggers = False  # the price falls through the stop
    fake.exchange.price("ETH", usd)
    fake.exchange.liquidate(venue.account(ACCOUNT), "ETH", usd)
    make.price("ETH", usd)

    assert difference() == {}, "a liquidation that is not adopted yet is no unexplained difference"
    assert guard.watch() == ["daily_loss"], "and no ledger_drift"
    assert liquidations.adopt() == 1
    assert liquidations.adopt() == 0
    settle.settle_due("close")
    book.book()

    opened.refresh_from_db()
    order = opened.exit_order
    assert order is not None
    assert (opened.state, opened.exit_reason, order.exit_reason) == ("closed", "liquidated", "liquidated")
    assert opened.exit_price == D(usd)
    fees = opened.fees
    assert opened.realised_pnl == -600 * opened.quantity - fees
    assert reconcile.drifts() == {}
    assert cash(opened.deployment) == venue.account(ACCOUNT).cash
    read = identity.read_identity()
    assert read.wrong == []
    assert at_venue.watch() == 1
    assert Order.objects.get(pk=opened.entry_order_id).exits_at_venue == "ended"
    assert not KillSwitch.objects.filter(cause="ledger_drift").exists()


def test_a_position_that_was_liquidated_in_part_goes_on_with_the_rest(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    time.move(minutes=1)
    fake.exchange.liquidate(venue.account(ACCOUNT), "ETH", "1500", size="0.1")
    assert difference() == {}
    assert liquidations.adopt() == 1
    settle.settle_due("close")
    book.book()
    opened.refresh_from_db()
    assert (opened.state, opened.closed_quantity) == ("open", D("0.1"))
    assert reconcile.drifts() == {}
    fake.exchange.liquidate(venue.account(ACCOUNT), "ETH", "1400")
    assert liquidations.adopt() == 1
    settle.settle_due("close")
    book.book()
    opened.refresh_from_db()
    assert (opened.state, opened.exit_reason) == ("closed", "liquidated")
    assert reconcile.drifts() == {}
    assert Order.objects.filter(closes=opened.entry_order).count() == 2


def test_a_liquidation_makes_no_difference_of_cash_that_is_not_compared(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    """While another order of the account is in flight, its cash is left out of the comparison."""
    time.move(minutes=1)
    fake.exchange.liquidate(venue.account(ACCOUNT), "ETH", "1400")
    by = make.signal(opened.deployment.agent, token="BTC")
    make.order(opened.deployment, by=by, symbol="BTC", state="accepted", venue_ref="other")
    assert difference() == {}


def test_a_liquidation_that_cannot_be_adopted_is_told_once_and_its_difference_stays(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    """The owner sold more than was held, and it is that short which was liquidated."""
    account = venue.account(ACCOUNT)
    account.held["ETH"], account.cash = D(-1), account.cash + (opened.quantity + 1) * 2000
    time.move(minutes=1)
    fake.exchange.liquidate(account, "ETH", "2600")
    before = difference()
    for _ in range(2):
        assert liquidations.adopt() == 0
    assert difference() == {"ETH": -opened.quantity, USDC: account.cash - cash(opened.deployment)} != before
    [event] = Event.objects.filter(name="liquidation.not_adopted")
    assert event.data["reason"].startswith(
        f"a short position in ETH was liquidated; the account's positions in it are: long {opened.pk}."
    )
    assert (event.data["symbol"], event.subject) == ("ETH", f"agents.deployment/{opened.deployment_id}")


def test_a_liquidation_whose_adoption_fails_is_told_and_adopted_later(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.move(minutes=1)
    fake.exchange.liquidate(venue.account(ACCOUNT), "ETH", "1400")
    with monkeypatch.context() as patch:
        patch.setattr(at_venue, "close_by", lambda *_: 1 / 0)
        assert liquidations.adopt() == 0
    assert set(difference()) == {"ETH", USDC}
    assert liquidations.adopt() == 1
    settle.settle_due("close")
    book.book()
    assert reconcile.drifts() == {}


def test_an_exit_that_waits_gives_way_to_the_liquidation(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    assert sweep.close([opened.pk]) == 1
    fake.exchange.liquidate(venue.account(ACCOUNT), "ETH", "1400")
    assert liquidations.adopt() == 1
    settle.settle_due("close")
    book.book()
    opened.refresh_from_db()
    states = set(Order.objects.filter(closes=opened.entry_order).values_list("state", "exit_reason"))
    assert states == {("blocked", "manual"), ("filled", "liquidated")}
    assert (opened.state, opened.exit_reason) == ("closed", "liquidated")
    assert reconcile.drifts() == {}


def test_what_another_sold_is_no_liquidation(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    """The owner closed by hand: nothing is adopted, and the difference stays."""
    time.move(minutes=1)
    venue.send(venue.prepare(CLOSE))
    assert liquidations.adopt() == 0
    assert difference()["ETH"] < 0
    opened.refresh_from_db()
    assert opened.state == "open"


def test_a_liquidation_in_which_the_account_was_the_other_side_is_none_of_its(
    fake: Server, venue: KnownKeys, time: RecordedClock, opened: Position
) -> None:
    time.move(minutes=1)
    account = venue.account(ACCOUNT)
    fake.exchange.liquidate(account, "ETH", "1400")
    account.fills[-1]["liquidation"]["liquidatedUser"] = "0x" + "9" * 40
    assert venue.liquidations(ACCOUNT) == []
    assert liquidations.adopt() == 0


def test_an_account_that_holds_what_its_positions_say_is_asked_no_further(
    fake: Server, venue: KnownKeys, opened: Position
) -> None:
    venue.balances_of([ACCOUNT])
    fake.requests.clear()
    assert liquidations.adopt() == 0
    assert fake.kinds() == ["clearinghouseState"]
    fake.misbehaves("maintenance", "clearinghouseState")
    assert liquidations.adopt() == 0


def test_a_reference_of_a_liquidation_is_none_of_an_order() -> None:
    ref = LiquidationRef("a/b", 17, 1_772_452_800_000)
    assert LiquidationRef.parse(str(ref)) == ref
    for other in ("a/mx-1/1772452800", "mx-1", "a/liquidation-x/1"):
        assert LiquidationRef.parse(other) is None
