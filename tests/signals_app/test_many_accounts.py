"""Many accounts at once: places of a source and slots of a model are used, and nobody waits for one that hangs."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.models import CtAccount, Subscription
from maxxit.core import clock, correlation
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.llm.errors import NotCalled, SlotsTaken
from signals_app import classify as stage
from signals_app import ingest as reading
from signals_app.classify import Classified, classify
from signals_app.followers import followers
from signals_app.generate import generate
from signals_app.ingest import ingest
from signals_app.lanes import LAST_SECONDS, Lanes
from signals_app.models import CtPost, Signal
from signals_app.policy import Classify, policy
from signals_app.reading.proposal import Proposal
from signals_app.sources.base import Cursor, RawPost, Refused, SourcePaused, SourceSpent
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.fakes import FakeModel

SECONDS = 60
"""After which a test that waits has failed."""
POLICY = Classify(batch_size=4, max_attempts=3)
Meanwhile = Callable[[str], object]


class Together:
    """Counts who is inside at once; `full` is set when `count` are."""

    def __init__(self, count: int) -> None:
        self.count, self.inside, self.most = count, 0, 0
        self.full = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.inside >= self.count:
                self.full.set()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


class Source:
    """A remote source with one post of each account; `meanwhile` is called inside each fetch."""

    def __init__(self, concurrency: int = 4, meanwhile: Meanwhile = lambda username: None) -> None:
        self.concurrency, self.meanwhile = concurrency, meanwhile
        self.asked: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.threads: set[int] = set()

    def fetch(self, username: str, cursor: Cursor) -> list[RawPost]:
        self.asked.append(username)
        self.threads.add(threading.get_ident())
        self.meanwhile(username)
        if username in self.errors:
            raise self.errors[username]
        return [RawPost(f"of-{username}", username, f"buying $ETH, says {username}", clock.now())]

    def refused(self) -> list[Refused]:
        return []


class Model(FakeModel):
    """A model that calls `meanwhile` with the ids of the posts inside each call."""

    def __init__(self, meanwhile: Callable[[list[str]], object] = lambda ids: None) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def __call__(self, **asked: Any) -> Any:
        self.meanwhile([one["post_id"] for one in asked["data"]["posts"]])
        return super().__call__(**asked)


def stored() -> set[str]:
    return set(CtPost.objects.values_list("account__x_username", flat=True))


def read() -> set[str]:
    return set(CtPost.objects.filter(state="classified").values_list("post_id", flat=True))


def reads(monkeypatch: pytest.MonkeyPatch, model: Model, slots: int = 4, **options: Any) -> Classified:
    """One pass with `model` behind so many slots."""
    monkeypatch.setattr("signals_app.classify.ask", model)
    return classify(POLICY.model_copy(update=options.pop("changes", {})), lambda: slots, **options)


@pytest.fixture
def accounts(time: RecordedClock, empty_cache: None) -> list[CtAccount]:
    """Twelve accounts that nobody follows."""
    return [make.account(username=f"a{number:02}") for number in range(12)]


@pytest.fixture(autouse=True)
def no_thread_outlives_the_test() -> Iterator[None]:
    """It would hold rows while the database is emptied."""
    yield
    lanes: Lanes[Any, Any]
    for lanes in (reading.LANES, stage.LANES):
        while lanes.under_way():
            lanes.finished(SECONDS)


# --- fetching ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_as_many_accounts_are_fetched_at_once_as_the_source_allows(accounts: list[CtAccount]) -> None:
    together = Together(4)

    def hold(_: str) -> None:
        with together:
            assert together.full.wait(SECONDS)

    done = ingest({"jsonl": Source(4, hold)})

    assert together.most == 4
    assert (done.accounts, done.new, done.failed) == (12, 12, {})
    assert stored() == {account.x_username for account in accounts}


@pytest.mark.django_db(transaction=True)
def test_an_account_that_hangs_stops_no_other(accounts: list[CtAccount]) -> None:
    others_asked = threading.Event()

    def hang(username: str) -> None:
        if len(source.asked) == len(accounts):
            others_asked.set()
        if username == "a00":
            assert others_asked.wait(SECONDS)

    source = Source(2, hang)
    done = ingest({"jsonl": source})

    assert (done.new, done.failed) == (12, {})


@pytest.mark.django_db(transaction=True)
def test_a_source_that_hangs_stops_no_other_source(accounts: list[CtAccount]) -> None:
    CtAccount.objects.filter(x_username__lt="a04").update(source="x")
    others_stored = threading.Event()

    def hang(_: str) -> None:
        assert others_stored.wait(SECONDS)

    def seen(username: str) -> None:
        if username == "a11":
            others_stored.set()

    done = ingest({"x": Source(2, hang), "jsonl": Source(1, seen)})

    assert (done.new, done.failed) == (12, {})


@pytest.mark.django_db
def test_one_place_is_the_callers_thread_in_the_order_of_ids(accounts: list[CtAccount]) -> None:
    source = Source(1)
    ingest({"jsonl": source})

    assert source.threads == {threading.get_ident()}
    assert source.asked == [account.x_username for account in accounts]


@pytest.mark.django_db
def test_of_a_remote_source_the_most_followed_accounts_come_first(accounts: list[CtAccount]) -> None:
    much, little, idle = make.agent(), make.agent(), make.agent(state="paused")
    for _ in range(3):
        make.deployment(much, funded=False)
        make.deployment(idle, funded=False)
    make.deployment(little, funded=False)
    make.deployment(little, funded=False, state="paused")
    for agent, number in ((much, 5), (little, 4), (little, 8), (idle, 7)):
        Subscription.objects.create(agent=agent, account=accounts[number])
    watching = make.agent()
    Subscription.objects.create(agent=watching, account=accounts[8])
    Subscription.objects.create(agent=watching, account=accounts[9])
    source = Source(1)
    ingest({"jsonl": source})

    assert source.asked[:5] == ["a05", "a08", "a04", "a09", "a00"]
    assert followers()[accounts[8].pk] == (1, 2)


@pytest.mark.django_db
def test_files_are_read_in_the_order_of_ids_whoever_follows(accounts: list[CtAccount]) -> None:
    class File:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def fetch(self, username: str, cursor: Cursor) -> list[RawPost]:
            self.asked.append(username)
            return []

        def refused(self) -> list[Refused]:
            return []

    Subscription.objects.create(agent=make.agent(), account=accounts[5])
    file = File()
    ingest({"jsonl": file})

    assert file.asked == [account.x_username for account in accounts]


def timed(time: RecordedClock, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The time of a pass is over when it has stored `after` accounts."""
    land, landed = reading._land, []

    def landing(account: CtAccount, *args: Any) -> None:
        land(account, *args)
        landed.append(account)
        if len(landed) == after:
            time.move(seconds=60)

    monkeypatch.setattr(reading, "_land", landing)


