"""Generation of signals from candidates and indicators: one per agent, token and bucket, or a decline with reason."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from agents.models import Agent, CtAccount
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.market import candles
from maxxit.market.models import Quote
from maxxit.pipeline.models import StageRun
from maxxit.pipeline.runs import run_stage
from signals_app.generate import Generated, generate
from signals_app.models import CtPost, Signal
from signals_app.outcome import CANDIDATE_REASONS, raise_to, rank
from signals_app.policy import policy
from signals_app.reading.proposal import Proposal
from signals_app.tasks import generate_pass
from tests import builders as make
from tests.builders import HOUR, T0, RecordedClock
from tests.fakes import FakeModel

D = Decimal


@pytest.fixture
def agent(db: None, time: RecordedClock) -> Agent:
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")
    return make.agent()


@pytest.fixture
def author(agent: Agent) -> CtAccount:
    return make.account(agent, username="author")


def run(**changes: Any) -> Generated:
    return generate(policy().generate.model_copy(update=changes))


def outcome(post: CtPost) -> str:
    return CtPost.objects.get(pk=post.pk).outcome


def declined() -> list[dict[str, str]]:
    return list(Event.objects.filter(name="signal.declined").order_by("pk").values_list("data", flat=True))


def test_a_call_becomes_a_pending_signal_with_its_levels_and_its_post(
    agent: Agent, author: CtAccount
) -> None:
    post = make.candidate(author)
    done, signal = run(), Signal.objects.get()

    assert (done.considered, done.signals) == (1, 1)
    assert (signal.agent, signal.token, signal.side, signal.state) == (agent, "ETH", "long", "pending")
    assert (signal.confidence, signal.entry_price) == (D("0.72"), D(2000))
    assert (signal.stop_loss_pct, signal.take_profit_pct, signal.leverage) == (D(6), D(18), D(1))
    assert signal.size_model == {"preset": "moderate", "posts": 1, "tier": "high", "size": "0.08"}
    assert (signal.bucket, signal.expires_at) == (T0, T0 + 6 * HOUR)
    assert [one.pk for one in signal.posts.all()] == [post.pk]
    assert signal.correlation_id == post.correlation_id
    assert (outcome(post), CtPost.objects.get().processed_for_signals) == ("signal", True)


def test_a_bearish_call_never_makes_a_long(author: CtAccount) -> None:
    # F23: a source's manual run made every signal a LONG
    make.candidate(author, {"ETH": "short"})
    run()

    assert set(Signal.objects.values_list("side", flat=True)) == {"short"}


def test_there_is_one_signal_per_agent_token_and_bucket(
    agent: Agent, author: CtAccount, time: RecordedClock
) -> None:
    first = make.candidate(author)
    run()
    time.move(hours=5, minutes=59)
    make.price("ETH", "2000")
    second = make.candidate(author)
    run()
    assert (Signal.objects.count(), outcome(first), outcome(second)) == (
        1,
        "signal",
        "candidate:bucket_taken",
    )

    time.move(minutes=1)
    make.price("ETH", "2000")
    make.hourly_bars("ETH", make.calm(bars=6), until=time.now)
    third = make.candidate(author)
    run()
    assert (Signal.objects.count(), outcome(third)) == (2, "signal")


def test_agents_do_not_share_a_bucket(agent: Agent, author: CtAccount) -> None:
    make.Subscription.objects.create(agent=make.agent(), account=author)
    make.candidate(author)

    assert run().signals == 2


def test_a_second_pass_over_the_same_posts_makes_nothing(author: CtAccount) -> None:
    make.candidate(author)

    assert [run().signals, run().signals] == [1, 0]
    assert declined() == []


def test_calls_of_both_sides_are_weighed_and_the_weaker_one_is_opposed(author: CtAccount) -> None:
    strong = make.candidate(author, confidence="0.95")
    weak = make.candidate(author, {"ETH": "short"}, confidence="0.5")
    run()
    signal = Signal.objects.get()

    assert (signal.side, [one.pk for one in signal.posts.all()]) == ("long", [strong.pk])
    assert (outcome(strong), outcome(weak)) == ("signal", "candidate:opposed")


def test_a_call_without_followers_has_a_reason(agent: Agent) -> None:
    post = make.candidate(make.account(username="stranger"))
    run()

    assert (outcome(post), Signal.objects.count()) == ("candidate:no_follower", 0)


def test_a_call_on_a_token_outside_the_agents_list_has_a_reason(author: CtAccount) -> None:
    post = make.candidate(author, {"BTC": "long"})
    run()

    assert outcome(post) == "candidate:not_on_venue"


def test_an_agent_without_tokens_trades_all_of_its_venue(db: None, time: RecordedClock) -> None:
    make.hourly_bars("BTC", make.calm())
    make.price("BTC", "2000")
    everything, some = make.agent(tokens=[]), make.agent(tokens=["ETH"])
    make.candidate(make.account(everything, some), {"BTC": "long"})
    run()

    assert [(one.agent, one.token) for one in Signal.objects.all()] == [(everything, "BTC")]


def test_a_weak_call_is_declined_with_what_was_measured_and_the_limit(
    agent: Agent, author: CtAccount
) -> None:
    post = make.candidate(author, confidence="0.4")
    run()

    assert outcome(post) == "candidate:below_threshold"
    assert declined() == [
        {
            "agent": agent.name,
            "agent_id": agent.pk,
            "token": "ETH",
            "reason": "below_threshold",
            "measured": "0.320000",
            "limit": "0.500000",
        }
    ]


def test_among_several_agents_the_reason_nearest_to_a_signal_counts(author: CtAccount) -> None:
    picky = make.agent(min_confidence=D("0.9"))
    elsewhere = make.agent(tokens=["BTC"])
    make.Subscription.objects.bulk_create(
        [make.Subscription(agent=one, account=author) for one in (picky, elsewhere)]
    )
    first = make.candidate(author)
    run()
    assert outcome(first) == "signal"

    make.Subscription.objects.exclude(agent__in=[picky, elsewhere]).delete()
    second = make.candidate(author)
    run()
    assert outcome(second) == "candidate:below_threshold"


def test_a_paused_agent_decides_nothing(agent: Agent, author: CtAccount) -> None:
    Agent.objects.update(state="paused")
    make.candidate(author)

    assert run().agents == 0


def test_an_agent_without_tweet_weight_trades_on_indicators_alone(db: None, time: RecordedClock) -> None:
    make.hourly_bars("ETH", make.rising())
    make.price("ETH", "2400")
    make.agent(weights={**make.NO_TWEETS, "rsi": 0, "bollinger": 0}, min_confidence=D("0.3"))
    run()
    signal = Signal.objects.get()

    assert (signal.side, signal.posts.count()) == ("long", 0)
    assert signal.correlation_id is not None


# --- what must not be used -----------------------------------------------------------------------------------------


def test_a_bar_that_has_not_closed_is_never_used(agent: Agent, time: RecordedClock) -> None:
    width = timedelta(minutes=60)

    def closes() -> list[float]:
        return list(candles.last_bars(["ETH"], width=width, count=120, at=time.now)["ETH"].close)

    before = closes()
    forming = candles.Bar(T0, D(9999), D(9999), D(9999), D(9999), D(1))
    candles.store("ETH", [forming, candles.Bar(T0 + 11 * candles.BAR, D(1), D(8888), D(1), D(7777), D(1))])

    assert closes() == before
    time.move(minutes=59, seconds=59)
    assert closes() == before
    time.move(seconds=1)
    assert closes() == [*before, 7777.0]


def test_indicators_are_those_of_the_moment_though_the_future_is_already_stored(
    agent: Agent, author: CtAccount
) -> None:
    make.candidate(author)
    run()
    seen = Signal.objects.get().market
    Signal.objects.all().delete()
    CtPost.objects.update(processed_for_signals=False, outcome="candidate:waiting")
    make.hourly_bars("ETH", make.rising(5000, 30), until=T0 + 30 * HOUR)
    run()

    assert Signal.objects.get().market == seen


@pytest.mark.parametrize("field", ["ingested_at", "posted_at"])
def test_a_post_is_used_neither_before_its_moment_nor_too_late(author: CtAccount, field: str) -> None:
    if field == "ingested_at":
        future = make.candidate(author, ingested_at=T0 + timedelta(seconds=1))
        run()
        assert (outcome(future), Signal.objects.count()) == ("candidate:waiting", 0)
    hours = 6 if field == "ingested_at" else 24
    changed: dict[str, Any] = {field: T0 - timedelta(hours=hours)}
    late = make.candidate(author, **changed)
    run()

    assert (outcome(late), Signal.objects.count()) == ("candidate:too_old", 0)


def test_without_a_price_the_call_waits_and_is_decided_when_there_is_one(author: CtAccount) -> None:
    make.Quote.objects.all().delete()
    post = make.candidate(author)
    run()
    assert (outcome(post), CtPost.objects.get().processed_for_signals) == ("candidate:no_price", False)

    make.price("ETH", "2000")
    run()
    assert outcome(post) == "signal"


def test_with_too_few_bars_nothing_is_decided(db: None, time: RecordedClock) -> None:
    make.price("ETH", "2000")
    make.hourly_bars("ETH", make.calm(bars=39))
    post = make.candidate(make.account(make.agent()))
    run()

    assert (outcome(post), Signal.objects.count()) == ("candidate:no_market_data", 0)


# --- a model proposes ----------------------------------------------------------------------------------------------


def proposal(**fields: Any) -> Proposal:
    values = {
        "take": True,
        "confidence": D("0.6"),
        "stop_loss_pct": D(5),
        "take_profit_pct": D(15),
        "leverage": D(1),
        "reasoning": "",
    }
    return Proposal(**values | fields)


def test_a_models_proposal_is_held_within_the_formulas_bounds(author: CtAccount, model: FakeModel) -> None:
    make.candidate(author)
    model.proposal = proposal(confidence=D(1), leverage=D(50), stop_loss_pct=D(99), take_profit_pct=D(1000))
    run(proposer="model")
    signal = Signal.objects.get()

    assert (signal.confidence, signal.leverage) == (D("0.72"), D(1))
    assert (signal.stop_loss_pct, signal.take_profit_pct) == (D(7), D(100))


def test_a_model_that_disagrees_stops_the_trade(author: CtAccount, model: FakeModel) -> None:
    post = make.candidate(author)
    model.proposal = proposal(take=False)
    run(proposer="model")

    assert (outcome(post), Signal.objects.count()) == ("candidate:model_disagrees", 0)


def test_while_the_model_fails_the_call_waits_and_no_formula_takes_its_place(
    author: CtAccount, model: FakeModel
) -> None:
    post = make.candidate(author)
    model.errors.append(Rejected("garbage"))
    run(proposer="model")
    assert (outcome(post), Signal.objects.count()) == ("candidate:model_failed", 0)

    model.proposal = proposal()
    run(proposer="model")
    assert outcome(post) == "signal"


# --- outcomes ------------------------------------------------------------------------------------------------------

WAY = [
    *["pending", "unread:retryable", "not_candidate", "no_listed_token", "too_many_tokens"],
    *[f"candidate:{reason}" for reason in CANDIDATE_REASONS],
    *["signal", "traded"],
]


def test_the_outcomes_are_ordered_by_stage() -> None:
    assert [rank(one) for one in WAY] == sorted({rank(one) for one in WAY})


@pytest.mark.parametrize("here", WAY)
def test_an_outcome_only_ever_moves_forward(author: CtAccount, here: str) -> None:
    posts = {there: make.post(author, outcome=there) for there in WAY}
    raise_to(CtPost.objects.all(), here)

    assert {there: outcome(post) for there, post in posts.items()} == {
        there: max(there, here, key=rank) for there in WAY
    }


def test_every_reason_to_decline_is_an_outcome() -> None:
    assert {"no_market_data", "no_price", "below_threshold", "shorts_not_supported", "uncorroborated"} <= set(
        CANDIDATE_REASONS
    )
    assert {"bucket_taken", "model_failed", "model_disagrees", "opposed", "too_old", "no_follower"} <= set(
        CANDIDATE_REASONS
    )


def test_a_pass_of_the_stage_keeps_how_often_each_reason_declined(agent: Agent, author: CtAccount) -> None:
    make.candidate(author)
    Quote.objects.all().delete()
    told = generate_pass()
    kept = run_stage("generate", lambda: told)

    assert kept["declined"] == {"no_price": 1}
    assert StageRun.objects.get().detail["declined"] == {"no_price": 1}
