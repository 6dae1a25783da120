"""Signals to orders: fanned out once, reserved under every limit, sent or blocked with the reason."""

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection, transaction

from maxxit.core import clock, correlation
from maxxit.core.errors import Retryable, StaleState, Unknown
from maxxit.core.terms import KILL_LEVELS
from maxxit.events.models import Event
from maxxit.events.record import advance, subject
from maxxit.market import quotes
from signals_app.models import CtPost, Signal
from tests import builders as make
from tests.builders import T0
from tests.passes import execute_pass
from tests.trading.conftest import Trader
from trading import execute, gate, ledger, passes, tasks
from trading.entries import planning
from trading.models import JournalKind, LimitsInForce, Order
from trading.risk import limits
from trading.risk.limits_in_force import UNREADABLE, risk_limits
from trading.risk.policy import policy
from trading.states import OrderState

D = Decimal
rules = passes.policy()


# --- fan-out -------------------------------------------------------------------------------------------------------


def test_each_active_deployment_gets_its_own_order_once(trader: Trader) -> None:
    others = [
        make.deployment(trader.agent, funded=False, state=state)
        for state in ("active", "paused", "revoked", "draft")
    ]
    signal = trader.signal()

    assert [planning.fan_out(), planning.fan_out()] == [2, 0]
    assert set(Order.objects.values_list("deployment_id", "signal_id", "state")) == {
        (trader.deployment.pk, signal.pk, "planned"),
        (others[0].pk, signal.pk, "planned"),
    }


def test_a_deployment_of_another_agent_gets_nothing(trader: Trader) -> None:
    make.deployment(make.agent(), funded=False)
    trader.signal()
    planning.fan_out()

    assert set(Order.objects.values_list("deployment_id", flat=True)) == {trader.deployment.pk}


def test_fan_out_to_500_deployments_is_one_statement(trader: Trader, django_assert_num_queries: Any) -> None:
    trader.signal()
    with django_assert_num_queries(1):
        assert planning.fan_out() == 1
    for _ in range(500):
        make.deployment(trader.agent, funded=False)
    trader.signal()
    with django_assert_num_queries(1):
        assert planning.fan_out() == 501 + 500
    with django_assert_num_queries(1):
        assert planning.fan_out() == 0


