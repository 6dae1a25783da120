"""Edited and deleted posts."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from agents.models import CtAccount, Subscription
from maxxit.events.models import Event
from maxxit.events.record import advance
from signals_app.generate import generate
from signals_app.ingest import Ingested, ingest
from signals_app.models import CtPost, Signal
from signals_app.policy import policy
from signals_app.sources.base import Cursor, PostSource, RawPost, Refused
from signals_app.sources.jsonl import JsonlSource, parse
from tests import builders as make
from tests.builders import T0, RecordedClock
from trading.entries import planning

FIRST = "buying $BTC here, this looks like the bottom"
SECOND = "selling $BTC here, this looks like the top"


@pytest.fixture(autouse=True)
def world(db: None, time: RecordedClock) -> None:
    make.account(username="Author")


class Offers:
    """A source that offers what it is told."""

    def __init__(self, *posts: RawPost) -> None:
        self.posts = posts

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        return self.posts if username == "Author" else ()

    def refused(self) -> Iterable[Refused]:
        return ()


def raw(text: str = FIRST, ident: str = "1") -> RawPost:
    return RawPost(ident, "Author", text, T0 - timedelta(minutes=9))


def gone(ident: str = "1") -> RawPost:
    return RawPost(ident, "Author", "", T0, deleted=True)


def offered(*posts: RawPost) -> Ingested:
    return ingest({"jsonl": Offers(*posts)})


def author() -> CtAccount:
    return CtAccount.objects.get(x_username="Author")


def told(name: str) -> list[dict[str, object]]:
    return list(Event.objects.filter(name=name).order_by("pk").values_list("data", flat=True))


def test_an_unread_text_is_replaced_with_one_event() -> None:
    offered(raw())
    done = [offered(raw(SECOND)), offered(raw(SECOND))]
    post = CtPost.objects.get()

    assert [(one.new, one.edited) for one in done] == [(0, 1), (0, 0)]
    assert (post.text, post.state, post.edited_at) == (SECOND, "new", T0)
    assert told("ctpost.edited") == [{"was": FIRST, "now": SECOND, "replaced": True}]


def test_a_new_text_is_prefiltered_as_any() -> None:
    offered(raw())
    done = offered(raw("gm"))

    assert (done.edited, done.prefiltered) == (1, 1)
    assert CtPost.objects.get().outcome == "prefiltered:chatter"


def test_of_two_texts_in_one_offer_the_last_counts_every_time() -> None:
    for _ in range(3):
        offered(raw(), raw(SECOND))

    assert CtPost.objects.get().text == SECOND
    assert len(told("ctpost.edited")) == 1


def test_a_post_that_was_read_keeps_what_was_read() -> None:
    post = make.candidate(author(), {"BTC": "long"}, post_id="1", text=FIRST)
    done = [offered(raw(SECOND)), offered(raw(SECOND)), offered(raw())]
    post.refresh_from_db()

    assert [one.edited for one in done] == [0, 0, 0]
    assert (post.text, post.sides, post.state, post.edited_at) == (FIRST, {"BTC": "long"}, "classified", T0)
    assert post.edited_text == FIRST, "the author changed it back"
    assert [event["replaced"] for event in told("ctpost.edited")] == [False, False]


def test_a_post_of_another_account_cannot_be_edited_or_deleted() -> None:
    post = make.post(make.account(), post_id="1", text=FIRST)
    done = offered(raw(SECOND), gone())
    post.refresh_from_db()

    assert (done.edited, done.deleted) == (0, 0)
    assert (post.text, post.deleted_at) == (FIRST, None)


@pytest.mark.parametrize("state", ["new", "quarantined"])
def test_a_post_deleted_before_classification_is_not_classified(state: str) -> None:
    post = make.post(author(), post_id="1", state=state)
    done = [offered(gone()), offered(gone())]
    post.refresh_from_db()

    assert [one.deleted for one in done] == [1, 0]
    assert (post.state, post.outcome, post.deleted_at) == ("prefiltered", "prefiltered:deleted", T0)
    assert told("ctpost.deleted") == [{"state": state}]
    assert offered(raw(SECOND)).edited == 0


def test_a_deleted_candidate_becomes_no_signal(time: RecordedClock) -> None:
    agent = make.agent()
    one = make.account(agent, username="other")
    post = make.candidate(author(), post_id="1")
    Subscription.objects.create(agent=agent, account=author())
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")
    offered(gone())
    generate(policy().generate)
    post.refresh_from_db()

    assert not Signal.objects.exists()
    assert post.outcome == "candidate:deleted"
    make.candidate(one)
    assert generate(policy().generate).signals == 1


def test_a_pending_signal_ends_with_its_last_post_and_so_does_its_planned_order() -> None:
    agent = make.agent()
    deployment = make.deployment(agent)
    first, second = make.candidate(author(), post_id="1"), make.candidate(author(), post_id="2")
    alone, shared, done = (make.signal(agent) for _ in range(3))
    order = make.order(deployment, by=alone)
    alone.posts.set([first])
    shared.posts.set([first, second])
    advance(done, "executed")
    done.posts.set([first])

    def states() -> list[str]:
        planning.expire_signals()
        return [Signal.objects.get(pk=one.pk).state for one in (alone, shared, done)]

    offered(gone("1"))
    assert told("signal.withdrawn") == [{"reason": "post_deleted", "token": "ETH"}]
    assert states() == ["expired", "pending", "executed"]
    order.refresh_from_db()
    assert order.state == "expired"
    offered(gone("2"))
    assert states() == ["expired", "expired", "executed"]
    assert len(told("signal.withdrawn")) == 2


def test_a_file_can_state_a_deletion(tmp_path: Path) -> None:
    file = tmp_path / "posts.jsonl"
    written = (
        f'{{"id": "1", "username": "Author", "created_at": "2026-03-02T11:00:00Z", "text": "{FIRST}"}}\n'
    )
    file.write_text(written)
    source: dict[str, PostSource] = {"jsonl": JsonlSource([str(file)])}
    ingest(source)
    file.write_text(
        written + '{"id": "1", "username": "Author", "created_at": "2026-03-02T11:50:00Z", "deleted": true}\n'
    )

    assert [ingest(source).deleted for _ in range(2)] == [1, 0]
    assert CtPost.objects.get().deleted_at == T0
    assert isinstance(parse(b'{"id": "1", "username": "V", "created_at": "2026-03-02T11:50:00Z"}'), str)
