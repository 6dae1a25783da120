"""Daily limits of signals per author and per token."""

from datetime import timedelta
from typing import Any

import pytest

from agents.models import Agent, CtAccount, Subscription
from maxxit.events.models import Event
from maxxit.events.record import advance
from signals_app.generate import Generated, generate
from signals_app.models import CtPost, Signal
from signals_app.policy import policy
from tests import builders as make
from tests.builders import HOUR, T0, RecordedClock

TOKENS = ["ETH", "BTC", "LTC"]


@pytest.fixture
def agent(db: None, time: RecordedClock) -> Agent:
    return make.agent(tokens=TOKENS)


@pytest.fixture
def author(agent: Agent) -> CtAccount:
    return make.account(agent, username="author")


def run(at: RecordedClock, **changes: Any) -> Generated:
    for token in TOKENS:
        make.hourly_bars(token, make.calm(), until=at.now)
        make.price(token, "2000")
    return generate(policy().generate.model_copy(update={"bucket_hours": 1} | changes))


def outcome(post: CtPost) -> str:
    return CtPost.objects.get(pk=post.pk).outcome


def test_an_author_brings_an_agent_so_many_signals_a_day(
    agent: Agent, author: CtAccount, time: RecordedClock
) -> None:
    """Also within one post: a list of tokens is no way around it."""
    post = make.candidate(author, dict.fromkeys(TOKENS, "long"))
    done = run(time, max_signals_per_author_per_day=2)

    assert (done.signals, done.declined) == (2, {"author_cap": 1})
    declined = Event.objects.get(name="signal.declined").data
    assert (declined["reason"], declined["measured"], declined["limit"]) == ("author_cap", "2", "2")
    assert outcome(post) == "signal"

    time.move(hours=1)
    later = make.candidate(author)
    assert run(time, max_signals_per_author_per_day=2).declined == {"author_cap": 1}
    assert outcome(later) == "candidate:author_cap"
    time.to(T0 + 12 * HOUR)  # midnight
    make.candidate(author)
    assert run(time, max_signals_per_author_per_day=2).signals == 1


def test_an_author_at_the_limit_is_skipped_and_others_are_not(
    agent: Agent, author: CtAccount, time: RecordedClock
) -> None:
    other = make.account(agent)
    make.candidate(author, {"BTC": "long"})
    run(time, max_signals_per_author_per_day=1)
    time.move(hours=1)
    loud, quiet = make.candidate(author, {"ETH": "short"}), make.candidate(other, {"ETH": "long"})

    assert run(time, max_signals_per_author_per_day=1).signals == 1
    signal = Signal.objects.get(token="ETH")
    assert (signal.side, [post.pk for post in signal.posts.all()]) == ("long", [quiet.pk])
    assert (outcome(loud), outcome(quiet)) == ("candidate:author_cap", "signal")


def test_the_cap_is_each_agents_own(agent: Agent, author: CtAccount, time: RecordedClock) -> None:
    second = make.agent(tokens=["ETH"])
    make.candidate(author, {"ETH": "long"})
    run(time, max_signals_per_author_per_day=1)
    Subscription.objects.create(agent=second, account=author)
    time.move(hours=1)
    make.candidate(author, {"ETH": "long"})

    assert run(time, max_signals_per_author_per_day=1).signals == 1
    assert list(Signal.objects.order_by("pk").values_list("agent", flat=True)) == [agent.pk, second.pk]


def test_many_small_authors_bring_a_token_no_further_than_its_cap(agent: Agent, time: RecordedClock) -> None:
    made = []
    for _ in range(4):
        post = make.candidate(make.account(agent))
        made.append(run(time, max_signals_per_token_per_day=2).signals)
        time.move(hours=1)

    assert made == [1, 1, 0, 0]
    assert outcome(post) == "candidate:token_cap"
    assert set(Signal.objects.values_list("token", flat=True)) == {"ETH"}


def test_an_agent_without_authors_has_the_tokens_cap_only(db: None, time: RecordedClock) -> None:
    make.agent(tokens=["ETH"], weights=make.NO_TWEETS, min_confidence=0)
    done = [run(time, max_signals_per_token_per_day=1)]
    time.move(hours=1)
    done.append(run(time, max_signals_per_token_per_day=1))

    assert [one.signals for one in done] == [1, 0]
    assert done[1].declined == {"token_cap": 1}


def test_a_withdrawn_signal_counts(agent: Agent, author: CtAccount, time: RecordedClock) -> None:
    """Or an author who deletes each post could start anew each hour."""
    make.candidate(author)
    run(time, max_signals_per_author_per_day=1)
    advance(Signal.objects.get(), "skipped", reason="post_deleted")
    time.move(hours=1)
    make.candidate(author, ingested_at=T0 + timedelta(hours=1))

    assert run(time, max_signals_per_author_per_day=1).signals == 0
