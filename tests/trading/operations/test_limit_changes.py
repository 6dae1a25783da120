"""Limits tighten at once and loosen after the delay in force: by properties, and as the money path sees it."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.reports.checks import gates
from tests.builders import T0
from tests.conftest import RecordedClock
from trading.models import LimitsInForce
from trading.operations.limit_changes import (
    Value,
    WaitingLimit,
    is_looser,
    limits_by_key,
    limits_now,
    with_limits,
)
from trading.risk import limits_in_force
from trading.risk.limits_in_force import protective_limits, risk_limits
from trading.risk.policy import STRICTER, RiskPolicy, Stricter, policy

D = Decimal
KEYS = sorted(limits_by_key(policy()))
NUMBERS = [key for key in KEYS if isinstance(limits_by_key(policy())[key], Decimal)]


def changed(key: str, value: Any) -> RiskPolicy:
    return with_limits(policy(), limits_by_key(policy()) | {key: value})


def test_every_key_of_the_policy_is_classified() -> None:
    assert {key.rpartition(".")[2] for key in KEYS} <= set(STRICTER)


def test_the_flat_form_gives_the_same_policy_back() -> None:
    whole = with_limits(policy(), limits_by_key(policy()))
    assert limits_by_key(whole) == limits_by_key(policy())
    assert whole.of("BTC").account == policy().of("BTC").account


@given(key=st.sampled_from(NUMBERS), factor=st.decimals("0.1", "10", places=2))
def test_a_change_is_looser_in_one_direction_only(key: str, factor: Decimal) -> None:
    how = STRICTER[key.rpartition(".")[2]]
    old = limits_by_key(policy())[key]
    assert isinstance(old, Decimal)
    new = old * factor
    there, back = is_looser(key, old, new), is_looser(key, new, old)
    if how is Stricter.NOT_A_LIMIT or new == old:
        assert not there or how is Stricter.UNKNOWN
    elif how is Stricter.UNKNOWN:
        assert there
        assert back
    else:
        assert there != back
        assert there == ((new > old) == (how is Stricter.LOWER))


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["a.max_usd", "a.min_usd"]), st.integers(1, 9), st.integers(0, 30)),
        max_size=12,
    )
)
def test_nothing_looser_is_in_force_before_its_delay(steps: list[tuple[str, int, int]]) -> None:
    """Over any course of configurations: what is in force is never looser than what was allowed `delay` ago."""
    delay = 10
    start: dict[str, Value] = {"a.max_usd": D(5), "a.min_usd": D(5), "loosen_after_seconds": D(delay)}
    limits, now = dict(start), T0
    waiting: dict[str, WaitingLimit] = {}
    course = [(T0, dict(start))]
    for key, value, wait in steps:
        now += timedelta(seconds=wait)
        wanted = course[-1][1] | {key: D(value)}
        course.append((now, wanted))
        found = limits_now(limits, waiting, wanted, now)
        limits, waiting = found.limits, found.waiting
        for name in ("a.max_usd", "a.min_usd"):
            assert not is_looser(name, wanted[name], limits[name]), "stricter holds at once"
            old_enough = [one[name] for at, one in course if now - at >= timedelta(seconds=delay)] + [D(5)]
            assert not all(is_looser(name, one, limits[name]) for one in old_enough)


@pytest.mark.parametrize(
    ("key", "old", "new", "looser"),
    [
        ("exits.signal.stop_loss_pct", None, D(5), True),
        ("exits.signal.stop_loss_pct", D(5), None, True),
        ("exits.signal.stop_loss_pct", D(5), D(4), False),
        ("exits.signal.hard_stop_pct", None, D(5), False),
        ("exits.signal.hard_stop_pct", D(5), None, True),
        ("risk_score.enabled", False, True, False),
        ("risk_score.enabled", True, False, True),
    ],
)
def test_a_limit_that_appears_is_stricter_except_a_stop_in_place_of_the_signals(
    key: str, old: Value, new: Value, looser: bool
) -> None:
    assert is_looser(key, old, new) == looser


def configure(monkeypatch: pytest.MonkeyPatch, made: RiskPolicy) -> None:
    monkeypatch.setattr(limits_in_force, "policy", lambda: made)


@pytest.mark.django_db
def test_a_looser_limit_waits_and_a_stricter_one_does_not(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert risk_limits().max_trade_usd == 5000  # the first configuration holds at once
    configure(monkeypatch, changed("max_trade_usd", D(9000)))
    assert risk_limits().max_trade_usd == 5000
    event = Event.objects.get(name="limits.changed", data__limit="max_trade_usd")
    assert (event.data["new"], event.data["loosens"]) == ("9000", True)
    assert event.data["in_force_at"] == (clock.now() + timedelta(days=1)).isoformat()
    assert limits_in_force.waiting_limits()["max_trade_usd"].at == clock.now() + timedelta(days=1)
    time.move(hours=23)
    assert risk_limits().max_trade_usd == 5000
    time.move(hours=1)
    assert risk_limits().max_trade_usd == 9000
    assert limits_in_force.waiting_limits() == {}
    configure(monkeypatch, changed("max_trade_usd", D(100)))
    assert risk_limits().max_trade_usd == 100
    assert Event.objects.filter(name="limits.changed", data__limit="max_trade_usd").count() == 3


@pytest.mark.django_db
def test_taking_a_symbols_exception_away_is_a_loosening(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, changed("symbols.ETH.max_trade_usd", D(50)))
    assert risk_limits().of("ETH").max_trade_usd == 50
    configure(monkeypatch, policy())
    assert risk_limits().of("ETH").max_trade_usd == 50
    assert risk_limits().of("BTC").max_trade_usd == 5000
    time.move(days=1)
    assert risk_limits().of("ETH").max_trade_usd == 5000


@pytest.mark.django_db
def test_shortening_the_delay_waits_for_the_delay_in_force(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    risk_limits()
    made = with_limits(
        policy(), limits_by_key(policy()) | {"loosen_after_seconds": D(0), "max_trade_usd": D(9000)}
    )
    configure(monkeypatch, made)
    assert risk_limits().max_trade_usd == 5000
    time.move(minutes=1)
    assert risk_limits().max_trade_usd == 5000


@pytest.mark.django_db
def test_one_query_and_no_lock_while_nothing_changes(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    risk_limits()
    for made in (
        policy(),
        changed("max_trade_usd", D(9000)),
    ):  # as configured; and while a looser limit waits
        configure(monkeypatch, made)
        risk_limits()
        for read in (risk_limits, protective_limits):
            with django_assert_num_queries(1) as asked:
                assert read().max_trade_usd == 5000
            assert "FOR UPDATE" not in asked.captured_queries[0]["sql"]
    assert LimitsInForce.objects.count() == 1


@pytest.mark.django_db
def test_what_protects_positions_sees_the_limits_in_force_and_stores_nothing(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert protective_limits().max_trade_usd == 5000
    assert LimitsInForce.objects.count() == 0
    risk_limits()
    stored = LimitsInForce.objects.values().get()
    made = with_limits(
        policy(), limits_by_key(policy()) | {"max_trade_usd": D(9000), "account.max_open_orders": D(2)}
    )
    configure(monkeypatch, made)
    found = protective_limits()
    assert (found.max_trade_usd, found.account.max_open_orders) == (5000, 2)
    assert LimitsInForce.objects.values().get() == stored
    risk_limits()
    configure(monkeypatch, policy())  # a process that still has the former file
    protective_limits()
    configure(monkeypatch, made)
    assert set(limits_in_force.waiting_limits()) == {"max_trade_usd"}


UNREADABLE: list[dict[str, Any]] = [
    {"limits": {"loosen_after_seconds": "soon"}}, {"limits": {"max_trade_usd": "much"}}, {"limits": []},
    {"waiting": {"max_trade_usd": {}}}, {"limits": {}}, {"limits": {"max_trade_usd": None}},
    {"waiting": {"max_trade_usd": 7}},
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("broken", UNREADABLE, ids=str)
def test_a_row_that_cannot_be_read_stops_entries_and_no_exit(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any]
) -> None:
    risk_limits()
    LimitsInForce.objects.update(**broken)
    configure(monkeypatch, changed("max_trade_usd", D(9000)))
    assert protective_limits().exits == policy().exits
    with pytest.raises(limits_in_force.UNREADABLE):
        risk_limits()
    check = next(one for one in gates() if one.name == "limits")
    assert not check.ok
    assert "entries are stopped" in check.detail