@pytest.mark.django_db
def test_a_pass_that_runs_out_of_time_wakes_the_next_which_reads_only_the_rest(
    accounts: list[CtAccount], time: RecordedClock, woken: set[str], monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    timed(time, monkeypatch, after=5)
    source = Source(1)
    with django_capture_on_commit_callbacks(execute=True):
        done = ingest({"jsonl": source}, seconds=30)
    assert (done.accounts, done.left) == (5, 7)
    assert "signals_app.tasks.ingest" in woken

    woken.clear()
    with django_capture_on_commit_callbacks(execute=True):
        done = ingest({"jsonl": source}, seconds=30)
    assert (done.accounts, done.left) == (7, 0)
    assert source.asked == [account.x_username for account in accounts]
    assert "signals_app.tasks.ingest" not in woken

    ingest({"jsonl": source}, seconds=30)
    assert source.asked[12:] == [account.x_username for account in accounts]


@pytest.mark.django_db(transaction=True)
def test_a_pass_does_not_wait_for_ever_for_an_account_that_hangs(
    accounts: list[CtAccount], time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    source = Source(2, lambda name: name == "a00" and released.wait(SECONDS))
    land = reading._land

    def landing(account: CtAccount, *args: Any) -> None:
        land(account, *args)
        if account.x_username == "a11":
            time.move(seconds=30 + LAST_SECONDS)

    monkeypatch.setattr(reading, "_land", landing)
    ingest({"jsonl": source}, seconds=30)
    assert len(stored()) == 11

    again = ingest({"jsonl": source}, seconds=30)
    assert source.asked.count("a00") == 1, "it still has its place, and is not asked twice at once"
    assert again.accounts == 11
    released.set()
    while reading.LANES.under_way():
        reading.LANES.finished(SECONDS)
    ingest({"jsonl": source}, seconds=30)
    assert len(stored()) == 12


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "first"), [(SourcePaused("rate limit"), "a03"), (SourceSpent("budget"), "a00")]
)
def test_after_a_rate_limit_the_next_pass_begins_where_it_stopped_after_a_budget_with_the_first(
    accounts: list[CtAccount], error: Exception, first: str
) -> None:
    source = Source(1)
    source.errors = {account.x_username: error for account in accounts[3:]}
    ingest({"jsonl": source})
    source.errors, source.asked = {}, []
    ingest({"jsonl": source})

    assert source.asked[0] == first
    assert sorted(source.asked) == [account.x_username for account in accounts]


