"""Previews: what is stored is played as it was known then, in another database; one a user, none stays running."""

import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from agents.models import CtAccount
from maxxit.core import clock
from maxxit.core.config import ROOT
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.events.models import Event
from maxxit.market import candles
from maxxit.market.feeds.file import BAR, Bar
from maxxit.replay import previews, stored
from maxxit.replay.models import Preview
from maxxit.replay.states import PreviewState
from maxxit.reports.preview_policy import policy
from signals_app import stated as stated_calls
from signals_app.models import CtPost, ImpactFactorHistory, SocialMetric
from signals_app.sources.base import Cursor, Engagement, StatedCall
from tests import builders as make
from tests.builders import RecordedClock
from tests.events.writers import another_connection
from trading.models import Order

T0 = make.T0
DAYS = 2


@pytest.fixture
def carol() -> User:
    return User.objects.create_user("carol")


def record_prices(
    symbol: str = "ETH", days: int = DAYS + 7, until: datetime = T0, rise: float = 0.0001
) -> None:
    """Store five-minute bars that rise by `rise` each, up to `until`."""
    first = until - timedelta(days=days)
    prices = [D(f"{2000 * (1 + rise) ** number:.2f}") for number in range(int(timedelta(days=days) / BAR))]
    candles.store(
        symbol,
        (Bar(first + number * BAR, price, price, price, price, D(10)) for number, price in enumerate(prices)),
    )


def record_post(username: str, text: str, hours_ago: float, **fields: Any) -> CtPost:
    """Store a post that arrived two minutes after it was written."""
    account, _ = CtAccount.objects.get_or_create(x_username=username, defaults={"source": "x"})
    at = T0 - timedelta(hours=hours_ago)
    return make.post(account, text, posted_at=at, ingested_at=at + timedelta(minutes=2), **fields)


def test_a_post_counts_from_its_arrival_with_its_edit_and_its_deletion(time: RecordedClock) -> None:
    """Knowledge of later hours, a text included, never reaches a pass before them."""
    row = stored._Row(
        "1", "satsumi", "long $ETH", T0, T0 + timedelta(minutes=7),
        T0 + timedelta(hours=1), "short $ETH", T0 + timedelta(hours=2),
    )  # fmt: skip
    arrivals = stored._arrivals(row, T0 + timedelta(days=1))
    source = stored.StoredPosts(arrivals)
    seen = []
    for minutes in (5, 10, 65, 125, 200):
        with clock.frozen(T0 + timedelta(minutes=minutes)):
            seen.append([(post.text, post.deleted) for post in source.fetch("Satsumi", Cursor())])
    assert seen == [[], [("long $ETH", False)], [("short $ETH", False)], [("", True)], []]


def test_a_text_that_was_replaced_before_it_was_read_counts_from_the_edit() -> None:
    edited = T0 + timedelta(hours=1)
    [arrival] = stored._arrivals(stored._Row("1", "a", "new", T0, T0, edited), T0 + timedelta(days=1))
    assert (arrival.at, arrival.post.text) == (edited, "new")


