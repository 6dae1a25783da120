"""Settings by key: what is taken, and what is refused by name with its remedy."""

from decimal import Decimal

import pytest

from maxxit.backtest.run import Backtest
from maxxit.backtest.settings import TapeSettings, _without_repeats
from maxxit.core.errors import Misconfigured
from tests.backtest.tapes import agent, small_tape
from trading.operations.limit_changes import limits_by_key, with_limits
from trading.risk.policy import policy


def test_each_kind_of_key_is_taken() -> None:
    made = TapeSettings(small_tape()).of(
        {
            "exits.signal.trailing_pct": "2",
            "max_trade_usd": "100",
            "generate.spot.stop_loss_pct": "4",
            "venues.paper.fee_bps": "20",
            "agents.Follower.weights.rsi": "7",
            "agents.Follower.min_confidence": "0.61",
            "agents.Follower.exit_preset": "moderate",
        },
    )

    assert made.risk.exits["signal"].trailing_pct == 2  # type: ignore[index]
    assert (made.risk.max_trade_usd, made.generate.spot.stop_loss_pct) == (100, 4)
    assert made.venues["paper"].options["fee_bps"] == 20
    [trader] = made.traders
    assert (trader.weights["rsi"], trader.min_confidence) == (7, Decimal("0.61"))
    assert trader.exit_preset == "moderate"


def test_a_general_limit_counts_for_each_symbol_that_has_no_own() -> None:
    tape = small_tape()
    general = {"max_trade_usd": tape.risk["max_trade_usd"]}
    tape.risk["symbols"] = {"ETH": general, "BTC": {"max_trade_usd": "70"}}

    made = TapeSettings(tape).of({"max_trade_usd": "100"}).risk

    assert (made.of("ETH").max_trade_usd, made.of("BTC").max_trade_usd) == (100, 70)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("generate.bars", "60", "generate.bars is recorded on the tape"),
        ("generate.proposer", "model", "generate.proposer asks a model"),
        ("generate.signal_ttl_hours", "1", "generate.signal_ttl_hours concerns signals that wait"),
        ("generate.perps.stop_loss_pct", "4", "generate.perps.stop_loss_pct needs leverage"),
        ("triggers.daily_loss.limit_pct", "1", "pulls the kill switch"),
        ("platform.max_open_orders", "1", "scales crowds of many accounts"),
        ("exits.signal.trailing", "1", "exits.signal.trailing is no setting; known here: hard_stop_pct"),
        ("nothing", "1", "nothing is no setting"),
        ("exits.signal.trailing_pct", "0.01", "exits.signal.trailing_pct: Input should be greater"),
        ("exits.signal.trailing_pct", "none", "give both or neither"),
        ("venues.paper.max_leverage", "5", "does not represent leverage"),
        ("venues.paper.slippage_bps", "500", "no entry would pass"),
        (
            "venues.paper.fee_bps",
            "10000",
            "venues.paper: venue paper: slippage_bps and fee_bps are 0 to 9999",
        ),
        ("venues.paper.depth_usd", "0", "depth_usd is positive"),
        (
            "venues.paper.adapter",
            "gmx",
            "venues.paper.adapter is no setting of a venue that a backtest varies",
        ),
        ("venues.other.fee_bps", "5", "the venues of the tape are paper"),
        ("agents.Nobody.min_confidence", "0.5", "the agents of the tape are Follower"),
        ("agents.Follower.min_confidence", "50", "'50' is not a fraction from 0 to 1"),
        ("agents.Follower.weights.rsi", "x", "'x' is not a whole number from 0 to 100"),
        ("agents.Follower.weights.moon", "5", "moon"),
        ("agents.Follower.exit_preset", "slow", "'slow' is not one of"),
        ("agents.Follower.exit_preset", "volatility", "takes live forecasts"),
        ("generate.volatility_stop.multiple", "2", "takes live forecasts"),
        ("generate.direction_forecast.horizon_hours", "6", "takes live forecasts"),
        ("generate.volatility_size.horizon_hours", "6", "takes live forecasts"),
        ("agents.Follower.weights.forecast", "5", "takes live forecasts"),
        ("agents.Follower.tokens", "BTC", "no indicators of BTC are on the tape"),
        ("agents.Follower.tokens", "XXX", "XXX is not on the tape"),
        ("agents.Follower.monthly_fee", "", "is no setting of an agent; known: min_confidence"),
        ("agents.Follower.follows", "x", "is no setting of an agent; known: min_confidence"),
    ],
)
def test_what_cannot_be_varied_is_refused_by_name(key: str, value: str, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        TapeSettings(small_tape()).of({key: value})

    assert said in str(refused.value)


def test_what_a_tape_holds_beyond_the_fast_path_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match=r"the tape holds a kill switch: the fast backtest does not"):
        Backtest(small_tape(unsupported=["a kill switch"]))
    twins = [agent(), agent(2, "Other", deployments=agent().deployments)]
    with pytest.raises(Misconfigured, match="two agents share an account"):
        Backtest(small_tape(agents=twins)).run()
    other = small_tape()
    other.instruments["ETH"]["tick"] = "5"
    with pytest.raises(Misconfigured, match=r"ETH in config/markets.yaml differ from those of the tape"):
        Backtest(other)


def test_a_subscription_on_the_tape_is_refused_by_name() -> None:
    fees = agent().fees | {"monthly_fee": "subscription monthly_usdc=20 trial_days=14"}
    with pytest.raises(Misconfigured, match=r"agents.Follower.monthly_fee: the fast backtest charges no"):
        Backtest(small_tape(agents=[agent(fees=fees)])).run()


def test_an_order_that_the_depth_does_not_take_at_once_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match=r"more than 2 × depth_usd 100"):
        Backtest(small_tape()).run({"venues.paper.depth_usd": "100"})


def test_limits_that_repeat_the_general_ones_are_no_exceptions_of_a_token() -> None:
    limits = limits_by_key(policy()) | {"symbols.EOS.max_correlation": Decimal("0.8")}
    taped = with_limits(policy(), limits).model_dump(mode="json")
    assert len(taped["symbols"]) > 2
    assert _without_repeats(taped)["symbols"] == {"EOS": {"max_correlation": "0.8"}}
