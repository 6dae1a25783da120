"""Live orders beside their paper twins: what is compared, when the alarm fires, and that nothing else is touched."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from maxxit.core.errors import Misconfigured, Rejected
from maxxit.events.models import Event
from maxxit.notify import alerts
from maxxit.notify.models import Alert
from maxxit.pipeline.stages import ALERTS
from positions.models import Position
from positions.twin import record, report
from positions.twin.compare import Leg, TradeDrift
from positions.twin.models import TwinDrift, TwinFill, TwinMark
from positions.twin.policy import TwinCosts, TwinPolicy
from tests import builders as make
from tests.positions.twin.conftest import Live
from trading import settle
from trading.models import Fill, LedgerEntry, Order
from trading.passes import TimeBudget

D = Decimal


def twin_of(order: Order) -> TwinFill:
    return TwinFill.objects.get(order=order)


def twin_of_exit(position: Position) -> TwinFill:
    return TwinFill.objects.get(order__closes=position.entry_order)


def alarms() -> list[tuple[str, str]]:
    rows = Event.objects.filter(name__startswith="twin.").order_by("pk")
    return [(row.name, row.data["measure"]) for row in rows]


def test_an_entry_is_compared_with_what_the_paper_exchange_would_have_filled(live: Live) -> None:
    live.broker.extra_bps, live.broker.fee_bps, live.broker.seconds = 20, 25, 7
    order = live.enter()
    assert record.compare_orders() == 1
    row = twin_of(order)
    assert (row.outcome, row.quote, row.quote_from, row.purpose) == ("filled", 2000, "checks", "open")
    assert (row.twin_price, row.live_price) == (D("2001"), D("2005"))
    assert row.twin_fee == (order.filled_quantity * 2001 * D("0.001")).quantize(
        D("0.000001"), "ROUND_CEILING"
    )
    assert row.price_bps == pytest.approx(20)
    assert row.excess_fee_bps == pytest.approx(15, abs=0.1)
    assert row.live_seconds == 7
    assert record.compare_orders() == 0
    assert TwinDrift.objects.get(measure="price").count == 1


def test_a_better_price_is_a_negative_drift_on_either_side(live: Live) -> None:
    live.broker.extra_bps = -20
    position = live.trade()
    record.compare_orders()
    assert position.state == "closed"
    assert [row.side for row in TwinFill.objects.order_by("pk")] == ["buy", "sell"]
    for row in TwinFill.objects.all():
        assert row.price_bps == pytest.approx(-20, abs=0.1)


def test_the_pnl_of_a_closed_position_is_compared(live: Live) -> None:
    live.broker.extra_bps = 20
    position = live.trade()
    record.compare_orders()
    entry, row = TwinFill.objects.order_by("pk")
    assert entry.live_pnl is None
    assert row.live_pnl == pytest.approx(
        position.realised_pnl + position.fees - entry.live_fee - row.live_fee
    )
    quantity = position.quantity
    bought, sold = quantity * D("2001"), quantity * D("2398.8")
    assert row.twin_pnl == pytest.approx(sold - bought - (sold + bought) * D("0.001"), abs=D("0.00001"))
    assert row.pnl_bps == pytest.approx(44, abs=0.5)
    assert row.pnl_bps == pytest.approx(float((row.twin_pnl - row.live_pnl) / (2000 * quantity) * 10_000))
    assert not row.awaits_close
    [figures] = report.figures()
    assert (figures.orders, figures.trades, figures.missed) == (2, 1, 0)
    assert (figures.live_pnl, figures.twin_pnl) == (row.live_pnl, row.twin_pnl)


def test_an_entry_that_the_venue_refused_is_a_position_that_only_the_twin_has(live: Live) -> None:
    live.broker.sends.append("refused")
    order = live.enter()
    assert order.state == "rejected"
    record.compare_orders()
    row = twin_of(order)
    assert (row.outcome, row.filled, row.live_price, row.price_bps) == ("missed", 0, None, None)
    [figures] = report.figures()
    assert (figures.missed, figures.missed_entries, figures.price_bps) == (1, 1, None)
    assert TwinDrift.objects.get(measure="missed").last == 1
    assert not TwinDrift.objects.filter(measure="price").exists()


def test_an_order_whose_fate_is_unknown_is_shown_and_compared_once_it_is_known(live: Live) -> None:
    live.broker.sends.append("silent")
    live.broker.finds.extend(["away"] * 2)
    order = live.enter()
    assert order.state == "unknown"
    record.compare_orders()
    assert not TwinFill.objects.exists()
    live.time.move(minutes=11)
    record.compare_orders()
    assert twin_of(order).outcome == "unknown"
    assert not TwinDrift.objects.exists()
    live.broker.finds.clear()
    settle.settle_due()
    record.compare_orders()
    assert twin_of(order).outcome == "filled"
    assert TwinDrift.objects.get(measure="missed").last == 0
    assert record.compare_orders() == 0


def test_what_was_blocked_is_no_decision_of_the_twin_either(live: Live) -> None:
    make.open_gate()
    order = make.order(live.deployment, state="blocked", reason="cooldown")
    expired = make.order(live.deployment, state="expired", reason="signal_expired")
    assert record.compare_orders() == 0
    assert not TwinFill.objects.filter(order__in=[order, expired]).exists()


def test_orders_of_the_paper_exchange_have_no_twin(live: Live) -> None:
    paper = make.booked_deployment(make.agent())
    now = live.time.now
    make.order(
        paper, state="filled", reserved_at=now, quantity=D(1), filled_quantity=D(1), average_price=D(2000),
        reference_price=D(2000),
    )  # fmt: skip
    assert record.compare_orders() == 0


def test_the_twin_is_out_with_the_first_closing_order_that_the_live_account_got_refused(live: Live) -> None:
    entry = live.enter()
    live.broker.sends.append("refused")
    live.leave("2400")
    live.time.move(minutes=30)
    live.leave("2700")
    record.compare_orders()
    first, second = TwinFill.objects.filter(purpose="close").order_by("pk")
    assert (first.outcome, second.outcome) == ("missed", "filled")
    assert (first.twin_price, second.live_price) == (D("2398.8"), D("2698.65"))
    assert first.pnl_bps is None
    twin, live_pnl, quantity = second.twin_pnl, second.live_pnl, entry.filled_quantity
    assert twin is not None
    assert live_pnl is not None
    assert live_pnl - twin == pytest.approx(quantity * D("299.85") * D("0.999"), rel=D("0.0001"))


def test_one_order_that_cannot_be_compared_stops_no_other(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = live.enter(), live.enter(token="BTC", usd="60000")
    real = record.compare.twin_fill

    def broken(quote: Decimal, symbol: str, *given: object) -> object:
        if symbol == first.symbol:
            raise Rejected("no such token")
        return real(quote, symbol, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(record.compare, "twin_fill", broken)
    assert record.compare_orders() == 1
    assert TwinFill.objects.get().order_id == second.pk


def test_one_order_that_the_database_refuses_stops_no_other(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, third = live.trade(), live.enter(), live.enter(token="BTC", usd="60000")
    real = record._row

    def refused(one: record._Due, rules: TwinPolicy) -> TwinFill | None:
        row = real(one, rules)
        if row is not None and one.pk == first.pk:
            row.outcome = "longer than its column"
        return row

    monkeypatch.setattr(record, "_row", refused)
    live.time.move(hours=1)
    assert record.compare_orders() == Order.objects.count() - 1
    assert not TwinFill.objects.filter(order=first).exists()
    assert TwinDrift.objects.get(measure="price").count == Order.objects.count() - 1
    assert TwinDrift.objects.get(measure="pnl").count == 1
    assert TwinMark.objects.get().order == third.pk


@pytest.mark.parametrize("broken", [Misconfigured("no such token"), "refused by the database"])
def test_one_position_that_cannot_be_compared_stops_no_other(
    live: Live, monkeypatch: pytest.MonkeyPatch, broken: Exception | str
) -> None:
    first, second = live.trade(), live.trade()
    real = record.compare.trade_drift
    seen: list[int] = []

    def trade_drift(symbol: str, side: str, entry: Leg, exits: Sequence[Leg], costs: TwinCosts) -> object:
        seen.append(1)
        if len(seen) > 1:
            return real(symbol, side, entry, exits, costs)
        if isinstance(broken, Exception):
            raise broken
        return TradeDrift(D("1e30"), D("1e30"), 0.0)

    monkeypatch.setattr(record.compare, "trade_drift", trade_drift)
    record.compare_orders()
    assert twin_of_exit(first).pnl_bps is None
    assert twin_of_exit(second).pnl_bps is not None
    assert not TwinFill.objects.filter(awaits_close=True).exists()
    record.compare_orders()
    assert len(seen) == 2
    assert TwinDrift.objects.get(measure="pnl").count == 1


def test_positions_wait_for_the_next_pass_when_the_time_is_up(live: Live) -> None:
    live.trade()
    record._compare_above_mark(record.live_venues(), None)
    assert record.compare_orders(TimeBudget(0)) == 0
    assert TwinFill.objects.get(awaits_close=True).pnl_bps is None
    record.compare_orders()
    assert TwinFill.objects.get(purpose="close").pnl_bps is not None


def test_a_position_waits_until_all_that_was_sold_is_compared(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = live.trade()
    first = Order.objects.get(purpose="close")
    half = first.quantity / 2 if first.quantity else D(0)
    Order.objects.filter(pk=first.pk).update(filled_quantity=half)
    now = live.time.now
    second = make.order(
        live.deployment, purpose="close", side="sell", closes=position.entry_order, state="accepted",
        reserved_at=now, quantity=half, filled_quantity=half, average_price=D(2400), reference_price=D(2400),
    )  # fmt: skip
    record.compare_orders()
    assert twin_of(first).awaits_close
    assert not TwinDrift.objects.filter(measure="pnl").exists()
    Order.objects.filter(pk=second.pk).update(state="filled")
    record.compare_orders()
    assert [twin_of(one).pnl_bps is None for one in (first, second)] == [True, False]
    assert TwinDrift.objects.get(measure="pnl").count == 1
    assert not TwinFill.objects.filter(awaits_close=True).exists()


def test_what_is_compared_after_its_position_was_given_up_enters_no_test(live: Live) -> None:
    position = live.trade()
    late = make.order(
        live.deployment, purpose="close", side="sell", closes=position.entry_order, state="unknown",
        reserved_at=live.time.now, quantity=D(1), filled_quantity=D(1), average_price=D(2400),
        reference_price=D(2400),
    )  # fmt: skip
    live.time.move(hours=47)
    record.compare_orders()
    assert TwinFill.objects.filter(awaits_close=True).count() == 2
    live.time.move(hours=2)
    record.compare_orders()
    assert not TwinFill.objects.filter(awaits_close=True).exists()
    Order.objects.filter(pk=late.pk).update(state="filled")
    record.compare_orders()
    assert twin_of(late).outcome == "filled"
    assert not TwinFill.objects.filter(awaits_close=True).exists()
    assert not TwinDrift.objects.filter(measure="pnl").exists()


def test_a_pass_of_many_batches_compares_each_order_once(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "BATCH", 2)
    for _ in range(3):
        live.trade()
    assert record.compare_orders() == 6
    orders = list(Order.objects.order_by("pk").values_list("pk", flat=True))
    assert list(TwinFill.objects.order_by("pk").values_list("order_id", flat=True)) == orders
    assert TwinDrift.objects.get(measure="price").count == 6
    assert TwinDrift.objects.get(measure="pnl").count == 3


def test_the_mark_stays_behind_orders_that_have_not_ended(live: Live) -> None:
    live.broker.fills_at_once = False
    waiting = live.enter()
    live.broker.fills_at_once = True
    done = live.enter(token="BTC", usd="60000")
    live.time.move(hours=1)
    record.compare_orders()
    assert TwinMark.objects.get().order == waiting.pk - 1
    live.broker.fill(waiting.venue_ref)
    settle.settle_due()
    assert record.compare_orders() == 1
    assert TwinMark.objects.get().order == done.pk
    assert TwinFill.objects.count() == 2


def test_the_mark_passes_what_has_not_ended_after_two_days_and_finds_it_again(live: Live) -> None:
    live.broker.fills_at_once = False
    resting = live.enter(token="BTC", usd="60000")
    live.broker.fills_at_once = True
    planned = make.order(live.deployment)
    position = live.trade()
    waiting_exit = make.order(live.deployment, purpose="close", side="sell", closes=position.entry_order)
    Position.objects.filter(pk=position.pk).update(state="open", closed_at=None)
    live.time.move(hours=22)
    record.compare_orders()
    assert TwinMark.objects.get().order == resting.pk - 1
    live.time.move(hours=27)
    record.compare_orders()
    assert TwinMark.objects.get().order == waiting_exit.pk
    assert twin_of(resting).outcome == "unknown"
    counted = TwinDrift.objects.get(measure="missed").count
    live.broker.fill(resting.venue_ref)
    settle.settle_due()
    sent = {"state": "rejected", "reserved_at": live.time.now, "quantity": D(1), "reference_price": D(2000)}
    Order.objects.filter(pk__in=[planned.pk, waiting_exit.pk]).update(**sent)
    Position.objects.filter(pk=position.pk).update(state="closed", closed_at=live.time.now)
    assert record.compare_orders() == 3
    assert [twin_of(one).outcome for one in (resting, planned, waiting_exit)] == [
        "filled",
        "missed",
        "missed",
    ]
    assert TwinDrift.objects.get(measure="missed").count == counted + 3
    assert record.compare_orders() == 0


def test_the_latest_orders_are_those_decided_last(live: Live) -> None:
    first, second = live.enter(), live.enter(token="BTC", usd="60000")
    record.compare_orders()
    TwinFill.objects.filter(order=first).update(at=live.time.now)
    TwinFill.objects.filter(order=second).update(at=live.time.now - timedelta(hours=1))
    assert [row.order_id for row in report.newest(live.deployment.pk, 2)] == [first.pk, second.pk]


def test_a_pass_writes_nothing_but_its_own_tables_and_events(live: Live) -> None:
    live.trade()
    with CaptureQueriesContext(connection) as asked:
        record.compare_orders()
    written = {
        query["sql"].split('"')[1]
        for query in asked.captured_queries
        if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))
    }
    locked = [query["sql"] for query in asked.captured_queries if " FOR " in query["sql"].upper()[-40:]]
    assert written == {"twin_fills", "twin_drifts", "twin_marks"}
    assert locked
    assert all('FROM "twin_marks"' in sql for sql in locked)


def trade_until_alarm(live: Live, most: int) -> int | None:
    """Trade until the alarm of the price is on; return after how many orders, None after `most` without it."""
    for _ in range(most // 2):
        live.trade()
        record.compare_orders()
        if ("twin.drifted", "price") in alarms():
            return TwinFill.objects.count()
    return None


def test_the_alarm_fires_within_30_trades_of_20_bp_and_reaches_owner_and_staff(live: Live) -> None:
    owner = User.objects.create_user("owner")
    staff = User.objects.create_user("staff", is_staff=True)
    live.deployment.owner = owner
    live.deployment.save()
    live.broker.noise_bps, live.broker.extra_bps = 10, 20
    found = trade_until_alarm(live, 30)
    assert found is not None
    assert 5 <= found <= 30
    alerts.write()
    got = Alert.objects.filter(event__name="twin.drifted", event__data__measure="price")
    assert set(got.values_list("user", flat=True)) == {owner.pk, staff.pk}
    text = alerts.text_of(got[0])
    assert "Twin agent on live:1 were filled" in text
    assert "bp worse than those of its paper twin" in text
    assert '"Live against paper" on "My agents" shows each' in text
    assert "manage.py" not in text
    assert "twin.drifted" in ALERTS
    assert "twin.recovered" in ALERTS

    live.broker.extra_bps = 0
    for _ in range(20):
        live.trade()
    record.compare_orders()
    assert alarms().count(("twin.drifted", "price")) == 1
    assert ("twin.recovered", "price") in alarms()
    assert not TwinDrift.objects.get(measure="price").alarm


def test_the_same_noise_without_extra_slippage_raises_no_alarm(live: Live) -> None:
    live.broker.noise_bps = 10
    assert trade_until_alarm(live, 60) is None
    assert TwinFill.objects.count() == 60
    assert alarms() == []


def test_a_venue_that_stops_taking_orders_raises_the_alarm(live: Live) -> None:
    for _ in range(10):
        live.broker.sends.append("refused")
        live.enter()
    record.compare_orders()
    assert alarms() == [("twin.drifted", "missed")]
    assert "100 % more" in Event.objects.get(name="twin.drifted").data["text"]


def test_old_rows_are_deleted_and_not_written_again(live: Live) -> None:
    live.trade()
    record.compare_orders()
    live.time.move(hours=1)
    record.compare_orders()
    assert record.tidy() == 0
    live.time.move(days=401)
    assert record.tidy() == 2
    assert record.compare_orders() == 0
    assert not TwinFill.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_passes_at_once_compare_an_order_once(live: Live, django_db_serialized_rollback: None) -> None:
    from tests.trading.test_race import at_once

    for _ in range(3):
        live.trade()
    passes: list[Callable[[], int]] = [record.compare_orders, record.compare_orders]
    assert sum(at_once(passes)) == 6
    assert TwinDrift.objects.get(measure="price").count == 6
    assert Fill.objects.count() == 6
    assert LedgerEntry.objects.exists()
