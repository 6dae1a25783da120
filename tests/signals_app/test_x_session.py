"""The x_session source: the format of X's web pages, sessions that rest, and files that hold secrets."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.models import CtAccount
from maxxit.core import redact
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable
from signals_app import tasks
from signals_app.ingest import ingest
from signals_app.models import CtPost
from signals_app.sources import configured
from signals_app.sources.base import Cursor, Engagement, SourcePaused
from signals_app.sources.x_session import XSessionSource
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.signals_app.x_web import XWeb, cookies, line, source, write_files, x_web


@pytest.fixture(scope="module")
def server() -> Iterator[XWeb]:
    with x_web() as running:
        yield running


@pytest.fixture
def web(server: XWeb, empty_cache: None, time: RecordedClock) -> XWeb:
    for held in (server.users, server.posts, server.asked, server.answers, server.headers, server.pinned):
        held.clear()
    server.page = 20
    return server


def say(web: XWeb, first: int, last: int, username: str = "author") -> None:
    """Posts with the ids `first` to `last`, a minute apart."""
    for number in range(first, last + 1):
        web.says(username, str(number), T0 - timedelta(minutes=last + 1 - number), f"buying $BTC at {number}")


def ids(source: XSessionSource, cursor: Cursor | None = None, username: str = "author") -> list[int]:
    return [int(post.post_id) for post in source.fetch(username, cursor or Cursor())]


def test_posts_have_their_text_reactions_and_link(web: XWeb, tmp_path: Path) -> None:
    web.says("author", "101", T0 - timedelta(minutes=2))
    note = {"note_tweet_results": {"result": {"text": "the whole of a long post"}}}
    web.says("author", "102", T0 - timedelta(minutes=1), "the whole of a…")["note_tweet"] = note
    first, second = source(web, tmp_path).fetch("Author", Cursor())

    assert (first.text, second.text) == ("buying $BTC", "the whole of a long post")
    assert first.engagement == Engagement(likes=5, reposts=2, replies=1, quotes=0)
    assert (first.link, first.author) == ("https://x.com/author/status/101", "author")
    assert first.posted_at == T0 - timedelta(minutes=2)


def test_pages_are_read_down_to_the_cursor_and_a_pinned_post_ends_nothing(web: XWeb, tmp_path: Path) -> None:
    say(web, 100, 180)
    web.pinned = [web.says("pinned", "5", T0 - timedelta(days=900))]
    web.pinned[0]["legacy"]["user_id_str"] = web.users["author"]
    read = source(web, tmp_path)

    assert ids(read, Cursor("120", T0)) == list(range(121, 181))
    assert read.unread_below("author") == ""
    assert [operation for _, operation in web.asked].count("UserTweets") == 4


def test_more_posts_than_a_fetch_takes_are_read_by_the_next_ones(web: XWeb, tmp_path: Path) -> None:
    say(web, 100, 200)
    read = source(web, tmp_path, posts_per_user=40)
    first = ids(read, Cursor("110", T0))
    assert first == list(range(161, 201))
    second = ids(read, Cursor("110", T0, read.unread_below("author")))
    third = ids(read, Cursor("110", T0, read.unread_below("author")))

    assert (second, third) == (list(range(121, 161)), list(range(111, 121)))
    assert read.unread_below("author") == ""


@pytest.mark.django_db
def test_a_catch_up_loses_nothing_where_the_place_is_forgotten(
    web: XWeb, tmp_path: Path, empty_cache: None
) -> None:
    from django.core.cache import cache

    make.account(username="author", source="xweb")
    read = source(web, tmp_path, posts_per_user=40)
    say(web, 100, 101)
    ingest({"xweb": read})
    say(web, 102, 200)
    for _ in range(4):
        ingest({"xweb": read})
        cache.clear()

    assert {int(one) for one in CtPost.objects.values_list("post_id", flat=True)} == set(range(100, 201))
    assert CtAccount.objects.get().since_id == "200"


def test_a_query_finds_posts_with_their_authors(web: XWeb, tmp_path: Path) -> None:
    web.says("one", "101", T0 - timedelta(minutes=2), "the bottom is in")
    web.says("two", "102", T0 - timedelta(minutes=1), "no bottom in sight")
    web.says("two", "103", T0 - timedelta(minutes=1), "else")
    found = list(source(web, tmp_path, queries={"bottoms": "bottom"}).fetch("Bottoms", Cursor()))

    assert [(post.post_id, post.author) for post in found] == [("101", "one"), ("102", "two")]
    assert {operation for _, operation in web.asked} == {"SearchTimeline"}


def test_a_session_that_is_limited_rests_and_the_next_one_reads(web: XWeb, tmp_path: Path) -> None:
    say(web, 1, 1)
    read = source(web, tmp_path, line("a"), line("b"))
    web.answers.append((429, {"x-rate-limit-reset": str(int(T0.timestamp()) + 400)}, {}))
    assert ids(read) == [1]
    used = [token for token, _ in web.asked]
    assert len(set(used[:2])) == 2  # the other one goes on
    assert set(used[1:]) == {used[1]}

    web.answers.extend([(429, {}, {})] * 2)
    with pytest.raises(Retryable):
        ids(read)
    count = len(web.asked)
    with pytest.raises(SourcePaused, match="rate limit is used up, until"):
        ids(read)
    assert len(web.asked) == count


def test_failures_rest_longer_each_time(web: XWeb, tmp_path: Path, time: RecordedClock) -> None:
    from django.core.cache import cache

    read = source(web, tmp_path)
    [session] = [one.session for one in read._lines]
    rests = []
    for _ in range(9):
        web.answers.append((503, {}, b"busy"))
        with pytest.raises(Retryable):
            ids(read)
        until = str(read._rests(session)).rpartition("until ")[2]
        rests.append(until)
        cache.delete(read._key(session, "rests"))
    expected = [min(10 * 2**number, 900) for number in range(9)]
    assert rests == [f"{T0 + timedelta(seconds=seconds):%H:%M:%S} UTC" for seconds in expected]


@pytest.mark.parametrize(
    "answer",
    [
        (401, {}, {"errors": [{"code": 32, "message": "Could not authenticate you"}]}),
        (403, {}, {}),
        (200, {}, {"errors": [{"code": 326, "message": "Your account is locked"}]}),
    ],
)
def test_a_session_that_x_refuses_is_not_used_until_its_line_changes(
    web: XWeb, tmp_path: Path, answer: Any
) -> None:
    say(web, 1, 1)
    read = source(web, tmp_path)
    web.answers.append(answer)
    for _ in range(2):
        with pytest.raises(Retryable):
            ids(read)
    assert len(web.asked) == 1
    with pytest.raises(SourcePaused, match="write its new cookies into the accounts file"):
        ids(read)

    write_files(tmp_path, line("a", ct0="f" * 40))
    assert ids(read) == [1]


def test_one_session_sends_no_more_than_its_share(web: XWeb, tmp_path: Path) -> None:
    say(web, 1, 1)
    read = source(web, tmp_path, requests_per_window=5)
    assert ids(read) == ids(read) == [1]  # the user's id, then a page and the empty one after it
    with pytest.raises(SourcePaused, match="5 requests in 15 minutes"):
        ids(read)


def test_a_proxy_is_used_until_shortly_before_its_end(web: XWeb, tmp_path: Path, time: RecordedClock) -> None:
    say(web, 1, 1)
    ends = f"{T0 + timedelta(seconds=60):%Y-%m-%dT%H:%M:%SZ}"
    read = source(web, tmp_path, line("a", proxy=web.url, proxy_expires=ends))
    time.move(seconds=44)
    assert ids(read) == [1]  # the server is its own proxy
    time.move(seconds=1)
    with pytest.raises(SourcePaused, match="proxy has ended"):
        ids(read)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((404, {}, {}), Rejected, "copy operations and features anew"),
        ((200, {}, {"errors": [{"code": 336, "message": "features cannot be null"}]}), Rejected, "features"),
        ((200, {}, {"data": {}}), Rejected, "X knows no @author"),
        (
            (
                200,
                {},
                {"data": {"user": {"result": {"__typename": "UserUnavailable", "message": "Suspended"}}}},
            ),
            Rejected,
            "cannot be read: Suspended",
        ),
        ((200, {}, b"<html>"), Retryable, "not JSON"),
        ((200, {}, []), Retryable, "no JSON object"),
        ((200, {}, {"errors": [{"code": 131, "message": "Internal error"}]}), Retryable, "Internal error"),
    ],
)
def test_other_answers_are_named(
    web: XWeb, tmp_path: Path, answer: Any, error: type[MaxxitError], said: str
) -> None:
    web.answers.append(answer)
    with pytest.raises(error, match=said):
        ids(source(web, tmp_path))


def test_a_timeline_in_another_format_is_no_empty_one(web: XWeb, tmp_path: Path) -> None:
    say(web, 1, 1)
    read = source(web, tmp_path)
    ids(read)
    web.answers.append((200, {}, {"data": {"user": {"result": {"timeline_v3": {}}}}}))
    with pytest.raises(Retryable, match="has no timeline"):
        ids(read)


SECRET = "hidden" * 6


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["# only a comment"], "has no session"),
        ([f"a auth_token={SECRET}"], ":1: ct0 is not"),
        ([f"a auth_token=x;y ct0={SECRET}"], ":1: auth_token is not"),
        ([line("a", password=SECRET)], "unknown field 'password'"),
        ([line("a", proxy=f"socks5://u:{SECRET}@h:1")], ":1: proxy is not of the form"),
        ([line("a", proxy_expires="soon")], "proxy_expires is no time"),
    ],
)
def test_a_wrong_line_is_named_without_its_secrets(
    web: XWeb, tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(Misconfigured, match=said) as raised:
        source(web, tmp_path, *lines)
    assert SECRET not in str(raised.value)


def test_a_wrong_line_costs_that_line_alone(web: XWeb, tmp_path: Path) -> None:
    say(web, 1, 1)
    read = source(web, tmp_path, f"a auth_token={SECRET}", line("b"), line("b", ct0="e" * 40), "", line("c"))

    assert ids(read) == [1]
    assert [one.session.name for one in read._lines] == ["b", "c"]
    refused = list(read.refused())
    assert [one.place.rpartition("/")[2] for one in refused] == ["x-accounts.txt:1", "x-accounts.txt:3"]
    assert [one.reason for one in refused] == [
        "ct0 is not the value of that cookie of your browser",
        "the name 'b' has an earlier line: each session needs its own",
    ]
    assert SECRET not in str(refused)


@pytest.mark.django_db
def test_a_source_that_cannot_be_opened_stops_no_other_and_is_opened_once_it_is_mended(
    web: XWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = tmp_path / "posts.jsonl"
    post = {"id": "7", "username": "ann", "created_at": T0.isoformat(), "text": "buying $BTC"}
    posts.write_text(json.dumps(post) + "\n")
    stanzas = {
        "xweb": {"adapter": "x_session"} | write_files(tmp_path, "a auth_token=typo"),
        "files": {"adapter": "jsonl", "paths": [str(posts)]},
    }
    rules = tasks.policy()
    ours = rules.model_copy(update={"ingest": rules.ingest.model_copy(update={"sources": stanzas})})
    for module in (tasks, configured):
        monkeypatch.setattr(module, "policy", lambda: ours)
    configured._opened.cache_clear()
    make.account(username="author", source="xweb")
    make.account(username="ann", source="files")
    with pytest.raises(Misconfigured, match=r"x-accounts\.txt:1: auth_token is not"):
        tasks.ingest_pass()
    assert list(CtPost.objects.values_list("post_id", flat=True)) == ["7"]

    write_files(tmp_path, line("a"))
    assert isinstance(tasks.sources()["xweb"], XSessionSource)
    configured._opened.cache_clear()


def test_files_that_others_may_read_and_other_hosts_are_refused(web: XWeb, tmp_path: Path) -> None:
    files = write_files(tmp_path)
    with pytest.raises(Misconfigured, match=r"the host must be x\.com"):
        XSessionSource(**files, base_url="https://example.org")
    (tmp_path / "x-accounts.txt").chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        XSessionSource(**files)
    (tmp_path / "x-accounts.txt").unlink()
    with pytest.raises(Misconfigured, match="No such file"):
        XSessionSource(**files)


def test_cookies_are_masked_wherever_they_appear(web: XWeb, tmp_path: Path) -> None:
    source(web, tmp_path)
    assert cookies("a")[0] not in redact.text(f"auth_token is {cookies('a')[0]}")