def test_a_crowd_is_planned_in_batches_and_exits_may_go_between(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH", 2)
    others = [make.deployment(trader.agent, funded=False) for _ in range(4)]
    trader.signal()
    planned: list[int] = []

    assert planning.fan_out(between=lambda: planned.append(Order.objects.count())) == 5
    assert planned == [2, 4]
    served = Order.objects.order_by("pk").values_list("deployment_id", flat=True)
    assert list(served) == [trader.deployment.pk, *(one.pk for one in others)]


def test_an_order_takes_side_and_terms_from_its_signal(trader: Trader) -> None:
    long, short = trader.signal(leverage=D(3)), trader.signal(side="short", token="BTC")
    planning.fan_out()
    rows = {
        o.signal_id: (o.side, o.position_side, o.symbol, o.leverage, o.correlation_id)
        for o in Order.objects.all()
    }

    assert rows == {
        long.pk: ("buy", "long", "ETH", D(3), long.correlation_id),
        short.pk: ("sell", "short", "BTC", D(1), short.correlation_id),
    }


def test_every_planned_order_has_its_event_under_the_correlation_id_of_the_signal(trader: Trader) -> None:
    signal = trader.signal()
    planning.fan_out()
    event = Event.objects.get(name="order.planned")

    assert (event.subject, event.correlation_id) == (subject(Order.objects.get()), signal.correlation_id)


@pytest.mark.parametrize("state", ["executed", "skipped", "expired"])
def test_a_signal_that_is_over_is_not_fanned_out(trader: Trader, state: str) -> None:
    trader.signal(state=state)

    assert planning.fan_out() == 0


def test_a_signal_whose_time_is_over_is_not_fanned_out_before_it_expires(trader: Trader) -> None:
    trader.signal(expires_at=clock.now())

    assert planning.fan_out() == 0


def test_one_signal_can_be_fanned_out_alone(trader: Trader) -> None:
    trader.signal()
    wanted = trader.signal()

    assert planning.fan_out(only=wanted.pk) == 1
    assert Order.objects.get().signal_id == wanted.pk


def test_an_agent_that_was_paused_after_its_signal_opens_nothing(trader: Trader) -> None:
    trader.signal()
    advance(trader.agent, "paused")

    assert planning.fan_out() == 0


# --- what an owner holds besides -----------------------------------------------------------------------------------


def test_tokens_that_owners_moved_into_their_safes_use_up_no_limit_and_no_money(trader: Trader) -> None:
    stranger = make.booked_deployment(make.agent())
    for number, (deployment, amount) in enumerate(((trader.deployment, 100), (stranger, 10_000))):
        move = ledger.Move("external", ledger.account_of(deployment.pk), "ETH", D(amount), "external")
        ledger.post(JournalKind.EXTERNAL, number, [move])  # 200,000 USD here, 20 millions there

    order = trader.placed()
    assert (order.reason, order.notional_usd, trader.sent(order)) == ("", D(800), 1)
    assert limits.read_holdings().held(stranger.account, "ETH") == 0


def test_an_account_is_summed_up_over_agents_and_debts_are_left_out(trader: Trader) -> None:
    account = trader.deployment.account
    shared = make.booked_deployment(make.agent(), account=account)
    stranger = make.booked_deployment(make.agent())
    holders = (
        (ledger.account_of(trader.deployment.pk), D(2)),
        (ledger.account_of(shared.pk), D("-0.5")),
        (ledger.payable_of(shared.pk), D(-7)),
        (ledger.account_of(stranger.pk), D(-3)),
    )
    for number, (holder, tokens) in enumerate(holders):
        source, target = ("venue:paper", holder) if tokens > 0 else (holder, "venue:paper")
        ledger.post(JournalKind.FILL, number, [ledger.Move(source, target, "ETH", abs(tokens), "trade")])

    everything, chosen = limits.read_holdings([account]), limits.read_holdings([account], platform=False)
    assert everything.by_account == chosen.by_account == {account: {"ETH": D("1.5")}}
    assert (everything.gross, chosen.gross) == ({"ETH": D("4.5")}, {})


def test_tokens_that_were_bought_count_beside_the_owners(trader: Trader) -> None:
    trader.placed()
    move = ledger.Move("external", ledger.account_of(trader.deployment.pk), "ETH", D(3), "external")
    ledger.post(JournalKind.EXTERNAL, "1", [move])

    assert limits.read_holdings().held(trader.deployment.account, "ETH") == D("0.4")
    assert ledger.traded(trader.deployment.pk)["ETH"] == ledger.balances(trader.deployment.pk)["ETH"] - 3
    again = trader.planned()
    trader.time.move(hours=1)
    make.price("ETH", "2000")
    assert trader.place(again).reason == "position_exists"


# --- the gate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [True, False, None])
@pytest.mark.parametrize("row", [True, False])
@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("kill", ["", *KILL_LEVELS])
@pytest.mark.parametrize("purpose", ["open", "close"])
def test_the_gates_truth_table_on_rows_and_file(
    trader: Trader,
    no_approval_file: Path,
    dry_run: bool | None,
    row: bool,
    file: bool,
    kill: str,
    purpose: str,
) -> None:
    gate.Gate.objects.all().delete()
    if dry_run is not None:
        gate.set_dry_run("paper", dry_run, by="test", reason="test")
    if not row:
        gate.revoke("paper", by="test", reason="test")
    if file:
        no_approval_file.touch()
    if kill:
        gate.kill(kill, by="test", reason="test")
    make.position(trader.deployment)
    order = trader.planned()
    if purpose == "close":
        ledger.post(
            JournalKind.FILL,
            "held",
            [ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "ETH", D(1), "trade")],
        )
        order = make.order(trader.deployment, purpose="close", side="sell", quantity=D("0.4"))
    expected = (
        "dry_run"
        if dry_run is not False
        else "not_approved"
        if not (row or file)
        else "kill_switch"
        if kill and purpose == "open"
        else ""
    )
    verdict = trader.place(order)

    assert verdict.reason == expected
    assert len(trader.venue.effects) == (0 if expected else 1)
    assert Order.objects.get(pk=order.pk).state == ("blocked" if expected else "filled")


