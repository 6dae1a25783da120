"""Posts in which a trained reader expects no call reach no paid model; a share of them shows what that costs."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models import CtAccount
from maxxit.events.models import Event
from maxxit.llm.policy import policy as llm_policy
from maxxit.reports import checks
from signals_app import drift
from signals_app.classify import classify
from signals_app.models import CtPost
from signals_app.policy import Classify, Screening
from signals_app.policy import policy as signals_policy
from signals_app.reading.rules.read import LexicalReading
from signals_app.reading.schema import Post
from signals_app.reading.trained.model import TrainedReader
from signals_app.screening import audit as audits
from signals_app.screening.audit import Audit, audit
from signals_app.screening.screen import judged, screen
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeModel

D = Decimal
CALL = "Just bought more $ETH here, target 900. Long and holding."
TALK = "The new documentary about whales in the Pacific is worth a quiet evening."
ON = Screening(reader="reader-2", least_chance=D("0.02"), audit_share=D("0.000001"))


@pytest.fixture
def author(db: None, time: RecordedClock) -> CtAccount:
    return make.account(username="author")


def run(rules: Screening) -> int:
    """One pass; how many posts were screened out."""
    return classify(Classify(batch_size=10, max_attempts=3, screening=rules)).screened


def switched_on(monkeypatch: pytest.MonkeyPatch, rules: Screening) -> None:
    """The audit and the health check read config/signals.yaml."""
    found = signals_policy()
    changed = found.model_copy(update={"classify": found.classify.model_copy(update={"screening": rules})})
    monkeypatch.setattr(audits, "policy", lambda: changed)


def test_the_model_is_asked_where_a_call_is_expected_alone(author: CtAccount, model: FakeModel) -> None:
    call, talk = make.post(author, text=CALL), make.post(author, text=TALK)
    assert run(ON) == 1
    assert model.asked == [[call.post_id]]
    talk.refresh_from_db()
    assert (talk.state, talk.outcome) == ("prefiltered", "prefiltered:no_call_expected")
    assert talk.is_signal_candidate is False
    assert run(ON) == 0, "no post is due any more"


def test_no_model_is_asked_where_no_call_is_expected(author: CtAccount, model: FakeModel) -> None:
    for _ in range(3):
        make.post(author, text=TALK)
    assert run(ON) == 3
    assert model.asked == []


def test_it_is_off_unless_a_reader_is_named(author: CtAccount, model: FakeModel) -> None:
    assert signals_policy().classify.screening.reader == ""
    make.post(author, text=TALK)
    assert run(Screening()) == 0
    assert len(model.asked) == 1


def test_models_that_cost_nothing_read_every_post(monkeypatch: pytest.MonkeyPatch) -> None:
    found = llm_policy()
    chain = found.purpose("classify").model_copy(update={"chain": ("rules",)})
    local = found.model_copy(update={"purposes": {**found.purposes, "classify": chain}})
    monkeypatch.setattr("signals_app.screening.screen.llm_policy", lambda: local)
    assert screen([], {"ETH": ["eth"]}, ON) == {}


def test_a_drawn_post_is_read_and_what_it_was_is_recorded(author: CtAccount, model: FakeModel) -> None:
    """The model finds a call in one that the reader expected none in: the audit counts it."""
    lost, talk, call = (make.post(author, text=text) for text in (f"{TALK} eth", TALK, CALL))
    model.reads(lost.post_id, "ETH")
    model.reads(call.post_id, "ETH")
    strict = ON.model_copy(update={"audit_share": D(1), "least_chance": D("0.5")})
    assert run(strict) == 0
    assert model.asked == [[lost.post_id, talk.post_id, call.post_id]]
    events = Event.objects.filter(name="post.screening_audited").order_by("id")
    assert [(one.subject, one.data["call"]) for one in events] == [
        (f"signals_app.ctpost/{lost.pk}", True),
        (f"signals_app.ctpost/{talk.pk}", False),
    ]
    assert all(D(one.data["chance"]) < D("0.5") for one in events)


def test_a_post_that_was_edited_meanwhile_is_not_rejected(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = make.post(author, text=TALK)

    def edited(*given: object) -> object:
        CtPost.objects.filter(pk=post.pk).update(text=CALL)
        return screen(*given)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr("signals_app.classify.screen", edited)
    assert run(ON) == 0
    post.refresh_from_db()
    assert post.state == "new"


def test_a_post_that_the_reader_fails_at_is_read_by_the_model_and_stops_no_other(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange, talk = make.post(author, text=f"{TALK} strange"), make.post(author, text=TALK)
    read = TrainedReader.read

    def fails(self: TrainedReader, posts: Sequence[Post]) -> list[LexicalReading]:
        if posts[0].text.endswith("strange"):
            raise RecursionError("as deep as the text")
        return read(self, posts)

    monkeypatch.setattr(TrainedReader, "read", fails)
    assert run(ON) == 1
    assert model.asked == [[strange.post_id]]
    talk.refresh_from_db()
    assert talk.outcome == "prefiltered:no_call_expected"


@given(st.text(min_size=1, max_size=20), st.decimals(0, 1, places=4))
def test_a_post_is_judged_alike_each_time(post_id: str, chance: Decimal) -> None:
    found = judged(post_id, chance, ON)
    assert found == judged(post_id, chance, ON)
    assert found.rejected == (not found.expected and not found.drawn)
    assert judged(post_id, chance, ON.model_copy(update={"audit_share": D(1)})).rejected is False


def test_about_the_stated_share_is_drawn() -> None:
    rules = ON.model_copy(update={"audit_share": D("0.05")})
    drawn = sum(judged(str(number), D(0), rules).drawn for number in range(20_000))
    assert 880 < drawn < 1_120  # 1,000 on average; four standard deviations


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 500), st.data())
def test_the_estimate_lies_in_its_interval(
    rejected: int, calls: int, audited: int, data: st.DataObject
) -> None:
    found = Audit(28, rejected, calls, audited, data.draw(st.integers(0, min(audited, calls))))
    assert found.lost is not None
    middle, low, high = found.lost
    assert 0 <= low <= middle <= high <= 1
    if not found.calls_audited:
        assert low == middle == 0


def test_lost_calls_are_those_of_the_audited_share_among_the_rejected() -> None:
    """4 of 200 audited posts are calls, so 76 of 3,800 rejected ones are, beside 304 that were found."""
    found = Audit(28, 3_800, 304, 200, 4)
    assert found.lost is not None
    assert found.lost[0] == D("0.2")
    assert Audit(28, 3_800, 304, 0, 0).lost is None


@pytest.mark.django_db
def test_staff_is_alerted_where_certainly_too_many_calls_are_lost(
    author: CtAccount, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "drifted", lambda: [])
    monkeypatch.setattr(checks, "_drifted", [])
    assert audit() is None, "it is off"
    rules = ON.model_copy(update={"audit_share": D("0.5"), "least_chance": D("0.5")})
    switched_on(monkeypatch, rules)
    for _ in range(40):  # each a call that the reader lets pass for none
        model.reads(make.post(author, text=f"{TALK} eth").post_id, "ETH")
    for _ in range(4):
        run(rules)
    found = audit()
    assert found is not None
    assert (found.rejected + found.audited, found.calls, found.calls_audited) == (
        40,
        found.audited,
        found.audited,
    )
    assert found.audited > 5
    check = checks.reading()
    assert not check.ok
    assert "the screening loses" in check.detail
    assert "least_chance" in check.detail
