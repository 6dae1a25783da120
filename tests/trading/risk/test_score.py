"""The risk score of an entry: its formulas, its limits, and that a high score waits for the owner."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from maxxit.events.models import Event
from maxxit.reports.owners.waiting_entries import waiting_entries
from maxxit.reports.trades.why import why
from tests import builders
from tests.builders import facts
from trading import execute
from trading.deployments.confirmation import confirm, decline
from trading.entries import planning
from trading.models import Order
from trading.risk import checks
from trading.risk.facts import Entries
from trading.risk.policy import RiskPolicy, ScoreWeights, policy
from trading.risk.score import RiskInputs, TailForecast, cvar95, parts, score
from trading.venues.base import VenueAnswer

D = Decimal
ON = policy().risk_score.model_copy(update={"enabled": True})
TAIL = TailForecast(sigma=D("0.04"), q10=D("-0.05"), q90=D("0.06"))
SURE = RiskInputs("long", D("0.9"), TAIL, D("0.5"))


def rules(**changes: Any) -> RiskPolicy:
    return policy().model_copy(update={"risk_score": ON.model_copy(update=changes)})


def entry(usd: str = "100", **changes: Any) -> checks.Facts:
    """An entry of an account of 10,000 USD."""
    return facts(notional_usd=D(usd), risk=replace(SURE, **changes))


@pytest.mark.parametrize(
    ("side", "q10", "q90", "sigma", "wanted"),
    [
        ("long", "-0.05", "0.06", "0.04", "0.075"),  # 0.05 × (1 + 5 × 0.04) × 1.25
        ("short", "-0.05", "0.06", "0.04", "0.09"),
        ("long", "0.01", "0.06", "0.04", "0"),
        ("long", "-0.2", "0.2", "0.2", "0.5"),
    ],
)
def test_the_expected_shortfall_is_that_of_the_checklist(
    side: str, q10: str, q90: str, sigma: str, wanted: str
) -> None:
    assert cvar95(TailForecast(D(sigma), D(q10), D(q90)), side) == D(wanted)


def test_the_score_is_the_weighted_mean_of_its_parts() -> None:
    found = parts(SURE, D(1), ON)
    assert found == {"position": D("0.5"), "confidence": D("0.1"), "volatility": D("0.4"), "cvar": D("0.75")}
    assert score(found, ON) == D("0.3") * D("0.5") + D("0.2") * D("0.1") + D("0.2") * D("0.4") + D("0.3") * D(
        "0.75"
    )
    without = parts(replace(SURE, tail=None), D(1), ON)
    assert score(without, ON) == (D("0.3") * D("0.5") + D("0.2") * D("0.1")) / D("0.5")
    with pytest.raises(ValidationError, match=r"the weights are 1\.1 together"):
        ScoreWeights(position=D("0.4"), volatility=D("0.2"), cvar=D("0.3"), confidence=D("0.2"))


fractions = st.decimals(0, 1, places=4)
some_tail = st.none() | st.builds(
    TailForecast,
    sigma=st.decimals("0.0001", 2, places=4),
    q10=st.decimals(-1, 1, places=4),
    q90=st.decimals(-1, 2, places=4),
)


@given(st.sampled_from(["long", "short"]), fractions, some_tail, st.decimals(0, 200, places=2), fractions)
def test_a_score_lies_between_0_and_1_and_does_not_fall_with_the_size(
    side: str, confidence: Decimal, tail: TailForecast | None, position: Decimal, more: Decimal
) -> None:
    inputs = RiskInputs(side, confidence, tail)
    small, large = (score(parts(inputs, one, ON), ON) for one in (position, position + more))
    assert 0 <= small <= large <= 1


@pytest.mark.parametrize(
    ("inside", "beyond", "reason"),
    [
        (entry("200"), entry("200.01"), "risk_position"),
        (
            entry(tail=replace(TAIL, sigma=D("0.1"))),
            entry(tail=replace(TAIL, sigma=D("0.1001"))),
            "risk_volatility",
        ),
        (entry(confidence=D("0.3")), entry(confidence=D("0.29")), "risk_confidence"),
        (entry(correlation=D("0.9499")), entry(correlation=D("0.95")), "correlation_spike"),
        # 0.3 × 1 + 0.2 × 0.4 + 0.3 × 1 + 0.2 × (1 − confidence)
        (
            entry("200", tail=replace(TAIL, q10=D("-0.1")), confidence=D("0.9001")),
            entry("200", tail=replace(TAIL, q10=D("-0.1")), confidence=D("0.9")),
            "pending_review",
        ),
    ],
)
def test_an_entry_within_a_limit_of_the_score_goes_and_one_beyond_does_not(
    inside: checks.Facts, beyond: checks.Facts, reason: str
) -> None:
    assert checks.check(inside, rules()).reason == ""
    assert checks.check(beyond, rules()).reason == reason


def test_a_score_that_is_off_blocks_nothing() -> None:
    assert not policy().risk_score.enabled
    wild = entry("800", confidence=D(0), correlation=D(1), tail=replace(TAIL, sigma=D(9)))
    assert checks.check(wild, policy()).allowed


def test_without_a_forecast_trading_goes_on_by_the_other_parts() -> None:
    assert checks.check(entry(tail=None), rules()).allowed
    assert checks.check(entry("200", tail=None, confidence=D("0.3")), rules()).reason == "pending_review"


@pytest.mark.parametrize(
    "changes",
    [
        {"risk": None},
        {"risk": replace(SURE, uncorrelated=("BTC",))},
        {"spendable_usd": None},
        {"spendable_usd": D(0)},
    ],
)
def test_a_score_that_cannot_be_computed_blocks_an_entry_and_no_exit(changes: dict[str, Any]) -> None:
    seen = facts(**{"notional_usd": D(100), "risk": SURE} | changes)
    assert checks.check(seen, rules()).reason == "risk_score_unreadable"
    leaving = facts(**{"reduces": True, "buys": False, "held": D("0.4"), "risk": None})
    assert checks.check(leaving, rules()).allowed


def test_one_token_can_have_limits_of_the_score_of_its_own() -> None:
    body = policy().model_dump() | {"symbols": {"EOS": {"max_volatility_pct": "3", "review_from": "0.2"}}}
    body["risk_score"]["enabled"] = True
    made = RiskPolicy.model_validate(body)
    assert checks.check(entry(), made.of("BTC")).allowed
    assert checks.check(entry(), made.of("EOS")).reason == "risk_volatility"
    assert made.of("EOS").risk_score.max_position_pct == 2


@pytest.fixture
def risky(db: None, no_approval_file: object) -> Order:
    """An entry of 8 % of its account by a sure signal, without a forecast."""
    builders.open_gate()
    builders.price("ETH", "2000")
    agent = builders.agent(owner=User.objects.create_user("alice"))
    builders.deployment(agent, owner=agent.owner)
    builders.signal(agent)
    planning.fan_out()
    return Order.objects.get()


REVIEWED = rules(max_position_pct=D(9), review_from=D("0.5"))
"""8 of 9 percent weigh 0.3, and 0.28 of the confidence 0.2: a score of 0.6453."""


def place(order: Order) -> execute.PlacementCounts:
    return execute.place_due_orders(Order.objects.filter(pk=order.pk), REVIEWED)


def test_a_high_score_waits_for_the_owner_and_goes_on_with_the_yes(risky: Order) -> None:
    assert (place(risky).unconfirmed, place(risky).due) == (1, 0)
    risky.refresh_from_db()
    verdict = {"reason": "pending_review", "measured": "0.6453", "limit": "0.5"}
    assert (risky.state, risky.reason, risky.verdict) == ("planned", "awaiting_confirmation", verdict)
    event = Event.objects.get(name="order.awaiting_confirmation")
    assert event.data == {"owner_id": risky.deployment.owner_id} | verdict
    assert waiting_entries([risky])[0].as_json()["review"] == {"measured": "0.6453", "limit": "0.5"}
    [stop] = why("order", str(risky.pk))
    assert (stop.waiting, stop.measured) == (True, "risk score 0.6453, from 0.5 on its owner decides")
    assert confirm(risky, by="alice")
    assert place(risky).sent == 1
    risky.refresh_from_db()
    assert (risky.state, risky.verdict) == ("filled", {})


def test_a_no_blocks_it_for_good(risky: Order) -> None:
    place(risky)
    decline(risky, by="alice")
    risky.refresh_from_db()
    assert (risky.state, risky.reason) == ("blocked", "declined")


@pytest.mark.parametrize(("held", "wanted"), [("1", "0.97"), ("-1", "-0.97"), ("0", None)])
def test_the_correlation_counts_with_the_side_of_what_the_account_holds(
    risky: Order, held: str, wanted: str | None
) -> None:
    tail = {"sigma": "0.04", "q10": "-0.05", "q90": "0.06"}
    risky.signal.risk_model = {"risk_inputs": {"forecast": tail, "correlations": {"BTC": "0.97", "SOL": "1"}}}  # type: ignore[union-attr]
    entries = Entries.read([risky], "paper", REVIEWED)
    entries._holdings.by_account[risky.account] = {"BTC": D(held)}
    builders.price("BTC", "1")
    inputs = entries.of(risky, VenueAnswer()).risk
    assert inputs is not None
    assert inputs.correlation == (None if wanted is None else D(wanted))
    assert inputs.uncorrelated == ()
    assert inputs.tail == TAIL


def test_a_held_token_without_a_known_correlation_is_named_and_dust_is_not(risky: Order) -> None:
    assert risky.signal is not None
    risky.signal.risk_model = {"risk_inputs": {"correlations": {"BTC": "0.2"}}}
    entries = Entries.read([risky], "paper", REVIEWED)
    tokens = {"BTC": D(1), "XRP": D(500), "LTC": D("1e-17"), "GONE": D(3), risky.symbol: D(2)}
    entries._holdings.by_account[risky.account] = tokens
    inputs = entries._risk(risky, risky.signal)
    assert inputs.uncorrelated == ("XRP",)