@pytest.mark.parametrize("minute", range(0, 11))
def test_an_arrival_is_ingested_at_the_end_of_its_bar(minute: int) -> None:
    moment = stored.next_bar(T0 + timedelta(minutes=minute))
    assert moment == T0 + timedelta(minutes=-(-minute // 5) * 5)


@pytest.mark.django_db
def test_what_is_stored_is_read_as_it_was_known(time: RecordedClock) -> None:
    record_prices(days=3)
    post = record_post("Satsumi", "long $ETH", 20)
    record_post("other", "long $ETH", 20)
    for day, factor in ((-2, "0.7"), (0, "0.9"), (1, "0.2")):
        at = T0 - timedelta(hours=10) + timedelta(days=day)
        ImpactFactorHistory.objects.create(
            account=post.account, day=at.date(), at=at, impact_factor=D(factor), calls=1, mean_score=0
        )
    days = stored.read(["satsumi"], ["ETH", "BTC"], T0 - timedelta(days=1), T0, most=10)

    assert [(account.name, account.impact_factor) for account in days.accounts] == [("Satsumi", D("0.7"))]
    assert [arrival.at for arrival in days.arrivals] == [post.ingested_at]
    assert [(name, factor) for _, name, factor in days.factors] == [("Satsumi", D("0.9"))]
    assert (min(days.closes), max(days.closes), len(days.closes)) == (days.start, days.end, 289)
    due = days.due()
    assert "signals_app.tasks.ingest" in due[stored.next_bar(post.ingested_at)]
    assert stored.AUTHORS in due[stored.next_bar(days.factors[0][0])]


@pytest.mark.django_db
def test_reactions_and_stated_calls_are_played_as_they_were_delivered(time: RecordedClock) -> None:
    record_prices(days=3)
    figures = {"likes": 7, "reposts": None, "replies": 0, "quotes": 2, "link": "https://x.com/i/status/1"}
    record_post("satsumi", "long $ETH", 20, **figures)
    call = {"reasoning": stated_calls.REASONING, "sides": {"ETH": "short"}, "confidence": D("0.7")}
    record_post("satsumi", "short $ETH", 19, state="classified", is_signal_candidate=True, **call)
    days = stored.read(["satsumi"], ["ETH"], T0 - timedelta(days=1), T0, most=10)
    first, second = (arrival.post for arrival in days.arrivals)

    assert (first.engagement, first.link) == (Engagement(7, None, 0, 2), "https://x.com/i/status/1")
    assert (first.call, second.call) == (None, StatedCall("ETH", "short", D("0.7")))


@pytest.mark.django_db(transaction=True)
def test_social_metrics_are_copied_from_a_day_before_the_span_on() -> None:
    rows = [("ETH", -40), ("ETH", -26), ("ETH", 0), ("BTC", 0), ("ETH", 47), ("ETH", 48)]
    values = {"galaxy_score": 60, "sentiment_pct": 70, "price_change_pct": 1, "alt_rank": 2}
    for symbol, hours in rows:
        at = T0 + timedelta(hours=hours)
        SocialMetric.objects.create(symbol=symbol, at=at, social_volume=100 + hours, **values)
    with another_connection() as live, transaction.atomic():
        SocialMetric.objects.all().delete()  # here alone: the other connection still has them
        stored.copy_social(live, ["ETH"], T0, T0 + timedelta(days=2))
        copied = SocialMetric.objects.order_by("at").values_list("symbol", "social_volume")
        assert list(copied) == [("ETH", 74), ("ETH", 100), ("ETH", 147)]


@pytest.mark.django_db
def test_more_posts_than_a_preview_takes_are_refused(time: RecordedClock) -> None:
    record_prices(days=2)
    for number in range(3):
        record_post("satsumi", f"long $ETH {number}", 20 - number)
    with pytest.raises(Rejected, match="more than 2 posts"):
        stored.read(["satsumi"], ["ETH"], T0 - timedelta(days=1), T0, most=2)


# -- requests


@pytest.fixture
def recorded(time: RecordedClock, db: None) -> None:
    """A post of satsumi, and nothing of anybody else."""
    record_post("satsumi", "long $ETH", 20)


def ask(owner: User, capital: str = "1000", **given: Any) -> Preview:
    return previews.request(owner, previews.plan_of(["@satsumi"], D(capital), **given), by=str(owner))


def finish(preview: Preview) -> None:
    Preview.objects.filter(pk=preview.pk).update(state="done", result={"trades": 3}, progress=1)


@pytest.mark.parametrize(
    ("given", "field", "text"),
    [
        ({"accounts": []}, "accounts", "choose at least one"),
        (
            {"accounts": ["nobody_here", "@also_not"]},
            "accounts",
            "no recorded posts of @nobody_here, @also_not",
        ),
        ({"accounts": [f"a{number}" for number in range(30)]}, "accounts", "takes 20 at most"),
        ({"days": 91}, "days", "1 to 90 days, not 91"),
        ({"capital": D(20)}, "capital", "this cannot work"),
        ({"capital": D("NaN")}, "capital", "not NaN"),
        ({"sizing_preset": "bold"}, "preset", "no preset"),
    ],
)
def test_what_cannot_be_played_is_refused_by_field(recorded: None, given: Any, field: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        previews.plan_of(**({"accounts": ["satsumi"], "capital": D(1000)} | given))
    assert text in refused.value.problems[field]


def test_the_same_inputs_share_one_computation_and_a_new_choice_replaces_the_old(
    recorded: None, carol: User, woken: set[str]
) -> None:
    first = ask(carol)
    assert ask(carol).pk == first.pk
    other = ask(carol, "2000")
    first.refresh_from_db()
    assert (first.state, other.state) == ("canceled", "queued")

    finish(other)
    again = ask(User.objects.create_user("dora"), "2000")
    assert (again.state, again.result, again.copied) == ("done", {"trades": 3}, True)
    make.post(CtAccount.objects.get(), "short $ETH", posted_at=T0 - timedelta(hours=2))
    assert ask(carol, "2000").state == "queued"  # there is more to play


def test_a_user_has_so_many_computed_a_day(
    recorded: None, carol: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "policy", lambda: policy().model_copy(update={"per_user_per_day": 2}))
    for capital in ("1000", "2000"):
        finish(ask(carol, capital))
    with pytest.raises(Rejected, match="2 previews were computed"):
        ask(carol, "3000")
    assert ask(carol, "1000").state == "done"


# -- the sweep


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any) -> Any:
    """Run the sweep and return the previews whose process it starts."""
    begun: list[int] = []
    monkeypatch.setattr(previews, "start_process", lambda preview: begun.append(preview.pk))

    def sweep() -> list[int]:
        begun.clear()
        with django_capture_on_commit_callbacks(execute=True):
            previews.start_due()
        return list(begun)

    return sweep


def test_one_is_computed_at_a_time_and_a_dead_process_leaves_none_running(
    recorded: None, carol: User, time: RecordedClock, started: Any
) -> None:
    first, second = ask(carol), ask(User.objects.create_user("dora"), "2000")
    assert previews.ahead_of([first, second]) == {first.pk: 0, second.pk: 1}
    assert started() == [first.pk]
    assert started() == []

    time.move(seconds=policy().silent_seconds + 1)
    assert started() == [first.pk]
    time.move(seconds=policy().silent_seconds + 1)
    assert started() == [second.pk]
    first.refresh_from_db()
    assert (first.state, first.attempts) == ("failed", policy().attempts)
    assert "try again" in first.error


def test_a_sign_of_life_keeps_a_preview_running(
    recorded: None, carol: User, time: RecordedClock, started: Any
) -> None:
    ask(carol)
    started()
    for _ in range(4):
        time.move(seconds=policy().silent_seconds - 1)
        Preview.objects.update(seen_at=clock.now())
        assert started() == []
    assert Preview.objects.get().state == "running"


def test_a_cancel_that_meets_the_sweep_cancels_what_it_started(
    recorded: None, carol: User, started: Any
) -> None:
    preview = ask(carol)
    seen_before = Preview.objects.get(pk=preview.pk)
    started()  # between the read and the cancel
    assert previews.cancel(seen_before, by="carol") is True
    assert Preview.objects.get().state == "canceled"


def test_a_request_that_meets_the_sweep_replaces_what_it_started(
    recorded: None, carol: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(carol)
    cancel = previews.cancel

    def after_the_sweep(preview: Preview, *, by: str) -> bool:
        Preview.objects.filter(pk=preview.pk).update(**{"state": "running", "seen_at": clock.now()})
        return cancel(preview, by=by)

    monkeypatch.setattr(previews, "cancel", after_the_sweep)
    second = ask(carol, "2000")
    first.refresh_from_db()
    assert (first.state, second.state) == ("canceled", "queued")


def test_the_same_request_of_a_program_keeps_what_was_typed_on_the_page(recorded: None, carol: User) -> None:
    plan = previews.plan_of(["satsumi"], D(1000))
    first = previews.request(carol, plan, by="carol", form={"others": "dora"})
    assert previews.request(carol, plan, by="carol").pk == first.pk
    assert Preview.objects.get().form == {"others": "dora"}
    previews.request(carol, plan, by="carol", form={"others": "@dora"})
    assert Preview.objects.get().form == {"others": "@dora"}


def test_the_time_that_is_left_is_estimated(
    recorded: None, carol: User, time: RecordedClock, started: Any
) -> None:
    preview = ask(carol)
    assert previews.seconds_left(preview) is None
    started()
    time.move(seconds=30)
    Preview.objects.update(progress=0.25)
    preview.refresh_from_db()
    assert previews.seconds_left(preview) == 90
    finish(preview)
    Preview.objects.update(finished_at=clock.now())
    assert previews.seconds_left(Preview.objects.get(pk=preview.pk)) is None
    other = ask(carol, "2000")
    assert previews.seconds_left(other) == 30
    assert previews.seconds_left(other, ahead=1) == 60


def test_a_list_counts_those_ahead_in_one_statement(recorded: None, django_assert_num_queries: Any) -> None:
    rows = [ask(User.objects.create_user(f"user{number}"), str(1000 + number)) for number in range(4)]
    with django_assert_num_queries(1):
        assert [row["ahead"] for row in previews.previews_data(rows)] == [0, 1, 2, 3]


def test_a_canceled_preview_is_not_started_and_keeps_its_state(
    recorded: None, carol: User, started: Any
) -> None:
    preview = ask(carol)
    assert previews.cancel(preview, by="carol") is True
    assert previews.cancel(preview, by="carol") is False
    assert started() == []


def test_old_previews_are_deleted(recorded: None, carol: User, time: RecordedClock, started: Any) -> None:
    finish(ask(carol))
    time.move(days=policy().keep_days + 1)
    started()
    assert Preview.objects.count() == 0


# -- the process


@pytest.mark.django_db(transaction=True)
@pytest.mark.limit(300)
def test_a_preview_in_its_own_process_stores_a_result_and_changes_no_live_row(
    worker_environ: dict[str, str], carol: User
) -> None:
    now = clock.bucket(clock.now(), timedelta(hours=1))
    record_prices(until=now)
    record_prices("BTC", until=now, rise=0.0)
    account = CtAccount.objects.create(x_username="satsumi", source="x")
    for number, text in enumerate(("Going long $ETH here, buying", "gm", "Buying $ETH, bullish")):
        at = now - timedelta(hours=30 - 10 * number)
        make.post(account, text, posted_at=at, ingested_at=at + timedelta(minutes=2))
    preview = previews.request(
        carol, previews.plan_of(["@Satsumi", "nobody_here"], D(1000), days=DAYS), by="carol"
    )
    Preview.objects.update(state="running", attempts=1, seen_at=now - timedelta(days=1))
    before = (Event.objects.count(), Order.objects.count(), User.objects.count())

    command = [sys.executable, "manage.py", "preview", "--run", str(preview.pk), "--attempt", "1"]
    done = subprocess.run(command, cwd=ROOT, env=worker_environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    preview.refresh_from_db()
    assert (preview.state, preview.error) == (PreviewState.DONE, "")
    assert preview.seen_at != now - timedelta(days=1)  # it gave signs of life
    result: Any = preview.result
    assert (result["posts"], result["calls"], result["signals"]) == (3, 2, 2)
    assert (result["trades"], result["open"]) == (0, 1)
    assert [(row["reason"], row["count"]) for row in result["blocked"]] == [("position_exists", 1)]
    assert [(row["name"], row["posts"], row["calls"]) for row in result["by_account"]] == [
        ("satsumi", 3, 2), ("nobody_here", 0, 0),
    ]  # fmt: skip
    assert "There are no recorded posts of @nobody_here in this time." in result["notes"]
    assert D(result["equity"]) - D(result["capital"]) == D(result["pnl"]) == D(result["pnl_open"]) > 0
    assert len(result["curve"]) > 10
    after = (Event.objects.count() - 1, Order.objects.count(), User.objects.count())
    assert after == before  # one event: preview.done
    assert CtPost.objects.filter(state="new").count() == 3
