"""A batch does what its orders would do one by one, each row gets its own values, and one bad order stops no other."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DataError, OperationalError, transaction
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agents.models import CtAccount, Deployment
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.events.record import NewEvent, Transition, advance, advance_each, subject, write
from maxxit.postgres import bulk
from positions import book, closing
from positions.models import Position
from signals_app.models import CtPost
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from tests.trading.conftest import Trader
from trading import execute, gate, quarantine, settle
from trading.entries import planning
from trading.models import Fill, LedgerEntry, Order, PaperBalance, PaperFill, PaperOrder
from trading.risk.policy import RiskPolicy, policy
from trading.venues.base import Prepared, Report
from trading.venues.paper import PaperVenue

D = Decimal
PROPERTY = settings(max_examples=25, phases=[Phase.explicit, Phase.generate])
"""Without shrinking: that takes longer than the time limit of a test."""
SIZES = (1, 2, 5, 12)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
MONEY = st.none() | st.decimals(-(10**9), 10**9, places=18)


@pytest.fixture
def batched(trader: Trader) -> Trader:
    """The trader at a venue that takes 500 orders together."""
    trader.venue.capabilities = replace(trader.venue.capabilities, batch=500)
    return trader


def planned(trader: Trader, count: int) -> list[Order]:
    """Entries of one signal, each of its own account."""
    signal = trader.signal()
    return loaded([make.order(make.booked_deployment(trader.agent), by=signal).pk for _ in range(count)])


def loaded(ids: Sequence[int]) -> list[Order]:
    """The orders as a pass reads them, in this order."""
    rows = {order.pk: order for order in Order.objects.select_related("deployment__agent", "signal")}
    return [rows[pk] for pk in ids]


def wide(**platform: Any) -> RiskPolicy:
    """The shipped limits, those of the platform wide but for the named ones."""
    values: dict[str, Any] = {
        "max_orders_per_minute": 10**6,
        "max_open_orders": 10**6,
        "max_total_exposure_usd": D(10**9),
        "max_symbol_exposure_usd": D(10**9),
    }
    return policy().model_copy(update={"platform": policy().platform.model_copy(update=values | platform)})


def undone(work: Callable[[], Any]) -> Any:
    """What `work` returns; the database stays as it was."""
    with transaction.atomic():
        result = work()
        transaction.set_rollback(True)
    return result


# --- many rows in one statement ------------------------------------------------------------------------------------


@pytest.mark.django_db
@PROPERTY
@given(st.lists(st.tuples(MONEY, TEXT, st.booleans()), min_size=1, max_size=50), st.randoms())
def test_each_row_gets_its_own_values(rows: list[tuple[Any, str, bool]], dice: Any) -> None:
    first = PaperOrder.objects.count()
    columns: dict[str, list[Any]] = {
        "client_order_id": [f"o{first + number}" for number in range(len(rows))],
        "account": [text for _, text, _ in rows],
        "symbol": ["ETH"] * len(rows),
        "side": ["buy"] * len(rows),
        "quantity": [money or D(0) for money, *_ in rows],
        "filled": [D(number) for number in range(len(rows))],
        "canceled": [flag for *_, flag in rows],
        "last_price": [money for money, *_ in rows],
        "accepted_at": [make.T0 + timedelta(seconds=number) for number in range(len(rows))],
    }
    ids = bulk.insert(PaperOrder, columns)

    def stored(name: str) -> list[Any]:
        values = dict(PaperOrder.objects.filter(pk__in=ids).values_list("pk", name))
        return [values[pk] for pk in ids]

    assert {name: stored(name) for name in columns} == columns

    order = dice.sample(range(len(rows)), len(rows))
    changed = {
        name: [columns[name][number] for number in order] for name in ("account", "last_price", "filled")
    }
    assert bulk.update(PaperOrder, ids, changed) == len(rows)
    assert {name: stored(name) for name in columns} == columns | changed


@pytest.mark.django_db
@PROPERTY
@given(st.lists(st.lists(TEXT, max_size=3), min_size=1, max_size=20))
def test_lists_of_different_lengths_survive_unchanged(lists: list[list[str]]) -> None:
    author = CtAccount.objects.first() or make.account(make.agent())
    posts = [make.post(author) for _ in lists]
    bulk.update(CtPost, [post.pk for post in posts], {"tokens": lists})
    assert [CtPost.objects.get(pk=post.pk).tokens for post in posts] == lists


@pytest.mark.django_db
@PROPERTY
@given(
    st.lists(
        st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT, max_size=3),
        min_size=1,
        max_size=50,
    )
)
def test_each_event_keeps_its_data_and_its_place(data: list[dict[str, Any]]) -> None:
    before = make.last_event()
    write([NewEvent(f"n{number}", f"x/{number}", None, one) for number, one in enumerate(data)])
    events = Event.objects.filter(pk__gt=before).order_by("pk")

    assert [event.name for event in events] == [f"n{number}" for number in range(len(data))]
    assert [event.data for event in events] == json.loads(json.dumps(data))


def test_a_value_that_is_too_long_for_its_column_is_refused(batched: Trader) -> None:
    [order] = planned(batched, 1)
    with pytest.raises(DataError, match="too long"), transaction.atomic():
        bulk.update(Order, [order.pk], {"venue_ref": ["x" * 101]})
    fill: dict[str, list[Any]] = {"order_id": [order.pk], "venue_fill_id": ["x" * 101], "at": [clock.now()]}
    money = {name: [D(1)] for name in ("quantity", "price", "cash", "fee")}
    with pytest.raises(DataError, match="too long"), transaction.atomic():
        bulk.insert(Fill, fill | money)


MOVES = st.sampled_from(["blocked", "sending", "expired", "another worker"])


@pytest.mark.django_db
@PROPERTY
@given(st.lists(st.tuples(MOVES, TEXT, MONEY, st.integers(0, 2)), min_size=1, max_size=50))
def test_each_row_moves_to_its_own_state_with_its_own_columns_and_events(
    time: RecordedClock, moves: list[tuple[str, str, Any, int]]
) -> None:
    deployment = make.deployment(make.agent(), funded=False)
    orders = [make.order(deployment) for _ in moves]
    for order, (new, *_) in zip(orders, moves, strict=True):
        if new == "another worker":
            advance(Order.objects.get(pk=order.pk), "sending")
    before = make.last_event()
    transitions = [
        Transition(
            order,
            "blocked" if new == "another worker" else new,
            text,
            {"number": number},
            {"reference_price": money} if more == 1 else {"reason": text, "notional_usd": money},
            tuple((f"order.step{step}", {"number": number}) for step in range(more)),
        )
        for number, (order, (new, text, money, more)) in enumerate(zip(orders, moves, strict=True))
    ]
    moved = advance_each(transitions)

    wanted = [one for one, (new, *_) in zip(transitions, moves, strict=True) if new != "another worker"]
    assert moved == wanted
    assert {order.state for order in orders} == {"planned"}, "rows in memory change after the commit"
    for one in wanted:
        row = Order.objects.get(pk=one.row.pk)
        assert {name: getattr(row, name) for name in one.fields} == one.fields
        assert row.state == one.new
    names = {"blocked": "execution.blocked", "sending": "order.sending", "expired": "order.expired"}
    expected = [
        (subject(one.row), name, data)
        for one in wanted
        for name, data in (
            *one.before,
            (names[one.new], {"old": "planned", **({"why": one.why} if one.why else {}), **one.data}),
        )
    ]
    events = Event.objects.filter(pk__gt=before).order_by("pk")
    assert [(event.subject, event.name, event.data) for event in events] == expected
    for one in wanted:
        one.apply()
        assert one.row.state == one.new


# --- one bad order -------------------------------------------------------------------------------------------------


def break_order(monkeypatch: pytest.MonkeyPatch, venue: FakeVenue, where: str, order: Order) -> None:
    """Let one step raise for this order, alone or in a batch."""
    trade = f"{order.deployment_id}/{order.signal_id}"
    ref = execute.correlation.derive_id("order", order.pk, order.correlation_id).hex[:24]
    methods: dict[str, Callable[..., bool]] = {
        "problem": lambda deployment, *_: deployment == order.deployment_id,
        "prepare": lambda request: request.trade == trade,
        "send": lambda prepared: prepared.ref.endswith(ref),
        "find": lambda asked: asked.endswith(ref),
    }
    owner: Any = venue
    name = where
    if where == "reserve":  # behind the moves of the whole batch
        owner, name = bulk, "update"
        methods[name] = lambda model, ids, _: model is Deployment and order.deployment_id in ids
    if where == "booking":
        owner, name = settle, "_journals"
        methods[name] = lambda booking, _: booking.order.pk == order.pk
    real, breaks = getattr(owner, name), methods[name]

    def broken(*args: Any) -> Any:
        if breaks(*args):
            raise KeyError("a bug")
        return real(*args)

    monkeypatch.setattr(owner, name, broken)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("where", ["problem", "prepare", "reserve", "send", "find", "booking"])
def test_one_broken_order_is_counted_alone_and_all_others_are_filled(
    batched: Trader, monkeypatch: pytest.MonkeyPatch, where: str, count: int
) -> None:
    for place in sorted({0, count // 2, count - 1}):
        orders = planned(batched, count)
        bad = orders[place]
        with monkeypatch.context() as patch:
            break_order(patch, batched.venue, where, bad)
            execute.place(orders, batched.venue, wide())

        rows = dict(
            (pk, (state, attempts))
            for pk, state, attempts in Order.objects.filter(
                pk__in=[order.pk for order in orders]
            ).values_list("pk", "state", "attempts")
        )
        before = "planned" if where in ("problem", "prepare", "reserve") else "sending"
        assert rows == {order.pk: ("filled", 0) for order in orders} | {bad.pk: (before, 1)}
        assert {order.state for order in orders if order is not bad} <= {"filled"}
        assert all(batched.sent(order) == 1 for order in orders if order is not bad)
        assert set(Fill.objects.values_list("order_id", flat=True)) >= {
            order.pk for order in orders if order is not bad
        }


def broken_for(entry: int, real: Callable[..., Any], entry_of: Callable[..., int]) -> Callable[..., Any]:
    """`real`, which raises for the position of this entry."""

    def broken(*args: Any) -> Any:
        if entry_of(*args) == entry:
            raise KeyError("a bug")
        return real(*args)

    return broken


@pytest.mark.parametrize("count", SIZES)
def test_one_broken_position_is_counted_alone_and_all_others_open_and_close(
    batched: Trader, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for place in sorted({0, count // 2, count - 1}):
        orders = planned(batched, count)
        execute.place(orders, batched.venue, wide())
        bad = orders[place]
        good = [order.pk for order in orders if order is not bad]
        with monkeypatch.context() as patch:
            patch.setattr(book, "_columns", broken_for(bad.pk, book._columns, lambda order, *_: order.pk))
            assert book.book() == (count - 1, 0)
        assert set(
            Position.objects.filter(entry_order__in=orders).values_list("entry_order", flat=True)
        ) == set(good)
        attempts = dict(Order.objects.filter(pk__in=[bad.pk, *good]).values_list("pk", "attempts"))
        assert attempts == dict.fromkeys(good, 0) | {bad.pk: 1}

        assert book.book() == (1, 0)
        entry_of = dict(Position.objects.filter(entry_order__in=orders).values_list("pk", "entry_order"))
        close(list(entry_of))
        exits = Order.objects.filter(purpose="close", closes__in=orders)
        execute.place(loaded(list(exits.order_by("pk").values_list("pk", flat=True))), batched.venue, wide())
        with monkeypatch.context() as patch:
            stuck = broken_for(bad.pk, closing._closed, lambda result: result.position.entry_order_id)
            patch.setattr(closing, "_closed", stuck)
            assert book.book() == (0, count - 1)
        states = dict(Position.objects.filter(pk__in=entry_of).values_list("entry_order", "state"))
        assert states == dict.fromkeys(good, "closed") | {bad.pk: "closing"}
        assert dict(exits.values_list("closes", "attempts")) == dict.fromkeys(good, 0) | {bad.pk: 1}
        assert book.book() == (0, 1)


def close(ids: Sequence[int]) -> None:
    """Claim positions."""
    from positions.exits import sweep

    assert sweep.close(ids) == len(ids)


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), OperationalError("gone")])
@pytest.mark.parametrize("where", ["prepare", "problem", "send"])
def test_what_ends_the_pass_is_charged_to_no_order_of_the_batch(
    batched: Trader, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    orders = planned(batched, 5)

    def ends(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(batched.venue, where, ends)
    with pytest.raises(type(error)):
        execute.place_due_orders(Order.objects.all(), wide())

    assert set(
        Order.objects.filter(pk__in=[one.pk for one in orders]).values_list("attempts", flat=True)
    ) == {0}


def test_an_error_of_no_single_order_is_counted_for_each(
    batched: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(batched, 3)

    def fails(*_: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(batched.venue, "send_many", fails)
    execute.place_due_orders(Order.objects.all(), wide())

    assert set(Order.objects.values_list("state", "attempts")) == {("sending", 1)}


def test_what_works_again_in_a_batch_gets_new_tries(batched: Trader) -> None:
    orders = planned(batched, 4)
    Order.objects.filter(pk__in=[orders[1].pk, orders[2].pk]).update(attempts=quarantine.TRIES)
    execute.place(loaded([order.pk for order in orders]), batched.venue, wide())

    assert set(Order.objects.values_list("state", "attempts")) == {("filled", 0)}


# --- answers of the venue ------------------------------------------------------------------------------------------

WORDS = {"ok": "filled", "silent": "unknown", "lost": "unknown", "away": "sending", "refused": "rejected"}


@PROPERTY
@given(words=st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=12))
def test_each_order_of_a_batch_gets_its_own_answer(batched: Trader, words: list[str]) -> None:
    def run() -> None:
        orders = planned(batched, len(words))
        batched.venue.sends.extend(words)
        execute.place(orders, batched.venue, wide())
        states = [(order.state, Order.objects.get(pk=order.pk).state) for order in orders]
        assert states == [(WORDS[word], WORDS[word]) for word in words]
        assert {order.attempts for order in Order.objects.all()} == {0}

    undone(run)


@PROPERTY
@given(answers=st.lists(st.sampled_from(["", "market_closed", "not_verified"]), min_size=1, max_size=12))
def test_each_order_gets_the_objection_of_its_own_deployment(batched: Trader, answers: list[str]) -> None:
    def run() -> None:
        orders = planned(batched, len(answers))
        says = {order.deployment_id: answer for order, answer in zip(orders, answers, strict=True)}
        batched.venue.problem = lambda deployment, *_: says[deployment]  # type: ignore[method-assign]
        placed = execute.place(orders, batched.venue, wide())
        assert [one.verdict.reason for one in placed] == answers
        rows = dict(Order.objects.values_list("deployment_id", "reason"))
        assert rows == says

    undone(run)


def test_an_order_that_the_venues_answer_leaves_out_stays_as_it_is(
    batched: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    batched.venue.fills_at_once = False
    orders = planned(batched, 3)
    batched.venue.sends.extend(["silent"] * 3)
    execute.place(orders, batched.venue, wide())
    batched.time.move(hours=1)
    real = batched.venue.find_many
    monkeypatch.setattr(
        batched.venue,
        "find_many",
        lambda refs: {ref: found for ref, found in real(refs).items() if ref != orders[1].venue_ref},
    )
    settle.settle_orders(orders, batched.venue)

    assert [order.state for order in orders] == ["accepted", "unknown", "accepted"]
    assert batched.venue.effects.total() == 3


def test_reports_that_are_older_than_their_orders_change_nothing(batched: Trader) -> None:
    batched.venue.fills_at_once = False
    orders = planned(batched, 4)
    execute.place(orders, batched.venue, wide())
    for order in orders:
        batched.venue.fill(order.venue_ref, "0.1")
    settle.settle_orders(orders, batched.venue)
    for order in orders[::2]:
        batched.venue.book[order.venue_ref].state = "accepted"
    for order in orders[1::2]:
        batched.venue.fill(order.venue_ref)
    settle.settle_orders(orders, batched.venue)

    rows = Order.objects.filter(pk__in=[order.pk for order in orders]).order_by("pk")
    assert list(rows.values_list("state", "attempts")) == [("partially_filled", 0), ("filled", 0)] * 2


@pytest.mark.parametrize("size", [1, 2])
def test_the_gate_is_read_before_each_batch_that_leaves(
    batched: Trader, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    batched.venue.capabilities = replace(batched.venue.capabilities, batch=size)
    orders = planned(batched, 5)
    real = batched.venue.send_many

    def shut(prepared: Sequence[Prepared]) -> Any:
        gate.set_dry_run("paper", True, by="test", reason="test")
        return real(prepared)

    monkeypatch.setattr(batched.venue, "send_many", shut)
    execute.place(orders, batched.venue, wide())

    assert [batched.sent(order) for order in orders] == [1] * size + [0] * (5 - size)
    assert {order.state for order in orders[size:]} == {"sending"}


def test_a_kill_switch_of_one_account_holds_back_its_order_alone(
    batched: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = planned(batched, 4)
    real = execute.send_orders

    def pulled(*args: Any) -> Any:
        gate.kill("reduce_only", by="test", reason="test", account=orders[2].account)
        return real(*args)

    monkeypatch.setattr(execute, "send_orders", pulled)
    execute.place(orders, batched.venue, wide())

    assert [batched.sent(order) for order in orders] == [1, 1, 0, 1]


def test_a_signal_is_finished_once_none_of_its_orders_waits(batched: Trader) -> None:
    signal = batched.signal()
    make.booked_deployment(batched.agent)
    planning.fan_out()
    first, second = loaded(sorted(Order.objects.values_list("pk", flat=True)))
    execute.place([first], batched.venue, wide())

    assert planning.finish_signals() == {"executed": 0}
    execute.place([second], batched.venue, wide())
    assert planning.finish_signals() == {"executed": 1}
    signal.refresh_from_db()
    assert signal.state == "executed"


def test_the_pace_counts_the_orders_of_the_same_batch(batched: Trader) -> None:
    orders = planned(batched, 6)
    placed = execute.place(orders, batched.venue, wide(max_orders_per_minute=4))

    assert [one.verdict.reason for one in placed] == [""] * 4 + ["platform_pace"] * 2
    assert [order.state for order in orders] == ["filled"] * 4 + ["planned"] * 2


def test_the_cap_counts_the_orders_of_the_same_batch(batched: Trader) -> None:
    orders = planned(batched, 6)
    placed = execute.place(orders, batched.venue, wide(max_total_exposure_usd=D(2500)))

    assert [one.verdict.reason for one in placed] == [""] * 3 + ["platform_exposure_cap"] * 3


def test_fills_are_booked_at_their_own_orders(batched: Trader) -> None:
    batched.venue.fills_at_once = False
    orders = planned(batched, 4)
    execute.place(orders, batched.venue, wide())
    amounts = [D(number) / 100 for number in range(1, 5)]
    for order, amount in zip(orders, amounts, strict=True):
        batched.venue.fill(order.venue_ref, str(amount))
    settle.settle_orders(orders, batched.venue)

    ids = [order.pk for order in orders]
    assert dict(Fill.objects.values_list("order_id", "quantity")) == dict(zip(ids, amounts, strict=True))
    rows = dict(Order.objects.filter(pk__in=ids).values_list("pk", "filled_quantity"))
    assert rows == dict(zip(ids, amounts, strict=True))
    bought = LedgerEntry.objects.filter(asset="ETH", deployment__isnull=False)
    assert dict(bought.values_list("deployment_id", "amount")) == {
        order.deployment_id: amount for order, amount in zip(orders, amounts, strict=True)
    }


def test_a_loss_is_carried_forward_to_the_next_position_of_the_same_batch(batched: Trader) -> None:
    signal = batched.signal()
    other = make.agent(profit_share=D("0.2"))
    deployment = make.booked_deployment(other)
    orders = [make.order(deployment, by=one).pk for one in (signal, batched.signal(token="BTC", usd="50000"))]
    make.price("BTC", "50000")
    execute.place(loaded(orders), batched.venue, wide())
    assert book.book() == (2, 0)
    close(sorted(Position.objects.values_list("pk", flat=True)))
    make.price("ETH", "1000")
    make.price("BTC", "55000")
    exits = sorted(Order.objects.filter(purpose="close").values_list("pk", flat=True))
    execute.place(loaded(exits), batched.venue, wide())
    assert book.book() == (0, 2)

    lost, gained = Position.objects.order_by("pk")
    assert lost.realised_pnl < -gained.realised_pnl < 0
    assert (lost.profit_share, gained.profit_share) == (0, 0)
    mark = closing.ProfitMark.objects.get(deployment=deployment)
    assert mark.carried_loss == -lost.realised_pnl - gained.realised_pnl


# --- a batch and its orders one by one -----------------------------------------------------------------------------

SYMBOLS = {"ETH": "2000", "BTC": "50000", "SOL": "100"}
MINE = policy().account
LIMITS = st.fixed_dictionaries(
    {
        "platform": st.fixed_dictionaries(
            {
                "max_orders_per_minute": st.integers(1, 12),
                "max_open_orders": st.integers(1, 12),
                "max_total_exposure_usd": st.sampled_from([D(1000), D(4100), D(10**9)]),
                "max_symbol_exposure_usd": st.sampled_from([D(900), D(2500), D(10**9)]),
            }
        ),
        "account": st.fixed_dictionaries(
            {
                "max_orders_per_minute": st.integers(1, 6),
                "max_open_orders": st.integers(1, 6),
                "max_orders_per_symbol_per_day": st.integers(1, 4),
                "cooldown_seconds_per_symbol": st.sampled_from([0, 1, 900]),
                "max_total_exposure_usd": st.sampled_from([D(900), D(2500), D(10**9)]),
                "max_symbol_exposure_usd": st.sampled_from([D(900), D(1700), D(10**9)]),
            }
        ),
        "allow_add_to_position": st.booleans(),
    }
)
ENTRY = st.tuples(
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from([D(1), D(1), D("1.2")]),
    st.sampled_from(sorted(SYMBOLS)),
)
"""Deployment, how far its signals are (side and leverage), distance of the signal's price, symbol."""


