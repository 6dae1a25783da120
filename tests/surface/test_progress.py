"""Where the entries of a signal are: counts, places in the queue, pace, estimate; by command, for each reader."""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.pipeline.models import PipelineRun, StageRun
from maxxit.reports import progress
from maxxit.reports.progress import Pace, Queue, Run
from maxxit.web import charts
from signals_app.models import Signal
from tests import builders
from tests.surface.conftest import World
from tests.surface.test_commands import said, told
from trading import tasks
from trading.models import Order
from trading.risk.limits_in_force import risk_limits
from trading.risk.policy import policy

T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def run(count: int, minutes: float | None, place: int = 1) -> Run:
    """A run of the queue whose signal expires in `minutes`."""
    expires = None if minutes is None else T0 + timedelta(minutes=minutes)
    return Run(1, "paper", True, True, count, place, place, expires)


def one_by_one(runs: list[Run], pace: Pace) -> list[int]:
    """What `turns` says, order by order: the first ones are free, then one each 60 / per_minute seconds."""
    served, leave = 0, []
    for part in runs:
        left = 0
        for _ in range(part.count):
            at = pace.leaves_at(served + 1)
            if part.expires_at is None or (part.expires_at > pace.now and at <= part.expires_at):
                served, left = served + 1, left + 1
        leave.append(left)
    return leave


@given(
    st.lists(st.tuples(st.integers(1, 60), st.none() | st.integers(-2, 6)), max_size=6),
    st.sampled_from([1, 2, 3, 6, 30]),
    st.integers(0, 40),
)
def test_the_estimate_is_that_of_serving_one_by_one(
    parts: list[tuple[int, int | None]], per_minute: int, last_minute: int
) -> None:
    pace = Pace(per_minute, last_minute, T0)
    runs = [run(count, minutes) for count, minutes in parts]
    assert [leaves for _, _, leaves in progress.turns(runs, pace)] == one_by_one(runs, pace)


def test_orders_that_expire_first_take_no_turn_from_those_behind() -> None:
    pace = Pace(30, 30, T0)
    queue = progress.turns([run(100, 1), run(50, 60, place=101)], pace)
    first, second = (progress.estimate([turn], pace) for turn in queue)
    assert (first.leave, first.expire, first.done_at) == (30, 70, T0 + timedelta(minutes=1))
    assert (second.leave, second.expire) == (50, 0)
    assert second.done_at == T0 + timedelta(seconds=80 * 2)
    assert progress.estimate([], pace) == progress.Estimate()


def test_a_free_pace_lets_orders_leave_at_once() -> None:
    pace = Pace(30, 10, T0)
    assert [pace.leaves_at(turn) for turn in (1, 20, 21)] == [T0, T0, T0 + timedelta(seconds=2)]
    assert pace.leave_before(T0) == 0
    assert pace.leave_before(T0 + timedelta(seconds=1)) == 20


# -- read from the database


def allow(monkeypatch: pytest.MonkeyPatch, per_minute: int) -> None:
    """Let the platform send this many entries a minute."""
    paced = policy().platform.model_copy(update={"max_orders_per_minute": per_minute})
    slow = policy().model_copy(update={"platform": paced})
    monkeypatch.setattr("trading.risk.limits_in_force.policy", lambda: slow)


@pytest.fixture
def still() -> Iterator[datetime]:
    """The clock stands: the machine's own pace changes no figure."""
    with clock.frozen(clock.now()):
        yield clock.now()