@pytest.mark.parametrize("how", ["expired", "not yet", "revoked", "other venue"])
def test_an_approval_that_does_not_stand_opens_nothing(trader: Trader, how: str) -> None:
    gate.Approval.objects.all().delete()
    values = {
        "scope": "paper",
        "approved_by": "me",
        "approved_at": T0,
        "expires_at": T0 + timedelta(hours=1),
        "reason": "r",
    }
    change: dict[str, dict[str, Any]] = {
        "expired": {"expires_at": T0},
        "not yet": {"approved_at": T0 + timedelta(seconds=1)},
        "revoked": {"revoked_at": T0},
        "other venue": {"scope": "safe"},
    }
    gate.Approval.objects.create(**values | change[how])

    assert trader.place(trader.planned()).reason == "not_approved"


def test_an_approval_of_all_venues_opens_this_one(trader: Trader) -> None:
    gate.revoke("paper", by="test", reason="test")
    gate.approve("*", by="test", until=T0 + timedelta(hours=1), reason="test")

    assert trader.place(trader.planned()).allowed


def test_the_kill_switch_latches_until_a_person_gives_a_reason(trader: Trader) -> None:
    gate.kill("no_entries", by="test", reason="test")
    gate.kill("flatten", by="trigger", reason="daily loss", cause="daily_loss")
    trader.time.move(days=2)

    assert gate.kill_level() == "flatten"
    with pytest.raises(gate.Rejected, match="needs a reason"):
        gate.release(by="me", reason="  ")
    assert gate.kill_level() == "flatten"
    assert gate.release(by="me", reason="looked at it") == 2
    assert gate.kill_level() == ""


def test_an_unknown_level_cannot_be_pulled(trader: Trader) -> None:
    with pytest.raises(gate.Rejected, match="choose one of"):
        gate.kill("panic", by="me", reason="?")


def test_an_approval_ends_in_the_future(trader: Trader) -> None:
    with pytest.raises(gate.Rejected, match="must end in the future"):
        gate.approve("paper", by="me", until=T0, reason="?")


def test_every_change_of_the_gate_is_an_event(trader: Trader) -> None:
    before = make.last_event()
    gate.set_dry_run("paper", True, by="a", reason="b")
    gate.kill("flatten", by="a", reason="b")
    gate.release(by="a", reason="b")
    gate.revoke("paper", by="a", reason="b")
    gate.set_dry_run("paper", False, by="a", reason="b")
    gate.approve("paper", by="a", until=T0 + timedelta(hours=1), reason="b")

    names = [
        "gate.closed",
        "kill_switch.pulled",
        "kill_switch.released",
        "gate.revoked",
        "gate.opened",
        "gate.approved",
    ]
    assert make.event_names(after=before) == names
    told = Event.objects.order_by("-id")[: len(names)]
    assert {(event.data["by"], event.data["reason"]) for event in told} == {("a", "b")}


# --- one order -----------------------------------------------------------------------------------------------------


def test_an_order_that_goes_is_reserved_with_what_will_leave_before_it_leaves(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    order = trader.planned()
    outside = len(connection.savepoint_ids)

    def look(prepared: Any) -> None:
        row = Order.objects.get(pk=order.pk)
        seen.update(state=row.state, ref=row.venue_ref, prepared=row.prepared, client=row.client_order_id)
        seen["transactions"] = len(connection.savepoint_ids) - outside
        raise Unknown("no answer")

    monkeypatch.setattr(trader.venue, "send", look)
    trader.place(order)

    assert seen["transactions"] == 0, "what was reserved is committed before anything leaves"
    assert seen["state"] == "sending"
    assert seen["client"] == seen["ref"] != ""
    assert seen["prepared"]["quantity"] == "0.40000"


def test_the_client_order_id_follows_from_the_order(trader: Trader) -> None:
    order = trader.placed()

    assert (
        order.client_order_id
        == f"mx-{correlation.derive_id('order', order.pk, order.correlation_id).hex[:24]}"
    )


def test_a_blocked_order_keeps_its_reason_value_and_limit_and_nothing_leaves(trader: Trader) -> None:
    order = trader.placed(usd="1000")

    assert (order.state, order.reason) == ("blocked", "price_band")
    assert order.verdict == {"reason": "price_band", "measured": "100.00 %", "limit": "2.5 %"}
    event = Event.objects.get(name="execution.blocked")
    assert (event.subject, event.data["limit"]) == (subject(order), "2.5 %")
    assert not trader.venue.effects


def test_an_order_the_venue_refuses_is_rejected_with_its_code(trader: Trader) -> None:
    trader.venue.sends.append("refused")
    order = trader.placed()

    assert (order.state, order.reason, trader.sent(order)) == ("rejected", "market_closed", 0)


@pytest.mark.parametrize("objection", [Retryable("away"), Unknown("timeout")])
def test_a_venue_that_cannot_be_asked_blocks(trader: Trader, objection: Exception) -> None:
    trader.venue.objection = objection

    assert trader.placed().reason == "venue_unreadable"


def test_what_the_venue_objects_to_blocks(trader: Trader) -> None:
    trader.venue.objection = "module_disabled"

    assert trader.placed().reason == "module_disabled"


@pytest.mark.parametrize("age", [91, -6, None])
def test_without_a_usable_quote_nothing_leaves(trader: Trader, age: int | None) -> None:
    quotes.QuoteRow.objects.all().delete()
    if age is not None:
        make.price("ETH", "2000", at=T0 - timedelta(seconds=age))

    assert trader.placed().reason == "no_price"


def test_a_holding_without_a_price_blocks_every_further_entry(trader: Trader) -> None:
    ledger.post(
        JournalKind.FILL,
        "held",
        [ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "BTC", D(1), "trade")],
    )

    assert trader.placed().reason == "throttles_unreadable"


