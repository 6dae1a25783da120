"""Each piece of evidence, and adding a new one: a class and a line in the registry."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from hypothesis import given

from agents.evidence import EVIDENCE, default_weights
from agents.models import Agent
from maxxit.core.clock import iso_utc
from maxxit.learning.models import Forecast
from maxxit.replay import rerun
from signals_app.evidence.base import Evidence, Facts, ReturnForecast, SocialFigures, pieces
from signals_app.generate import generate
from signals_app.models import Signal
from signals_app.policy import policy
from signals_app.score import score
from tests import builders as make
from tests.builders import T0, RecordedClock, market
from tests.learning.stored import trained
from tests.signals_app.test_score import call, some_calls, some_market

D = Decimal


def of(name: str, facts: Facts) -> Decimal | None:
    [piece] = [one for one in pieces() if one.name == name]
    return piece.of(facts)


def test_every_registered_piece_bears_its_name_in_the_registry() -> None:
    assert [piece.name for piece in pieces()] == list(EVIDENCE)
    assert all(piece.help for piece in pieces())


@given(some_market, some_calls)
def test_every_piece_of_evidence_lies_between_minus_1_and_1(seen: Any, calls: Any) -> None:
    for piece in pieces():
        value = piece.of(Facts(seen, calls))
        assert value is None or (-1 if piece.directional else 0) <= value <= 1, piece.name


@pytest.mark.parametrize(
    ("name", "seen", "value"),
    [
        ("rsi", {"rsi": 30.0}, 1),
        ("rsi", {"rsi": 60.0}, "-0.5"),
        ("macd", {"macd_histogram": 2.5}, "0.5"),
        ("bollinger", {"bollinger_b": 0.25}, "0.5"),
        ("volume", {"volume_z": 1.5, "momentum_pct": -0.1}, "-0.5"),
        ("volume", {"volume_z": 9.0, "momentum_pct": 0.0}, 1),
        ("moving_average", {"fast_average": 1990.0}, "-0.5"),
        ("momentum", {"momentum_pct": 2.5}, "0.5"),
        ("momentum", {"momentum_pct": 0.5, "atr_pct": 0.0}, 1),
        ("volatility", {"atr_pct": 3.0}, "0.5"),
        ("volatility", {"atr_pct": 0.2}, 0),
    ],
)
def test_a_piece_says(name: str, seen: dict[str, float], value: Any) -> None:
    assert of(name, Facts(market(**seen))) == pytest.approx(D(value))


def test_posts_are_no_evidence_without_a_call() -> None:
    assert of("tweet", Facts(market())) is None
    assert of("tweet", Facts(market(), [call("long", "0.8")])) == D("0.8")


@pytest.mark.parametrize(
    ("mean", "sigma", "value"),
    [
        ("0", "0.03", "0"),
        ("0.03", "0.03", "0.682689"),  # of a normal variable: what lies within one standard deviation
        ("-0.0196", "0.01", "-0.950004"),
        ("0.9", "0.001", "1"),
    ],
)
def test_a_forecast_says_by_how_much_a_rise_is_more_probable(mean: str, sigma: str, value: str) -> None:
    facts = Facts(market(), forecast=ReturnForecast(D(mean), D(sigma)))
    assert of("forecast", facts) == pytest.approx(D(value), abs=D("0.000001"))


def test_a_forecast_supports_a_side_by_its_probability_and_says_nothing_where_there_is_none() -> None:
    weights, found = {"forecast": 10}, ReturnForecast(D("-0.03"), D("0.03"))
    scored = score(weights, [], market(), forecast=found)
    assert scored is not None
    assert (scored.side, scored.confidence) == ("short", D("0.841345"))
    assert of("forecast", Facts(market())) is None
    assert score(weights, [], market()) is None


def direction(mean: float = 0.06, **fields: Any) -> int:
    row = trained(state="serving", purpose="direction", kind="ridge", horizon_hours=24)
    values = {"symbol": "ETH", "at": T0, "made_at": T0, "sigma": 0.03, "quantiles": []} | fields
    Forecast.objects.create(model=row, mean=mean, **values)
    return row.pk


WEIGHTS = {"tweet": 50, "forecast": 50}


def decided(weights: dict[str, int]) -> Signal:
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")
    make.candidate(make.account(make.agent(weights=weights)))
    generate(policy().generate)
    return Signal.objects.get()


def test_the_forecast_that_serves_counts_by_its_weight_and_is_stored(db: None, time: RecordedClock) -> None:
    model = direction()
    made = decided(WEIGHTS)
    assert made.risk_model["evidence"]["forecast"] == 0.9545
    assert made.risk_model["inputs"]["forecast"] == {
        "mean": "0.06", "sigma": "0.03", "horizon_hours": 24, "model": model, "at": iso_utc(T0),
    }  # fmt: skip
    [stage] = [one for one in rerun.rerun(made.correlation_id) if one.name == "generate"]
    assert (stage.equal, stage.difference) == (True, "")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (None, "no_model"),
        ({"symbol": "BTC"}, "no_forecast"),
        ({"at": T0 - timedelta(hours=3)}, "stale_forecast"),
        ({"mean": float("nan")}, "unusable_forecast"),
    ],
)
def test_without_a_usable_forecast_trading_goes_on_with_the_reason(
    db: None, time: RecordedClock, fields: dict[str, Any] | None, reason: str
) -> None:
    if fields is not None:
        direction(**fields)
    made = decided(WEIGHTS)
    assert made.risk_model["evidence"]["forecast"] == 0
    assert made.risk_model["inputs"]["forecast"] == {"reason": reason}


def test_an_agent_that_does_not_weigh_the_forecast_decides_without_it(db: None, time: RecordedClock) -> None:
    direction(mean=-0.06)
    assert default_weights()["forecast"] == 0
    made = decided({"tweet": 50})
    assert made.risk_model["evidence"]["forecast"] == 0
    assert "forecast" not in made.risk_model["inputs"]


def reacted(side: str, reactions: int | None) -> Any:
    return replace(call(side, "0.8"), reactions=reactions)


@pytest.mark.parametrize(
    ("reactions", "value"), [(0, "0"), (9, "0.2"), (99, "0.4"), (9_999, "0.8"), (10**9, "0.8")]
)
def test_a_call_counts_by_the_logarithm_of_its_reactions(reactions: int, value: str) -> None:
    assert of("engagement", Facts(market(), [reacted("long", reactions)])) == pytest.approx(D(value))
    assert of("engagement", Facts(market(), [reacted("short", reactions)])) == pytest.approx(-D(value))


def test_reactions_that_are_not_known_are_no_evidence() -> None:
    assert of("engagement", Facts(market(), [reacted("long", None)])) is None
    both = [reacted("long", None), reacted("short", 9_999)]
    assert of("engagement", Facts(market(), both)) == pytest.approx(D("-0.8"))


def social(**changes: Any) -> SocialFigures:
    known = {
        "galaxy_score": D(50),
        "sentiment_pct": D(50),
        "volume_change_pct": D(0),
        "price_change_pct": D(0),
    }
    return SocialFigures(**{**known, "alt_rank": 380, **changes})


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({}, "0"),
        ({"galaxy_score": D(75)}, "0.24"),
        ({"galaxy_score": D(20)}, "-0.21"),
        ({"sentiment_pct": D(85)}, "0.1875"),
        ({"volume_change_pct": D(35)}, "0.12"),
        ({"volume_change_pct": D(900)}, "0.2"),
        ({"price_change_pct": D("-7.5")}, "-0.0675"),
        ({"alt_rank": 1}, "0.1"),
        ({"alt_rank": 9_000}, "-0.1"),
    ],
)
def test_the_social_score_is_that_of_its_tables(changes: dict[str, Any], value: str) -> None:
    assert of("social", Facts(market(), social=social(**changes))) == pytest.approx(D(value))
    assert of("social", Facts(market())) is None


def test_new_agents_give_no_weight_to_pieces_without_a_measured_edge() -> None:
    assert {name for name, weight in default_weights().items() if not weight} == {
        "engagement",
        "social",
        "forecast",
    }


def test_social_metrics_move_an_agent_that_weighs_them_and_no_other() -> None:
    bullish = social(galaxy_score=D(90), sentiment_pct=D(90), alt_rank=3)
    weights = {"tweet": 40, "social": 60}
    with_them = score(weights, [call("long", "0.6")], market(), bullish)
    without = score(weights, [call("long", "0.6")], market())
    others = score({"tweet": 40}, [call("long", "0.6")], market(), bullish)

    assert with_them
    assert without
    assert others
    assert with_them.confidence > without.confidence
    assert others.confidence == score({"tweet": 40}, [call("long", "0.6")], market()).confidence  # type: ignore[union-attr]


# --- a new piece ----------------------------------------------------------------------------------------------------


class Seasonality(Evidence):
    name = "seasonality"
    help = "the season"

    def of(self, facts: Facts) -> Decimal | None:
        return D("0.6") if facts.market.close > 1000 else None


@pytest.fixture
def seasonality(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(EVIDENCE.known, "seasonality", f"{__name__}.Seasonality")
    pieces.cache_clear()
    yield
    pieces.cache_clear()


@pytest.mark.usefixtures("seasonality")
def test_a_new_piece_decides_for_an_agent_that_weighs_nothing_else() -> None:
    found = score({"seasonality": 100}, [], market())
    assert found is not None
    assert (found.side, found.confidence, found.calls) == ("long", D("0.8"), ())
    assert found.evidence["seasonality"] == 0.6


@pytest.mark.usefixtures("seasonality")
def test_a_piece_with_nothing_to_say_counts_as_undecided() -> None:
    assert score({"seasonality": 100}, [], market(close=10.0)) is None
    found = score({"seasonality": 50, "rsi": 50}, [], market(close=10.0, rsi=30.0))
    assert found is not None
    assert (found.confidence, found.evidence["seasonality"]) == (D("0.75"), 0)


@pytest.mark.usefixtures("seasonality")
def test_an_agent_without_posts_gets_its_signal_by_the_same_path(db: None, time: RecordedClock) -> None:
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")
    make.agent(weights={"seasonality": 100}, min_confidence=D("0.5"))
    done = generate(policy().generate)
    signal = Signal.objects.get()

    assert done.signals == 1
    assert (signal.side, signal.confidence, signal.posts.count()) == ("long", D("0.8"), 0)
    assert signal.risk_model["weights"] == {"seasonality": 100}
    assert signal.risk_model["evidence"]["seasonality"] == 0.6


@pytest.mark.usefixtures("seasonality")
def test_a_new_piece_may_be_weighed_and_an_unknown_one_may_not() -> None:
    field = Agent._meta.get_field("weights")
    field.run_validators({"seasonality": 100})
    with pytest.raises(ValidationError, match="no piece of evidence named moon; known: tweet, rsi"):
        field.run_validators({"moon": 1})


# --- the weights of an agent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [{"rsi": 101}, {"rsi": -1}, {"rsi": 0.5}, {"rsi": True}, {"rsi": "9"}, [1], 7]
)
def test_weights_out_of_bounds_are_refused(weights: Any) -> None:
    with pytest.raises(ValidationError, match=r"a whole number from 0 to 100|weights are a map"):
        Agent._meta.get_field("weights").run_validators(weights)


@pytest.mark.parametrize("weights", [{"rsi": 101}, {"rsi": -1}, {"rsi": "9"}, {"rsi": None}])
def test_the_database_refuses_them_too(db: None, weights: Any) -> None:
    with pytest.raises(IntegrityError, match="weights_are_0_to_100"), transaction.atomic():
        make.agent(weights=weights)
