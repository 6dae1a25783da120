"""Tokens that a Safe's owner took out himself: their positions end at the quote, and count as held no more."""

from datetime import date
from decimal import Decimal

import pytest

from agents.models import Deployment
from maxxit.events.record import subject
from maxxit.market.models import Quote
from positions import guard, withdrawals
from positions.exits import sweep
from positions.models import PnlSnapshot, Position, ProfitMark
from positions.performance import equity
from positions.performance.identity import read_identity
from tests import builders as make
from tests.positions.test_book import again, entered, fills, leaving
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader
from trading import ledger
from trading.models import JournalKind, LedgerEntry
from trading.risk import limits

D = Decimal


@pytest.fixture
def opened(trader: Trader) -> Position:
    """0.4 ETH at 2,000 in a Safe; entry fees 0.7 USDC."""
    position = entered(trader)
    Deployment.objects.filter(pk=trader.deployment.pk).update(safe_wallet=trader.deployment.account)
    return position


def moved(by: Deployment, amount: str) -> None:
    """What `trading.venues.safe.reconcile` books when the owner moves ETH (negative: out)."""
    mine = ledger.account_of(by.pk)
    source, target = ("external", mine) if D(amount) > 0 else (mine, "external")
    move = ledger.Move(source, target, "ETH", abs(D(amount)), "external")
    ledger.post(JournalKind.EXTERNAL, LedgerEntry.objects.count(), [move])


def held(trader: Trader) -> Decimal:
    """What the limits count as held."""
    return limits.read_holdings().held(trader.deployment.account, "ETH")


def test_while_all_is_there_nothing_happens(trader: Trader, opened: Position) -> None:
    moved(trader.deployment, "3")
    moved(trader.deployment, "-3")

    assert withdrawals.close_withdrawn_positions() == 0
    assert again(opened).state == "open"


def test_a_position_whose_tokens_are_gone_ends_at_the_quote(trader: Trader, opened: Position) -> None:
    moved(trader.deployment, "-0.4")
    assert held(trader) == D("0.4")  # his own movement alone does not change what we traded
    make.price("ETH", "1900")

    assert withdrawals.close_withdrawn_positions() == 1
    assert withdrawals.close_withdrawn_positions() == 0

    again(opened)
    assert (opened.state, opened.exit_reason, opened.exit_price) == ("closed", "reconciled", D(1900))
    assert (opened.closed_quantity, opened.taken_value) == (D("0.4"), D(760))
    assert opened.realised_pnl == D("-40.7")
    assert ProfitMark.objects.get().carried_loss == D("40.7")
    assert make.event_names(of=subject(opened)) == [
        "position.open", "position.taken_out", "position.closing", "position.closed",
    ]  # fmt: skip
    assert held(trader) == 0
    assert ledger.traded(trader.deployment.pk)["ETH"] == ledger.balances(trader.deployment.pk)["ETH"] == 0
    assert ledger.drift() == {}
    for later in ("1900", "2600"):  # what he has taken moves no figure any more
        make.price("ETH", later)
        assert read_identity([trader.deployment.pk]).total.deposits == D(10_000) - D(760)
        assert guard.read().pnl == D("-40.7")
        equity.take_snapshots(date(2026, 3, int(later[0])))
    assert {(kept.equity, kept.deposits) for kept in PnlSnapshot.objects.all()} == {(D("9199.3"), D(9_240))}


def test_what_is_left_leaves_by_its_exit_and_both_parts_are_its_pnl(trader: Trader, opened: Position) -> None:
    make.price("ETH", "2050")
    moved(trader.deployment, "-0.1")
    assert withdrawals.close_withdrawn_positions() == 0
    again(opened)
    assert (opened.state, opened.closed_quantity) == ("open", D("0.1"))

    out = leaving(trader, opened)
    assert out.quantity == D("0.3")
    fills(out, "0.3", usd="2400")
    again(opened)
    assert (opened.state, opened.exit_reason) == ("closed", "take_profit")
    assert opened.exit_price == (D("0.3") * 2400 + D("0.1") * 2050) / D("0.4")
    assert opened.realised_pnl == D(720) + D(205) - D(800) - D("0.7") - D("0.5")
    assert held(trader) == 0


def test_what_he_had_brought_himself_goes_first(trader: Trader, opened: Position) -> None:
    moved(trader.deployment, "1")
    moved(trader.deployment, "-1.15")

    withdrawals.close_withdrawn_positions()

    assert again(opened).closed_quantity == D("0.15")
    assert held(trader) == D("0.25")


def test_a_difference_that_nothing_explains_ends_nothing(trader: Trader, opened: Position) -> None:
    mine = ledger.account_of(trader.deployment.pk)
    ledger.post(JournalKind.UNEXPLAINED, "1", [ledger.Move(mine, "external", "ETH", D("0.4"), "external")])

    assert withdrawals.close_withdrawn_positions() == 0
    assert again(opened).closed_quantity == 0


def test_of_two_positions_none_is_touched_while_a_part_is_left(trader: Trader, opened: Position) -> None:
    second = make.position(opened.deployment, quantity=D("0.2"))
    ledger.post(
        JournalKind.FILL,
        "second",
        [ledger.Move("venue:paper", ledger.account_of(trader.deployment.pk), "ETH", D("0.2"), "trade")],
    )
    moved(trader.deployment, "-0.4")
    assert withdrawals.close_withdrawn_positions() == 0

    moved(trader.deployment, "-0.2")
    assert withdrawals.close_withdrawn_positions() == 2
    assert {again(opened).exit_reason, again(second).exit_reason} == {"reconciled"}
    assert held(trader) == 0


def test_one_safe_that_fails_does_not_keep_the_others(
    trader: Trader, opened: Position, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved(trader.deployment, "-0.4")
    short = withdrawals._shortfalls
    broken = ("0x0", "ETH", 1, D(1), 0)
    monkeypatch.setattr(
        withdrawals, "_shortfalls", lambda account="": short(account) if account else [broken, *short()]
    )
    monkeypatch.setattr(limits, "lock", lambda account: 1 / (account != "0x0"))

    assert withdrawals.close_withdrawn_positions() == 1


@pytest.mark.parametrize("why", ["its exit is on the way", "no usable price"])
def test_nothing_is_compared_while_it_could_be_wrong(trader: Trader, opened: Position, why: str) -> None:
    if why == "its exit is on the way":
        make.price("ETH", "2400")
        assert sweep.sweep() == 1
    else:
        Quote.objects.all().delete()
    moved(trader.deployment, "-0.4")

    assert withdrawals.close_withdrawn_positions() == 0
    assert again(opened).closed_quantity == 0


def test_the_deployment_that_it_was_booked_to_gets_it_back(trader: Trader, opened: Position) -> None:
    """After a Safe changed hands to a new deployment, its owner's movements are the new one's."""
    new = make.deployment(opened.deployment.agent, account="new", funded=False)
    Deployment.objects.filter(pk=new.pk).update(
        account=trader.deployment.account,
        safe_wallet=trader.deployment.account,
        agent=make.agent(tokens=["BTC"]),
    )
    moved(new, "-0.4")

    assert withdrawals.close_withdrawn_positions() == 1
    assert ledger.balances(new.pk)["ETH"] == ledger.balances(trader.deployment.pk)["ETH"] == 0
    assert ledger.traded(new.pk)["ETH"] == ledger.traded(trader.deployment.pk)["ETH"] == 0