def limited(drawn: dict[str, Any]) -> RiskPolicy:
    """The shipped limits with those drawn."""
    return policy().model_copy(
        update={
            "platform": policy().platform.model_copy(update=drawn["platform"]),
            "account": policy().account.model_copy(update=drawn["account"]),
            "allow_add_to_position": drawn["allow_add_to_position"],
        }
    )


def told(rows: Any, *names: str) -> list[tuple[Any, ...]]:
    """Rows in an order that their ids do not decide."""
    return sorted((tuple(row) for row in rows.values_list(*names)), key=repr)


ORDER = (
    *(
        "pk",
        "state",
        "reason",
        "verdict",
        "quantity",
        "notional_usd",
        "reference_price",
        "client_order_id",
        "prepared",
    ),
    *(
        "venue_ref",
        "reserved_at",
        "deadline",
        "filled_quantity",
        "average_price",
        "booked_quantity",
        "attempts",
    ),
)
FILL = ("order", "venue_fill_id", "quantity", "price", "cash", "fee", "at")
LINE = ("journal_kind", "account", "deployment", "asset", "amount", "kind", "order", "correlation_id", "at")
POSITION = (
    *(
        "deployment",
        "signal",
        "entry_order",
        "exit_order__closes",
        "symbol",
        "side",
        "state",
        "quantity",
        "fees",
    ),
    *("closed_quantity", "entry_price", "exit_price", "stop_loss", "take_profit", "exits", "exit_reason"),
    *("realised_pnl", "profit_share", "correlation_id"),
)