def test_a_holding_of_another_account_in_a_token_this_venue_does_not_list_blocks_nothing(
    trader: Trader,
) -> None:
    agent = make.agent(venue="safe")
    make.open_gate("safe")
    safe = make.booked_deployment(agent)
    ledger.post(
        JournalKind.FILL,
        "held",
        [ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "SOL", D(1), "trade")],
    )
    make.price("SOL", "150")
    order = make.order(safe, by=make.signal(agent))

    assert trader.place(order).reason == ""


def test_an_order_that_another_worker_took_is_left_alone(trader: Trader) -> None:
    order = trader.planned()
    twin = Order.objects.get(pk=order.pk)
    trader.place(order)

    with pytest.raises(StaleState):
        advance(twin, OrderState.BLOCKED)
    with pytest.raises(StaleState):
        trader.place(twin)
    assert trader.sent(order) == 1


def test_the_size_is_rounded_down_to_whole_lots(trader: Trader) -> None:
    make.price("ETH", "1999.99")

    assert trader.placed().quantity == D("0.40000")


def test_leverage_multiplies_the_notional(trader: Trader) -> None:
    trader.signal(leverage=D(3))
    execute_pass()

    assert Order.objects.get().quantity == D("1.2")


# --- throttles and caps on real rows -------------------------------------------------------------------------------

TOKENS = ["BTC", "ETH", "LTC", "XRP", "NEO", "IOTA", "EOS", "SOL", "OP"]


@pytest.fixture
def market(trader: Trader) -> Trader:
    for token in TOKENS:
        make.price(token, "100")
    return trader


def entry(trader: Trader, token: str) -> str:
    return trader.placed(token=token, usd="100").reason


def test_the_sixth_entry_of_an_account_within_a_minute_waits(market: Trader) -> None:
    assert [entry(market, token) for token in TOKENS[:6]] == [""] * 5 + ["rate_limit"]
    market.time.move(seconds=60)
    for token in TOKENS:
        make.price(token, "100")
    assert entry(market, TOKENS[6]) == ""


def test_the_rate_of_one_account_holds_back_no_other(market: Trader) -> None:
    assert [entry(market, token) for token in TOKENS[:6]][-1] == "rate_limit"
    other = make.order(make.booked_deployment(market.agent), by=market.signal(usd="100"))
    assert make.place(other, market.venue, policy()).reason == ""


@pytest.mark.parametrize("limit", ["max_orders_per_minute", "max_open_orders"])
def test_the_platforms_pace_lets_the_rest_wait(market: Trader, limit: str) -> None:
    market.venue.fills_at_once = limit == "max_orders_per_minute"
    rules = policy().model_copy(update={"platform": policy().platform.model_copy(update={limit: 2})})
    deployments = [make.booked_deployment(market.agent) for _ in range(3)]
    orders = [make.order(p, by=market.signal(usd="100")) for p in deployments]
    reasons = [make.place(order, market.venue, rules).reason for order in orders]

    assert reasons == ["", "", "platform_pace"]
    assert Order.objects.get(pk=orders[2].pk).state == "planned"


