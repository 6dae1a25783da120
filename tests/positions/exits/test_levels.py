"""Exit levels of a position, and the SQL sweep that decides for all positions, checked against the oracle."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.events import wake
from positions.exits import pauses
from positions.exits import sweep as sweeping
from positions.exits.levels import LEVELS, Levels, levels
from positions.exits.sweep import close, sweep
from positions.models import Position
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.positions.exits.oracle import exit_reason, ratchet
from trading import gate
from trading.models import Order
from trading.risk.policy import Exits, policy

D = Decimal
sides = st.sampled_from(["long", "short"])
prices = st.decimals(min_value=D("1"), max_value=D("100000"), places=2)
percents = st.decimals(min_value=D("0.1"), max_value=50, places=1)


def rules(**fields: Any) -> Exits:
    return Exits(**{"max_holding_minutes": 60} | fields)


def of(side: str, entry: Decimal, **fields: Any) -> Levels:
    return levels(
        rules(**fields), side=side, entry=entry, opened_at=T0, stop_loss_pct=D(6), take_profit_pct=D(18)
    )


@given(sides, prices, percents, percents)
def test_the_stop_lies_behind_the_entry_and_the_target_before_it(
    side: str, entry: Decimal, stop: Decimal, take: Decimal
) -> None:
    found = of(side, entry, stop_loss_pct=stop, take_profit_pct=take)
    sign = 1 if side == "long" else -1

    assert sign * (found.take_profit - entry) > 0
    assert sign * (found.stop_loss - entry) < 0


@given(sides, prices, percents, percents)
def test_the_stop_is_never_further_away_than_the_hard_stop(
    side: str, entry: Decimal, stop: Decimal, hard: Decimal
) -> None:
    found = of(side, entry, stop_loss_pct=stop, hard_stop_pct=hard)

    assert abs(found.stop_loss / entry - 1) * 100 <= hard + D("1e-20")


def test_the_signals_own_levels_count_where_the_preset_sets_none() -> None:
    found = of("long", D(2000), hard_stop_pct=D(10))

    assert (found.stop_loss, found.take_profit) == (D(1880), D(2360))


@pytest.mark.parametrize(
    ("preset", "stop", "take"),
    [("conservative", "1980", "2040"), ("moderate", "1990", "2020"), ("aggressive", "1995", "2010")],
)
def test_a_preset_takes_profit_at_its_percent_not_at_a_hundredth_of_it(
    preset: Any, stop: str, take: str
) -> None:
    # F6: a source compared percents with fractions and took profit at +0.03 %
    found = levels(
        policy().exits[preset],
        side="long",
        entry=D(2000),
        opened_at=T0,
        stop_loss_pct=D(6),
        take_profit_pct=D(18),
    )

    assert (found.stop_loss, found.take_profit) == (D(stop), D(take))
    assert exit_reason(found, None, side="long", price=D("2000.60"), now=T0) == ""
    assert exit_reason(found, None, side="long", price=D("1999.70"), now=T0) == ""


def test_the_columns_are_the_levels_with_prices_in_whole_ticks() -> None:
    found = of("long", D("2000.005"), trailing_activation_pct=D(3), trailing_pct=D(1))
    columns = found.columns(lambda price: price.quantize(D("0.01")))

    assert tuple(columns) == LEVELS
    rounded = [str(columns[name]) for name in ("stop_loss", "take_profit", "trailing_activation")]
    assert rounded == ["1880.00", "2360.01", "2060.01"]
    assert (columns["trailing_pct"], columns["time_exit_at"]) == (D(1), found.time_exit_at)
    assert of("long", D(2000)).columns(lambda price: price)["trailing_activation"] is None
    assert set(LEVELS) <= {field.name for field in Position._meta.get_fields()}


@given(sides, prices, st.lists(prices, min_size=1, max_size=20), percents, percents)
def test_a_trailing_stop_only_ever_tightens(
    side: str, entry: Decimal, path: list[Decimal], wakes: Decimal, behind: Decimal
) -> None:
    found = of(side, entry, trailing_activation_pct=wakes, trailing_pct=behind)
    sign, stop = (1 if side == "long" else -1), None
    for price in path:
        tightened = ratchet(found, stop, side=side, price=price)
        assert stop is None or (tightened is not None and sign * (tightened - stop) >= 0)
        stop = tightened


@given(sides, prices, prices)
def test_without_trailing_there_is_no_trailing_stop(side: str, entry: Decimal, price: Decimal) -> None:
    assert ratchet(of(side, entry), None, side=side, price=price) is None


ORDER = ("take_profit", "stop_loss", "trailing_stop", "time_exit")


@given(sides, prices, st.tuples(*[st.booleans()] * 4))
def test_the_first_exit_in_the_order_of_priority_is_the_reason(
    side: str, price: Decimal, due: tuple[bool, ...]
) -> None:
    sign = 1 if side == "long" else -1
    take, stop, trail, late = due
    found = Levels(
        take_profit=price if take else price + sign,
        stop_loss=price if stop else price - sign,
        trailing_activation=price,
        trailing_pct=D(1),
        time_exit_at=T0 if late else T0 + timedelta(seconds=1),
    )
    expected = next((reason for reason, is_due in zip(ORDER, due, strict=True) if is_due), "")

    assert exit_reason(found, price if trail else price - sign, side=side, price=price, now=T0) == expected


# --- the SQL against the oracle ---------------------------------------------------------------------------

some_rules = st.builds(
    rules,
    take_profit_pct=percents,
    stop_loss_pct=percents,
    hard_stop_pct=st.none() | percents,
    max_holding_minutes=st.integers(1, 100),
) | st.builds(
    rules,
    take_profit_pct=percents,
    stop_loss_pct=percents,
    trailing_activation_pct=percents,
    trailing_pct=percents,
    max_holding_minutes=st.integers(1, 100),
)
held = st.tuples(st.sampled_from(["BTC", "ETH", "LTC"]), sides, prices, some_rules)
tick = st.dictionaries(
    st.sampled_from(["BTC", "ETH", "LTC"]),
    st.tuples(st.one_of(prices, st.just(D("NaN"))), st.integers(-200, 20)),
)
changes = st.decimals(min_value=D("-0.4"), max_value=D("0.6"), places=3)


@pytest.fixture
def deployment(db: None, time: RecordedClock, no_approval_file: object) -> Deployment:
    make.price("BTC", "1")
    make.open_gate()
    return make.booked_deployment(make.agent())


def stored(value: Decimal | None) -> Decimal | None:
    """As the column holds it."""
    return None if value is None else value.quantize(D("1e-18"))


@settings(max_examples=60)
@given(
    positions=st.lists(st.tuples(held, st.lists(changes, max_size=3), changes), min_size=1, max_size=8),
    minutes=st.integers(0, 110),
    age=st.integers(0, 120),
)
def test_the_sweep_decides_for_every_position_what_the_rules_say(
    deployment: Deployment,
    time: RecordedClock,
    positions: list[tuple[tuple[str, str, Decimal, Exits], list[Decimal], Decimal]],
    minutes: int,
    age: int,
) -> None:
    time.to(T0)
    Position.objects.all().delete()
    Order.objects.filter(purpose="close").delete()
    Order.objects.all().delete()
    now = T0 + timedelta(minutes=minutes)
    level: dict[str, Decimal] = {}
    expected = {}
    for (symbol, side, entry, preset), path, last in positions:
        entry = level.setdefault(symbol, entry)  # one market per symbol
        now_at = level.setdefault(f"{symbol} now", entry * (1 + last))
        found = levels(
            preset, side=side, entry=entry, opened_at=T0, stop_loss_pct=D(6), take_profit_pct=D(18)
        )
        trailing = None
        for change in path:
            trailing = stored(ratchet(found, trailing, side=side, price=entry * (1 + change)))
        row = make.position(
            deployment,
            side=side,
            symbol=symbol,
            entry=str(entry),
            stop_loss=found.stop_loss,
            take_profit=found.take_profit,
            trailing_activation=found.trailing_activation,
            trailing_pct=found.trailing_pct,
            trailing_stop=trailing,
            time_exit_at=found.time_exit_at,
        )
        fresh = age < 90
        tightened = stored(ratchet(found, trailing, side=side, price=now_at)) if fresh else trailing
        why = exit_reason(found, tightened, side=side, price=now_at, now=now) if fresh else ""
        expected[row.pk] = ("closing" if why else "open", why, tightened)
    time.to(now)
    for symbol in {one[0][0] for one in positions}:
        make.price(symbol, str(level[f"{symbol} now"]), at=now - timedelta(seconds=age))
    leaving = sweep()
    rows = Position.objects.values_list("pk", "state", "exit_reason", "trailing_stop")
    seen = {pk: (state, why, stop) for pk, state, why, stop in rows}

    assert seen == expected
    assert leaving == sum(1 for state, _, _ in expected.values() if state == "closing")
    assert Order.objects.filter(purpose="close", state="planned").count() == leaving


@pytest.mark.parametrize(
    ("usd", "seconds"),
    [("NaN", 0), ("0", 0), ("-1", 0), ("1", 91), ("1", -6)],
    ids=["nan", "zero", "minus", "stale", "future"],
)
def test_no_position_leaves_on_a_price_that_may_not_be_used(
    deployment: Deployment, time: RecordedClock, usd: str, seconds: int
) -> None:
    make.position(deployment)
    make.position(deployment, side="short", take_profit=D("1999"))
    time.move(days=30)
    with connection.cursor() as cursor:  # past everything that would refuse such a price on its way in
        row: list[Any] = ["ETH", usd, time.now - timedelta(seconds=seconds), "test"]
        cursor.execute("INSERT INTO quotes (symbol, price, at, source) VALUES (%s, %s::numeric, %s, %s)", row)

    assert sweep() == 0
    assert set(Position.objects.values_list("state", flat=True)) == {"open"}


def test_the_closing_order_is_for_what_is_still_held_on_the_other_side(deployment: Deployment) -> None:
    long = make.position(deployment, closed_quantity=D("0.1"))
    short = make.position(deployment, side="short", stop_loss=D("2500"), take_profit=D("1000"))
    make.price("ETH", "3000")
    sweep()
    orders = {
        o.idempotency_key: (o.side, o.quantity, o.exit_reason, o.closes)
        for o in Order.objects.filter(purpose="close")
    }

    assert orders == {
        f"close:{long.pk}:1": ("sell", D("0.3"), "take_profit", long.entry_order),
        f"close:{short.pk}:1": ("buy", D("0.4"), "stop_loss", short.entry_order),
    }


def test_a_second_sweep_at_the_same_price_closes_nothing_twice(deployment: Deployment) -> None:
    # F7: a source's key held the second, so that each pass made another order
    make.position(deployment)
    make.price("ETH", "3000")

    assert [sweep(), sweep()] == [1, 0]
    assert Order.objects.filter(purpose="close").count() == 1


@pytest.mark.parametrize("shut", ["dry_run", "no approval", "no row"])
def test_while_the_gate_is_shut_positions_stay_open(deployment: Deployment, shut: str) -> None:
    make.position(deployment)
    make.price("ETH", "3000")
    if shut == "dry_run":
        gate.set_dry_run("paper", True, by="test", reason="test")
    elif shut == "no approval":
        gate.revoke("paper", by="test", reason="test")
    else:
        gate.Gate.objects.all().delete()

    assert sweep() == 0


@pytest.mark.parametrize("level", ["no_entries", "reduce_only"])
def test_a_kill_switch_below_flatten_lets_exits_through_and_closes_nothing_by_itself(
    deployment: Deployment, level: str
) -> None:
    leaves, stays = make.position(deployment, take_profit=D("2100")), make.position(deployment)
    gate.kill(level, by="test", reason="test")
    make.price("ETH", "2200")

    assert sweep() == 1
    assert Position.objects.get(pk=leaves.pk).state == "closing"
    assert Position.objects.get(pk=stays.pk).state == "open"


def test_flatten_closes_everything_but_a_better_reason_comes_first(deployment: Deployment) -> None:
    hit, rest = make.position(deployment, take_profit=D("2100")), make.position(deployment)
    gate.kill("flatten", by="test", reason="test")
    make.price("ETH", "2200")
    sweep()

    assert Position.objects.get(pk=hit.pk).exit_reason == "take_profit"
    assert Position.objects.get(pk=rest.pk).exit_reason == "kill_switch"


def test_a_released_switch_closes_nothing_any_more(deployment: Deployment) -> None:
    make.position(deployment)
    gate.kill("flatten", by="test", reason="test")
    gate.release(by="test", reason="it was a drill")
    make.price("ETH", "2200")

    assert sweep() == 0


def test_the_number_of_statements_does_not_follow_the_number_of_positions(
    deployment: Deployment, django_assert_num_queries: Any
) -> None:
    for _ in range(3):
        make.position(deployment)
    make.price("ETH", "3000")
    with django_assert_num_queries(2):  # search, claim
        assert sweep() == 3
    for _ in range(30):
        make.position(deployment)
    with django_assert_num_queries(2):
        assert sweep() == 30
    with django_assert_num_queries(1):  # nobody leaves
        assert sweep() == 0


def test_a_position_that_was_rejected_thirty_thousand_times_does_not_stop_the_others(
    deployment: Deployment,
) -> None:
    worn, other = make.position(deployment, exits=32_767), make.position(deployment)
    make.price("ETH", "3000")
    sweep()

    assert Position.objects.get(pk=other.pk).state == "closing"
    assert Position.objects.get(pk=worn.pk).state == "closing"


# --- the master switch --------------------------------------------------------------------------------------------


def test_paused_no_stop_and_no_target_is_acted_on_until_a_person_resumes(
    deployment: Deployment, time: RecordedClock
) -> None:
    lost = make.position(deployment, symbol="ETH", entry="2000", stop_loss=D(1900), take_profit=D(2600))
    make.price("ETH", "1500")
    pauses.pause(by="ana", reason="the exchange prints nonsense")

    assert sweep() == 0
    assert pauses.resume(by="ana", reason="prices are right again")
    assert sweep() == 1
    lost.refresh_from_db()
    assert (lost.state, lost.exit_reason) == ("closing", "stop_loss")
    assert make.event_names()[-4:-2] == ["exits.paused", "exits.resumed"]


def test_a_pause_stops_neither_flatten_nor_a_closing_by_hand(deployment: Deployment) -> None:
    first = make.position(deployment, symbol="ETH", entry="2000")
    make.price("ETH", "2000")
    pauses.pause(by="ana", reason="looking")
    second = make.position(deployment, symbol="ETH", entry="2000")

    assert close([first.pk]) == 1
    gate.kill("flatten", by="ana", reason="get out")
    assert sweep() == 1
    second.refresh_from_db()
    assert second.exit_reason == "kill_switch"


def test_there_is_one_pause_at_a_time_and_each_needs_a_reason(deployment: Deployment) -> None:
    pauses.pause(by="ana", reason="looking")

    with pytest.raises(Rejected, match="already"):
        pauses.pause(by="bo", reason="me too")
    for change in (pauses.pause, pauses.resume):
        with pytest.raises(Rejected, match="needs a reason"):
            change(by="ana", reason=" ")
    assert pauses.resume(by="ana", reason="done") is True
    assert pauses.resume(by="ana", reason="done") is False


def test_the_exits_command_says_and_does_it(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    make.position(deployment, symbol="ETH", entry="2000", stop_loss=D(1900), take_profit=D(2600))
    make.price("ETH", "1500")
    call_command("exits", "off", "--reason", "looking", "--by", "ana")
    call_command("exits", "status", "--json")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])

    assert told["watched"] is False
    assert told["positions"] == {"open": 1}
    assert told["presets"]["moderate"]["take_profit"] == "1 %"
    with pytest.raises(CommandError, match="already"):
        call_command("exits", "off", "--reason", "again")
    call_command("exits", "run")
    assert "0 positions are closing" in capsys.readouterr().out
    call_command("exits", "on", "--reason", "all is well")
    call_command("exits", "run")
    assert "1 positions are closing" in capsys.readouterr().out


def test_a_stop_that_trails_by_everything_breaks_no_sweep(
    deployment: Deployment, time: RecordedClock
) -> None:
    """The configuration allows 100 %: the stop then stands at zero, and the others must leave all the same."""
    make.position(
        deployment,
        symbol="ETH",
        entry="2000",
        trailing_pct=D(100),
        trailing_activation=D(2100),
        take_profit=D(9000),
    )
    lost = make.position(deployment, symbol="BTC", entry="20000", stop_loss=D(19000))
    make.price("BTC", "20000")
    for eth in ("2200", "2300"):
        make.price("ETH", eth)
        sweep()
    make.price("BTC", "18000")

    assert sweep() == 1
    lost.refresh_from_db()
    assert lost.exit_reason == "stop_loss"


def test_a_position_that_cannot_be_claimed_holds_up_no_other_stop(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = [make.position(deployment) for _ in range(5)]
    bad = positions[2].pk
    claim = sweeping._claim

    def broken(hits: list[tuple[int, str]]) -> int:
        if bad in [pk for pk, _ in hits]:
            raise ZeroDivisionError("poison")
        return claim(hits)

    monkeypatch.setattr(sweeping, "_claim", broken)
    make.price("ETH", "1000")

    assert sweeping.Sweep(batch=10)() == (sweep() + 4, False) == (4, False)
    states = dict(Position.objects.values_list("pk", "state"))
    assert [states[position.pk] for position in positions] == [
        "closing",
        "closing",
        "open",
        "closing",
        "closing",
    ]


@pytest.mark.django_db
def test_an_exit_that_cannot_be_claimed_ends_no_pass_for_those_behind_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = [make.position(deployment) for _ in range(5)]
    claim, bad = sweeping._claim, positions[0].pk

    def broken(hits: list[tuple[int, str]]) -> int:
        if bad in [pk for pk, _ in hits]:
            raise ZeroDivisionError("poison")
        return claim(hits)

    monkeypatch.setattr(sweeping, "_claim", broken)
    make.price("ETH", "1000")
    batches = sweeping.Sweep(batch=2)

    assert [batches() for _ in range(3)] == [(1, True), (2, True), (1, False)]


@pytest.mark.django_db
def test_a_batch_of_which_none_can_be_claimed_ends_no_pass(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = [make.position(deployment) for _ in range(5)]
    claim, bad = sweeping._claim, {position.pk for position in positions[:2]}

    def broken(hits: list[tuple[int, str]]) -> int:
        if bad & {pk for pk, _ in hits}:
            raise ZeroDivisionError("poison")
        return claim(hits)

    monkeypatch.setattr(sweeping, "_claim", broken)
    make.price("ETH", "1000")
    batches = sweeping.Sweep(batch=2)

    assert [batches() for _ in range(2)] == [(2, True), (1, False)]


@pytest.mark.django_db(transaction=True)
def test_what_a_tick_has_moved_is_claimed_before_all_else_is_searched(deployment: Deployment) -> None:
    make.price("BTC", "1000")
    make.price("ETH", "3000")
    searched = sweeping.Searched()
    assert sweeping.Sweep(10, searched)() == (0, False)
    opened_below_its_stop = make.position(deployment, symbol="BTC")
    hit_by_the_tick = make.position(deployment, symbol="ETH")
    make.price("ETH", "1000")
    batches = sweeping.Sweep(10, searched)

    assert batches() == (1, True)
    assert Position.objects.get(state="closing").pk == hit_by_the_tick.pk
    assert batches() == (1, False)
    assert Position.objects.filter(state="closing").last() == opened_below_its_stop


@pytest.mark.django_db(transaction=True)
def test_a_tick_that_hits_nothing_delays_no_other_exit(deployment: Deployment) -> None:
    make.price("BTC", "1000")
    make.price("ETH", "3000")
    searched = sweeping.Searched()
    sweeping.Sweep(10, searched)()
    make.position(deployment, symbol="BTC")
    make.price("ETH", "2999")

    assert sweeping.Sweep(10, searched)() == (1, False)


@pytest.mark.django_db(transaction=True)
def test_a_quote_that_was_being_written_during_a_search_counts_as_moved(deployment: Deployment) -> None:
    make.price("ETH", "2000")
    make.position(deployment, symbol="ETH")

    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("UPDATE quotes SET price = 1000 WHERE symbol = 'ETH'")
    before = sweeping.find_hits()
    make.price("BTC", "1000")
    other.commit()
    other.close()

    assert before.hits == []
    assert len(sweeping.find_hits(before.seen).hits) == 1


@pytest.mark.django_db(transaction=True)
def test_a_sweep_by_command_wakes_the_worker_that_places_the_orders(deployment: Deployment) -> None:
    make.position(deployment)
    make.price("ETH", "1000")

    with wake.collected() as woken:
        assert sweep() == 1
    assert "positions.tasks.sweep_exits" in woken