@pytest.mark.django_db(transaction=True)
def test_a_thread_sees_the_recorded_clock_and_the_correlation_id(accounts: list[CtAccount]) -> None:
    corr = correlation.derive_id("a test")
    seen: set[Any] = set()
    with correlation.under(corr):
        ingest({"jsonl": Source(4, lambda _: seen.add((clock.now(), correlation.current())))})

    assert seen == {(T0, corr)}


@pytest.mark.django_db(transaction=True)
def test_posts_wake_their_readers_before_the_pass_is_over(accounts: list[CtAccount], woken: set[str]) -> None:
    before: list[set[str]] = []

    def look(username: str) -> None:
        if username == "a11":
            before.append(set(woken))

    ingest({"jsonl": Source(1, look)})

    assert before == [{"signals_app.tasks.classify"}]


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_as_many_model_calls_are_in_flight_as_there_are_slots(
    accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [make.post(account) for account in accounts]
    together = Together(4)

    def hold(_: list[str]) -> None:
        with together:
            assert together.full.wait(SECONDS)

    done = reads(monkeypatch, Model(hold))

    assert together.most == 4
    assert (done.due, done.read) == (12, 12)
    assert read() == {post.post_id for post in posts}


@pytest.mark.django_db(transaction=True)
def test_no_author_has_two_calls_at_once(accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch) -> None:
    for author in accounts[:3]:
        make.post(author)
    arriving = dict.fromkeys(accounts[:3], 6)
    busy: set[str] = set()
    twice: list[str] = []

    class Busy(Model):
        def __call__(self, **asked: Any) -> Any:
            name = asked["data"]["posts"][0]["author"]
            if name in busy:
                twice.append(name)
            busy.add(name)
            author = CtAccount.objects.get(x_username=name)
            if arriving[author]:
                arriving[author] -= 1
                make.post(author)
            threading.Event().wait(0.05)
            busy.discard(name)
            return super().__call__(**asked)

    done = reads(monkeypatch, Busy())

    assert (done.read, twice) == (21, [])


@pytest.mark.django_db(transaction=True)
def test_a_call_that_hangs_stops_no_other_author(
    accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [make.post(account) for account in accounts]
    others_asked = threading.Event()
    asked: list[str] = []

    def hang(ids: list[str]) -> None:
        asked.extend(ids)
        if len(asked) == len(posts):
            others_asked.set()
        if ids == [posts[0].post_id]:
            assert others_asked.wait(SECONDS)

    assert reads(monkeypatch, Model(hang), slots=2).read == 12


@pytest.mark.django_db(transaction=True)
def test_a_pass_goes_on_until_nothing_is_due_posts_that_arrive_meanwhile_too(
    accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        make.post(accounts[0])
    late = iter(accounts[1:4])

    def arrive(_: list[str]) -> None:
        if account := next(late, None):
            make.post(account)

    done = reads(monkeypatch, Model(arrive), slots=1)

    assert (done.read, done.left) == (12, False)
    assert not CtPost.objects.filter(state="new").exists()


@pytest.mark.django_db(transaction=True)
def test_candidates_wake_the_next_stage_while_others_are_being_read(
    accounts: list[CtAccount], woken: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = make.post(accounts[0]), make.post(accounts[1])
    seen: list[set[str]] = []

    def look(ids: list[str]) -> None:
        if ids == [last.post_id]:
            seen.append(set(woken))

    model = Model(look)
    model.reads(first.post_id, "ETH")
    reads(monkeypatch, model, slots=1)

    assert seen == [{"signals_app.tasks.generate"}]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slots", [1, 3])
def test_a_pass_that_runs_out_of_time_wakes_the_next_if_it_read_something(
    accounts: list[CtAccount],
    time: RecordedClock,
    woken: set[str],
    monkeypatch: pytest.MonkeyPatch,
    slots: int,
) -> None:
    for account in accounts:
        make.post(account)
    finish = stage.ClassifyPass._finish

    def finishing(self: stage.ClassifyPass, *args: Any) -> None:
        finish(self, *args)
        if self.done.read == 3:
            time.move(seconds=POLICY.pass_seconds)

    monkeypatch.setattr(stage.ClassifyPass, "_finish", finishing)
    done = reads(monkeypatch, Model(), slots=slots)
    assert (done.read < 12, done.left) == (True, True)
    assert "signals_app.tasks.classify" in woken

    woken.clear()
    monkeypatch.setattr(stage.ClassifyPass, "_finish", finish)
    assert done.read + reads(monkeypatch, Model()).read == 12
    assert "signals_app.tasks.classify" not in woken


@pytest.mark.django_db
def test_without_a_binding_budget_posts_are_read_in_the_order_of_arrival(
    accounts: list[CtAccount], model: FakeModel
) -> None:
    make.account(make.agent(), username="followed")
    posts = [make.post(account) for account in reversed(accounts)]
    classify(POLICY, calls_left=lambda: 12)

    assert model.asked == [[post.post_id] for post in posts]


@pytest.mark.django_db
def test_when_a_budget_binds_the_most_followed_authors_and_their_newest_posts_come_first(
    accounts: list[CtAccount], model: FakeModel
) -> None:
    agent = make.agent()
    make.deployment(agent, funded=False)
    followed = make.account(agent, username="followed")
    watched = make.account(make.agent(), username="watched")
    posts = [make.post(account) for account in accounts[:2]]
    old = [make.post(followed) for _ in range(3)]
    watched_post = make.post(watched)
    new = [make.post(followed) for _ in range(4)]
    failed = make.post(make.account(agent), outcome="unread:retryable")
    classify(POLICY, calls_left=lambda: 3)

    assert model.asked == [
        [post.post_id for post in new],
        [watched_post.post_id],
        [posts[1].post_id],
        [posts[0].post_id],
        [failed.post_id],
        [post.post_id for post in old],
    ]


@pytest.mark.django_db(transaction=True)
def test_an_answer_to_an_older_call_blames_nobody_for_an_outage(
    accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows that the provider worked before the outage, not that the posts of the failed call are at fault."""
    slow, failed = make.post(accounts[0]), make.post(accounts[1])
    failed_noted = threading.Event()
    note = stage._note_failure

    def noted(*args: Any) -> None:
        note(*args)
        failed_noted.set()

    def outage(ids: list[str]) -> None:
        if ids == [failed.post_id]:
            raise Retryable("away")
        assert failed_noted.wait(SECONDS)

    monkeypatch.setattr(stage, "_note_failure", noted)
    done = reads(monkeypatch, Model(outage), slots=2)

    assert (done.read, read()) == (1, {slow.post_id})
    assert CtPost.objects.get(pk=failed.pk).attempts == 0


@pytest.mark.django_db
def test_posts_that_no_provider_was_asked_about_are_not_blamed(
    accounts: list[CtAccount], model: FakeModel
) -> None:
    paused, other = make.post(accounts[0]), make.post(accounts[1])
    model.errors.append(NotCalled("paused after 5 failures in a row"))
    done = classify(POLICY)

    assert (done.read, CtPost.objects.get(pk=other.pk).state) == (1, "classified")
    assert CtPost.objects.get(pk=paused.pk).attempts == 0


@pytest.mark.django_db(transaction=True)
def test_a_batch_whose_slot_this_pass_has_itself_is_asked_again_in_this_pass(
    accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    for account in accounts[:3]:
        make.post(account)
    one_slot, refused = threading.Lock(), threading.Event()

    def slots(_: list[str]) -> None:
        if not one_slot.acquire(blocking=False):
            refused.set()
            raise SlotsTaken("all 1 slots are taken")
        try:
            assert refused.wait(SECONDS)
        finally:
            one_slot.release()

    done = reads(monkeypatch, Model(slots), slots=2)

    assert (done.read, done.failed) == (3, {})


@pytest.mark.django_db(transaction=True)
def test_slots_that_others_have_end_the_pass_as_an_outage_does(
    accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    for account in accounts:
        make.post(account)

    def taken(_: list[str]) -> None:
        raise SlotsTaken("all 1 slots are taken")

    done = reads(monkeypatch, Model(taken), slots=1)

    assert (done.read, sum(done.failed.values())) == (0, 1)
    assert CtPost.objects.filter(outcome="unread:slotstaken").count() == stage.PROVIDER_FAILURES


@pytest.mark.django_db(transaction=True)
def test_after_a_wrong_setting_no_call_is_started_and_answers_in_flight_are_stored(
    accounts: list[CtAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, good, *_ = [make.post(account) for account in accounts]
    both = threading.Barrier(2)
    asked: list[str] = []

    def ask(ids: list[str]) -> None:
        asked.extend(ids)
        if ids in ([wrong.post_id], [good.post_id]):
            both.wait(SECONDS)
        if ids == [wrong.post_id]:
            raise Misconfigured("set OPENAI_API_KEY")
        for _ in range(1000):
            if CtPost.objects.filter(pk=wrong.pk).exclude(last_error="").exists():
                return
            threading.Event().wait(0.01)

    with pytest.raises(Misconfigured):
        reads(monkeypatch, Model(ask), slots=2)

    assert read() == {good.post_id}
    assert sorted(asked) == sorted([wrong.post_id, good.post_id])


# --- proposals -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_as_many_proposals_are_asked_for_at_once_as_there_are_slots_and_none_is_lost(
    time: RecordedClock, woken: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")
    agents = [make.agent() for _ in range(8)]
    post = make.candidate(make.account(*agents))
    together = Together(4)

    def hold(_: list[str]) -> None:
        with together:
            assert together.full.wait(SECONDS)

    model = Model(hold)
    terms = {"confidence": 1, "stop_loss_pct": 6, "take_profit_pct": 18, "leverage": 1, "reasoning": "agreed"}
    model.proposal = Proposal(take=True, **{name: str(value) for name, value in terms.items()})
    monkeypatch.setattr("signals_app.generate.ask", model)
    rules = policy().generate.model_copy(update={"proposer": "model"})
    done = generate(rules, concurrency=lambda: 4)

    assert together.most == 4
    assert (done.considered, done.signals) == (8, 8)
    assert sorted(Signal.objects.values_list("agent", flat=True)) == [agent.pk for agent in agents]
    assert CtPost.objects.get(pk=post.pk).processed_for_signals
    assert "trading.tasks.execute" in woken
