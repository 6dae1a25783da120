"""Classification of new posts, with a model that works, fails or is unavailable."""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from agents.models import CtAccount
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.events.models import Event
from maxxit.llm.budget import AccountSpent
from maxxit.llm.call import ProviderRefused
from signals_app import revise
from signals_app.classify import Classified, classify
from signals_app.ingest import requeue
from signals_app.models import CtPost
from signals_app.policy import Classify
from signals_app.reading.schema import Readings
from signals_app.sources.base import RawPost
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeModel

POLICY = Classify(batch_size=4, max_batches=40, max_attempts=3)


@pytest.fixture
def author(db: None, time: RecordedClock) -> CtAccount:
    return make.account(username="author")


def run(**changes: int) -> Classified:
    return classify(POLICY.model_copy(update=changes))


def again(post: CtPost) -> CtPost:
    return CtPost.objects.get(pk=post.pk)


def test_a_call_becomes_a_candidate_with_side_confidence_and_reasoning(
    author: CtAccount, model: FakeModel
) -> None:
    post = make.post(author)
    model.reads(post.post_id, "ETH", "BTC", reasoning="says it buys")
    done, found = run(), again(post)

    assert (done.due, done.read, done.candidates) == (1, 1, 1)
    assert (found.state, found.is_signal_candidate, found.outcome) == (
        "classified",
        True,
        "candidate:waiting",
    )
    assert (found.tokens, found.sides, found.sentiment) == (["ETH"], {"ETH": "long"}, "bullish")
    assert (found.confidence, found.reasoning) == (Decimal("0.9"), "says it buys")


@pytest.mark.parametrize(
    ("fields", "tokens", "outcome"),
    [
        ({"candidate": False}, ["ETH"], "not_candidate"),
        ({"sentiment": "neutral"}, ["ETH"], "not_candidate"),
        ({}, ["BTC"], "no_listed_token"),
        ({}, ["USDC"], "no_listed_token"),
        ({}, [], "no_listed_token"),
    ],
)
def test_a_post_without_a_call_has_a_reason(
    author: CtAccount, model: FakeModel, fields: dict[str, Any], tokens: list[str], outcome: str
) -> None:
    post = make.post(author)
    model.reads(post.post_id, *tokens, **fields)
    run()

    assert (again(post).state, again(post).is_signal_candidate, again(post).outcome) == (
        "classified",
        False,
        outcome,
    )


def test_posts_are_read_in_batches_each_once(author: CtAccount, model: FakeModel) -> None:
    posts = [make.post(author) for _ in range(10)]
    run()

    assert model.asked == [
        [p.post_id for p in posts[:4]],
        [p.post_id for p in posts[4:8]],
        [p.post_id for p in posts[8:]],
    ]
    assert run().due == 0


def test_a_pass_reads_a_limited_number_of_batches(author: CtAccount, model: FakeModel) -> None:
    for _ in range(10):
        make.post(author)

    assert [run(max_batches=2).read, run(max_batches=2).read] == [8, 2]


def test_every_call_names_the_posts_it_is_about(author: CtAccount, model: FakeModel) -> None:
    posts = [make.post(author) for _ in range(3)]
    run()

    assert model.correlation_ids == [[post.correlation_id for post in posts]]


def test_a_wrong_setting_stops_the_pass_and_is_no_fault_of_the_posts(
    author: CtAccount, model: FakeModel
) -> None:
    post = make.post(author)
    model.errors.append(Misconfigured("set OPENAI_API_KEY"))
    with pytest.raises(Misconfigured, match="OPENAI_API_KEY"):
        run()
    assert (again(post).state, again(post).attempts) == ("new", 0)
    assert "OPENAI_API_KEY" in again(post).last_error


def test_no_call_reads_two_authors(author: CtAccount, model: FakeModel) -> None:
    other = make.account()
    mine = [make.post(author), make.post(author)]
    theirs = make.post(other)
    last = make.post(author)
    run()

    assert model.asked == [[mine[0].post_id, mine[1].post_id, last.post_id], [theirs.post_id]]


def test_while_the_provider_is_away_posts_stay_new_for_as_long_as_it_takes(
    author: CtAccount, model: FakeModel
) -> None:
    error = Retryable("away")
    posts = [make.post(author) for _ in range(6)]
    for _ in range(5):
        model.errors.append(error)
        done = run()
        assert (done.due, done.read, done.quarantined) == (4, 0, 0)  # it does not go on to the next batch
    found = again(posts[0])
    assert (found.state, found.attempts, found.is_signal_candidate) == ("new", 0, False)
    assert found.outcome.startswith("unread:")
    assert str(error) in found.last_error

    assert run().read == 6


