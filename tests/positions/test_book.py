"""Fills into positions, and closing orders into PnL, fees and the profit share."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core.errors import IllegalMove
from maxxit.events.record import advance, subject
from positions import book
from positions.exits import sweep
from positions.models import Position
from tests import builders as make
from tests.passes import execute_pass, monitor_pass
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader
from trading import gate, ledger
from trading.models import LedgerEntry, Order
from trading.venues.base import Report, VenueFill

D = Decimal


def fills(order: Order, *amounts: str, usd: str = "2000", state: str = "filled", start: int = 0) -> None:
    """The venue reports executions of an order."""
    each = D(usd)
    told = tuple(
        VenueFill(f"{order.pk}-{start + n}", D(a), each, D(a) * each, D("0.5"), make.T0)
        for n, a in enumerate(amounts)
    )
    make.apply_report(Order.objects.get(pk=order.pk), Report(state, told), collects_fees=False)


def entered(trader: Trader, *amounts: str, state: str = "filled") -> Position:
    """A position from an entry of 0.4 ETH of which `amounts` are filled."""
    trader.venue.fills_at_once = False
    order = trader.placed()
    fills(order, *(amounts or ("0.4",)), state=state)
    book.book()
    return Position.objects.get(entry_order=order)


def leaving(trader: Trader, position: Position, usd: str = "2400") -> Order:
    """Its closing order, accepted by the venue, after any pause that a refused one left behind."""
    trader.time.move(minutes=5)
    make.price(position.symbol, usd)
    assert sweep.sweep() == 1
    execute_pass()
    position.refresh_from_db()
    assert position.exit_order is not None
    return position.exit_order


def again(position: Position) -> Position:
    book.book()
    position.refresh_from_db()
    return position


def test_a_fill_is_taken_up_once(trader: Trader) -> None:
    position = entered(trader)

    assert book.book() == (0, 0)
    assert make.event_names(of=subject(position)) == ["position.open"]
    assert position.fees == D("0.5") + D("0.2")


def test_a_fee_that_the_venue_took_is_the_position_s_fee_whatever_the_config_says(trader: Trader) -> None:
    trader.venue.fills_at_once = False
    order = trader.placed()
    taken = VenueFill("x", D("0.4"), D(2000), D(800), D(0), make.T0, platform_fee=D("0.15"))
    make.apply_report(Order.objects.get(pk=order.pk), Report("filled", (taken,)), collects_fees=True)
    book.book()
    position = Position.objects.get(entry_order=order)
    assert position.fees == D("0.15")
    fills(leaving(trader, position), "0.4", usd="2400")
    assert again(position).fees == D("0.15") + D("0.5")


def test_later_fills_make_the_position_larger_at_the_average_price(trader: Trader) -> None:
    position = entered(trader, "0.1", state="partially_filled")
    fills(position.entry_order, "0.3", usd="2100", start=1)
    again(position)

    assert (position.quantity, position.entry_price) == (D("0.4"), D(2075))
    assert position.fees == D("1.0") + D("0.2")


def test_a_refused_exit_opens_the_position_again_and_the_next_sweep_tries_anew(trader: Trader) -> None:
    position = entered(trader)
    trader.venue.sends.append("refused")
    first = leaving(trader, position)

    assert Order.objects.get(pk=first.pk).state == "rejected"
    assert again(position).state == "open"
    assert (position.exit_reason, position.closed_quantity) == ("", 0)
    second = leaving(trader, position)
    assert second.idempotency_key == f"close:{position.pk}:2"
    assert set(position.entry_order.closing_orders.all()) == {first, second}
    fills(second, "0.4", usd="2400")
    assert again(position).state == "closed"
    assert position.realised_pnl == D(960) - D(800) - D("1.2")


def test_an_exit_that_the_gate_blocked_opens_the_position_again(trader: Trader) -> None:
    position = entered(trader)
    make.price("ETH", "2400")
    sweep.sweep()
    gate.set_dry_run("paper", True, by="test", reason="test")
    execute_pass()

    assert again(position).state == "open"
    assert Order.objects.get(purpose="close").reason == "dry_run"


def test_an_exit_that_was_filled_in_part_leaves_the_rest_open_and_the_books_whole(trader: Trader) -> None:
    position = entered(trader)
    fills(leaving(trader, position), "0.1", usd="2400", state="canceled")
    again(position)

    assert (position.state, position.closed_quantity) == ("open", D("0.1"))
    second = leaving(trader, position, "2500")
    assert second.quantity == D("0.3")
    fills(second, "0.3", usd="2500")
    again(position)
    earned = D(240) + D(750) - D(800) - D("1.7")
    assert (position.state, position.realised_pnl, position.exit_price) == ("closed", earned, D(2475))
    assert position.fees == D("1.7")
    assert ledger.balances(trader.deployment.pk) == {"ETH": 0, "USDC": D(10_000) + earned + D("0.2")}


def test_fees_of_a_partial_exit_are_not_forgotten_when_the_entry_goes_on(trader: Trader) -> None:
    position = entered(trader, "0.2", state="partially_filled")
    fills(leaving(trader, position), "0.1", usd="2400", state="canceled")
    again(position)
    fills(position.entry_order, "0.2", start=1)
    again(position)
    fills(leaving(trader, position), "0.3", usd="2400")
    again(position)
    paid = sum(
        line.amount
        for line in LedgerEntry.objects.filter(kind__in=("venue_fee", "platform_fee"), amount__gt=0)
    )

    assert position.state == "closed"
    assert position.fees == paid == D("2.2")
    assert position.realised_pnl == D(960) - D(800) - paid


def test_a_position_closes_only_once_its_entry_can_grow_no_more(trader: Trader) -> None:
    position = entered(trader, "0.2", state="partially_filled")
    fills(leaving(trader, position), "0.2", usd="2400")
    assert again(position).state == "closing"
    assert trader.venue.book[position.entry_order.venue_ref].state == "canceled", "the rest is withdrawn"

    fills(position.entry_order, "0.2", "0.1", state="canceled", start=0)
    position = again(position)
    held = ledger.balances(trader.deployment.pk)["ETH"]
    assert (position.state, position.quantity - position.closed_quantity) == ("open", held)

    fills(leaving(trader, position), "0.1", usd="2400")
    assert again(position).state == "closed"
    assert ledger.balances(trader.deployment.pk)["ETH"] == 0


def test_fills_that_settle_while_an_exit_is_booked_are_held_by_the_position_first(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = entered(trader, "0.2", state="partially_filled")
    fills(leaving(trader, position), "0.2", usd="2400")
    with_ended_entry = book.with_ended_entry

    def settle_in_between(position_ids: Sequence[int]) -> list[int]:
        # another worker, after this pass has read what is due
        fills(position.entry_order, "0.2", "0.1", state="filled", start=0)
        return with_ended_entry(position_ids)

    monkeypatch.setattr(book, "with_ended_entry", settle_in_between)
    book.book()
    position.refresh_from_db()
    assert (position.state, position.quantity) == ("closing", D("0.3"))

    monkeypatch.setattr(book, "with_ended_entry", with_ended_entry)
    position = again(position)
    held = ledger.balances(trader.deployment.pk)["ETH"]
    assert (position.state, position.quantity - position.closed_quantity, held) == (
        "open",
        D("0.1"),
        D("0.1"),
    )


def test_closing_an_entry_in_one_go_books_what_the_ledger_says(trader: Trader) -> None:
    # F15: after "already closed" a source booked a PnL of 0
    position = entered(trader)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    deployment = ledger.balances(trader.deployment.pk)["USDC"] + ledger.owed(trader.deployment.pk)

    assert deployment == D(10_000) + position.realised_pnl - position.profit_share
    assert position.profit_share == (position.realised_pnl / 5).quantize(D("0.000001"))


def test_the_share_goes_to_the_agents_receiver(trader: Trader) -> None:
    trader.agent.profit_receiver, trader.agent.profit_share = "0xabc", D("0.1")
    trader.agent.save()
    position = entered(trader)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    line = LedgerEntry.objects.get(kind="profit_share", amount__gt=0)

    assert (line.account, line.amount) == (
        "profit:0xabc",
        (position.realised_pnl / 10).quantize(D("0.000001")),
    )


def test_the_agents_own_model_is_charged_on_a_profit_and_never_more_than_was_agreed_to(
    trader: Trader,
) -> None:
    trader.agent.profit_fee = "flat amount_usdc=1.5"
    trader.agent.save()
    position = entered(trader)
    trader.agent.profit_fee = "flat amount_usdc=5"
    trader.agent.save()
    trader.agent.keep_agreed_fees({"profit_fee": "flat amount_usdc=1.5", "profit_share": "0.2"})
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)

    assert position.profit_share == D("1.5")


def test_a_close_is_booked_once_however_often_it_is_looked_at(trader: Trader) -> None:
    position = entered(trader)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    lines, events = LedgerEntry.objects.count(), make.last_event()

    assert book.book() == (0, 0)
    assert book.end_exits([position.pk]) == []
    assert (LedgerEntry.objects.count(), make.last_event()) == (lines, events)


def test_one_position_that_cannot_be_booked_stops_no_other_and_no_exit(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = entered(trader)
    trader.venue.fills_at_once = True
    make.price("BTC", "100")
    poisoned = trader.placed(token="BTC", usd="100")
    instrument = book.instrument

    def broken(symbol: str) -> Any:
        if symbol == "BTC":
            raise KeyError("delisted")
        return instrument(symbol)

    monkeypatch.setattr(book, "instrument", broken)
    make.price("ETH", "2400")
    for _ in range(5):
        monitor_pass()
    healthy.refresh_from_db()
    poisoned.refresh_from_db()

    assert healthy.state == "closing"
    assert poisoned.attempts == 3
    assert make.event_names(of=subject(poisoned)).count("order.quarantined") == 1


def test_a_manual_close_claims_only_what_is_open(trader: Trader) -> None:
    position = entered(trader)

    assert [sweep.close([position.pk]), sweep.close([position.pk])] == [1, 0]
    position.refresh_from_db()
    assert (position.state, position.exit_reason) == ("closing", "manual")


def test_nothing_is_closed_by_hand_while_the_gate_is_shut(trader: Trader) -> None:
    position = entered(trader)
    gate.set_dry_run("paper", True, by="test", reason="test")

    assert sweep.close([position.pk]) == 0
    position.refresh_from_db()
    assert (position.state, position.exit_order) == ("open", None)


def test_the_quantity_that_closes_is_never_more_than_what_is_held(trader: Trader) -> None:
    position = entered(trader, "0.1", "0.15", state="canceled")

    assert leaving(trader, position).quantity == D("0.25")


def test_a_closed_position_cannot_be_moved_again(trader: Trader) -> None:
    position = entered(trader)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    with pytest.raises(IllegalMove, match="not an allowed transition"):
        advance(position, "open")
