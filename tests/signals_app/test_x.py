"""The x source against a local server that speaks the X API v2."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app.ingest import ingest
from signals_app.models import CtPost, RejectedPost
from signals_app.sources.base import Cursor, Engagement, RawPost, SourcePaused, SourceSpent
from signals_app.sources.x import XSource
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.fakes import FakeX, Recorded, fake_x

Open = Callable[..., XSource]
RECORDED = Path(__file__).resolve().parents[1] / "conformance" / "recorded"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeX]:
    with fake_x() as running:
        yield running


@pytest.fixture
def x(server: FakeX, empty_cache: None, time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> FakeX:
    monkeypatch.setenv("X_BEARER_TOKEN", "a-secret")
    for held in (server.users, server.posts, server.requests, server.answers, server.headers):
        held.clear()
    return server


@pytest.fixture
def source(x: FakeX) -> XSource:
    return XSource(base_url=x.url)


def item(ident: int | str, minutes: float = 1, **fields: Any) -> dict[str, Any]:
    at = (T0 - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    return {"id": str(ident), "text": f"buying $BTC at {ident}", "created_at": at} | fields


def test_posts_come_oldest_first_with_their_ids_as_strings(x: FakeX, source: XSource) -> None:
    x.says("author", item(1000000000000000002), item(1000000000000000001, 5))
    posts = list(source.fetch("author", Cursor()))

    assert [post.post_id for post in posts] == ["1000000000000000001", "1000000000000000002"]
    assert posts[0].posted_at == T0 - timedelta(minutes=5)


def test_only_posts_newer_than_the_cursor_are_requested(x: FakeX, source: XSource) -> None:
    x.says("author", *[item(number) for number in range(140, 100, -1)])
    posts = list(source.fetch("author", Cursor("110")))
    asked = x.requests[-1]

    assert (asked.query["since_id"], asked.query["max_results"]) == ("110", "15")
    assert [int(post.post_id) for post in posts] == list(range(111, 141))
    assert asked.query["pagination_token"] == "15"


def test_the_key_travels_in_the_header_of_its_profile(
    x: FakeX, source: XSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAME_KEY", "apx-1")
    x.says("author", item(1))
    list(source.fetch("author", Cursor()))
    list(XSource(profile="GAME", key_env="GAME_KEY", base_url=x.url).fetch("author", Cursor()))
    headers = [{name.lower(): value for name, value in one.headers.items()} for one in x.requests]

    assert headers[0]["authorization"] == "Bearer a-secret"
    assert headers[-1]["x-api-key"] == "apx-1"
    assert "authorization" not in headers[-1]


def test_a_users_id_is_asked_for_once(x: FakeX, source: XSource) -> None:
    x.says("author", item(1))
    for _ in range(3):
        list(source.fetch("author", Cursor()))

    assert sum("by/username" in one.path for one in x.requests) == 1


def test_an_account_that_x_does_not_know_is_rejected(x: FakeX, source: XSource) -> None:
    with pytest.raises(Rejected, match="does not know @nobody"):
        list(source.fetch("nobody", Cursor()))


def test_when_the_limit_is_used_up_nothing_is_asked_before_the_reset(
    x: FakeX, source: XSource, time: RecordedClock
) -> None:
    x.says("author", item(1))
    x.headers.update({"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(int(T0.timestamp()) + 900)})
    with pytest.raises(Retryable, match="rate limit resets at 12:15:00"):
        list(source.fetch("author", Cursor()))
    asked = len(x.requests)
    with pytest.raises(Retryable, match="rate limit resets"):
        list(source.fetch("author", Cursor()))
    assert len(x.requests) == asked

    x.headers.clear()
    time.move(minutes=15, seconds=1)
    assert len(list(source.fetch("author", Cursor()))) == 1


LIMITED = {"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(int(T0.timestamp()) + 900)}


@pytest.mark.parametrize(
    ("headers", "minutes"), [(LIMITED, 15), ({"retry-after": "120"}, 2)], ids=["reset header", "retry-after"]
)
def test_after_a_429_no_other_account_is_asked_before_the_reset(
    x: FakeX, source: XSource, time: RecordedClock, headers: dict[str, str], minutes: int
) -> None:
    x.answers.append((429, headers, b"{}"))
    with pytest.raises(Retryable):
        list(source.fetch("author", Cursor()))
    x.says("other", item(1))
    with pytest.raises(Retryable, match="rate limit"):
        list(source.fetch("other", Cursor()))
    assert len(x.requests) == 1

    time.move(minutes=minutes, seconds=1)
    assert len(list(source.fetch("other", Cursor()))) == 1


@pytest.mark.parametrize("reset", ["soon", "", "-1", "nan", "inf", "1e400"])
def test_a_reset_that_is_no_time_breaks_nothing(x: FakeX, source: XSource, reset: str) -> None:
    x.says("author", item(1))
    x.headers.update({"x-rate-limit-remaining": "0", "x-rate-limit-reset": reset})
    try:
        posts = list(source.fetch("author", Cursor()))
    except Retryable:
        return  # it waits a little: also an answer
    assert len(posts) == 1


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_unavailable_server_is_retryable(x: FakeX, source: XSource, status: int) -> None:
    x.answers.append((status, {}, b"oops"))

    with pytest.raises(Retryable):
        list(source.fetch("author", Cursor()))


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_a_rejection(x: FakeX, source: XSource, status: int) -> None:
    x.answers.append((status, {}, b"{}"))

    with pytest.raises(Rejected):
        list(source.fetch("author", Cursor()))


SHAPES = [b"", b"<html>", b"null", b"[]", b"1", b'{"data": 1}', b'{"data": null}', b'{"data": "x"}']


@pytest.mark.parametrize("body", [*SHAPES, b'{"data": []}', b'{"data": {}}'])
def test_a_user_answer_of_another_shape_is_tried_again_or_rejected(
    x: FakeX, source: XSource, body: bytes
) -> None:
    x.answers.append((200, {}, body))

    with pytest.raises((Retryable, Rejected)):
        list(source.fetch("author", Cursor()))


@pytest.mark.parametrize("body", [*SHAPES, b'{"data": {"id": "1"}}'])
def test_a_posts_answer_of_another_shape_is_tried_again(x: FakeX, source: XSource, body: bytes) -> None:
    x.says("author")
    list(source.fetch("author", Cursor()))
    x.answers.append((200, {}, body))

    with pytest.raises(Retryable):
        list(source.fetch("author", Cursor()))


MALFORMED: list[Any] = [
    *[None, 1, "x", [], {}, item(1, text=None), item(1, created_at="yesterday"), {"id": 940000000000000001}],
    *[item(1, text="a\x00b"), item(1, text="half \ud83d"), item("9" * 41), item("1", text="x" * 25_001)],
]


@pytest.mark.django_db
@pytest.mark.parametrize("bad", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_item_is_kept_with_its_reason_and_the_others_land(
    x: FakeX, source: XSource, bad: Any
) -> None:
    make.account(username="author", source="x")
    x.says("author", item(7), bad, item(6))
    done = ingest({"x": source})

    assert done.failed == {}
    assert set(CtPost.objects.values_list("post_id", flat=True)) == {"6", "7"}
    assert RejectedPost.objects.count() == done.refused == 1
    assert list(source.refused()) == []  # a worker that lives for weeks does not carry them all along


def test_each_post_read_costs_once_a_day(x: FakeX, source: XSource, time: RecordedClock) -> None:
    x.says("author", item(1), item(2))
    for _ in range(3):
        list(source.fetch("author", Cursor()))

    assert source.spent_today() == Decimal("0.010")
    time.move(days=1)
    assert source.spent_today() == 0


def test_when_the_days_budget_is_spent_nothing_is_asked(x: FakeX) -> None:
    source = XSource(base_url=x.url, max_usd_per_day="0.01")
    x.says("author", item(1), item(2))
    list(source.fetch("author", Cursor()))
    asked = len(x.requests)
    with pytest.raises(Retryable, match=r"today's budget of 0\.01 USD is spent"):
        list(source.fetch("author", Cursor()))

    assert len(x.requests) == asked


def test_without_a_key_the_source_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("X_BEARER_TOKEN", raising=False)
    with pytest.raises(Misconfigured, match="set X_BEARER_TOKEN"):
        XSource()


def test_an_unknown_profile_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misconfigured, match="profile 'Y' is not one of X, GAME"):
        XSource(profile="Y")


@pytest.mark.django_db
def test_from_run_to_run_each_post_lands_once_and_the_cursor_moves(x: FakeX, source: XSource) -> None:
    account = make.account(username="author", source="x")
    x.says("author", item(2), item(1, 5))
    ingest({"x": source})
    x.says("author", item(3, 0))
    ingest({"x": source})
    account.refresh_from_db()

    assert account.since_id == "3"
    assert x.requests[-1].query["since_id"] == "2"
    assert CtPost.objects.count() == 3


def paged(x: FakeX, count: int, username: str = "author") -> list[str]:
    """So many posts of one account, above the id 1000; returns their ids, oldest first."""
    ids = [str(1001 + number) for number in range(count)]
    x.says(username, *[item(ident) for ident in reversed(ids)])
    return ids


def test_pages_are_followed_down_to_the_cursor(x: FakeX, source: XSource) -> None:
    ids = paged(x, 40)
    assert [post.post_id for post in source.fetch("author", Cursor("1000"))] == ids
    assert source.unread_below("author") == ""


def test_an_account_without_a_cursor_starts_with_its_newest_page(x: FakeX, source: XSource) -> None:
    ids = paged(x, 40)
    assert [post.post_id for post in source.fetch("author", Cursor())] == ids[-15:]
    assert len([one for one in x.requests if one.path.endswith("/tweets")]) == 1


@pytest.mark.django_db
def test_a_cursor_moves_only_over_what_was_read(x: FakeX, server: FakeX, time: RecordedClock) -> None:
    """45 posts, 30 a pass: the second pass reads the rest, and only then the cursor moves to the newest."""
    source = XSource(base_url=x.url, posts_per_pass=30)
    account = make.account(make.agent(), username="author", source="x", since_id="1000")
    ids = paged(x, 45)
    ingest({"x": source})
    account.refresh_from_db()
    assert (account.since_id, account.until_id, account.reached_id) == ("1000", ids[15], ids[-1])
    assert CtPost.objects.count() == 30

    later = [str(2000 + number) for number in range(3)]
    x.says("author", *[item(ident) for ident in reversed(later)])
    ingest({"x": source})
    account.refresh_from_db()
    assert (account.since_id, account.until_id, account.reached_id) == (ids[-1], "", "")
    ingest({"x": source})
    account.refresh_from_db()
    assert account.since_id == later[-1]
    assert set(CtPost.objects.values_list("post_id", flat=True)) == {*ids, *later}


def test_a_long_post_is_read_whole(x: FakeX, source: XSource) -> None:
    whole = "I was wrong on $BTC. " * 20
    x.says("author", item(1, text=whole[:277] + "…", note_tweet={"text": whole}))
    (post,) = source.fetch("author", Cursor())
    assert post.text == whole
    assert "note_tweet" in x.requests[-1].query["tweet.fields"]


def test_a_long_post_is_read_whole_under_its_new_name(x: FakeX, source: XSource) -> None:
    """X's own client of 2026 asks for `post.fields` and reads `note_post`."""
    whole = "I was wrong on $BTC. " * 20
    said = item(1, text=whole[:277] + "…", note_post={"text": whole})
    x.answers.append((200, {}, json.dumps({"data": {"id": "1000"}}).encode()))
    x.answers.append((200, {}, json.dumps({"data": [said]}).encode()))
    (post,) = source.fetch("author", Cursor())
    assert post.text == whole