def everything() -> dict[str, Any]:
    """All that the money path wrote, without the ids of what it made; events of each subject in their order."""
    events: dict[str, list[Any]] = {}
    for event in Event.objects.filter(subject__startswith="trading.order/").order_by("pk"):
        events.setdefault(event.subject, []).append((event.name, event.data, event.correlation_id))
    return {
        "orders": told(Order.objects.filter(purpose="open"), *ORDER),
        "exits": told(Order.objects.filter(purpose="close"), "closes", *ORDER[1:6], *ORDER[12:15]),
        "events": {
            name: said
            for name, said in events.items()
            if Order.objects.filter(pk=name.split("/")[1], purpose="open")
        },
        "fills": told(Fill.objects.filter(order__purpose="open"), *FILL),
        "exit fills": told(Fill.objects.filter(order__purpose="close"), "order__closes", *FILL[2:]),
        "ledger": told(LedgerEntry.objects.exclude(order__purpose="close"), *LINE),
        "exit ledger": told(LedgerEntry.objects.filter(order__purpose="close"), *LINE[:6], "order__closes"),
        "positions": told(Position.objects.all(), *POSITION),
        "marks": told(closing.ProfitMark.objects.all(), "deployment", "carried_loss"),
        "served": told(Deployment.objects.all(), "pk", "last_entry"),
    }


