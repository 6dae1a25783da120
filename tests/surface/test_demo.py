"""The demo tells a true story: authors of different skill, pumps, and past days that the pipeline traded."""

import math
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from agents import seed
from agents.models import Deployment
from maxxit.core import clock, config
from maxxit.core.config import ROOT
from maxxit.market import candles
from maxxit.market.feeds.file import BAR, FileFeed
from maxxit.market.instruments import words_by_token
from maxxit.market.venues import venues
from maxxit.ops import demo
from maxxit.ops import demo_story as story
from maxxit.ops.devchain import local
from positions.models import Position
from positions.performance import parts
from positions.performance.identity import read_identity
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
    agents = config.read_yaml(ROOT / "config" / "profiles" / "demo" / "agents.yaml")
    monkeypatch.setattr(
        seed, "load", lambda name, schema: schema.model_validate(config._floats_to_text(agents))
    )
    first = demo.load()
    approvals = Approval.objects.count()
    again = demo.load()

    assert first["posts"] > 0
    assert approvals == Approval.objects.count() > 0
    assert (again["deployments"], again["posts"]) == (0, 0)
    assert set(gate.open_venues()) == {name for name, one in venues().items() if one.paper}
    assert set(Deployment.objects.values_list("owner", flat=True)) == {root.pk}


LOAD = """
import django
django.setup()
from datetime import timedelta
from maxxit.ops import demo
from maxxit.ops.devchain import local
local.available = lambda: False
demo.start_run = demo.refresh_quotes = lambda *args, **kwargs: None
demo.PAST = timedelta(days=2)
demo.load()
"""
"""Two past days, without a local chain and without a message to workers."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.limit(400)
def test_the_past_days_were_traded_by_the_pipeline(worker_environ: dict[str, str], tmp_path: Path) -> None:
    """Wins and losses that follow from prices, blocked orders with reasons, a declined pump."""
    environ = worker_environ | {
        "MAXXIT_PROFILE": "demo", "MAXXIT_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "maxxit.settings",
    }  # fmt: skip
    began = clock.now()
    done = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]

    total = parts.total()
    assert total.closed > 5
    assert 0 < total.winners < total.closed
    assert max(Position.objects.values_list("opened_at", flat=True)) <= began
    assert CtPost.objects.filter(posted_at__gt=began).count() == 0
    assert Order.objects.filter(state="blocked", reason="position_exists").exists()
    assert CtPost.objects.filter(
        account__x_username=story.PUMPER, outcome="candidate:uncorroborated"
    ).exists()
    assert Deployment.objects.get(agent__name=demo.CONFIRMS).confirm_entries
    assert read_identity().wrong == []


@pytest.mark.django_db
@pytest.mark.parametrize(("profile", "shown"), [("demo", True), ("", False)])
def test_each_page_says_that_the_data_are_samples(
    monkeypatch: pytest.MonkeyPatch, profile: str, shown: bool
) -> None:
    monkeypatch.setattr("maxxit.web.templatetags.figures.profile", lambda: profile)
    browser = Client()
    browser.force_login(User.objects.create_user("carol"))
    assert ("invented sample data" in browser.get("/agents").content.decode()) is shown
