"""May this order go? The checks, their order, and what ignorance does."""

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from maxxit.core.config import ROOT
from tests.builders import IDLE, OPEN_GATE, facts
from trading.reasons import ORDINARY, Reason
from trading.risk import checks
from trading.risk.checks import Facts, GateFacts, LimitUsage
from trading.risk.policy import policy

D = Decimal
RULES = policy()
MINE, ALL = RULES.account, RULES.platform


def load(**fields: Any) -> LimitUsage:
    return replace(IDLE, **fields)


BREAKS: list[tuple[str, dict[str, Any]]] = [
    ("dry_run", {"gate": replace(OPEN_GATE, dry_run=True)}),
    ("not_approved", {"gate": replace(OPEN_GATE, approved=False)}),
    ("kill_switch", {"gate": replace(OPEN_GATE, kill_level="no_entries")}),
    ("duplicate_idempotency_key", {"duplicate": True}),
    ("rate_limit", {"account": load(orders_last_minute=MINE.max_orders_per_minute)}),
    ("max_symbol_orders", {"symbol_orders_today": MINE.max_orders_per_symbol_per_day}),
    ("cooldown", {"since_last_order": timedelta(seconds=MINE.cooldown_seconds_per_symbol - 1)}),
    ("max_trade", {"notional_usd": D(5001), "spendable_usd": D(10_000)}),
    ("exposure_cap", {"exposure": D(10**9)}),
    ("symbol_exposure_cap", {"symbol_exposure": D(10**9)}),
    ("price_band", {"signal_price": D(1000)}),
    ("volatility_band", {"signal_price": D(1990), "volatility_pct": D("0.1")}),
    ("slippage", {"expected_price": D(1975)}),
    ("token_not_listed", {"listed": False}),
    ("market_closed", {"venue_problem": "market_closed"}),
    ("position_exists", {"held": D(1)}),
    ("below_minimum", {"min_usd": D(801)}),
    ("insufficient_balance", {"spendable_usd": D(700)}),
]
"""Every reason in the order of money-path.md, with the fact that brings it about."""


def broken(reasons: list[tuple[str, dict[str, Any]]]) -> Facts:
    """Facts with all of `reasons` at once."""
    values: dict[str, Any] = {}
    account, platform = IDLE, IDLE
    for _, change in reasons:
        for name, value in change.items():
            if name == "account":
                account = replace(account, orders_last_minute=value.orders_last_minute)
            elif name == "platform":
                platform = replace(platform, open_orders=value.open_orders)
            elif name == "exposure":
                account = replace(account, exposure_usd=value)
            elif name == "symbol_exposure":
                account = replace(account, symbol_exposure_usd=value)
            elif name == "gate":
                gate = values.get("gate", OPEN_GATE)
                values["gate"] = GateFacts(
                    gate.dry_run or value.dry_run,
                    gate.approved and value.approved,
                    gate.kill_level or value.kill_level,
                )
            elif name == "signal_price":
                values[name] = min(value, values.get(name, value))
            else:
                values[name] = value
    return facts(account=account, platform=platform, **values)


def test_an_order_that_nothing_speaks_against_goes() -> None:
    assert checks.check(facts(), RULES) == checks.PASS


@pytest.mark.parametrize("place", range(len(BREAKS)), ids=[reason for reason, _ in BREAKS])
def test_the_first_check_that_fails_names_the_reason_though_all_later_ones_fail_too(place: int) -> None:
    verdict = checks.check(broken(BREAKS[place:]), RULES)

    assert (verdict.allowed, verdict.reason) == (False, BREAKS[place][0])


@given(st.sets(st.integers(0, len(BREAKS) - 1), min_size=1))
def test_of_any_set_of_failing_checks_the_earliest_is_the_verdict(places: set[int]) -> None:
    chosen = [BREAKS[place] for place in sorted(places)]

    assert checks.check(broken(chosen), RULES).reason == chosen[0][0]


@pytest.mark.parametrize(
    ("unread", "reason"),
    [
        ("gate", "gate_unreadable"),
        ("account", "throttles_unreadable"),
        ("platform", "throttles_unreadable"),
        ("symbol_orders_today", "throttles_unreadable"),
        ("since_last_order", "throttles_unreadable"),
        ("price", "no_price"),
        ("volatility_pct", "volatility_unreadable"),
        ("expected_price", "slippage_unreadable"),
        ("venue_problem", "venue_unreadable"),
        ("held", "venue_unreadable"),
        ("spendable_usd", "balance_unreadable"),
    ],
)
def test_a_fact_that_could_not_be_read_blocks(unread: str, reason: str) -> None:
    verdict = checks.check(facts(**{unread: None}), RULES)

    assert (verdict.allowed, verdict.reason) == (False, reason)