def story(
    ids: list[int], limits: RiskPolicy, cuts: Sequence[slice], parts: Sequence[Decimal], *, local: bool
) -> dict[str, Any]:
    """Place the orders, fill a part of each, settle, book, fill the rest, close all; in batches as cut."""
    venue = FakeVenue(fills=False)
    venue.capabilities = replace(venue.capabilities, batch=500, local=local)
    placed = []
    for cut in cuts:
        placed += execute.place(loaded(ids)[cut], venue, limits)
    verdicts = [(one.order.pk, one.verdict, one.prepared and one.prepared.payload) for one in placed]
    size = max(cut.stop - cut.start for cut in cuts)

    def in_batches(rows: Sequence[Any], step: Callable[[Sequence[Any]], Any]) -> None:
        for start in range(0, len(rows), size):
            step(rows[start : start + size])

    def settled() -> None:
        rows = list(
            Order.objects.filter(state__in=settle.IN_FLIGHT).order_by("pk").select_related("deployment")
        )
        in_batches(rows, lambda part: settle.settle_orders(part, venue))

    settled()
    for number, ref in enumerate(sorted(venue.book)):
        share = (D(venue.book[ref].request["quantity"]) * parts[number % len(parts)]).quantize(D("0.00001"))
        if share:
            venue.fill(ref, str(share), usd=str(D(venue.book[ref].request["reference_price"]) * D("1.001")))
    settled()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book.passes, "policy", partial(_with_batch, book.passes.policy(), size))
        book.book()
        for ref in sorted(venue.book):
            if venue.book[ref].state != "filled":
                venue.fill(ref)
        settled()
        book.book()
        close(sorted(Position.objects.values_list("pk", flat=True)))
        exits = list(Order.objects.filter(purpose="close").order_by("closes").values_list("pk", flat=True))
        in_batches(exits, lambda part: execute.place(loaded(part), venue, limits))
        refs = Order.objects.filter(pk__in=exits).exclude(venue_ref="").order_by("closes")
        for number, ref in enumerate(refs.values_list("venue_ref", flat=True)):
            change = D(1) + parts[number % len(parts)]
            venue.fill(ref, usd=str(D(venue.book[ref].request["reference_price"]) * change))
        settled()
        book.book()
    return {"verdicts": verdicts, "sent": sorted(venue.effects.values())} | everything()