@pytest.fixture
def crowd(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Signal, list[Order]]:
    """A signal of alice's agent: alice's two orders wait at 3 and 5 of 6, bob's agent has one before and one behind.

    The platform sends 30 entries a minute.
    """
    allow(monkeypatch, per_minute=30)
    alice, bob = world.of_alice, world.of_bob
    Signal.objects.filter(state="pending").update(state="skipped", reason="cooldown")
    signal = builders.signal(alice.agent, expires_at=clock.now() + timedelta(hours=1))
    other = builders.signal(bob.agent)
    more = [
        builders.deployment(alice.agent, owner=owner)
        for owner in (bob.owner, world.staff, alice.owner, bob.owner)
    ]
    mine, theirs = [alice.deployment, more[2]], [more[0], more[1], more[3]]
    late: dict[str, Any] = {"reason": "platform_pace"}
    orders = [
        builders.order(bob.deployment, by=other, **late),
        builders.order(theirs[0], by=signal, **late),
        builders.order(mine[0], by=signal, **late),
        builders.order(theirs[1], by=signal, **late),
        builders.order(mine[1], by=signal, **late),
        builders.order(theirs[2], by=signal),
    ]
    record("signal.waiting", signal)
    return signal, orders


def test_a_customer_sees_the_own_orders_and_their_places(
    world: World, crowd: tuple[Signal, list[Order]]
) -> None:
    signal, orders = crowd
    seen = progress.of_signal(signal.pk, world.alice)
    assert (seen.orders, seen.waiting, seen.planned) == (2, 2, 0)
    assert (seen.first_place, seen.last_place, seen.queue_length) == (3, 5, 6)
    assert seen.waiting_since is not None
    rows = Queue([one.pk for one in (world.of_alice.deployment, orders[4].deployment)]).waiting(signal.pk)
    assert [(row.order_id, row.place, row.length) for row in rows] == [
        (orders[2].pk, 3, 6),
        (orders[4].pk, 5, 6),
    ]
    assert {row.account for row in rows} == {orders[2].account, orders[4].account}
    with pytest.raises(Rejected, match="belongs to another customer"):
        progress.of_signal(signal.pk, User.objects.create_user("stranger"))