OPTIONAL = (
    *("gate", "account", "platform", "symbol_orders_today", "since_last_order"),
    *("price", "expected_price", "venue_problem", "held", "spendable_usd"),
)


@given(
    st.decimals("0.01", "1000000", places=4),
    st.decimals("0.5", "2", places=6),
    st.decimals("0.1", "50", places=2),
)
def test_an_entry_passes_only_if_the_venue_fills_it_within_the_slippage(price: D, times: D, limit: D) -> None:
    rules = RULES.model_copy(update={"max_slippage_pct": limit})
    verdict = checks.check(facts(price=price, signal_price=price, expected_price=price * times), rules)

    assert verdict.allowed == (abs(times - 1) * 100 <= limit)
    assert verdict.reason in ("", "slippage")


def test_one_token_can_have_limits_of_its_own_and_the_platforms_stand() -> None:
    own = {
        "EOS": {"max_symbol_exposure_usd": "500", "price_band_pct": "1.0", "cooldown_seconds_per_symbol": 5}
    }
    rules = type(RULES).model_validate(RULES.model_dump() | {"symbols": own})

    assert rules.of("BTC") is rules
    assert rules.of("EOS").account.max_symbol_exposure_usd == 500
    assert rules.of("EOS").account.max_total_exposure_usd == MINE.max_total_exposure_usd
    assert rules.of("EOS").price_band_pct == 1
    assert rules.of("EOS").platform == rules.platform
    assert checks.check(facts(), rules.of("EOS")).reason == "symbol_exposure_cap"


