"""The demo tells a true story: authors of different skill, pumps, and past days that the pipeline traded."""

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from agents.models import Deployment
from maxxit.core import clock
from maxxit.market import candles
from maxxit.market.feeds.file import BAR, FileFeed
from maxxit.market.instruments import words_by_token
from maxxit.market.models import Quote
from maxxit.market.venues import venues
from maxxit.ops import demo
from maxxit.ops import demo_story as story
from maxxit.ops.devchain import local
from positions.models import Position
from positions.performance import parts
from signals_app.models import CtPost
from signals_app.reading.rules.read import Reader
from trading import gate
from trading.models import Approval, Order

NOW = datetime(2026, 3, 2, 12, 7, 30, tzinfo=UTC)


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's price feed and past prices, without its profile."""
    monkeypatch.setattr("maxxit.market.feeds.file.profile", lambda: "demo")
    began = demo.BEGAN.isoformat()
    plays = FileFeed(
        "config/demo", name="demo", starts_at=began, plays_from=began, speed=demo.SPEED, loop=True
    )
    monkeypatch.setattr(demo, "open_feeds", lambda: (plays,))


@pytest.fixture
def past(feed: None) -> demo.Past:
    with clock.frozen(NOW):
        return demo.Past.before(NOW)


def test_the_command_refuses_outside_the_demo_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxxit.ops.management.commands.demo.profile", lambda: "production")
    monkeypatch.setattr(demo, "load", lambda: pytest.fail("loaded"))
    with pytest.raises(CommandError, match="MAXXIT_PROFILE=demo"):
        call_command("demo")


@pytest.mark.parametrize(
    ("kind", "text", "token"),
    [
        (kind, text, story.THIN if kind == "pump" else token)
        for kind, several in story.texts().items()
        for text in several
        for token in (("BTC", "ETH", "SOL", "LTC", "XRP") if kind != "chat" else ("BTC",))
    ],
)
def test_each_sample_text_is_read_as_its_kind_says(kind: str, text: str, token: str) -> None:
    reading = Reader.of(words_by_token()).read(text.format(token=token))
    assert reading.candidate == (kind != "chat"), reading
    if kind != "chat":
        assert (reading.tokens, reading.sentiment) == ((token,), "bearish" if kind == "short" else "bullish")


def test_past_prices_end_where_the_feed_begins(past: demo.Past) -> None:
    """No gap and no jump between the past days and the present."""
    assert (past.start, past.end) == (
        datetime(2026, 2, 20, 12, tzinfo=UTC),
        datetime(2026, 3, 2, 12, tzinfo=UTC),
    )
    with clock.frozen(NOW):
        prices = demo.open_feeds()[0].quotes(list(story.START_PRICES))
    for symbol in story.START_PRICES:
        bars = list(past.bars(symbol))
        assert bars[-1].known_at == clock.bucket(NOW, BAR)
        assert {later.open_time - bar.open_time for bar, later in pairwise(bars)} == {BAR}
        assert not any(bar.fault for bar in bars)
        assert math.isclose(bars[-1].close, prices[symbol].price, rel_tol=0.01)
    ticks = past.ticks()
    assert (min(ticks), max(ticks)) == (past.start, past.end)
    assert {len(several) for several in ticks.values()} == {len(story.START_PRICES)}


def test_posts_of_the_past_come_when_there_is_a_price(past: demo.Past) -> None:
    posts, ticks = past.posts(), past.ticks()
    assert {post.at for post in posts} <= set(ticks)
    assert {post.author for post in posts} == set(story.names())


def test_the_good_author_is_right_and_the_bad_one_wrong(past: demo.Past) -> None:
    """By the sample prices four hours later, not by decree: the fractions differ as the authors do."""
    right: dict[str, list[bool]] = {}
    for post in past.posts():
        for token, closes in past.closes.items():
            if f"${token}" in post.text and post.author in ("satsumi", "bearclaw"):
                known = {text.format(token=token) for text in story.texts()["long"]}
                short = {text.format(token=token) for text in story.texts()["short"]}
                if post.text in known | short:
                    place = (post.at - past.first_bar) // BAR - 1
                    later = closes[min(place + story.SHORT, len(closes) - 1)]
                    right.setdefault(post.author, []).append((later > closes[place]) == (post.text in known))
    rates = {author: sum(several) / len(several) for author, several in right.items()}
    assert len(right["satsumi"]) > 10
    assert rates["satsumi"] > 0.6 > 0.4 > rates["bearclaw"]


def test_the_pumper_calls_at_the_top(past: demo.Past) -> None:
    closes = past.closes[story.THIN]
    tops = [post for post in past.posts() if post.author == story.PUMPER]
    assert len(tops) > 5
    for post in tops:
        place = (post.at - past.first_bar) // BAR - 1
        later = closes[min(place + story.SHORT, len(closes) - 1)]
        assert closes[place - 12] * 1.05 < closes[place]
        assert later < closes[place] or place + story.SHORT >= len(closes)


@pytest.mark.django_db
def test_loading_it_again_changes_nothing_and_only_paper_is_open(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: None
) -> None:
    settings.DATA_DIR = tmp_path
    root = User.objects.create_superuser("root")
    for outside in ("start_run", "refresh_quotes", "play"):
        monkeypatch.setattr(demo, outside, lambda *args, **kwargs: None)
    monkeypatch.setattr(local, "available", lambda: False)
    monkeypatch.setattr(candles, "store", lambda symbol, bars: 0)
    first = demo.load()
    approvals = Approval.objects.count()
    again = demo.load()

    assert first["posts"] > 0
    assert approvals == Approval.objects.count() > 0
    assert (again["deployments"], again["posts"]) == (0, 0)
    assert set(gate.open_venues()) == {name for name, one in venues().items() if one.paper}
    assert set(Deployment.objects.values_list("owner", flat=True)) == {root.pk}


@pytest.mark.django_db
@pytest.mark.limit(400)
def test_the_past_days_were_traded_by_the_pipeline(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: None
) -> None:
    """Two days: wins and losses that follow from prices, blocked orders with reasons, a declined pump."""
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(demo, "PAST", timedelta(days=2))
    for outside in ("start_run", "refresh_quotes"):
        monkeypatch.setattr(demo, outside, lambda *args, **kwargs: None)
    monkeypatch.setattr(local, "available", lambda: False)
    now = clock.now()
    demo.load()

    [lines] = [demo.posts_file().read_text().splitlines()]
    written = sum(json.loads(line)["created_at"] < now.isoformat() for line in lines)
    assert 0 < CtPost.objects.count() <= written
    total = parts.total()
    assert total.closed > 5
    assert 0 < total.winners < total.closed
    assert max(Position.objects.values_list("opened_at", flat=True)) <= now
    assert Counter(Order.objects.filter(state="blocked").values_list("reason", flat=True))["position_exists"]
    assert CtPost.objects.filter(
        account__x_username=story.PUMPER, outcome="candidate:uncorroborated"
    ).exists()
    assert Quote.objects.get(symbol="BTC").at <= now