def test_an_author_without_calls_left_today_does_not_hold_up_the_others(
    author: CtAccount, model: FakeModel
) -> None:
    loud = [make.post(author) for _ in range(6)]
    quiet = make.post(make.account())
    model.errors.append(AccountSpent("the day's budget is used up"))
    done = run()

    assert model.asked == [[post.post_id for post in loud[:4]], [quiet.post_id]]
    assert (done.read, again(quiet).state, again(loud[0]).state) == (1, "classified", "new")
    assert (again(loud[0]).outcome, again(loud[0]).attempts) == ("unread:accountspent", 0)
    assert again(loud[5]).outcome == "pending"


def test_an_answer_that_cannot_be_used_counts_and_after_three_the_post_is_set_aside(
    author: CtAccount, model: FakeModel
) -> None:
    post = make.post(author)
    states = []
    for _ in range(4):
        model.errors.append(Rejected("not the schema", code="answer_invalid"))
        run()
        states.append((again(post).state, again(post).attempts))

    assert states == [("new", 1), ("new", 2), ("quarantined", 3), ("quarantined", 3)]
    assert again(post).outcome == "unread:answer_invalid"
    model.errors.clear()
    requeue([post.pk])
    model.reads(post.post_id, "ETH")
    run()
    assert again(post).outcome == "candidate:waiting"