def test_the_fourth_entry_in_a_symbol_within_a_utc_day_is_too_many(market: Trader) -> None:
    rules = policy().model_copy(update={"allow_add_to_position": True})
    reasons = []
    for _ in range(4):
        reasons.append(make.place(market.planned(usd="100"), market.venue, rules).reason)
        market.time.move(seconds=900)
        make.price("ETH", "100")
    market.time.to(T0.replace(hour=0) + timedelta(days=1))
    make.price("ETH", "100")
    reasons.append(make.place(market.planned(usd="100"), market.venue, rules).reason)

    assert reasons == ["", "", "", "max_symbol_orders", ""]


def test_a_symbol_cools_down_for_900_seconds_and_others_do_not_wait(market: Trader) -> None:
    rules = policy().model_copy(update={"allow_add_to_position": True})
    first = make.place(market.planned(usd="100"), market.venue, rules)
    market.time.move(seconds=899)
    for token in TOKENS:
        make.price(token, "100")
    second = make.place(market.planned(usd="100"), market.venue, rules)
    other = make.place(market.planned(token="BTC", usd="100"), market.venue, rules)

    assert (first.reason, second.reason, other.reason) == ("", "cooldown", "")


def test_entries_in_flight_count_against_the_open_orders_and_filled_ones_do_not(market: Trader) -> None:
    account = policy().account.model_copy(update={"max_open_orders": 2})
    rules = policy().model_copy(update={"account": account})
    market.venue.fills_at_once = False
    flying = [market.planned(token=token, usd="100") for token in TOKENS[:3]]
    reasons = [make.place(order, market.venue, rules).reason for order in flying]
    market.venue.fill(Order.objects.get(pk=flying[0].pk).venue_ref)
    tasks.settle_pass()

    assert reasons == ["", "", "max_open_orders"]
    assert make.place(market.planned(token=TOKENS[3], usd="100"), market.venue, rules).reason == ""


@pytest.mark.parametrize("fills", [True, False], ids=["filled", "in flight"])
@pytest.mark.parametrize(
    ("cap", "reason"),
    [("max_total_exposure_usd", "exposure_cap"), ("max_symbol_exposure_usd", "symbol_exposure_cap")],
)
def test_a_cap_counts_what_is_held_and_what_is_in_flight(
    market: Trader, fills: bool, cap: str, reason: str
) -> None:
    rules = policy().model_copy(
        update={
            "account": policy().account.model_copy(update={cap: D(1500), "cooldown_seconds_per_symbol": 1}),
            "allow_add_to_position": True,
        }
    )
    market.venue.fills_at_once = fills
    first = make.place(market.planned(usd="100"), market.venue, rules)
    market.time.move(seconds=2)
    second = make.place(market.planned(usd="100"), market.venue, rules)

    assert (first.reason, second.reason) == ("", reason)


def test_a_short_counts_with_its_absolute_worth(market: Trader) -> None:
    rules = policy().model_copy(
        update={"account": policy().account.model_copy(update={"max_total_exposure_usd": D(1500)})}
    )
    first = make.place(
        make.order(market.deployment, by=market.signal(side="short", usd="100"), side="sell"),
        market.venue,
        rules,
    )
    second = make.place(market.planned(token="BTC", usd="100"), market.venue, rules)

    assert (first.reason, second.reason) == ("", "exposure_cap")


def test_a_second_entry_into_a_held_token_is_refused(market: Trader) -> None:
    first = entry(market, "ETH")
    market.time.move(minutes=20)
    make.price("ETH", "100")

    assert (first, entry(market, "ETH")) == ("", "position_exists")


@pytest.mark.parametrize("fills", [True, False], ids=["held", "in flight"])
@pytest.mark.parametrize(("first", "then"), [("long", "short"), ("short", "long")])
def test_nothing_is_entered_against_what_is_held(market: Trader, fills: bool, first: str, then: str) -> None:
    # The two would net at the venue: with nothing held there, neither exit could leave ("no_position") for ever.
    account = policy().account.model_copy(update={"cooldown_seconds_per_symbol": 1})
    rules = policy().model_copy(update={"allow_add_to_position": True, "account": account})
    market.venue.fills_at_once = fills
    reasons = []
    for side in (first, then, first):
        planned = make.order(
            market.deployment,
            by=market.signal(side=side, usd="100"),
            side="buy" if side == "long" else "sell",
        )
        reasons.append(make.place(planned, market.venue, rules).reason)
        market.time.move(seconds=2)

    assert reasons == ["", "position_exists", ""]


