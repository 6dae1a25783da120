"""Preferences of 0 to 100 become weights, a sizing preset and a least confidence by the table of docs/agents.md."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.evidence import EVIDENCE, default_weights, weights_problem
from agents.models import Agent
from agents.preferences import NAMES, Preferences, as_preferences, derive, preferences_problem
from maxxit.core.config import ROOT
from maxxit.core.terms import Preset

LEVELS = st.integers(0, 100)
ORDER = list(Preset)
SETS = {
    "risk_tolerance": {"volatility"},
    "social_sentiment_weight": {"tweet"},
    "price_momentum_focus": {"momentum", "macd", "moving_average", "rsi", "bollinger"},
    "market_rank_priority": {"volume"},
    "trade_frequency": set[str](),
}


def test_at_fifty_each_the_result_is_a_new_agent() -> None:
    derived, new = derive(Preferences()), Agent()
    assert derived.weights == default_weights() == new.weights
    assert derived.sizing_preset == new.sizing_preset == "moderate"
    assert derived.min_confidence == new.min_confidence == Decimal("0.5")


@given(st.builds(Preferences, *[LEVELS] * 5))
def test_whatever_is_preferred_the_result_is_one_that_an_agent_may_have(preferences: Preferences) -> None:
    derived = derive(preferences)
    assert not weights_problem(derived.weights)
    assert set(derived.weights) == set(EVIDENCE)
    assert Decimal("0.2") <= derived.min_confidence <= Decimal("0.8")


@given(st.builds(Preferences, *[LEVELS] * 5), st.sampled_from(NAMES), LEVELS)
def test_a_preference_moves_its_own_settings_and_no_other(base: Preferences, name: str, value: int) -> None:
    before, after = derive(base), derive(as_preferences(base.as_json() | {name: value}))
    moved = {piece for piece in EVIDENCE if before.weights[piece] != after.weights[piece]}
    assert moved <= SETS[name]
    if name != "trade_frequency":
        assert before.min_confidence == after.min_confidence
    if name != "risk_tolerance":
        assert before.sizing_preset == after.sizing_preset


@given(st.builds(Preferences, *[LEVELS] * 5), LEVELS)
def test_more_risk_never_sizes_smaller_and_more_trades_never_ask_for_more_confidence(
    base: Preferences, value: int
) -> None:
    for name in ("risk_tolerance", "trade_frequency"):
        low, high = sorted((getattr(base, name), value))
        less, more = (derive(as_preferences(base.as_json() | {name: level})) for level in (low, high))
        assert ORDER.index(less.sizing_preset) <= ORDER.index(more.sizing_preset)
        assert less.min_confidence >= more.min_confidence


@pytest.mark.parametrize(
    "given",
    [[], {"risk": 1}, {"risk_tolerance": 101}, {"risk_tolerance": -1}, {"risk_tolerance": True},
     {"risk_tolerance": "50"}, {"risk_tolerance": 50.0}],
)  # fmt: skip
def test_what_is_no_preference_is_refused(given: Any) -> None:
    assert preferences_problem(given)


def test_the_table_of_the_page_is_the_function() -> None:
    page = (ROOT / "docs/agents.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if re.match(r"\| (`\w+`.*)?\| (sizing|weight|least)", line)
    ]
    assert len(rows) == 7
    name = ""
    for preference, sets, *values in rows:
        name = preference.partition(" ")[0].strip("`") or name
        for level, shown in zip((0, 50, 100), values, strict=True):
            derived = derive(as_preferences({name: level}))
            if sets.startswith("sizing"):
                assert shown == derived.sizing_preset
            elif sets.startswith("least"):
                assert Decimal(shown) == derived.min_confidence
            else:
                pieces = SETS[name] & set(re.findall(r"\w+", sets))
                assert pieces
                assert {derived.weights[piece] for piece in pieces} == {int(shown)}