def without_reasons(result: dict[str, Any]) -> dict[str, Any]:
    """The same but for the reason of what is blocked."""
    return result | {
        "verdicts": [(pk, verdict.allowed, sent) for pk, verdict, sent in result["verdicts"]],
        "orders": [(*row[:2], *row[4:]) for row in result["orders"]],
        "events": {name: [event for event, *_ in events] for name, events in result["events"].items()},
    }


def _with_batch(rules: Any, size: int) -> Any:
    return rules.model_copy(update={"batch": size})


@settings(PROPERTY, max_examples=10)
@given(
    drawn=LIMITS,
    wanted=st.lists(ENTRY, min_size=1, max_size=14),
    parts=st.lists(st.sampled_from([D(0), D("0.3"), D("0.5"), D(1)]), min_size=1, max_size=5),
    local=st.booleans(),
)
def test_a_batch_does_what_its_orders_do_one_by_one(
    trader: Trader,
    drawn: dict[str, Any],
    wanted: list[tuple[int, int, Decimal, str]],
    parts: list[Decimal],
    local: bool,
) -> None:
    def run() -> None:
        for symbol, usd in SYMBOLS.items():
            make.price(symbol, usd)
        agents = [
            make.agent(name=f"batch {number}", tokens=list(SYMBOLS), profit_share=D("0.2"))
            for number in range(2)
        ]
        deployments = [
            make.booked_deployment(agents[number % 2], account=f"paper:batch{number // 2}")
            for number in range(6)
        ]
        ids = []
        for number, kind, distance, symbol in wanted:
            side = "short" if kind == 3 else "long"
            signal = make.signal(
                deployments[number].agent, token=symbol, side=side, usd=str(D(SYMBOLS[symbol]) * distance)
            )
            order_side = "sell" if side == "short" else "buy"
            ids.append(make.order(deployments[number], by=signal, side=order_side).pk)
        limits = limited(drawn)
        count = len(ids)
        ones = [slice(at, at + 1) for at in range(count)]
        together = undone(lambda: story(ids, limits, [slice(0, count)], parts, local=local))
        single = undone(lambda: story(ids, limits, ones, parts, local=local))
        if (
            not local
        ):  # such a venue is asked about a batch before any of it is reserved: it is blocked by another check
            together, single = without_reasons(together), without_reasons(single)
        for name, rows in single.items():
            assert together[name] == rows, name

    undone(run)


