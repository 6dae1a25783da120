"""Orders in flight: unknown is left only on evidence, fills are booked once, and nothing leaves past a shut gate."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxxit.core.errors import Rejected
from maxxit.events.record import subject
from tests import builders as make
from tests.builders import T0
from tests.fakes import FakeVenue
from tests.trading.conftest import Trader
from trading import gate, ledger, quarantine, settle
from trading.models import Fill, JournalKind, LedgerEntry, LimitsInForce, Order
from trading.risk import limits_in_force
from trading.risk.policy import Fees, policy
from trading.states import IN_FLIGHT
from trading.venues.base import Prepared, Report, Request, Venue, VenueFill
from trading.venues.paper import PaperVenue

D = Decimal
LAG = timedelta(minutes=10)


def again(order: Order) -> Order:
    """One pass of the sweep; the order afterwards."""
    settle.settle_due()
    order.refresh_from_db()
    return order


def test_taken_without_an_answer_is_unknown_until_the_venue_is_asked(trader: Trader) -> None:
    trader.venue.sends.append("silent")
    order = trader.placed()
    assert order.state == "unknown"

    assert again(order).state == "filled"
    assert trader.sent(order) == 1


def test_lost_on_the_way_is_sent_again_byte_for_byte_where_the_venue_knows_a_repeat(trader: Trader) -> None:
    trader.venue.sends.append("lost")
    order = trader.placed()
    stored = (order.prepared, order.venue_ref)
    again(order)

    assert trader.sent(order) == 1
    assert (order.prepared, order.venue_ref) == stored
    assert again(order).state == "filled"


def test_lost_on_the_way_is_never_sent_again_where_the_venue_does_not_know_a_repeat(
    trader: Trader, use_venue: Callable[[Venue], None]
) -> None:
    trader.venue = FakeVenue(dedup=False, find_lag=LAG)
    use_venue(trader.venue)
    trader.venue.sends.append("lost")
    order = trader.placed()
    for _ in range(30):
        trader.time.move(minutes=0.5)
        again(order)

    assert trader.sent(order) == 0
    assert (order.state, order.reason) == ("expired", "never_arrived")


def test_a_venue_that_denies_an_order_for_a_while_does_not_get_it_twice(
    trader: Trader, use_venue: Callable[[Venue], None]
) -> None:
    trader.venue = FakeVenue(dedup=False, find_lag=LAG)
    use_venue(trader.venue)
    trader.venue.sends.append("silent")
    order = trader.placed()
    trader.venue.book[order.venue_ref].hidden_until = T0 + timedelta(minutes=14)
    states = []
    for _ in range(15):
        trader.time.move(minutes=1)
        states.append(again(order).state)

    assert states == ["unknown"] * 13 + ["filled"] * 2
    assert trader.sent(order) == 1


def test_a_denial_that_was_long_on_its_way_tells_of_the_moment_when_we_asked(
    trader: Trader, use_venue: Callable[[Venue], None]
) -> None:
    trader.venue = FakeVenue(dedup=False)
    use_venue(trader.venue)
    trader.venue.sends.append("lost")
    order = trader.placed()
    assert order.deadline is not None
    trader.time.to(order.deadline - timedelta(seconds=1))

    def denies(ref: str) -> None:
        trader.venue._take(
            Prepared(ref, order.prepared)
        )  # what seemed lost comes in just after the answer left
        trader.time.move(seconds=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trader.venue, "find", denies)
        assert again(order).state == "unknown"

    assert again(order).state == "filled"


def test_certainly_not_sent_is_sent_at_the_next_look(trader: Trader) -> None:
    trader.venue.sends.append("away")
    order = trader.placed()
    assert (order.state, trader.sent(order)) == ("sending", 0)

    again(order)
    assert again(order).state == "filled"
    assert trader.sent(order) == 1


def test_a_worker_that_died_between_reserving_and_sending_loses_nothing(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(prepared: object) -> None:
        raise SystemExit

    order = trader.planned()
    with monkeypatch.context() as patch:
        patch.setattr(trader.venue, "send", dies)
        with pytest.raises(SystemExit):
            trader.place(order)
    order.refresh_from_db()
    assert (order.state, trader.sent(order)) == ("sending", 0)

    again(order)
    assert again(order).state == "filled"


def test_a_failed_read_changes_nothing(trader: Trader) -> None:
    trader.venue.fills_at_once = False
    order = trader.placed()
    trader.venue.fill(order.venue_ref)
    trader.venue.finds.append("away")
    before = make.last_event()

    assert again(order).state == "accepted"
    assert (order.filled_quantity, make.event_names(after=before)) == (0, [])
    assert again(order).state == "filled"


def test_a_venue_that_is_away_after_the_deadline_gives_no_order_up(trader: Trader) -> None:
    trader.venue.sends.append("silent")
    order = trader.placed()
    assert order.deadline is not None
    trader.time.to(order.deadline + timedelta(hours=1))
    trader.venue.finds.extend(["away"] * 3)

    assert [again(order).state for _ in range(4)] == ["unknown"] * 3 + ["filled"]


def test_an_accepted_order_that_the_venue_denies_stays_as_it_is(trader: Trader) -> None:
    trader.venue.fills_at_once = False
    order = trader.placed()
    trader.venue.finds.extend(["absent"] * 50)
    for _ in range(50):
        trader.time.move(hours=1)
        again(order)

    assert (order.state, order.attempts, trader.sent(order)) == ("accepted", 0, 1)


# --- a shut gate ---------------------------------------------------------------------------------------------------

SHUT: dict[str, Callable[[], object]] = {
    "dry run": lambda: gate.set_dry_run("paper", True, by="test", reason="test"),
    "revoked": lambda: gate.revoke("paper", by="test", reason="test"),
    "no entries": lambda: gate.kill("no_entries", by="test", reason="test"),
    "reduce only": lambda: gate.kill("reduce_only", by="test", reason="test"),
    "flatten": lambda: gate.kill("flatten", by="test", reason="test"),
}


@pytest.mark.parametrize("how", SHUT)
@pytest.mark.parametrize("fault", ["away", "lost"])
def test_nothing_is_sent_again_after_the_gate_was_shut(trader: Trader, how: str, fault: str) -> None:
    trader.venue.sends.append(fault)
    order = trader.placed()
    SHUT[how]()
    for _ in range(10):
        again(order)
        trader.time.move(minutes=1)

    assert trader.sent(order) == 0
    assert order.state == "expired"


@pytest.mark.parametrize("how", SHUT)
def test_nothing_is_sent_that_was_reserved_before_the_gate_was_shut(
    trader: Trader, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = trader.venue.prepare

    def slept(request: Request) -> Prepared:
        SHUT[how]()
        return prepare(request)

    monkeypatch.setattr(trader.venue, "prepare", slept)
    order = trader.placed()
    assert order.state == "sending"
    trader.time.move(minutes=10)

    assert again(order).state == "expired"
    assert trader.sent(order) == 0


@pytest.mark.parametrize("how", ["no entries", "reduce only", "flatten"])
def test_an_exit_is_sent_again_past_the_kill_switch(trader: Trader, how: str) -> None:
    ledger.post(
        JournalKind.FILL,
        "held",
        [ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "ETH", D(1), "trade")],
    )
    order = make.order(trader.deployment, purpose="close", side="sell", quantity=D("0.4"))
    trader.venue.sends.append("away")
    trader.place(order)
    SHUT[how]()
    again(order)

    assert trader.sent(order) == 1


def test_when_the_gate_opens_again_in_time_the_order_goes(trader: Trader) -> None:
    trader.venue.sends.append("away")
    order = trader.placed()
    gate.kill("no_entries", by="test", reason="test")
    again(order)
    gate.release(by="test", reason="a drill")
    again(order)

    assert trader.sent(order) == 1


def test_the_paper_exchange_takes_no_order_past_its_deadline(
    trader: Trader, use_venue: Callable[[Venue], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A worker stopped between reserving and sending wakes up after the order was given up.
    paper = PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000)
    use_venue(paper)
    order = trader.planned()
    held_back: list[Prepared] = []

    def hold_back(orders: Sequence[Prepared]) -> dict[str, Exception]:
        held_back.extend(orders)
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(paper, "send_many", hold_back)
        make.place(order, paper, policy())
    trader.time.move(minutes=6)
    make.price("ETH", "2000")
    assert again(order).state == "expired"

    with pytest.raises(Rejected, match="after its deadline"):
        paper.send(held_back[0])
    assert paper.find(order.venue_ref) is None


# --- fills ---------------------------------------------------------------------------------------------------------


def fill(number: int, quantity: str, usd: str = "2000") -> VenueFill:
    each, amount = D(usd), D(quantity)
    return VenueFill(f"f{number}", amount, each, each * amount, D("0.1"), T0)


@pytest.fixture
def accepted(trader: Trader) -> Order:
    trader.venue.fills_at_once = False
    return trader.placed()


def apply(order: Order, state: str, *fills: VenueFill) -> bool:
    return make.apply_report(Order.objects.get(pk=order.pk), Report(state, fills), collects_fees=False)


def eth(trader: Trader) -> Decimal:
    return ledger.balances(trader.deployment.pk).get("ETH", D(0))


def test_a_fill_that_is_reported_twice_is_booked_once(trader: Trader, accepted: Order) -> None:
    apply(accepted, "partially_filled", fill(1, "0.1"))

    assert not apply(accepted, "partially_filled", fill(1, "0.1"))
    assert Fill.objects.count() == 1
    assert eth(trader) == D("0.1")


def test_a_fill_that_stands_twice_in_one_report_is_booked_once(trader: Trader, accepted: Order) -> None:
    apply(accepted, "partially_filled", fill(1, "0.1"), fill(2, "0.2"), fill(1, "0.1"))

    assert Fill.objects.count() == 2
    assert eth(trader) == D("0.3")


def test_fills_in_any_order_come_to_the_same_books(trader: Trader, accepted: Order) -> None:
    apply(accepted, "partially_filled", fill(2, "0.1", "2100"))
    apply(accepted, "filled", fill(2, "0.1", "2100"), fill(1, "0.3", "1900"))
    accepted.refresh_from_db()

    assert (accepted.state, accepted.filled_quantity, accepted.average_price) == ("filled", D("0.4"), D(1950))
    assert eth(trader) == D("0.4")


@pytest.mark.parametrize("late", ["accepted", "partially_filled"])
def test_a_report_from_before_changes_no_state_and_poisons_nothing(
    trader: Trader, accepted: Order, late: str
) -> None:
    apply(accepted, "partially_filled", fill(1, "0.1"))
    apply(accepted, late, fill(1, "0.1"), fill(2, "0.1"))
    accepted.refresh_from_db()

    assert (accepted.state, accepted.filled_quantity) == ("partially_filled", D("0.2"))
    apply(accepted, "filled", fill(3, "0.2"))
    apply(accepted, late)
    accepted.refresh_from_db()
    assert (accepted.state, accepted.filled_quantity) == ("filled", D("0.4"))


def test_a_canceled_order_keeps_what_was_filled(trader: Trader, accepted: Order) -> None:
    apply(accepted, "canceled", fill(1, "0.1"))
    accepted.refresh_from_db()

    assert (accepted.state, accepted.filled_quantity, eth(trader)) == ("canceled", D("0.1"), D("0.1"))


def test_a_fill_that_comes_after_the_end_is_booked_all_the_same(trader: Trader, accepted: Order) -> None:
    apply(accepted, "canceled")
    apply(accepted, "canceled", fill(1, "0.1"))
    accepted.refresh_from_db()

    assert (accepted.state, accepted.filled_quantity, eth(trader)) == ("canceled", D("0.1"), D("0.1"))


def test_the_platform_fee_is_booked_once_per_trade(trader: Trader, accepted: Order) -> None:
    for number in range(4):
        apply(accepted, "partially_filled" if number < 3 else "filled", fill(number, "0.1"))

    assert [line.amount for line in LedgerEntry.objects.filter(kind="platform_fee", amount__gt=0)] == [
        D("0.2")
    ]
    assert ledger.owed(trader.deployment.pk) == D("-0.2")


def test_a_raised_fee_is_charged_only_once_its_delay_is_over(
    trader: Trader, accepted: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheaper = policy().model_copy(
        update={"fees": Fees.model_validate({"trade": {"model": "flat", "amount_usdc": "0.1"}})}
    )
    with monkeypatch.context() as patch:
        patch.setattr(limits_in_force, "policy", lambda: cheaper)
        LimitsInForce.objects.all().delete()
        limits_in_force.risk_limits()
    limits_in_force.risk_limits()  # back at 0.2, which waits
    apply(accepted, "filled", fill(1, "0.4"))

    assert [line.amount for line in LedgerEntry.objects.filter(kind="platform_fee", amount__gt=0)] == [
        D("0.1")
    ]


def test_a_fee_by_size_grows_with_each_fill_to_the_fee_of_the_whole(
    trader: Trader, accepted: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    fees = Fees.model_validate({"trade": "percentage rate_pct=0.1 minimum_usdc=0"})
    monkeypatch.setattr(settle, "protective_limits", lambda: policy().model_copy(update={"fees": fees}))
    for number in range(4):
        apply(accepted, "partially_filled" if number < 3 else "filled", fill(number, "0.1"))

    booked = LedgerEntry.objects.filter(kind="platform_fee", amount__gt=0).order_by("pk")
    assert [line.amount for line in booked] == [D("0.2")] * 4  # 0.1 % of 200 USDC each
    assert ledger.owed(trader.deployment.pk) == D("-0.8")


def test_an_agents_own_fee_is_charged_and_never_more_than_was_agreed_to(
    trader: Trader, accepted: Order
) -> None:
    trader.agent.trade_fee = "percentage rate_pct=1 minimum_usdc=0"
    trader.agent.save()
    trader.agent.keep_agreed_fees(
        {"trade_fee": "percentage rate_pct=0.5 minimum_usdc=0", "profit_share": "0.2"}
    )
    apply(accepted, "partially_filled", fill(1, "0.1"))
    trader.agent.trade_fee = "percentage rate_pct=0.1 minimum_usdc=0"
    trader.agent.save()
    apply(accepted, "filled", fill(2, "0.3"))

    booked = LedgerEntry.objects.filter(kind="platform_fee", amount__gt=0).order_by("pk")
    assert [line.amount for line in booked] == [D(1)]  # 0.5 % of 200 USDC; 0.1 % of 800 is less


def test_a_venue_that_collects_the_fee_takes_it_from_the_deployment(trader: Trader, accepted: Order) -> None:
    make.apply_report(accepted, Report("filled", (fill(1, "0.4"),)), collects_fees=True)

    assert ledger.owed(trader.deployment.pk) == 0
    assert ledger.balances(trader.deployment.pk)["USDC"] == D(10_000) - D(800) - D("0.1") - D("0.2")


def test_a_fill_at_the_mark_price_changes_the_worth_by_fees_only(trader: Trader, accepted: Order) -> None:
    # F2: a source booked the whole notional as a loss
    apply(accepted, "filled", fill(1, "0.4"))
    prices = {"ETH": D(2000)}
    worth = settle.ledger.balances(trader.deployment.pk)
    total = sum(
        (amount * prices.get(asset, D(1)) for asset, amount in worth.items()),
        ledger.owed(trader.deployment.pk),
    )

    assert total == D(10_000) - D("0.1") - D("0.2")


# --- poison --------------------------------------------------------------------------------------------------------


def test_an_order_whose_report_breaks_us_is_set_aside_after_three_tries(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    trader.venue.fills_at_once = False
    bad, good = trader.placed(), trader.placed(token="BTC", usd="1")
    find = trader.venue.find

    def broken(ref: str) -> Any:
        if ref == bad.venue_ref:
            raise KeyError("state")
        return find(ref)

    with monkeypatch.context() as patch:
        patch.setattr(trader.venue, "find", broken)
        for _ in range(5):
            again(bad)
    assert good.state == "blocked"  # BTC has no quote: it never left

    assert (bad.state, bad.attempts) == ("accepted", 3)
    assert "KeyError" in bad.last_error
    assert make.event_names(of=subject(bad)).count("order.quarantined") == 1
    trader.venue.fill(bad.venue_ref)
    assert again(bad).state == "accepted"
    assert quarantine.redrive([bad.pk]) == 1
    assert again(bad).state == "filled"


# --- any faults ----------------------------------------------------------------------------------------------------

words = st.sampled_from(["ok", "silent", "lost", "away", "refused"])
answers = st.sampled_from(["ok", "away", "absent"])


@settings(max_examples=40)
@given(
    sends=st.lists(words, max_size=6),
    finds=st.lists(answers, max_size=12),
    dedup=st.booleans(),
    steps=st.lists(st.sampled_from([1, 20, 120, 400]), min_size=1, max_size=10),
)
def test_after_any_faults_an_intent_became_one_order_at_most_and_the_books_agree(
    trader: Trader,
    use_venue: Callable[[Venue], None],
    sends: list[str],
    finds: list[str],
    dedup: bool,
    steps: list[int],
) -> None:
    lag = timedelta(seconds=sum(steps))  # as long as the venue may deny what it has
    venue = trader.venue = FakeVenue(dedup=dedup, find_lag=lag)
    use_venue(venue)
    venue.sends.extend(sends)
    venue.finds.extend(finds)
    trader.deployment = make.booked_deployment(trader.agent)
    make.price("ETH", "2000")
    order = trader.placed()
    for seconds in steps:
        trader.time.move(seconds=seconds)
        again(order)
    venue.sends.clear()
    venue.finds.clear()
    for _ in range(3):
        again(order)
    trader.time.move(days=2)
    again(order)

    assert trader.sent(order) <= 1
    assert order.state not in IN_FLIGHT
    held = venue.book.get(order.venue_ref)
    bought = sum((f.quantity for f in held.fills), D(0)) if held else D(0)
    assert eth(trader) == bought
    assert ledger.drift() == {}
