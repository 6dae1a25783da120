"""What models and posts cost per signal and per trade."""

from datetime import timedelta
from decimal import Decimal as D
from types import SimpleNamespace
from typing import Any

import pytest

from agents.models import Agent
from maxxit.core import clock
from maxxit.llm.models import LlmSpend, LlmTrace
from positions.performance import spending
from positions.performance.spending import Spending
from signals_app.models import CtPost, Signal
from tests import builders as make
from tests.builders import RecordedClock
from trading.models import Order

pytestmark = pytest.mark.django_db


def call(*subjects: CtPost | Signal, usd: str, agent: Agent | None = None) -> LlmTrace:
    """A call about posts or signals, as it was traced."""
    ids = [subject.correlation_id for subject in subjects]
    values: dict[str, Any] = {"latency_ms": 1, "status": "ok", "provider": "p", "model": "m"}
    return LlmTrace.objects.create(
        ts=clock.now(),
        correlation_id=ids[0],
        correlation_ids=ids,
        cost_usd=D(usd),
        agent_name=agent.name if agent else "",
        agent_id=agent.pk if agent else None,
        **values,
    )


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source `jsonl` charges half a cent a post."""
    monkeypatch.setattr(spending, "prices_of_posts", lambda: {"jsonl": D("0.005")})


def test_a_call_costs_each_of_its_posts_the_same(time: RecordedClock, paid: None) -> None:
    one, other = (make.agent() for _ in range(2))
    author = make.account(one, other)
    posts = [make.candidate(author) for _ in range(4)]
    mine, theirs = make.signal(one), make.signal(other)
    mine.posts.set(posts[:2])
    theirs.posts.set(posts[1:2])
    call(*posts, usd="0.04")  # classification of the batch
    call(*posts[:2], usd="0.003", agent=one)
    call(posts[1], usd="0.002", agent=other)
    call(mine, usd="0.000001", agent=one)
    silent = make.signal(one)

    assert spending.spent_on_signals([mine.pk, theirs.pk, silent.pk]) == {
        mine.pk: Spending(D("0.023001"), D("0.010")),
        theirs.pk: Spending(D("0.012"), D("0.005")),
        silent.pk: Spending(),
    }


def test_the_trades_of_a_signal_share_its_cost(time: RecordedClock, paid: None) -> None:
    agent = make.agent()
    post = make.candidate(make.account(agent))
    signal = make.signal(agent)
    signal.posts.set([post])
    call(post, usd="0.03")
    trades = [make.position(make.deployment(agent), by=signal) for _ in range(2)]
    by_hand = make.position(make.deployment(agent))

    assert spending.spent_on_positions([trades[0].pk, by_hand.pk]) == {
        trades[0].pk: Spending(D("0.015"), D("0.0025")),
        by_hand.pk: Spending(),
    }


def test_the_platform_s_spending_counts_what_led_to_no_signal_too(time: RecordedClock, paid: None) -> None:
    agent = make.agent()
    author = make.account(agent)
    for _ in range(3):
        make.post(author)
    make.position(make.deployment(agent), by=make.signal(agent))
    Order.objects.update(reserved_at=clock.now())
    today = clock.now().date()
    LlmSpend.objects.create(day=today, purpose="classify", usd=D("0.3"))
    LlmSpend.objects.create(day=today, purpose="classify", account=author.x_username, usd=D("0.3"))
    LlmSpend.objects.create(day=today, purpose="", account="openai", usd=D("0.3"))
    LlmSpend.objects.create(day=today - timedelta(days=2), purpose="classify", usd=D(9))
    since = clock.now() - timedelta(days=1)

    spent = spending.spent_by_platform(since, since + timedelta(days=2))
    assert (spent.total, spent.signals, spent.trades) == (Spending(D("0.3"), D("0.015")), 1, 1)
    assert spending.spent_by_platform(since - timedelta(days=900), since + timedelta(days=2)).since == (
        since + timedelta(days=2) - spending.LONGEST
    )
    assert spent.as_json()["per_trade"] == {"models_usd": "0.3", "posts_usd": "0.015", "usd": "0.315"}
    assert (
        spending.spent_by_platform(since - timedelta(days=9), since - timedelta(days=8)).as_json()[
            "per_signal"
        ]
        is None
    )


def test_x_charges_what_its_stanza_says(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "x": {"adapter": "x"},
        "cheap": {"adapter": "x", "usd_per_post": "0.001"},
        "f": {"adapter": "jsonl"},
    }
    configured = SimpleNamespace(ingest=SimpleNamespace(sources=sources))
    monkeypatch.setattr(spending, "policy", lambda: configured)
    assert spending.prices_of_posts() == {"x": D("0.005"), "cheap": D("0.001")}