# --- the paper exchange --------------------------------------------------------------------------------------------

PAPER_ORDER = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["a", "b", "c"]),
        "symbol": st.sampled_from(["ETH", "BTC", "SOL"]),
        "side": st.sampled_from(["buy", "sell"]),
        "quantity": st.sampled_from(["0", "0.1", "1", "2.5"]),
        "urgent": st.sampled_from(["True", "False"]),
        "late": st.booleans(),
        "reference_price": st.just("90"),
    }
)


def at_paper(orders: Sequence[Prepared], *, together: bool) -> dict[str, Any]:
    """Send them twice, ask twice, cancel some; return all answers and all rows."""
    venue = PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=1500)
    answers: list[Any] = []

    def send(part: Sequence[Prepared]) -> None:
        for ref, error in venue.send_many(part).items():
            answers.append((ref, type(error), str(error), getattr(error, "code", "")))

    def single(order: Prepared) -> None:
        try:
            venue.send(order)
        except Rejected as error:
            answers.append((order.ref, type(error), str(error), error.code))

    refs = [*(order.ref for order in orders), "nobody's"]
    reports: list[tuple[str, Any]] = []
    for step in range(2):
        if together:
            send(orders)
            reports += venue.find_many(refs).items()
        else:
            for order in orders:
                single(order)
            reports += [(ref, venue.find(ref)) for ref in refs]
        if not step:
            for ref in refs[::3]:
                venue.cancel(ref)
    return {
        "answers": sorted(answers, key=repr),
        "reports": [(ref, report and _without_ids(report)) for ref, report in reports],
        "orders": told(
            PaperOrder.objects.all(),
            "client_order_id",
            "account",
            "symbol",
            "side",
            "quantity",
            "filled",
            "canceled",
            "last_price",
        ),
        "fills": told(PaperFill.objects.all(), "order__client_order_id", "quantity", "price", "cash", "fee"),
        "balances": told(PaperBalance.objects.all(), "account", "asset", "amount"),
    }


def _without_ids(report: Report) -> Report:
    return replace(report, fills=tuple(replace(fill, fill_id="") for fill in report.fills))


@pytest.mark.django_db
@PROPERTY
@given(st.lists(PAPER_ORDER, min_size=1, max_size=12))
def test_the_paper_exchange_answers_a_batch_as_it_answers_each_order(
    time: RecordedClock, drawn: list[dict[str, Any]]
) -> None:
    make.price("ETH", "2000")
    make.price("BTC", "50000")
    PaperBalance.objects.all().delete()
    now = clock.now()
    orders = [
        Prepared(
            f"r{number}",
            {name: value for name, value in one.items() if name != "late"}
            | {"deadline": (now + timedelta(minutes=0 if one["late"] else 5)).isoformat()},
        )
        for number, one in enumerate(drawn)
    ]
    together = undone(lambda: at_paper(orders, together=True))
    single = undone(lambda: at_paper(orders, together=False))

    for name, rows in single.items():
        assert together[name] == rows, name
