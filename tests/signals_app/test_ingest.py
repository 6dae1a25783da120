"""Ingest: posts are stored once and complete; invalid items are stored with the reason."""

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from agents.models import CtAccount
from maxxit.core import clock, correlation
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.events.models import Event
from signals_app.ingest import Ingested, ingest, requeue
from signals_app.models import CtPost, RejectedPost
from signals_app.sources.base import Cursor, RawPost, Refused, web_link
from signals_app.sources.jsonl import JsonlSource, parse
from signals_app.tasks import tidy
from tests import builders as make
from tests.builders import T0, RecordedClock

TEXT = "buying $BTC here, this looks like the bottom"


@pytest.fixture(autouse=True)
def world(db: None, time: RecordedClock) -> None:
    make.account(username="Author")


def line(
    ident: Any = "1", username: str = "Author", minutes: float = 1, text: Any = TEXT, **more: Any
) -> str:
    at = (T0 - timedelta(minutes=minutes)).isoformat()
    return json.dumps({"id": ident, "username": username, "created_at": at, "text": text} | more)


class Files:
    """A post file of the test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, *lines: str | bytes) -> None:
        self.path.write_bytes(
            b"\n".join(one if isinstance(one, bytes) else one.encode() for one in lines) + b"\n"
        )

    def read(self) -> Ingested:
        return ingest({"jsonl": JsonlSource([str(self.path)])})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "posts.jsonl")


def ids() -> set[str]:
    return set(CtPost.objects.values_list("post_id", flat=True))


def test_a_second_ingest_of_the_same_posts_adds_nothing(files: Files) -> None:
    files.has(line("1"), line("2", minutes=90), line("3", minutes=3000))
    first, second = files.read(), files.read()

    assert (first.offered, first.new) == (3, 3)
    assert second.new == 0
    assert CtPost.objects.count() == Event.objects.filter(name="ctpost.new").count() == 3


def test_posts_that_come_later_are_added_alone(files: Files) -> None:
    files.has(line("1", minutes=10))
    files.read()
    files.has(line("1", minutes=10), line("2", minutes=5))

    assert (files.read().new, ids()) == (1, {"1", "2"})


def test_a_post_of_the_future_waits_for_its_moment(files: Files, time: RecordedClock) -> None:
    files.has(line("1", minutes=-5))
    assert files.read().new == 0

    time.move(minutes=5)
    assert files.read().new == 1


@pytest.mark.parametrize("ident", ["940000000000000001", "9007199254740993", "00012", "demo-00001"])
def test_an_id_stays_the_string_that_it_was(files: Files, ident: str) -> None:
    # F25: a source read ids as JavaScript numbers and lost digits
    files.has(line(ident))
    files.read()

    assert ids() == {ident}


BAD: dict[str, tuple[str | bytes, str]] = {
    "number id": (line(940000000000000001), "'id' must be a non-empty string"),
    "no text": (line(text=""), "'text' must be a non-empty string"),
    "no json": ("{'id': 1}", "not JSON"),
    "no object": ('["a"]', "not a JSON object"),
    "no time": (line(created_at="yesterday"), "'created_at' is not an ISO 8601 time"),
    "too long": (line(text="x" * 25_001), "too long"),
    "long id": (line("1" * 41), "too long"),
    "nul": (line(text="a\x00b"), "NUL"),
    "raw nul": (b'{"id": "1\x00"}', "not JSON"),
    "half a pair": (line(text="so far \ud83d"), "surrogate"),
    "no utf-8": (b'{"id": "1", "text": "\xff\xfe"}', "not UTF-8 from byte 22 on"),
    "endless": ("[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_is_kept_with_its_place_and_reason_and_the_good_ones_land(files: Files, bad: str) -> None:
    raw, reason = BAD[bad]
    files.has(line("1"), raw, line("2"))
    done = files.read()
    kept = RejectedPost.objects.get()

    assert (done.new, done.refused, ids()) == (2, 1, {"1", "2"})
    assert kept.place == f"{files.path}:2"
    assert reason in kept.reason
    assert files.read().refused == 0


def test_a_file_of_thousands_of_bad_lines_keeps_each(files: Files) -> None:
    files.has(*["nonsense"] * 3000, line("1"))

    assert (files.read().refused, RejectedPost.objects.count(), ids()) == (3000, 3000, {"1"})


def test_a_bad_line_is_stored_once_however_often_its_file_is_read(files: Files, time: RecordedClock) -> None:
    files.has("nonsense", line("1"), "more nonsense")
    assert [files.read().refused for _ in range(3)] == [2, 0, 0]
    stored = list(RejectedPost.objects.values_list("pk", "seen_at"))

    time.move(minutes=5)
    assert files.read().refused == 0
    assert list(RejectedPost.objects.values_list("pk", "seen_at")) == stored


def test_a_bad_line_that_says_something_else_replaces_what_was_stored(
    files: Files, time: RecordedClock
) -> None:
    files.has("nonsense", line("1"))
    files.read()
    time.move(minutes=5)
    files.has('["a"]', line("1"))

    assert files.read().refused == 1
    kept = RejectedPost.objects.get()
    assert (kept.raw, kept.place, kept.seen_at) == ('["a"]', f"{files.path}:1", clock.now())
    assert "not a JSON object" in kept.reason


def test_refused_posts_are_deleted_past_their_retention(files: Files, time: RecordedClock) -> None:
    files.has("nonsense", line("1"))
    files.read()
    time.move(minutes=60 * 24 * 60)
    files.has("nonsense", line("1"), "more nonsense")
    files.read()
    time.move(minutes=60 * 24 * 60)

    assert tidy() == 1
    assert RejectedPost.objects.get().place == f"{files.path}:3"
    assert [files.read().refused for _ in range(2)] == [1, 0]  # the file still has the other


def test_names_compare_without_case_and_without_the_at(files: Files) -> None:
    files.has(line("1", "@aUTHOR"))

    assert files.read().new == 1


def test_posts_of_unknown_accounts_are_ignored(files: Files) -> None:
    files.has(line("1", "stranger"))

    assert files.read().offered == 0


def test_an_account_that_was_switched_off_is_not_read(files: Files) -> None:
    CtAccount.objects.update(is_active=False)
    files.has(line("1"))

    assert files.read().offered == 0


def test_a_missing_file_is_named_with_the_fix(files: Files) -> None:
    with pytest.raises(Misconfigured, match=r"no post file matches .*config/signals\.yaml"):
        files.read()


def test_the_correlation_id_is_born_here_from_the_post(files: Files) -> None:
    files.has(line("77"))
    files.read()
    post = CtPost.objects.get()

    assert post.correlation_id == correlation.derive_id("post", "77")
    assert Event.objects.get(name="ctpost.new").correlation_id == post.correlation_id


def test_the_prefilter_sorts_out_posts_with_a_reason(files: Files) -> None:
    files.has(
        line("1"), line("2", text="gm @bob"), line("3", text="nice chart"), line("4", text="https://t.co/x")
    )
    done = files.read()
    outcomes = dict(CtPost.objects.values_list("post_id", "outcome"))

    assert done.prefiltered == 3
    assert outcomes == {
        "1": "pending",
        "2": "prefiltered:chatter",
        "3": "prefiltered:too_short",
        "4": "prefiltered:empty",
    }


class Failing:
    """A source that fails for some accounts."""

    def __init__(self, errors: dict[str, Exception], posts: dict[str, list[RawPost]] | None = None) -> None:
        self.errors, self.posts = errors, posts or {}
        self.cursors: dict[str, Cursor] = {}

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        self.cursors[username] = cursor
        yield from self.posts.get(username, [])
        if username in self.errors:
            raise self.errors[username]

    def refused(self) -> Iterable[Refused]:
        return ()


def raw(ident: str, minutes: float = 1) -> RawPost:
    return RawPost(ident, "Author", TEXT, T0 - timedelta(minutes=minutes))


FAILURES = [
    (Retryable("away"), "away"),
    (Rejected("no such account"), "no such account"),
    (OverflowError("date value out of range"), "OverflowError: date value out of range"),
    (RecursionError("too deep"), "RecursionError: too deep"),
    (ValueError("Invalid IPv6 URL"), "ValueError: Invalid IPv6 URL"),
]


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_an_account_that_fails_keeps_its_cursor_and_the_others_are_read(error: Exception, said: str) -> None:
    # F25: a source moved its cursor on failure and lost the posts in between
    CtAccount.objects.update(since_id="5", last_seen_at=T0 - timedelta(hours=1))
    make.account(username="Other")
    source = Failing({"Author": error}, {"Author": [raw("6")], "Other": [raw("7")]})
    done = ingest({"jsonl": source})
    author = CtAccount.objects.get(x_username="Author")

    assert done.failed == {"Author": said}
    assert (author.since_id, author.last_seen_at) == ("5", T0 - timedelta(hours=1))
    assert ids() == {"7"}
    ingest({"jsonl": source})
    assert source.cursors["Other"].since_id == "7"


def test_posts_that_the_database_refuses_cost_their_account_alone(caplog: pytest.LogCaptureFixture) -> None:
    make.account(username="Other")
    too_long = RawPost("6" * 41, "Author", TEXT, T0)
    done = ingest({"jsonl": Failing({}, {"Author": [raw("5"), too_long], "Other": [raw("7")]})})

    assert set(done.failed) == {"Author"}
    assert done.failed["Author"].startswith("DataError: ")
    assert (done.accounts, done.offered, done.new, ids()) == (1, 1, 1, {"7"})
    assert CtAccount.objects.get(x_username="Author").since_id == ""


def test_a_link_that_is_longer_once_masked_is_left_out() -> None:
    link = "https://u:p@h.org/" * 27
    post = RawPost("5", "Author", TEXT, T0, link=web_link(link))
    assert post.link
    done = ingest({"jsonl": Failing({}, {"Author": [post]})})

    assert (done.failed, done.new) == ({}, 1)
    assert CtPost.objects.get().link == ""


def test_a_misconfigured_source_is_raised_once_the_others_are_read(files: Files) -> None:
    make.account(username="Other", source="other")
    files.path.unlink(missing_ok=True)
    with pytest.raises(Misconfigured, match="no post file matches"):
        ingest({"jsonl": JsonlSource([str(files.path)]), "other": Failing({}, {"Other": [raw("7")]})})

    assert ids() == {"7"}


def test_a_task_that_runs_out_of_time_ends_the_pass() -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        ingest({"jsonl": Failing({"Author": SoftTimeLimitExceeded()})})


def test_a_pass_that_is_behind_another_moves_no_cursor_back() -> None:
    class Slow(Failing):
        def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
            CtAccount.objects.update(since_id="9", last_seen_at=T0)  # as a pass of another process
            return super().fetch(username, cursor)

    assert ingest({"jsonl": Slow({}, {"Author": [raw("5")]})}).new == 1
    assert CtAccount.objects.get().since_id == "9"


def test_the_cursor_is_the_newest_post_also_where_ids_have_different_lengths() -> None:
    source = Failing({}, {"Author": [raw("1000"), raw("999"), raw("1001", minutes=5)]})
    ingest({"jsonl": source})

    assert CtAccount.objects.get().since_id == "1000"


def test_a_post_that_two_accounts_offer_lands_once() -> None:
    make.account(username="Other")
    done = ingest({"jsonl": Failing({}, {"Author": [raw("1")], "Other": [raw("1")]})})

    assert (done.offered, done.new) == (2, 1)


@pytest.mark.parametrize("text", ["{}", "null", "1", '"x"', "", "[]", "nan", '{"id": null}'])
def test_whatever_is_on_a_line_is_a_post_or_a_reason(text: str) -> None:
    assert isinstance(parse(text.encode()), str)


def test_a_quarantined_post_gets_three_more_tries() -> None:
    post = make.post(CtAccount.objects.get(), state="quarantined", attempts=3, outcome="unread:rejected")

    assert [requeue([post.pk]), requeue([post.pk])] == [1, 0]
    post.refresh_from_db()
    assert (post.state, post.attempts, post.outcome) == ("new", 0, "pending")