def test_a_quote_that_grew_stale_while_the_venue_was_asked_is_not_used(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(deployment: int, account: str, symbol: str, purpose: str) -> str:
        trader.time.move(seconds=91)
        return ""

    monkeypatch.setattr(trader.venue, "problem", slow)
    order = trader.planned()

    assert trader.place(order).reason == "no_price"
    assert not trader.venue.effects


def test_a_deployment_below_the_minimum_trades_nothing(trader: Trader) -> None:
    poor = make.booked_deployment(trader.agent, usdc="100")

    assert trader.place(make.order(poor, by=trader.signal())).reason == "below_minimum"


# --- what becomes of a signal --------------------------------------------------------------------------------------


def state(signal: Signal) -> tuple[str, str]:
    row = Signal.objects.get(pk=signal.pk)
    return row.state, row.reason


def test_a_signal_with_an_order_that_left_is_executed(trader: Trader) -> None:
    signal = trader.signal()
    execute_pass()

    assert state(signal) == ("executed", "")


def test_a_signal_whose_orders_are_all_blocked_is_skipped_with_the_reason(trader: Trader) -> None:
    signal = trader.signal(usd="1000")
    execute_pass()

    assert state(signal) == ("skipped", "price_band")


def test_a_signal_that_nobody_trades_is_skipped_for_that(trader: Trader) -> None:
    signal = make.signal(make.agent())
    execute_pass()

    assert state(signal) == ("skipped", "no_active_deployment")


def test_a_signal_that_was_made_during_the_pass_waits_for_the_next_one(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    place_due_orders = execute.place_due_orders

    def meanwhile(orders: Any, *rest: Any, **options: Any) -> Any:
        made.append(trader.signal())
        return place_due_orders(orders, *rest, **options)

    monkeypatch.setattr("trading.execute.place_due_orders", meanwhile)
    execute_pass()

    assert state(made[-1]) == ("pending", "")


def test_a_signal_past_its_time_expires_with_its_orders(trader: Trader) -> None:
    signal = trader.signal()
    planning.fan_out()
    trader.time.move(hours=6)
    make.price("ETH", "2000")
    planning.expire_signals()
    order = Order.objects.get()

    assert state(signal) == ("expired", "not_in_time")
    assert (order.state, order.reason) == ("expired", "signal_expired")


def test_a_signal_that_traded_for_one_deployment_was_executed_also_when_its_time_ended_before_the_next(
    trader: Trader,
) -> None:
    signal = trader.signal()
    late = make.booked_deployment(trader.agent)
    planning.fan_out()
    trader.place(Order.objects.get(deployment=trader.deployment))
    trader.time.move(hours=6)
    planning.expire_signals()

    assert state(signal) == ("executed", "")
    assert Order.objects.get(deployment=late).reason == "signal_expired"


def test_an_order_in_flight_does_not_expire_with_its_signal(trader: Trader) -> None:
    trader.venue.fills_at_once = False
    order = trader.placed()
    trader.time.move(hours=7)
    planning.expire_signals()
    order.refresh_from_db()

    assert order.state == "accepted"


def test_the_post_of_a_trade_is_traded(trader: Trader) -> None:
    post = make.candidate(make.account(trader.agent), outcome="signal")
    signal = trader.signal()
    signal.posts.add(post)
    execute_pass()

    assert CtPost.objects.get(pk=post.pk).outcome == "traded"


@pytest.mark.parametrize("size", [1, 2, 200])
def test_a_pass_goes_on_until_nothing_is_due(
    trader: Trader, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(passes, "policy", lambda: rules.model_copy(update={"batch": size}))
    trader.venue.capabilities = replace(trader.venue.capabilities, batch=200)
    ledger.post(
        JournalKind.FILL,
        "held",
        [ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "ETH", D(3), "trade")],
    )
    for _ in range(5):
        make.order(trader.deployment, purpose="close", side="sell", quantity=D("0.4"))
    execute_pass()

    assert set(Order.objects.values_list("state", flat=True)) == {"filled"}


def test_exits_go_before_entries(trader: Trader) -> None:
    ledger.post(
        JournalKind.FILL,
        "held",
        [ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "ETH", D(1), "trade")],
    )
    trader.signal(token="BTC")
    make.price("BTC", "2000")
    close = make.order(trader.deployment, purpose="close", side="sell", quantity=D("0.4"))
    before = make.last_event()
    execute_pass()
    first = Event.objects.filter(pk__gt=before, name="order.sending").order_by("pk").first()

    assert first is not None
    assert first.subject == subject(close)


def test_a_poisoned_order_is_set_aside_after_three_tries_and_stops_no_other(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = trader.planned(token="BTC", usd="100")
    make.price("BTC", "100")
    prepare = trader.venue.prepare

    def poisoned(request: Any) -> Any:
        if request.symbol == "BTC":
            raise ZeroDivisionError("poison")
        return prepare(request)

    monkeypatch.setattr(trader.venue, "prepare", poisoned)
    good = []
    for token in ("ETH", "LTC", "XRP", "NEO"):
        make.price(token, "100")
        good.append(trader.planned(token=token, usd="100"))
        execute.place_due_orders(Order.objects.filter(purpose="open"), policy())
    bad.refresh_from_db()

    assert (bad.state, bad.attempts) == ("planned", 3)
    assert "ZeroDivisionError: poison" in bad.last_error
    assert make.event_names(of=subject(bad)) == ["order.quarantined"]
    assert {Order.objects.get(pk=one.pk).state for one in good} == {"filled"}
    monkeypatch.setattr(trader.venue, "prepare", prepare)
    assert execute.quarantine.redrive([bad.pk]) == 1
    execute.place_due_orders(Order.objects.filter(purpose="open"), policy())
    bad.refresh_from_db()
    assert bad.state == "filled"


def test_limits_that_cannot_be_read_stop_new_entries_and_not_the_settling_of_others(trader: Trader) -> None:
    trader.venue.fills_at_once = False
    order = trader.placed()
    trader.venue.fill(order.venue_ref)
    late = trader.signal(expires_at=clock.now())
    new = trader.signal()
    risk_limits()
    LimitsInForce.objects.update(limits=[])
    with pytest.raises(UNREADABLE):
        tasks.entry_pass()
    order.refresh_from_db()

    assert order.state == "filled"
    assert state(late)[0] == "expired"
    assert Order.objects.get(signal=new).state == "planned"


# --- the gate before the venue -------------------------------------------------------------------------------------


class Asked:
    """Counts what is asked of the trader's venue."""

    def __init__(self, trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
        self.questions: list[str] = []
        for name in ("problem", "expected_price", "balances", "find"):
            monkeypatch.setattr(trader.venue, name, self._counted(name, getattr(trader.venue, name)))

    def _counted(self, name: str, real: Any) -> Any:
        def asked(*args: Any) -> Any:
            self.questions.append(name)
            return real(*args)

        return asked


def _shut(trader: Trader) -> None:
    gate.set_dry_run("paper", True, by="test", reason="test")


def _no_entries(trader: Trader) -> None:
    gate.kill("no_entries", by="test", reason="test")


def _sent_just_now(trader: Trader) -> None:
    trader.placed()


def _sent_already(trader: Trader) -> None:
    Order.objects.filter(state="planned").update(client_order_id="mx-before")


def _no_quote(trader: Trader) -> None:
    trader.time.move(minutes=5)


@pytest.mark.parametrize(
    ("stops", "reason"),
    [
        (_shut, "dry_run"),
        (_no_entries, "kill_switch"),
        (_sent_just_now, "cooldown"),
        (_sent_already, "duplicate_idempotency_key"),
        (_no_quote, "no_price"),
    ],
)
def test_nothing_is_asked_of_the_venue_for_an_order_that_is_stopped_without_it(
    trader: Trader, monkeypatch: pytest.MonkeyPatch, stops: Any, reason: str
) -> None:
    order = trader.planned()
    stops(trader)
    asked = Asked(trader, monkeypatch)
    verdict = trader.place(Order.objects.get(pk=order.pk))

    assert (verdict.reason, asked.questions) == (reason, [])
    assert make.event_names(of=subject(order)) == ["execution.blocked"]


def test_nothing_is_asked_of_the_venue_for_an_exit_at_a_shut_gate(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = make.order(trader.deployment, purpose="close", side="sell", quantity=D("0.4"))
    _shut(trader)
    asked = Asked(trader, monkeypatch)

    assert (trader.place(order).reason, asked.questions) == ("dry_run", [])


def test_what_changes_while_the_venue_is_asked_still_stops_the_order(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: Any) -> str:
        _shut(trader)
        return ""

    monkeypatch.setattr(trader.venue, "problem", slow)
    order = trader.placed()

    assert (order.state, order.reason) == ("blocked", "dry_run")


@pytest.mark.django_db(transaction=True)
def test_an_exit_does_not_wait_for_the_lock_of_the_platform(trader: Trader) -> None:
    """An entry of another account is being reserved by another worker; the exit is reserved meanwhile."""
    ledger.post(
        JournalKind.FILL,
        "held",
        [ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "ETH", D(1), "trade")],
    )
    close = make.order(trader.deployment, purpose="close", side="sell", quantity=D("0.4"))

    def entry() -> None:
        try:
            with transaction.atomic():
                limits.lock(["another account"])
                held.set()
                done.wait(10)
        finally:
            connection.close()

    held, done = threading.Event(), threading.Event()
    worker = threading.Thread(target=entry)
    worker.start()
    try:
        assert held.wait(10)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        assert trader.place(close).allowed
    finally:
        done.set()
        worker.join()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")


# --- a time limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["open", "close"])
def test_a_time_limit_is_charged_to_no_order_and_the_next_pass_resumes(
    trader: Trader, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    if purpose == "open":
        order = trader.planned()
    else:
        held = ledger.Move("venue:paper", f"deployment:{trader.deployment.pk}", "ETH", D(1), "trade")
        ledger.post(JournalKind.FILL, "held", [held])
        order = make.order(trader.deployment, purpose="close", side="sell", quantity=D("0.4"))

    def slow(*_: Any) -> str:
        raise SoftTimeLimitExceeded

    with monkeypatch.context() as patch:
        patch.setattr(trader.venue, "problem", slow)
        for _ in range(4):
            with pytest.raises(SoftTimeLimitExceeded):
                execute.place_due_orders(Order.objects.filter(purpose=purpose), policy())
    order.refresh_from_db()
    assert (order.state, order.attempts, order.last_error) == ("planned", 0, "")
    execute.place_due_orders(Order.objects.filter(purpose=purpose), policy())
    order.refresh_from_db()
    assert order.state == "filled"


def test_a_pass_whose_time_is_over_takes_no_new_entry_and_wakes_itself(
    trader: Trader, woken: set[str], monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    order = trader.planned()
    monkeypatch.setattr(passes.TimeBudget, "left", lambda budget: setattr(budget, "cut", True))
    with django_capture_on_commit_callbacks(execute=True):
        tasks.entry_pass()
    order.refresh_from_db()

    assert (order.state, order.attempts) == ("planned", 0)
    assert "trading.tasks.execute" in woken


# --- a wake that was lost with Redis ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["entry", "signal"])
def test_the_sweep_every_15_seconds_wakes_execute_for_what_was_left_behind(
    trader: Trader, what: str, woken: set[str], django_capture_on_commit_callbacks: Any
) -> None:
    if what == "signal":
        trader.signal()
    else:
        trader.planned()
    with django_capture_on_commit_callbacks(execute=True):
        tasks.run_settle()

    assert woken == {"trading.tasks.execute"}


def test_an_exit_that_was_left_behind_is_the_exits_sweep_s(
    trader: Trader, woken: set[str], django_capture_on_commit_callbacks: Any
) -> None:
    make.order(trader.deployment, purpose="close", side="sell", quantity=Decimal("0.4"))
    with django_capture_on_commit_callbacks(execute=True):
        tasks.run_settle()

    assert woken == set()


def test_nothing_left_behind_wakes_nobody_and_neither_does_what_was_set_aside(
    trader: Trader, woken: set[str], django_capture_on_commit_callbacks: Any
) -> None:
    trader.placed()
    planning.finish_signals()
    order = trader.planned()
    Order.objects.filter(pk=order.pk).update(attempts=3)
    with django_capture_on_commit_callbacks(execute=True):
        tasks.run_settle()

    assert woken == set()
