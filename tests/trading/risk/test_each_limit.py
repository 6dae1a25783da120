"""Each limit is shown to block: just inside it an order goes, just beyond it does not; a new limit without such a case
fails here."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from maxxit.core import config
from maxxit.core.errors import Misconfigured
from tests.builders import IDLE, facts
from trading.operations.limit_changes import limits_by_key
from trading.risk import checks
from trading.risk.checks import LimitUsage
from trading.risk.policy import RiskPolicy, policy

ROOT = Path(__file__).parents[3]
D = Decimal
Case = Callable[[Decimal], tuple[dict[str, Any], dict[str, Any], str]]
"""The limit -> facts within it, facts beyond it, the reason."""


def load(name: str, value: int | Decimal) -> LimitUsage:
    values: dict[str, Any] = {name: value}
    return replace(IDLE, **values)


def account(name: str, reason: str, of: str = "account") -> Case:
    """A count that an order may not reach."""

    def case(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
        return {of: load(name, int(limit) - 1)}, {of: load(name, int(limit))}, reason

    return case


def exposure(name: str, reason: str, of: str) -> Case:
    """A sum that an order of 800 USD may fill and not exceed."""

    def case(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
        return {of: load(name, limit - 800)}, {of: load(name, limit - 800 + D("0.01"))}, reason

    return case


def symbol_orders(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
    return {"symbol_orders_today": int(limit) - 1}, {"symbol_orders_today": int(limit)}, "max_symbol_orders"


def cooldown(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
    within = {"since_last_order": timedelta(seconds=int(limit))}
    return within, {"since_last_order": timedelta(seconds=int(limit) - 1)}, "cooldown"


def max_trade(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
    rich = {"spendable_usd": D(10**9), "quantity": D(1)}
    return rich | {"notional_usd": limit}, rich | {"notional_usd": limit + D("0.01")}, "max_trade"


def away(fact: str, reason: str) -> Case:
    """So many percent from a price of 2,000."""

    def case(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
        quiet = {"volatility_pct": D(100)}
        at = D(2000) / (1 + limit / 100) if fact == "signal_price" else D(2000) * (1 + limit / 100)
        return (
            quiet | {fact: at + D("0.01") * (1 if fact == "signal_price" else -1)},
            quiet | {fact: at - D("0.01") * (1 if fact == "signal_price" else -1)},
            reason,
        )

    return case


def volatility(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
    """0.5 % a bar: the band is `limit` times that."""
    at = D(2000) / (1 + limit / 200)
    own = {"volatility_pct": D("0.5")}
    return own | {"signal_price": at + D("0.01")}, own | {"signal_price": at - D("0.01")}, "volatility_band"


def minimum(limit: Decimal) -> tuple[dict[str, Any], dict[str, Any], str]:
    return {"min_usd": D(800)}, {"min_usd": D("800.01")}, "below_minimum"


BY_CHECK: dict[str, Case] = {
    "account.max_orders_per_minute": account("orders_last_minute", "rate_limit"),
    "account.max_orders_per_symbol_per_day": symbol_orders,
    "account.max_open_orders": account("open_orders", "max_open_orders"),
    "account.cooldown_seconds_per_symbol": cooldown,
    "account.max_total_exposure_usd": exposure("exposure_usd", "exposure_cap", "account"),
    "platform.max_total_exposure_usd": exposure("exposure_usd", "platform_exposure_cap", "platform"),
    "account.max_symbol_exposure_usd": exposure("symbol_exposure_usd", "symbol_exposure_cap", "account"),
    "platform.max_symbol_exposure_usd": exposure(
        "symbol_exposure_usd", "platform_symbol_exposure_cap", "platform"
    ),
    "max_trade_usd": max_trade,
    "price_band_pct": away("signal_price", "price_band"),
    "max_slippage_pct": away("expected_price", "slippage"),
    "volatility_band.multiplier": volatility,
}

GUARD, EXITS = "tests/positions/test_guard.py", "tests/positions/exits/test_levels.py"
RISK, SETTLE = "tests/trading/risk/test_checks.py", "tests/trading/test_settle.py"
SCORE = "tests/trading/risk/test_score.py"
SIZING = "tests/trading/entries/test_sizing.py"
ELSEWHERE: dict[str, tuple[str, str]] = {
    r"platform\.(max_orders_per_minute|max_open_orders)": (
        "tests/trading/test_execute.py", "test_the_platforms_pace_lets_the_rest_wait",
    ),
    r"allow_add_to_position": (RISK, "test_of_any_set_of_failing_checks_the_earliest_is_the_verdict"),
    r"volatility_band\.method": (RISK, "test_the_volatility_band_is_a_multiple_of_what_the_token_moves_in_a_bar"),
    r"symbols\.\w+\.\w+": (RISK, "test_one_token_can_have_limits_of_its_own_and_the_platforms_stand"),
    r"risk_score\.(max_position_pct|max_volatility_pct|min_signal_confidence|max_correlation|review_from)": (
        SCORE, "test_an_entry_within_a_limit_of_the_score_goes_and_one_beyond_does_not",
    ),
    r"risk_score\.(max_cvar_pct|weights\.\w+)": (SCORE, "test_the_score_is_the_weighted_mean_of_its_parts"),
    r"risk_score\.enabled": (SCORE, "test_a_score_that_is_off_blocks_nothing"),
    r"risk_score\.horizon_hours": (
        "tests/signals_app/forecast_use/test_risk_inputs.py", "test_a_signal_stores_the_forecast_and_the_correlations",
    ),
    r"order_deadline_seconds": (SETTLE, "test_the_paper_exchange_takes_no_order_past_its_deadline"),
    r"fees\.trade": (SETTLE, "test_the_platform_fee_is_booked_once_per_trade"),
    r"fees\.profit": (
        "tests/agents/test_fees.py", "test_the_shares_sum_to_the_rate_times_the_high_water_mark",
    ),
    r"loosen_after_seconds": (
        "tests/trading/operations/test_limit_changes.py", "test_a_looser_limit_waits_and_a_stricter_one_does_not",
    ),
    r"sizing\.\w+\.(high_pct|medium_pct|low_pct|max_pct|reserve_pct|max_usd)": (
        SIZING, "test_a_size_keeps_every_bound_of_its_preset",
    ),
    r"sizing\.\w+\.min_usd": (
        "tests/trading/risk/test_each_limit.py", "test_an_order_below_the_minimum_is_stopped",
    ),
    r"exits\.\w+\.(stop_loss_pct|take_profit_pct)": (
        EXITS, "test_the_sweep_decides_for_every_position_what_the_rules_say",
    ),
    r"exits\.\w+\.hard_stop_pct": (EXITS, "test_the_stop_is_never_further_away_than_the_hard_stop"),
    r"exits\.\w+\.trailing\w+": (EXITS, "test_a_trailing_stop_only_ever_tightens"),
    r"exits\.\w+\.max_holding_minutes": (
        EXITS, "test_the_first_exit_in_the_order_of_priority_is_the_reason",
    ),
    r"liquidation_warning\.\w+": (
        "tests/positions/test_liquidation_warnings.py", "test_a_warning_comes_once_for_each_approach",
    ),
    r"triggers\.platform\..*": (GUARD, "test_the_platform_stops_for_what_many_accounts_share"),
    r"triggers\.(?!platform)\w+\..*": (
        GUARD, "test_each_trigger_stops_its_account_alone_at_its_limit_and_not_before",
    ),
}  # fmt: skip
"""Limits that no check of an order holds, by the test that shows what they stop."""


@pytest.mark.parametrize("key", BY_CHECK)
def test_an_order_within_the_limit_goes_and_one_beyond_does_not(key: str) -> None:
    limit = limits_by_key(policy())[key]
    assert isinstance(limit, Decimal)
    rules = policy().model_copy(update={"allow_add_to_position": True})
    inside, beyond, reason = BY_CHECK[key](limit)
    assert checks.check(facts(**inside), rules).reason == ""
    assert checks.check(facts(**beyond), rules).reason == reason


def test_an_order_below_the_minimum_is_stopped() -> None:
    inside, beyond, reason = minimum(D(0))
    assert checks.check(facts(**inside), policy()).allowed
    assert checks.check(facts(**beyond), policy()).reason == reason


def test_every_limit_has_its_case() -> None:
    without = [
        key
        for key in limits_by_key(policy())
        if key not in BY_CHECK and not any(re.fullmatch(pattern, key) for pattern in ELSEWHERE)
    ]
    assert without == []


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_the_test_that_is_named_exists(pattern: str) -> None:
    path, name = ELSEWHERE[pattern]
    assert f"def {name}(" in (ROOT / path).read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_trade_usd: 5000", "max_trade_used: no such key; did you mean max_trade_usd?"),
        ("max_open_orders: 20", "account.max_open_order: no such key; did you mean max_open_orders?"),
        ("limit_pct: 5,", "triggers.daily_loss.limit_pc: no such key; did you mean limit_pct?"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    text = (ROOT / "config" / "risk.yaml").read_text()
    wrong = {"max_trade_usd": "max_trade_used", "max_open_orders": "max_open_order", "limit_pct": "limit_pc"}
    name = line.partition(":")[0]
    (tmp_path / "risk.yaml").write_text(text.replace(line, line.replace(name, wrong[name]), 1))
    shutil.copy(ROOT / "config" / "exits.yaml", tmp_path)
    monkeypatch.setattr(config, "config_dir", lambda: tmp_path)
    config._read.cache_clear()
    with pytest.raises(Misconfigured, match=re.escape(said)):
        config.load("risk", RiskPolicy)
    config._read.cache_clear()
