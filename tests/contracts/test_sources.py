"""What every post source must do. A new adapter enrols with one line in `SOURCES`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from maxxit.core.errors import Rejected
from signals_app.sources import SOURCES as REGISTRY
from signals_app.sources.base import Cursor, PostSource, Refused, derived_id, unfit
from tests.builders import T0, RecordedClock
from tests.fakes import fake_x
from tests.signals_app.bot_api import CHANNEL, TOKEN, bot_api
from tests.signals_app.feeds import ATOM, feed_server, written
from tests.signals_app.partner import partner
from tests.signals_app.x_web import source as session_source
from tests.signals_app.x_web import x_web


@dataclass
class World:
    """A source, and how a test makes somebody say something."""

    source: PostSource
    says: Callable[..., None]
    post_id: Callable[[str], str] = str
    """What the source makes of an id of its provider."""
    time_field: str = "created_at"
    answers: list[Refused] = field(default_factory=list)
    """What a source that others push to refused in its answer."""

    def refused(self) -> list[Refused]:
        return [*self.source.refused(), *self.answers]


@contextmanager
def jsonl(folder: Path) -> Iterator[World]:
    path = folder / "posts.jsonl"
    path.touch()

    def says(ident: str, at: datetime, text: Any = "buying $BTC") -> None:
        with path.open("a") as out:
            line = {"id": ident, "username": "author", "created_at": at.isoformat(), "text": text}
            out.write(json.dumps(line) + "\n")

    yield World(REGISTRY.open("jsonl", paths=[str(path)]), says)


@contextmanager
def x(folder: Path) -> Iterator[World]:
    with fake_x() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("X_BEARER_TOKEN", "secret")
        server.says("author")

        def says(ident: str, at: datetime, text: Any = "buying $BTC") -> None:
            server.says("author", {"id": ident, "text": text, "created_at": at.isoformat()})

        yield World(REGISTRY.open("x", base_url=server.url), says)


@contextmanager
def rss(folder: Path) -> Iterator[World]:
    with feed_server() as server:
        entries: list[tuple[str, datetime, Any]] = []

        def says(ident: str, at: datetime, text: Any = "buying $BTC") -> None:
            entries.insert(0, (ident, at, text))
            server.feeds["/feed"] = written(ATOM, *entries)

        server.feeds["/feed"] = written(ATOM)
        source = REGISTRY.open("rss", feeds={"author": server.url()}, rules=server.rules)
        yield World(source, says, lambda ident: derived_id("rss", server.url(), ident), "published")


@contextmanager
def telegram(folder: Path) -> Iterator[World]:
    with bot_api() as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELEGRAM_SOURCE_TOKEN", TOKEN)
        patch.setattr("signals_app.sources.telegram.EVERY_SECONDS", 0)

        def says(ident: str, at: datetime, text: Any = "buying $BTC") -> None:
            api.says(int(ident), at, text)

        source = REGISTRY.open("telegram", name="telegram", channels={"author": CHANNEL}, base_url=api.url)
        yield World(source, says, lambda ident: f"tg{CHANNEL}/{ident}", "date")


@contextmanager
def inbound(folder: Path) -> Iterator[World]:
    with partner("author") as sender:
        answers: list[Refused] = []

        def says(ident: str, at: datetime, text: Any = "buying $BTC") -> None:
            answer = sender.posts(id=ident, account="author", created_at=at.isoformat(), text=text)
            if answer.status_code != 202:
                answers.append(Refused(ident, answer.json()["message"], ""))

        yield World(sender.source(), says, lambda ident: derived_id("in", "partner", ident), answers=answers)


@contextmanager
def x_session(folder: Path) -> Iterator[World]:
    with x_web() as web:
        web.users["author"] = "2000"

        def says(ident: str, at: datetime, text: Any = "buying $BTC") -> None:
            web.says("author", ident, at, text)

        yield World(session_source(web, folder), says)


SOURCES = {
    "jsonl": jsonl,
    "x": x,
    "x_session": x_session,
    "rss": rss,
    "telegram": telegram,
    "inbound": inbound,
}
UNFIT: dict[str, list[Any]] = {
    "jsonl": [None, 7, "", "a\x00b", "half \ud83d", "x" * 25_001],
    "x": [None, 7, "", "a\x00b", "half \ud83d", "x" * 25_001],
    "x_session": [None, 7, "", "a\x00b", "half \ud83d", "x" * 25_001],
    "telegram": [None, 7, "", "a\x00b", "half \ud83d", "x" * 25_001],
    "inbound": [None, 7, "", "a\x00b", "half \ud83d", "x" * 25_001],
    "rss": [None, "", "<p> </p>", "x" * 25_001],
}
"""Texts that are no post, of those that the wire format of each can carry."""


STORED = ("telegram", "inbound")
"""What others push to us is in the database until it is read."""


def marks(name: str) -> list[pytest.MarkDecorator]:
    """Those of a test with this source."""
    return [pytest.mark.django_db] if name in STORED else []


@pytest.fixture(params=[pytest.param(name, marks=marks(name)) for name in SOURCES])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, time: RecordedClock, empty_cache: None
) -> Iterator[World]:
    with SOURCES[request.param](tmp_path) as made:
        yield made


def minutes(back: float) -> datetime:
    return T0 - timedelta(minutes=back)


def ids(world: World, cursor: Cursor | None = None) -> list[str]:
    return [post.post_id for post in world.source.fetch("author", cursor or Cursor())]


def test_every_adapter_is_enrolled() -> None:
    assert set(SOURCES) == set(UNFIT) == set(REGISTRY)


def test_nothing_said_is_nothing(world: World) -> None:
    assert ids(world) == []
    assert world.refused() == []


def test_posts_come_oldest_first_as_they_were_said(world: World) -> None:
    for number in (3, 2, 1):
        world.says(f"10{5 - number}", minutes(number), f"buying ${number}00 of $BTC 🚀")
    posts = list(world.source.fetch("author", Cursor()))

    assert [post.post_id for post in posts] == [world.post_id(one) for one in ("102", "103", "104")]
    assert posts[0].text == "buying $300 of $BTC 🚀"
    assert [post.posted_at for post in posts] == [minutes(3), minutes(2), minutes(1)]
    assert all(post.posted_at.tzinfo is UTC for post in posts)


def test_a_long_id_keeps_every_digit(world: World) -> None:
    world.says("9007199254740992", minutes(2))
    world.says("9007199254740993", minutes(1))

    assert ids(world) == [world.post_id("9007199254740992"), world.post_id("9007199254740993")]


def test_what_is_newer_than_the_cursor_is_offered(world: World) -> None:
    world.says("101", minutes(120))
    first = list(world.source.fetch("author", Cursor()))[-1]
    world.says("102", minutes(1))

    assert world.post_id("102") in ids(world, Cursor(first.post_id, first.posted_at))


def test_asking_twice_gives_the_same(world: World) -> None:
    world.says("101", minutes(1))

    assert ids(world) == ids(world) == [world.post_id("101")]


def test_who_said_nothing_has_nothing_of_others(world: World) -> None:
    world.says("101", minutes(1))
    try:
        found = list(world.source.fetch("somebody", Cursor()))
    except Rejected:
        found = []

    assert found == []


@pytest.mark.parametrize(
    ("world", "text"),
    [
        pytest.param(name, text, id=f"{name}-{place}", marks=marks(name))
        for name, texts in UNFIT.items()
        for place, text in enumerate(texts)
    ],
    indirect=["world"],
)
def test_what_is_no_post_is_refused_with_a_reason_and_hides_no_other(world: World, text: Any) -> None:
    world.says("101", minutes(2))
    world.says("102", minutes(1), text)

    assert ids(world) == [world.post_id("101")]
    [refused] = world.refused()
    assert refused.reason
    assert refused.place


def test_a_moment_outside_the_calendar_is_refused_and_hides_no_other(world: World) -> None:
    world.says("101", minutes(2))
    world.says("102", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))

    assert ids(world) == [world.post_id("101")]
    [refused] = world.refused()
    assert world.time_field in refused.reason


def test_what_it_offers_can_be_kept(world: World) -> None:
    for number, text in enumerate(["a", "🚀" * 100, "x" * 25_000, "line\nbreak\ttab", "\u202eturned"]):
        world.says(str(101 + number), minutes(number + 1), text)

    assert [unfit(post) for post in world.source.fetch("author", Cursor())] == [""] * 5