def test_staff_sees_all_orders_of_the_signal(world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, _ = crowd
    for person in (world.staff, None):
        seen = progress.of_signal(signal.pk, person)
        assert (seen.waiting, seen.planned, seen.first_place, seen.last_place) == (4, 1, 2, 5)
        assert (seen.estimate.leave, seen.estimate.expire) == (5, 0)


def test_each_state_is_counted_once(still: datetime, world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, orders = crowd
    done: dict[str, Any] = {"quantity": Decimal(1), "filled_quantity": Decimal("0.5")}
    states: list[dict[str, Any]] = [
        {"state": "sending", "reserved_at": clock.now()},
        {"state": "partially_filled", **done, "reserved_at": clock.now() - timedelta(seconds=50)},
        {"state": "expired", **done, "reserved_at": clock.now() - timedelta(seconds=70)},
        {"state": "filled", "quantity": Decimal(1), "filled_quantity": Decimal(1)},
        {"state": "blocked", "reason": "cooldown"},
        {"state": "blocked", "reason": "cooldown"},
        {"state": "blocked", "reason": "below_minimum"},
        {"state": "rejected", "reason": "slippage"},
        {"state": "expired", "reason": "platform_pace"},
        {"attempts": 3, "last_error": "boom"},
    ]
    for fields in states:
        builders.order(builders.deployment(world.of_alice.agent), by=signal, **fields)
    builders.order(world.of_alice.deployment, by=signal, purpose="close", side="sell", state="sending")
    seen = progress.of_signal(signal.pk)
    counts = {"filled": 2, "sent": 2, "planned": 1, "waiting": 4, "blocked": 3, "ended": 2, "quarantined": 1}
    assert dict(seen.parts) == counts
    assert seen.orders == len(states) + len(orders) - 1
    assert [(one.status, one.reason, one.count) for one in seen.reasons] == [
        ("waiting", "platform_pace", 4),
        ("blocked", "cooldown", 2),
        ("blocked", "below_minimum", 1),
        ("expired", "platform_pace", 1),
        ("rejected", "slippage", 1),
    ]
    assert seen.reasons[2].audience == "customer"
    assert (seen.pace.last_minute, seen.pace.per_minute) == (2, risk_limits().platform.max_orders_per_minute)
    assert seen.queue_length == len(orders), "a quarantined order has no place"


def test_positions_of_the_signal_are_counted(world: World) -> None:
    seen = progress.of_signal(world.of_alice.signal.pk, world.alice)
    assert (seen.opened, seen.closed, seen.under_way) == (1, 1, False)
    assert progress.of_signal(world.of_alice.open_position.signal_id or 0, world.alice).closed == 0


def test_an_estimate_says_how_many_the_deadline_reaches_first(
    still: datetime, world: World, crowd: tuple[Signal, list[Order]]
) -> None:
    signal, _ = crowd
    Signal.objects.filter(pk=signal.pk).update(expires_at=clock.now() + timedelta(seconds=5))
    full = [builders.deployment(world.of_bob.agent) for _ in range(30)]
    for one in full:
        builders.order(one, by=builders.signal(world.of_bob.agent), state="filled", reserved_at=clock.now())
    seen = progress.of_signal(signal.pk)
    assert (seen.estimate.leave, seen.estimate.expire) == (1, 4)
    rows = Queue().waiting(signal.pk)
    assert [row.leaves_at is None for row in rows] == [False, True, True, True, True]
    assert "before its turn" in rows[1].text
    assert "sent at about" in rows[0].text


def test_recent_signals_are_those_under_way_and_of_the_last_hour(
    world: World, crowd: tuple[Signal, list[Order]]
) -> None:
    signal, orders = crowd
    old = builders.signal(world.of_alice.agent, state="executed", created_at=clock.now() - timedelta(hours=2))
    builders.order(world.of_alice.deployment, by=old, state="filled")
    listed = [row.signal.pk for row in progress.recent()]
    assert listed[:2] == [orders[0].signal_id, signal.pk]
    assert old.pk not in listed
    Order.objects.filter(signal=old).update(state="unknown")
    under_way = [old.pk, orders[0].signal_id, signal.pk]
    assert [row.signal.pk for row in progress.recent() if row.under_way] == under_way
    assert [row.signal.pk for row in progress.recent(world.alice) if row.under_way] == [old.pk, signal.pk]
    assert len(progress.recent(most=1)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_places_and_runs_are_those_of_counting_one_by_one(db: None, seed: int) -> None:
    draw = random.Random(seed)
    agents = [builders.agent(), builders.agent(venue="safe"), builders.agent()]
    signals = [builders.signal(agent) for agent in agents]
    late: dict[str, Any] = {"reason": "platform_pace"}
    kinds: list[dict[str, Any]] = [{}, late, late, {"state": "filled"}, {"attempts": 3}]
    made = []
    for _ in range(40):
        number, fields = draw.randrange(3), draw.choice(kinds)
        made.append(
            builders.order(builders.deployment(agents[number], funded=False), by=signals[number], **fields)
        )
    queue = [order for order in made if order.state == "planned" and order.attempts < 3]
    own = {order.deployment_id for order in queue if draw.random() < 0.5}
    read = Queue(sorted(own))
    assert [(run.signal_id, run.waits, run.own) for run, _, _ in read.turns for _ in range(run.count)] == [
        (order.signal_id, bool(order.reason), order.deployment_id in own) for order in queue
    ]
    for signal in signals:
        line = [order for order in queue if order.venue == signal.venue]
        expected = [
            (order.pk, line.index(order) + 1, len(line))
            for order in line
            if order.signal_id == signal.pk and order.deployment_id in own
        ]
        rows = read.waiting(signal.pk)
        assert [(row.order_id, row.place, row.length) for row in rows] == expected[: len(rows)]
        assert len(rows) == min(len(expected), progress.WAITING_LISTED)
        placed = [run.venue_place + n for run, _, _ in read.of_signal(signal.pk) for n in range(run.count)]
        assert placed == [place for _, place, _ in expected]
        assert read.length(signal.venue) == len(line)


def test_the_figures_are_those_of_a_pass_that_the_pace_cuts(
    still: datetime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, per_minute=2)
    Signal.objects.filter(state="pending").update(state="skipped", reason="cooldown")
    builders.price("ETH", "2000")
    agent = builders.agent()
    accounts = [builders.deployment(agent, owner=world.bob) for _ in range(5)]
    signal = builders.signal(agent, expires_at=still + timedelta(seconds=61))
    before = progress.of_signal(signal.pk)
    assert (before.orders, before.under_way) == (0, True)

    tasks.entry_pass()
    seen = progress.of_signal(signal.pk, world.bob)
    assert (dict(seen.parts), seen.waiting_since) == ({"filled": 2, "waiting": 3}, still)
    assert (seen.pace.last_minute, seen.first_place, seen.last_place, seen.queue_length) == (2, 1, 3, 3)
    assert (seen.estimate.leave, seen.estimate.expire) == (2, 1)
    assert [row.account for row in seen.waiting_orders] == [one.account for one in accounts[2:]]

    with clock.frozen(still + timedelta(seconds=62)):
        tasks.entry_pass()
        ended = progress.of_signal(signal.pk, world.bob)
    assert (dict(ended.parts), ended.under_way) == ({"filled": 2, "ended": 3}, False)
    assert [(row.status, row.reason, row.count) for row in ended.reasons] == [("expired", "platform_pace", 3)]


# -- the commands


def test_status_shows_signals_under_way(world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, _ = crowd
    text = said("status")
    assert f"signal {signal.pk} (long ETH, {world.of_alice.agent}): 5 orders: 1 planned, 4 waiting" in text
    assert "numbers 2 to 5 of 6; pace 0 of 30 entries a minute; 5 leave by about " in text
    rows = {row["signal_id"]: row for row in told("status")["signals"]}
    assert rows[signal.pk]["queue"]["last"] == 5
    Signal.objects.filter(state="pending").update(state="expired")
    Order.objects.filter(state="planned").update(state="expired")
    text = said("status")
    assert "no signal is under way; " in text
    assert rows[signal.pk]["under_way"]


def test_why_names_what_an_order_waits_for(world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, orders = crowd
    text = said("why", "--order", str(orders[4].pk))
    assert f"order {orders[4].pk}: waiting: platform pace: " in text
    assert "number 5 of 6, sent at about " in text
    assert "30 entries a minute" in text
    answer = told("why", "--order", str(orders[4].pk))
    assert (answer["stopped"], answer["reasons"][0]["waiting"]) == (False, True)
    text = said("why", "--signal", str(signal.pk))
    assert [f"number {place} of 6" in text for place in range(1, 7)] == [False, True, True, True, True, False]
    Order.objects.filter(pk=orders[4].pk).update(attempts=3, last_error="boom")
    answer = told("why", "--order", str(orders[4].pk))
    assert (answer["stopped"], [row["code"] for row in answer["reasons"]]) == (True, ["quarantined"])
    Order.objects.filter(pk=orders[4].pk).update(state="expired", attempts=0)
    assert f"order {orders[4].pk}: platform_pace: " in said("why", "--order", str(orders[4].pk))


# -- the page and the API


@pytest.mark.parametrize("part", ["", "/progress"])
def test_the_page_shows_each_reader_the_own_orders(
    world: World, crowd: tuple[Signal, list[Order]], part: str
) -> None:
    signal, orders = crowd
    url = f"/signals/{signal.pk}{part}"
    page = world.logged_in(world.alice).get(url).content.decode()
    assert ("<html" in page) is (part == "")
    for text in (
        "<svg",
        "data-under-way",
        "orders wait at numbers <b>3 to 5</b> of 6",
        "Nobody needs to act",
    ):
        assert text in page
    assert orders[3].account not in page
    assert str(orders[0].signal_id) not in re.findall(r"/signals/(\d+)", page)
    staff = world.logged_in(world.staff).get(url).content.decode()
    assert "4 orders wait at numbers <b>2 to 5</b> of 6" in staff
    assert orders[3].account in staff
    stranger = User.objects.create_user("stranger")
    assert world.logged_in(stranger).get(url).status_code == 404
    assert world.logged_in(None).get(url).status_code == 302


def test_a_single_order_is_addressed_as_yours(world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, orders = crowd
    Order.objects.filter(pk=orders[4].pk).update(state="blocked", reason="cooldown")
    page = world.logged_in(world.alice).get(f"/signals/{signal.pk}").content.decode()
    assert "Your order is <b>number 3 of 5</b> waiting" in page
    Signal.objects.filter(pk=signal.pk).update(expires_at=clock.now())
    page = world.logged_in(world.alice).get(f"/signals/{signal.pk}").content.decode()
    assert "it will not be sent" in page


def test_a_signal_that_is_done_is_not_refreshed(world: World) -> None:
    page = world.logged_in(world.alice).get(f"/signals/{world.of_alice.signal.pk}").content.decode()
    assert "data-refresh=" in page
    assert "data-under-way" not in page
    assert "1 opened, 1 of them closed" in page


def test_dashboard_and_trace_link_to_the_signal(world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, orders = crowd
    link = f'href="/signals/{signal.pk}"'
    assert link in world.logged_in(world.alice).get(f"/chain/{signal.correlation_id}").content.decode()
    page = world.logged_in(world.alice).get("/").content.decode()
    assert link in page
    assert f'href="/signals/{orders[0].signal_id}"' not in page
    Signal.objects.filter(state="pending").update(state="expired")
    Order.objects.filter(state="planned").update(state="expired")
    assert "Signals under way" not in world.logged_in(world.alice).get("/").content.decode()


def test_a_pipeline_run_links_to_its_signals(world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, _ = crowd
    now = clock.now()
    made = PipelineRun.objects.create(cause="command", started_at=now)
    page = f"/admin/pipeline/pipelinerun/{made.pk}/change/"
    browser = world.logged_in(world.staff)
    assert "/signals/" not in browser.get(page).content.decode()
    begun = now - timedelta(seconds=1)
    StageRun.objects.create(run=made, stage="generate", started_at=begun, duration_ms=60_000)
    record("signal.pending", signal)
    assert f'href="/signals/{signal.pk}"' in browser.get(page).content.decode()


def test_the_api_gives_the_figures_of_the_page(world: World, crowd: tuple[Signal, list[Order]]) -> None:
    signal, orders = crowd
    headers = world.key(world.alice)
    answer = world.logged_in(None).get(f"/api/signals/{signal.pk}/progress", headers=headers).json()
    assert (answer["status"], answer["orders"], answer["waiting"], answer["under_way"]) == (
        "PENDING",
        2,
        2,
        True,
    )
    assert (answer["queue"]["first"], answer["queue"]["last"], answer["queue"]["length"]) == (3, 5, 6)
    assert answer["reasons"][0] | {"meaning": "", "change": ""} == {
        "status": "WAITING", "reason": "platform_pace", "count": 2, "meaning": "", "change": "", "audience": "nobody",
    }  # fmt: skip
    assert [(row["order_id"], row["place"]) for row in answer["waiting_orders"]] == [
        (orders[2].pk, 3), (orders[4].pk, 5),
    ]  # fmt: skip
    assert answer["queue"]["done_at"].endswith("Z")
    listed = world.logged_in(None).get("/api/signals/progress", headers=headers).json()["items"]
    assert signal.pk in [row["signal_id"] for row in listed]
    assert orders[0].signal_id not in [row["signal_id"] for row in listed]
    stranger = world.key(User.objects.create_user("stranger"))
    other = world.logged_in(None).get(f"/api/signals/{signal.pk}/progress", headers=stranger)
    assert (other.status_code, other.json()["code"]) == (404, "not_found")
    assert world.logged_in(None).get("/api/signals/progress", headers=stranger).json() == {"items": []}


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.integers(0, 10**6)), max_size=7))
def test_a_bar_is_filled_from_edge_to_edge(parts: list[tuple[str, int]]) -> None:
    segments = charts.stacked_bar(parts)
    assert [(row.name, row.count) for row in segments] == [part for part in parts if part[1]]
    assert all(row.width >= charts.BAR_LEAST - 0.1 for row in segments)
    edges = [0.0, *(row.left + row.width for row in segments)]
    assert all(abs(row.left - edge) < 0.2 for row, edge in zip(segments, edges, strict=False))
    assert not segments or abs(edges[-1] - charts.BAR_WIDTH) < 0.2