def test_one_poisonous_post_is_found_and_the_others_of_its_batch_are_read(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [make.post(author) for _ in range(4)]

    def poisoned(**asked: Any) -> Any:
        if posts[1].post_id in [one["post_id"] for one in asked["data"]["posts"]]:
            raise Rejected("garbage", code="answer_invalid")
        return model(**asked)

    monkeypatch.setattr("signals_app.classify.ask", poisoned)
    for _ in range(4):
        run()

    assert {post.pk: again(post).state for post in posts} == {
        post.pk: "quarantined" if post == posts[1] else "classified" for post in posts
    }


def failing(monkeypatch: pytest.MonkeyPatch, model: FakeModel, *posts: CtPost, error: Exception) -> None:
    """Every call that holds one of `posts` fails with `error`."""
    bad = {post.post_id for post in posts}

    def ask(**asked: Any) -> Any:
        ids = [one["post_id"] for one in asked["data"]["posts"]]
        if bad.intersection(ids):
            model.asked.append(ids)
            raise error
        return model(**asked)

    monkeypatch.setattr("signals_app.classify.ask", ask)


def test_a_refused_batch_is_split_at_once_and_only_the_post_at_fault_counts(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [make.post(author) for _ in range(4)]
    failing(monkeypatch, model, posts[2], error=Rejected("filtered", code="answer_filtered"))
    done = run()

    assert (done.due, done.read) == (4, 3)
    assert [(again(post).state, again(post).attempts) for post in posts] == [
        *[("classified", 0)] * 2,
        ("new", 1),
        ("classified", 0),
    ]
    assert again(posts[2]).outcome == "unread:answer_filtered"


def test_many_posts_of_one_author_do_not_delay_the_others(author: CtAccount, model: FakeModel) -> None:
    flood = [make.post(author) for _ in range(40)]
    quiet = [make.post(make.account()) for _ in range(3)]
    run(max_batches=5)

    assert [again(post).state for post in quiet] == ["classified"] * 3
    assert model.asked[0] == [post.post_id for post in flood[:4]]
    assert model.asked[1:4] == [[post.post_id] for post in quiet]


def test_one_author_has_only_so_many_calls_of_a_pass(author: CtAccount, model: FakeModel) -> None:
    for _ in range(40):
        make.post(author)
    assert run(max_batches_per_author=3).read == 12
    assert run(max_batches_per_author=3).read == 12


def test_a_post_that_every_provider_refuses_is_quarantined_and_blocks_no_other(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers 500 to one post: its answers to others show that it is not away."""
    bad = make.post(author)
    failing(monkeypatch, model, bad, error=Retryable("answered 500"))
    for attempt in (1, 2, 3):
        other = make.post(make.account(), outcome="unread:retryable")  # behind it in turn
        run()
        assert (again(other).state, again(bad).attempts) == ("classified", attempt)
    assert again(bad).state == "quarantined"


def test_a_refused_key_is_raised_only_if_no_post_was_answered(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, other = make.post(author), make.post(make.account())
    failing(monkeypatch, model, bad, error=ProviderRefused("answered 403"))
    run()
    assert (again(bad).attempts, again(other).state) == (1, "classified")
    with pytest.raises(ProviderRefused):
        run()


def test_an_unavailable_provider_ends_the_pass_after_three_authors(
    author: CtAccount, model: FakeModel
) -> None:
    for _ in range(5):
        make.post(make.account())
    model.errors.extend([Retryable("away")] * 9)
    assert run().read == 0
    assert len(model.asked) == 3


def test_a_post_that_the_model_left_out_is_tried_again_and_the_others_count(
    author: CtAccount, model: FakeModel
) -> None:
    posts = [make.post(author) for _ in range(3)]
    model.silent_about = {posts[1].post_id}
    done = run()

    assert (done.read, [again(post).state for post in posts]) == (2, ["classified", "new", "classified"])
    assert again(posts[1]).attempts == 1
    model.silent_about = set()
    run()
    assert again(posts[1]).state == "classified"


def test_a_reading_of_another_post_is_ignored(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, other = make.post(author), make.post(author, state="classified", outcome="not_candidate")
    model.reads(other.post_id, "ETH")
    model.reads(post.post_id)

    def chatty(**asked: Any) -> Any:
        answer = model(**asked)
        assert isinstance(answer.answer, Readings)
        answer.answer = Readings(readings=(*answer.answer.readings, model.readings[other.post_id]))
        return answer

    monkeypatch.setattr("signals_app.classify.ask", chatty)
    run()

    assert again(other).outcome == "not_candidate"


@pytest.mark.parametrize("reasoning", ["a\x00b", "x" * 1000, ""])
@pytest.mark.parametrize("candidate", [True, False])
def test_whatever_a_model_gives_as_its_reason_is_kept(
    author: CtAccount, model: FakeModel, reasoning: str, candidate: bool
) -> None:
    posts = [make.post(author), make.post(author)]
    model.reads(posts[0].post_id, "ETH", reasoning=reasoning, candidate=candidate)
    run()

    assert [again(post).state for post in posts] == ["classified", "classified"]


def test_every_classified_post_has_one_event_under_its_correlation_id(
    author: CtAccount, model: FakeModel
) -> None:
    posts = [make.post(author) for _ in range(5)]
    model.reads(posts[2].post_id, "ETH")
    run()
    told = Event.objects.filter(name="ctpost.classified").values_list("correlation_id", flat=True)

    assert Counter(told) == Counter(post.correlation_id for post in posts)


class SlowModel(FakeModel):
    """Something happens while it reads."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def __call__(self, **question: Any) -> Any:
        answer = super().__call__(**question)
        self.meanwhile()
        self.meanwhile = lambda: None
        return answer


def test_a_post_that_is_edited_while_the_model_reads_it_is_read_again(
    author: CtAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, other = make.post(author, text="buying $ETH"), make.post(author, text="long $ETH")

    def edit() -> None:
        revise.edits(author, [RawPost(post.post_id, "author", "selling $ETH", post.posted_at)])

    slow = SlowModel(edit)
    slow.reads(post.post_id, "ETH")
    slow.reads(other.post_id, "ETH")
    monkeypatch.setattr("signals_app.classify.ask", slow)
    done = run()

    assert (done.due, done.read, done.changed, done.candidates, done.failed) == (2, 1, 1, 1, {})
    assert (again(post).state, again(post).attempts, again(post).sides) == ("new", 0, {})
    assert again(other).sides == {"ETH": "long"}

    slow.reads(post.post_id, "ETH", sentiment="bearish")
    assert run().read == 1
    assert (again(post).text, again(post).sides) == ("selling $ETH", {"ETH": "short"})


def test_a_post_that_is_deleted_while_the_model_reads_it_spoils_no_other(
    author: CtAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, other = make.post(author), make.post(author)

    def delete() -> None:
        revise.deletions(author, [RawPost(post.post_id, "author", "", post.posted_at, deleted=True)])

    slow = SlowModel(delete)
    slow.reads(post.post_id, "ETH")
    slow.reads(other.post_id, "ETH")
    monkeypatch.setattr("signals_app.classify.ask", slow)
    done = run()

    assert (done.read, done.changed, done.failed) == (1, 1, {})
    assert (again(post).state, again(post).outcome) == ("prefiltered", "prefiltered:deleted")
    assert again(other).outcome == "candidate:waiting"
