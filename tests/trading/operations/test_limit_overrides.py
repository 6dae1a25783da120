"""Operators override limits: stricter at once, looser after the delay, with reason and name; a wrong one is refused."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.reports.checks import gates
from maxxit.reports.operators import limits
from tests import builders
from tests.builders import RecordedClock
from trading.models import LimitsInForce
from trading.operations import limit_overrides as overrides
from trading.operations.limit_changes import limits_by_key, with_overrides
from trading.risk.limits_in_force import protective_limits, risk_limits, waiting_limits
from trading.risk.policy import RiskPolicy, policy

NUMBERS = [
    key
    for key, value in limits_by_key(policy()).items()
    if isinstance(value, Decimal) and not key.startswith(overrides.FIXED)
]
database = pytest.mark.django_db


def change(key: str, value: str, reason: str = "measured") -> overrides.Effect:
    return overrides.set_override(key, value, by="olga", reason=reason)


def in_force() -> RiskPolicy:
    """The limits of entries and of exits, which agree."""
    assert limits_by_key(protective_limits()) == limits_by_key(risk_limits())
    return risk_limits()


@given(key=st.sampled_from(NUMBERS))
def test_an_override_changes_its_key_and_the_tokens_that_follow_it(key: str) -> None:
    before = limits_by_key(policy())
    value = before[key]
    assert isinstance(value, Decimal)
    assert limits_by_key(with_overrides(policy(), {key: value})) == before
    general = key.rpartition(".")[2]
    following = {name for name in before if name.startswith("symbols.") and name.endswith(f".{general}")}
    try:
        after = limits_by_key(with_overrides(policy(), {key: value + 1}))
    except ValueError:  # 101 percent
        return
    changed = {name for name in before if after[name] != before[name]}
    assert key in changed
    assert changed <= {key, *following}
    assert after[key] == value + 1


@database
def test_a_stricter_override_applies_at_once_and_is_recorded(time: RecordedClock) -> None:
    risk_limits()
    effect = change("max_trade_usd", "2000", "a thin week")
    assert (effect.old, effect.new, effect.looser, effect.in_force_at) == (5000, 2000, False, time.now)
    assert in_force().max_trade_usd == 2000
    assert in_force().of("ETH").max_trade_usd == 2000
    event = Event.objects.get(name="limits.override_set")
    assert (event.data["by"], event.data["reason"], event.data["old"], event.data["new"]) == (
        "olga", "a thin week", "5000", "2000",
    )  # fmt: skip
    assert Event.objects.filter(name="limits.changed", data__limit="max_trade_usd").exists()


@database
def test_a_looser_override_waits_for_its_delay(time: RecordedClock) -> None:
    risk_limits()
    effect = change("account.max_open_orders", "30")
    assert (effect.looser, effect.in_force_at) == (True, time.now + timedelta(days=1))
    assert in_force().account.max_open_orders == 20
    assert waiting_limits()["account.max_open_orders"].value == 30
    time.move(days=1)
    assert in_force().account.max_open_orders == 30


@database
def test_removing_a_strict_override_waits_as_any_loosening_does(time: RecordedClock) -> None:
    risk_limits()
    change("max_trade_usd", "2000")
    effect = overrides.remove_override("max_trade_usd", by="olga", reason="over")
    assert (effect.old, effect.new, effect.looser) == (2000, 5000, True)
    assert in_force().max_trade_usd == 2000
    time.move(days=1)
    assert in_force().max_trade_usd == 5000
    assert overrides.overrides() == {}


@database
def test_the_first_override_needs_no_limits_in_force_yet(time: RecordedClock) -> None:
    change("max_trade_usd", "2000")
    assert in_force().max_trade_usd == 2000


@database
def test_a_token_gets_an_exception_and_words_and_switches_are_read(time: RecordedClock) -> None:
    risk_limits()
    change("symbols.ETH.max_trade_usd", "100")
    change("triggers.stale_prices.level", "reduce_only")
    change("allow_add_to_position", "on")
    assert in_force().of("ETH").max_trade_usd == 100
    assert in_force().of("BTC").max_trade_usd == 5000
    assert in_force().triggers.stale_prices.level == "reduce_only"
    assert not in_force().allow_add_to_position  # looser: it waits


@database
@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("max_trade", "1", "no limit 'max_trade'"),
        ("fees.trade", "1", "policies of Safes name the fees"),
        ("max_trade_usd", "5000", "is 5000 already"),
        ("max_trade_usd", "-1", "cannot be -1"),
        ("max_trade_usd", "none", "cannot be null"),
        ("max_trade_usd", "lots", "cannot be lots"),
        ("max_trade_usd", "NaN", "not a finite number"),
        ("account.max_open_orders", "1.5", "cannot be 1.5"),
        ("price_band_pct", "0.01", "cannot be 0.01"),
        ("allow_add_to_position", "maybe", "neither on nor off"),
        ("triggers.drawdown.level", "panic", "cannot be panic"),
    ],
)
def test_what_the_policy_refuses_is_refused_with_the_limit(key: str, value: str, says: str) -> None:
    risk_limits()
    with pytest.raises(Rejected, match=says):
        change(key, value)
    assert LimitsInForce.objects.get().overrides == {}


@database
def test_a_change_needs_a_reason_and_a_removal_an_override() -> None:
    with pytest.raises(Rejected, match="needs a reason"):
        change("max_trade_usd", "1", "  ")
    with pytest.raises(Rejected, match="is not overridden"):
        overrides.remove_override("max_trade_usd", by="olga", reason="no need")


@database
def test_a_preview_changes_nothing(time: RecordedClock) -> None:
    risk_limits()
    before = LimitsInForce.objects.values().get()
    assert overrides.preview("max_trade_usd", "9000").looser
    assert LimitsInForce.objects.values().get() == before


@database
@pytest.mark.parametrize("stored", [{"value": "-5"}, {}, {"value": "many"}])
def test_an_override_that_is_wrong_stops_entries_not_exits_and_can_be_removed(
    stored: dict[str, Any], time: RecordedClock
) -> None:
    risk_limits()
    kept = {"reason": "x", "by": "y", "at": time.now.isoformat()}
    LimitsInForce.objects.update(overrides={"max_trade_usd": stored | kept})
    with pytest.raises(Exception, match=r".+"):
        risk_limits()
    assert protective_limits().max_trade_usd == 5000
    assert not next(check for check in gates() if check.name == "limits").ok
    assert limits.read_limits().problem
    if "value" in stored:
        overrides.remove_override("max_trade_usd", by="olga", reason="was wrong")
        assert in_force().max_trade_usd == 5000


@database
@pytest.mark.parametrize(
    "damage", [{"limits": {"loosen_after_seconds": [1]}}, {"overrides": {"max_trade_usd": 7}}]
)
def test_a_change_over_stored_limits_that_cannot_be_read_is_refused(
    damage: dict[str, Any], time: RecordedClock
) -> None:
    risk_limits()
    LimitsInForce.objects.update(**damage)
    with pytest.raises(Rejected, match="the stored limits cannot be read, so entries are stopped"):
        overrides.preview("price_band_pct", "1")
    with pytest.raises(Rejected, match="cannot be read"):
        change("price_band_pct", "1")


@database
def test_the_use_of_limits_is_read_in_one_statement(
    time: RecordedClock, django_assert_max_num_queries: Any
) -> None:
    builders.price("ETH", "2000")
    deployment = builders.deployment(builders.agent())
    builders.order(
        deployment, by=builders.signal(deployment.agent, token="ETH"), state="sending", quantity=Decimal(2),
        reserved_at=time.now,
    )  # fmt: skip
    with django_assert_max_num_queries(5):
        read = limits.read_limits()
    rows = {row.key: row for row in read.rows}
    platform = rows["platform.max_total_exposure_usd"]
    assert platform.use is not None
    assert (platform.use.value, platform.used_pct) == (4000, 0)
    account = rows["account.max_total_exposure_usd"]
    assert account.use is not None
    assert (account.use.account, account.use.value, account.used_pct) == (deployment.account, 4000, 8)
    orders = rows["account.max_open_orders"]
    assert orders.use is not None
    assert (orders.use.value, orders.used_pct) == (1, 5)
    assert rows["account.max_orders_per_symbol_per_day"].use is not None