@pytest.mark.parametrize("name", ["user", "posts"])
def test_the_fake_answers_in_the_shape_of_recorded_answers(x: FakeX, name: str) -> None:
    """The answers that tweepy recorded of X: the same names, with values of the same types."""
    recorded = json.loads((RECORDED / "x.json").read_text())[name]
    x.users["Twitter"] = "783214"
    x.says("Twitter", *[{"id": str(number), "text": "a post"} for number in range(20, 10, -1)])
    parts = urlparse(recorded["request"].removeprefix("GET "))
    _, _, body = x.answer(Recorded(parts.path, {"max_results": "5"}, {}))
    assert shape(json.loads(body)) == shape(recorded["body"])


def shape(value: Any) -> Any:
    """Names and types; of a list those of its first element."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) else type(value)


def test_empty_pages_without_end_end_the_pass(x: FakeX, server: FakeX) -> None:
    source = XSource(base_url=x.url, posts_per_pass=30)
    x.answers.append((200, {}, json.dumps({"data": {"id": "1000"}}).encode()))
    page = {"meta": {"result_count": 0, "next_token": "again"}}
    x.answers.extend([(200, {}, json.dumps(page).encode())] * 100)
    assert list(source.fetch("author", Cursor("1000"))) == []
    assert len(x.requests) == 1 + 30


def test_a_text_that_was_cut_is_refused_and_a_repost_is_not(x: FakeX, source: XSource) -> None:
    cut = "y" * 275 + "… https://t.co/abc"
    x.says("author", item(1, text=cut), item(2, text=f"RT @a: {cut}"), item(3, text="waiting for it …"))
    assert [post.post_id for post in source.fetch("author", Cursor())] == ["2", "3"]
    assert [one.reason for one in source.refused()] == [
        "the provider truncated the text and gave no full version"
    ]


@pytest.mark.parametrize("where", ["user", "posts"])
def test_errors_without_data_are_a_failure_in_the_providers_words(
    x: FakeX, source: XSource, where: str
) -> None:
    said = {"errors": [{"title": "Forbidden", "detail": "User has been suspended: [author]."}]}
    x.says("author", item(1))
    if where == "posts":
        x.answers.append((200, {}, json.dumps({"data": {"id": "1000"}}).encode()))
    x.answers.append((200, {}, json.dumps(said).encode()))
    with pytest.raises(Rejected, match=r"User has been suspended: \[author\]"):
        list(source.fetch("author", Cursor()))


def test_errors_beside_data_leave_the_data(x: FakeX, source: XSource) -> None:
    body = {
        "data": [item(1)],
        "errors": [{"title": "Not Found Error", "detail": "a referenced post is gone"}],
    }
    x.answers.append((200, {}, json.dumps({"data": {"id": "1000"}}).encode()))
    x.answers.append((200, {}, json.dumps(body).encode()))
    assert [post.post_id for post in source.fetch("author", Cursor())] == ["1"]


def test_429_without_headers_stops_every_account_for_a_window(
    x: FakeX, source: XSource, time: RecordedClock
) -> None:
    x.says("author", item(1))
    x.says("other", item(2))
    x.answers.append(
        (429, {}, b'{"title": "UsageCapExceeded", "detail": "Usage cap exceeded: Monthly product cap"}')
    )
    with pytest.raises(Retryable, match="UsageCapExceeded"):
        list(source.fetch("author", Cursor()))
    asked = len(x.requests)
    with pytest.raises(Retryable, match="rate limit resets"):
        list(source.fetch("other", Cursor()))
    assert len(x.requests) == asked
    time.move(minutes=15, seconds=1)
    assert [post.post_id for post in source.fetch("other", Cursor())] == ["2"]


# --- several accounts at once ----------------------------------------------------------------------------------------


class Counted:
    """Counts the requests that the server holds at once; each waits for others to come."""

    def __init__(self, x: FakeX, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside, self.most, self._lock, self._answer = 0, 0, threading.Lock(), x.answer
        monkeypatch.setattr(x, "answer", self.answer)

    def answer(self, asked: Recorded) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        threading.Event().wait(0.1)
        try:
            return self._answer(asked)
        finally:
            with self._lock:
                self.inside -= 1


def fetch_together(source: XSource, *names: str) -> tuple[list[RawPost], list[SourceSpent]]:
    """The posts of several accounts, fetched in a thread each, and what kept the others from being fetched."""
    spent: list[SourceSpent] = []

    def fetch(name: str) -> list[RawPost]:
        try:
            return list(source.fetch(name, Cursor()))
        except SourceSpent as error:
            spent.append(error)
            return []

    with ThreadPoolExecutor(len(names)) as pool:
        steps = [pool.submit(copy_context().run, fetch, name) for name in names]
        return [post for step in steps for post in step.result()], spent


@pytest.mark.parametrize(
    ("headers", "options", "most"),
    [
        ({}, {}, 4),
        ({"x-rate-limit-remaining": "2"}, {}, 2),
        ({"x-rate-limit-remaining": "1"}, {}, 1),
        ({}, {"max_usd_per_day": "0.1"}, 2),  # a page of 15 posts costs up to 0.075 USD
        ({}, {"max_usd_per_day": "0.05"}, 1),
    ],
)
def test_requests_in_flight_stay_within_rate_limit_and_budget_together(
    x: FakeX, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], options: dict[str, Any], most: int
) -> None:
    names = ["a", "b", "c", "d"]
    for name in ["first", *names]:
        x.says(name, item(int(name.encode().hex(), 16)))
    source = XSource(base_url=x.url, **options)
    x.headers.update(headers)
    list(source.fetch("first", Cursor()))
    counted = Counted(x, monkeypatch)
    posts, spent = fetch_together(source, *names)

    assert (len(posts), spent) == (4, [])
    assert counted.most == most
    assert source.spent_today() == Decimal("0.025")


def test_when_one_account_spends_the_rest_of_the_budget_those_that_wait_are_not_asked(
    x: FakeX, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a", "b", "c")):
        x.says(name, *[item(1000 * (number + 1) - i) for i in range(15)])
    source = XSource(base_url=x.url, max_usd_per_day="0.075")
    for name in ("a", "b", "c"):
        source._user_id(name)
    Counted(x, monkeypatch)
    posts, spent = fetch_together(source, "a", "b", "c")

    assert (len(posts), len(spent)) == (15, 2)
    assert source.spent_today() == Decimal("0.075")


@pytest.mark.parametrize("concurrency", [0, 33, "4"])
def test_a_concurrency_that_cannot_be_is_refused(x: FakeX, concurrency: Any) -> None:
    with pytest.raises(Misconfigured, match="from 1 to 32"):
        XSource(base_url=x.url, concurrency=concurrency)


@pytest.mark.django_db(transaction=True)
def test_several_accounts_are_fetched_at_once_and_each_is_stored(
    x: FakeX, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        make.account(username=f"author{number}", source="x")
        x.says(f"author{number}", item(100 + number))
    counted = Counted(x, monkeypatch)
    done = ingest({"x": XSource(base_url=x.url, concurrency=3)})

    assert (done.accounts, done.new, done.failed) == (6, 6, {})
    assert counted.most == 3


def test_reactions_and_the_link_come_with_a_post(x: FakeX, source: XSource) -> None:
    metrics = {
        "retweet_count": 3,
        "reply_count": 4,
        "like_count": 250,
        "quote_count": 1,
        "impression_count": 9_000,
    }
    x.says("author", item(2, public_metrics=metrics), item(1))
    first, second = source.fetch("author", Cursor())

    assert first.engagement == Engagement()
    assert second.engagement == Engagement(likes=250, reposts=3, replies=4, quotes=1)
    assert second.link == "https://x.com/author/status/2"


def searcher(x: FakeX, **options: Any) -> XSource:
    return XSource(base_url=x.url, queries={"bottoms": "bottom -is:retweet"}, **options)


def test_a_query_finds_the_posts_of_everybody_and_follows_its_cursor(x: FakeX, time: RecordedClock) -> None:
    x.says("one", *[item(100 - n, text=f"the bottom of $BTC {n}") for n in range(0, 40, 2)])
    x.says(
        "two", *[item(99 - n, text=f"a bottom in $ETH {n}") for n in range(0, 40, 2)], item(7, text="else")
    )
    source = searcher(x)
    first = list(source.fetch("Bottoms", Cursor()))
    x.says("two", *[item(200 + n, text="one more bottom") for n in range(30, 0, -1)])
    later = list(source.fetch("bottoms", Cursor(first[-1].post_id, first[-1].posted_at)))

    assert [post.post_id for post in first] == [str(n) for n in range(86, 101)]
    assert [post.post_id for post in later] == [str(200 + n) for n in range(1, 31)]
    assert later[0].link == "https://x.com/i/status/201"
    paths = {asked.path for asked in x.requests}
    assert paths == {"/2/tweets/search/recent"}
    assert [("next_token" in asked.query) for asked in x.requests] == [False, False, True]


@pytest.mark.django_db
@pytest.mark.parametrize("first", ["bottoms", "one"])
def test_a_found_post_of_a_followed_account_counts_for_that_account(
    x: FakeX, time: RecordedClock, first: str
) -> None:
    x.says("one", item(100, text="the bottom of $BTC is in"))
    x.says("two", item(101, text="a bottom in $ETH is in"))
    source = searcher(x)
    for name in ("bottoms", "one") if first == "bottoms" else ("one", "bottoms"):
        make.account(username=name, source="x")
        ingest({"x": source})
    owners = dict(CtPost.objects.values_list("post_id", "account__x_username"))
    assert owners == {"100": "one", "101": "bottoms"}

    x.says("one", item(102, text="the bottom of $BTC is near"))
    [found] = source.fetch("bottoms", Cursor("101", T0))
    assert (found.author, found.link) == ("one", "https://x.com/one/status/102")


def test_searches_are_paid_from_the_same_budget(x: FakeX, time: RecordedClock) -> None:
    x.says("one", *[item(n, text="bottom") for n in range(30, 0, -1)])
    source = searcher(x, max_usd_per_day="0.1")
    list(source.fetch("bottoms", Cursor()))
    assert source.spent_today() == Decimal("0.075")
    x.says("two", *[item(n, text="bottom too") for n in range(60, 40, -1)])
    list(source.fetch("bottoms", Cursor("30")))
    assert source.spent_today() >= Decimal("0.1")
    with pytest.raises(SourceSpent):
        list(source.fetch("one", Cursor()))


def test_a_cursor_beyond_what_x_searches_becomes_a_time(x: FakeX, time: RecordedClock) -> None:
    x.oldest_found = 50
    x.says("one", item(90, text="bottom"), item(60, minutes=60 * 24 * 6, text="bottom"))
    found = list(searcher(x).fetch("bottoms", Cursor("10", T0 - timedelta(days=9))))
    x.oldest_found = 0

    assert [post.post_id for post in found] == ["60", "90"]
    assert "since_id" not in x.requests[-1].query


def test_a_search_that_is_limited_leaves_the_accounts_to_be_read(x: FakeX, time: RecordedClock) -> None:
    x.says("one", item(1))
    source = searcher(x)
    x.answers.append((429, {}, b"{}"))
    with pytest.raises(Retryable):
        list(source.fetch("bottoms", Cursor()))
    with pytest.raises(SourcePaused):
        list(source.fetch("bottoms", Cursor()))

    assert len(list(source.fetch("one", Cursor()))) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queries": {"long": "x" * 513}}, "513 characters"),
        ({"queries": {"none": ""}}, "0 characters"),
        ({"queries": {"two words": "x"}}, "two words"),
        ({"queries": {"a": "x"}, "profile": "GAME"}, "profile X"),
    ],
)
def test_a_query_that_x_refuses_is_refused_at_the_start(x: FakeX, options: Any, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        XSource(base_url=x.url, **options)