@pytest.mark.parametrize(
    ("exception", "said"),
    [
        ({"NOPE": {"price_band_pct": "1.0"}}, "NOPE is not in config/markets.yaml"),
        ({"EOS": {"price_band_pct": "0.03"}}, "greater than or equal to 0.1"),
        ({"EOS": {"max_open_orders": 3}}, "Extra inputs"),
    ],
)
def test_an_exception_for_a_token_is_typed_like_the_rule(exception: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        type(RULES).model_validate(RULES.model_dump() | {"symbols": exception})


@given(st.sets(st.sampled_from(OPTIONAL), min_size=1))
def test_no_entry_passes_on_any_ignorance(unread: set[str]) -> None:
    assert not checks.check(facts(**dict.fromkeys(unread)), RULES).allowed


@pytest.mark.parametrize(("dry_run", "approved"), list(product([True, False], repeat=2)))
@pytest.mark.parametrize("kill", ["", "no_entries", "reduce_only", "flatten"])
@pytest.mark.parametrize("reduces", [True, False])
def test_the_gates_truth_table(dry_run: bool, approved: bool, kill: str, reduces: bool) -> None:
    gate = GateFacts(dry_run, approved, kill)
    verdict = checks.check(facts(gate=gate, reduces=reduces, held=D("0.4") if reduces else D(0)), RULES)
    expected = (
        "dry_run"
        if dry_run
        else "not_approved"
        if not approved
        else "kill_switch"
        if kill and not reduces
        else ""
    )

    assert (verdict.allowed, verdict.reason) == (not expected, expected)


reducing_breaks = [
    *[
        {"account": load(orders_last_minute=999, open_orders=999)},
        {"platform": load(orders_last_minute=9999)},
    ],
    *[
        {"symbol_orders_today": 99},
        {"since_last_order": timedelta(0)},
        {"account": load(exposure_usd=D(10**9))},
    ],
    *[{"platform": load(symbol_exposure_usd=D(10**9))}, {"signal_price": D(1)}, {"min_usd": D(10**6)}],
    *[{"spendable_usd": None}, {"account": None, "platform": None}, {"symbol_orders_today": None}],
    *[{"gate": replace(OPEN_GATE, kill_level=level)} for level in ("no_entries", "reduce_only", "flatten")],
]


@given(st.lists(st.sampled_from(reducing_breaks)), st.sampled_from([D("0.4"), D("-0.4")]))
def test_what_reduces_exposure_is_stopped_by_no_cap_throttle_or_kill_switch(
    changes: list[dict[str, Any]], held: Decimal
) -> None:
    merged = {name: value for change in changes for name, value in change.items()}

    assert checks.check(facts(**merged | {"reduces": True, "held": held}), RULES).allowed


def test_a_close_without_a_position_is_no_position() -> None:
    assert checks.check(facts(reduces=True, held=D(0)), RULES).reason == "no_position"


LIMITS: list[tuple[str, Callable[[Any], dict[str, Any]], Any]] = [
    ("rate_limit", lambda n: {"account": load(orders_last_minute=n)}, MINE.max_orders_per_minute),
    ("max_open_orders", lambda n: {"account": load(open_orders=n)}, MINE.max_open_orders),
    ("max_symbol_orders", lambda n: {"symbol_orders_today": n}, MINE.max_orders_per_symbol_per_day),
]


@pytest.mark.parametrize(("reason", "change", "limit"), LIMITS)
def test_the_order_that_reaches_a_count_goes_and_the_next_does_not(
    reason: str, change: Callable[[Any], dict[str, Any]], limit: int
) -> None:
    assert checks.check(facts(**change(limit - 1)), RULES).allowed
    verdict = checks.check(facts(**change(limit)), RULES)
    assert (verdict.reason, verdict.measured, verdict.limit) == (reason, str(limit), str(limit))


CAPS = [
    ("exposure_cap", "account", "exposure_usd", MINE.max_total_exposure_usd),
    ("platform_exposure_cap", "platform", "exposure_usd", ALL.max_total_exposure_usd),
    ("symbol_exposure_cap", "account", "symbol_exposure_usd", MINE.max_symbol_exposure_usd),
    ("platform_symbol_exposure_cap", "platform", "symbol_exposure_usd", ALL.max_symbol_exposure_usd),
]


@pytest.mark.parametrize(("reason", "whose", "which", "limit"), CAPS)
def test_an_order_up_to_a_cap_goes_and_one_beyond_does_not(
    reason: str, whose: str, which: str, limit: Decimal
) -> None:
    room = limit - D(800)
    assert checks.check(facts(**{whose: load(**{which: room})}), RULES).allowed
    assert checks.check(facts(**{whose: load(**{which: room + D("0.01")})}), RULES).reason == reason


def test_the_cooldown_is_over_after_900_seconds() -> None:
    assert checks.check(facts(since_last_order=timedelta(seconds=900)), RULES).allowed
    assert checks.check(facts(since_last_order=timedelta(seconds=899)), RULES).reason == "cooldown"


@pytest.mark.parametrize(
    ("usd", "goes"), [("2050", True), ("2050.01", False), ("1950", True), ("1949.99", False)]
)
def test_the_price_band_holds_on_both_sides(usd: str, goes: bool) -> None:
    assert checks.check(facts(price=D(usd), volatility_pct=D(10)), RULES).allowed is goes


@pytest.mark.parametrize(
    ("usd", "goes"), [("2040", True), ("2040.01", False), ("1960", True), ("1959.99", False)]
)
def test_the_volatility_band_is_a_multiple_of_what_the_token_moves_in_a_bar(usd: str, goes: bool) -> None:
    verdict = checks.check(facts(price=D(usd), volatility_pct=D(1)), RULES)

    assert verdict.allowed is goes
    assert goes or (verdict.reason, verdict.limit) == ("volatility_band", "2.00 %")


@pytest.mark.parametrize(("reason", "change"), BREAKS, ids=[reason for reason, _ in BREAKS])
def test_a_verdict_is_persisted_with_its_reason(reason: str, change: dict[str, Any]) -> None:
    told = checks.check(broken([(reason, change)]), RULES).as_json()

    assert told["reason"] == reason
    assert set(told) == {"reason", "measured", "limit"}


def test_a_check_that_cannot_be_read_is_abnormal_and_a_limit_is_not() -> None:
    unreadable = {reason for reason in Reason if reason.endswith("_unreadable")}
    assert unreadable & ORDINARY == {"volatility_unreadable"}, "one signal lacks it, on each of its accounts"
    assert {reason for reason, _ in BREAKS} - ORDINARY == {"duplicate_idempotency_key"}


def test_each_reason_is_found_by_its_name_at_the_one_check_that_gives_it() -> None:
    """`git grep Reason.COOLDOWN` answers where an order is blocked."""
    given: dict[str, set[str]] = {}
    for check in ast.parse((ROOT / "trading/risk/checks.py").read_text()).body:
        for node in ast.walk(check):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "Reason"
            ):
                given.setdefault(node.attr, set()).add(getattr(check, "name", ""))
    paths = [
        *(ROOT / "trading").rglob("*.py"),
        *(ROOT / "trading").rglob("*.vy"),
        *(ROOT / "positions").rglob("*.py"),
    ]
    text = "\n".join(
        path.read_text() for path in paths if path.name != "reasons.py" and "migrations" not in path.parts
    )
    words = set(re.findall(r"\w+", text))

    assert len(given) > 25
    assert {name: checks for name, checks in given.items() if len(checks) > 1} == {}
    assert [reason for reason in Reason if reason.value.upper() != reason.name] == []
    unused = [reason for reason in Reason if not {reason.name, reason.value} & words]
    assert unused == []
