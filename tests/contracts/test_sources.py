"""What every post source must do. A new adapter enrols with one line in `SOURCES`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from maxxit.core.errors import Rejected
from signals_app.sources import SOURCES as REGISTRY
from signals_app.sources.base import Cursor, PostSource, unfit
from tests.builders import T0, RecordedClock
from tests.fakes import fake_x


@dataclass
class World:
    """A source, and how a test makes somebody say something."""

    source: PostSource
    says: Callable[..., None]


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


SOURCES = {"jsonl": jsonl, "x": x}


@pytest.fixture(params=SOURCES)
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
    assert set(SOURCES) == set(REGISTRY)


def test_nothing_said_is_nothing(world: World) -> None:
    assert ids(world) == []
    assert list(world.source.refused()) == []


def test_posts_come_oldest_first_as_they_were_said(world: World) -> None:
    for number in (3, 2, 1):
        world.says(f"10{5 - number}", minutes(number), f"buying ${number}00 of $BTC 🚀")
    posts = list(world.source.fetch("author", Cursor()))

    assert [post.post_id for post in posts] == ["102", "103", "104"]
    assert posts[0].text == "buying $300 of $BTC 🚀"
    assert [post.posted_at for post in posts] == [minutes(3), minutes(2), minutes(1)]
    assert all(post.posted_at.tzinfo is UTC for post in posts)


def test_a_long_id_keeps_every_digit(world: World) -> None:
    world.says("9007199254740993", minutes(1))

    assert ids(world) == ["9007199254740993"]


def test_what_is_newer_than_the_cursor_is_offered(world: World) -> None:
    world.says("101", minutes(120))
    first = list(world.source.fetch("author", Cursor()))[-1]
    world.says("102", minutes(1))

    assert "102" in ids(world, Cursor(first.post_id, first.posted_at))


def test_asking_twice_gives_the_same(world: World) -> None:
    world.says("101", minutes(1))

    assert ids(world) == ids(world) == ["101"]


def test_who_said_nothing_has_nothing_of_others(world: World) -> None:
    world.says("101", minutes(1))
    try:
        found = list(world.source.fetch("somebody", Cursor()))
    except Rejected:
        found = []

    assert found == []


@pytest.mark.parametrize("text", [None, 7, "", "a\x00b", "half \ud83d", "x" * 25_001], ids=range(6))
def test_what_is_no_post_is_refused_with_a_reason_and_hides_no_other(world: World, text: Any) -> None:
    world.says("101", minutes(2))
    world.says("102", minutes(1), text)

    assert ids(world) == ["101"]
    [refused] = world.source.refused()
    assert refused.reason
    assert refused.place


def test_a_moment_outside_the_calendar_is_refused_and_hides_no_other(world: World) -> None:
    world.says("101", minutes(2))
    world.says("102", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))

    assert ids(world) == ["101"]
    [refused] = world.source.refused()
    assert "created_at" in refused.reason


def test_what_it_offers_can_be_kept(world: World) -> None:
    for number, text in enumerate(["a", "🚀" * 100, "x" * 25_000, "line\nbreak\ttab", "\u202eturned"]):
        world.says(str(101 + number), minutes(number + 1), text)

    assert [unfit(post) for post in world.source.fetch("author", Cursor())] == [""] * 5
