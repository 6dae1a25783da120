"""All feeds lie at once: no trade leaves, `why` gives the reasons, and when they are honest again it goes on by itself.

Three real adapters against servers that speak their providers' wire formats; from the poll to the order.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from maxxit.events.models import Event
from maxxit.market import quotes
from maxxit.market.feeds import FEEDS
from maxxit.market.models import Quote, RefusedQuote
from maxxit.market.tasks import refresh_quotes
from positions.models import Position
from signals_app.generate import generate
from signals_app.models import CtPost
from signals_app.policy import policy
from tests import builders as make
from tests.builders import RecordedClock
from tests.market.conftest import closed_clients as closed_clients
from tests.market.provider import OPTIONS, Provider, provider
from tests.passes import execute_pass, monitor_pass
from trading.models import Order, PaperOrder
from trading.tasks import settle_pass

pytestmark = pytest.mark.django_db
NAMES = ("coinbase", "coingecko", "pyth")
HOUR = timedelta(hours=1)
LIES: dict[str, dict[str, Callable[[Provider, RecordedClock], None]]] = {
    "each in a way of its own": {
        "coinbase": lambda one, time: one.says("ETH", "20000", time.now),
        "coingecko": lambda one, time: one.says("ETH", "0", time.now),
        "pyth": lambda one, time: one.says("ETH", "2000", time.now + HOUR),
    },
    "three different prices": {
        "coinbase": lambda one, time: one.says("ETH", "1900", time.now),
        "coingecko": lambda one, time: one.says("ETH", "2100", time.now),
        "pyth": lambda one, time: one.says("ETH", "2300", time.now),
    },
    "all the same tenfold": dict.fromkeys(NAMES, lambda one, time: one.says("ETH", "20000", time.now)),
    "all of an hour ago": dict.fromkeys(NAMES, lambda one, time: one.says("ETH", "1500", time.now - HOUR)),
    "no number, garbage, silence": {
        "coinbase": lambda one, time: one.says("ETH", "NaN", time.now),
        "coingecko": lambda one, time: one.misbehaves("truncated"),
        "pyth": lambda one, time: one.misbehaves("too_many"),
    },
}


class Market:
    """Three providers that are asked by the task that polls."""

    def __init__(self, sources: dict[str, Provider], time: RecordedClock) -> None:
        self.sources, self.time = sources, time

    def honest(self, usd: str) -> None:
        """All say the same, now; and they are asked."""
        for one in self.sources.values():
            one.misbehaves("", 0)
            one.says("ETH", usd, self.time.now)
        refresh_quotes()

    def lies(self, how: str) -> None:
        """Each lies in its way; and they are asked."""
        for name, lie in LIES[how].items():
            lie(self.sources[name], self.time)
        refresh_quotes()


@pytest.fixture
def market(time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Market]:
    with ExitStack() as stack:
        sources = {name: stack.enter_context(provider()) for name in NAMES}
        feeds = tuple(FEEDS.open(n, name=n, **OPTIONS[n](one, ["ETH"])) for n, one in sources.items())
        ours = quotes.policy().model_copy(update={"order": NAMES})
        monkeypatch.setattr(quotes, "policy", lambda: ours)
        monkeypatch.setattr(quotes, "open_feeds", lambda: feeds)
        monkeypatch.setattr("maxxit.market.tasks.status", lambda: None)  # no stream leads
        yield Market(sources, time)


def why(**asked: Any) -> list[dict[str, str]]:
    out = StringIO()
    call_command("why", *(f"--{name}={value}" for name, value in asked.items()), "--json", stdout=out)
    found: list[dict[str, str]] = json.loads(out.getvalue())["reasons"]
    return found


def run() -> None:
    """What the workers do, once round."""
    generate(policy().generate)
    execute_pass()
    settle_pass()
    monitor_pass()


@pytest.mark.parametrize("how", sorted(LIES))
def test_no_trade_leaves_while_all_lie_and_recovery_needs_no_hand(
    how: str, market: Market, time: RecordedClock, empty_cache: None, no_approval_file: Any
) -> None:
    make.open_gate()
    make.hourly_bars("ETH", make.calm())
    agent, other = make.agent(), make.agent()
    author = make.account(agent, other)
    make.deployment(agent)
    make.deployment(other)
    market.honest("2000")
    held = make.position(make.deployment(make.agent()), entry="2000", quantity="0.1")
    make.candidate(author)
    generate(policy().generate, [agent])  # decided while prices were right, not yet executed
    orders, fills = Order.objects.count(), PaperOrder.objects.count()

    time.move(seconds=100)  # what they said before is too old by now
    market.lies(how)
    run()

    # nothing left, in either direction: neither an entry nor an exit at a price that nobody can believe
    assert PaperOrder.objects.count() == fills
    (blocked,) = Order.objects.filter(purpose="open", signal__agent=agent)
    assert (blocked.state, blocked.reason) == ("blocked", "no_price")
    assert Order.objects.count() == orders + 1
    assert Position.objects.get(pk=held.pk).state == "open"
    assert not Quote.objects.get(symbol="ETH").trusted_for_entries

    # the reasons, by order, by post and by symbol; each with its source, value and limit
    said = why(order=blocked.pk)
    assert said[0]["code"] == "no_price"
    assert {one["code"] for one in said[1:]} == {f"quote:{row.reason}" for row in RefusedQuote.objects.all()}
    assert all(one["measured"] and one["limit"] and one["meaning"] and one["change"] for one in said[1:])
    (post,) = CtPost.objects.all()
    assert "candidate:no_price" in {one["code"] for one in why(post=post.pk)}
    assert {one["code"] for one in why(symbol="ETH")} & {
        "quote:all_sources_refused",
        "quote:sources_disagree",
    }
    assert Event.objects.filter(name="quote.doubted").count() == 1

    # honest again: trusted at the next poll, and the post that could not be decided becomes a trade, by itself
    time.move(minutes=6)  # the last honest price is old: a jump from it is judged no more
    market.honest("2010")
    assert quotes.latest(["ETH"])["ETH"].trusted
    assert why(symbol="ETH") == []
    run()
    traded = Order.objects.get(purpose="open", signal__agent=other)
    assert traded.state == "filled"
    assert PaperOrder.objects.count() == fills + 1
    assert Event.objects.filter(name="quote.trusted").count() == 1
