"""The leaderboard of accounts and the record of one: the same to every user, and plain where data are missing."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from maxxit.core import clock
from maxxit.market import candles
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.reports import authors
from maxxit.web import charts
from signals_app.authors import record as records
from signals_app.authors.measure import Call, measure
from signals_app.models import AuthorRecord, CtPost
from signals_app.policy import policy
from tests import builders
from tests.builders import T0, RecordedClock

DAY = timedelta(days=1)


def bars(symbol: str, days: int) -> None:
    """A price that rises by 0.02 % every five minutes, until now."""
    begin = T0 - days * DAY

    def rows() -> Iterator[Bar]:
        for number in range(int(days * DAY / BAR)):
            level = Decimal(repr(round(2000 * 1.0002**number, 6)))
            yield Bar(begin + number * BAR, level, level, level, level, Decimal(1))

    candles.store(symbol, rows())


@pytest.fixture
def world(db: None, time: RecordedClock) -> dict[str, Any]:
    """Thirty days of a rising price; one author right each day, one wrong for three days, one silent."""
    bars("ETH", 30)
    agent = builders.agent(owner=User.objects.create_user("alice"))
    good, bad = builders.account(agent, username="good"), builders.account(username="bad")
    silent = builders.account(username="silent")
    for number in range(25):
        at = T0 - (28 - number) * DAY
        builders.candidate(good, posted_at=at, ingested_at=at, text=f"long ETH {number}")
    for number in range(3):
        at = T0 - (20 - number) * DAY
        builders.candidate(bad, {"ETH": "short"}, posted_at=at, ingested_at=at)
    newest = CtPost.objects.filter(account=bad).order_by("-posted_at").first()
    assert newest is not None
    CtPost.objects.filter(pk=newest.pk).update(deleted_at=clock.now())
    return {"alice": User.objects.get(username="alice"), "good": good, "bad": bad, "silent": silent}


def browser(name: str = "stranger") -> Client:
    person, _ = User.objects.get_or_create(username=name)
    client = Client()
    client.force_login(person)
    return client


def test_update_stores_the_record_that_the_measurement_gives(world: dict[str, Any]) -> None:
    records.update(policy().authors)
    good, bad = (AuthorRecord.objects.get(account=world[name]) for name in ("good", "bad"))
    assert (good.calls, good.hit_rate, bad.calls, bad.hit_rate) == (25, 1.0, 3, 0.0)
    expected = {one.author: one for one in records.stored_records(policy().authors)}["good"]
    assert good.figures == records.as_json(expected)
    assert not AuthorRecord.objects.filter(account=world["silent"]).exists()
    CtPost.objects.filter(account=world["bad"]).update(ingested_at=T0 - timedelta(days=400))
    records.update(policy().authors)
    assert list(AuthorRecord.objects.values_list("account__x_username", flat=True)) == ["good"]


def test_the_outcome_of_a_single_call_is_the_one_that_the_record_counts(world: dict[str, Any]) -> None:
    settings = policy().authors
    posts = CtPost.objects.select_related("account").order_by("?")
    calls = [
        Call(
            post.account.x_username,
            post.post_id,
            token,
            "long" if side == "long" else "short",
            post.ingested_at,
        )
        for post in posts
        for token, side in post.sides.items()
    ]
    series = records.stored_series({"ETH"}, T0 - 90 * DAY, T0)
    whole = {one.author: one for one in measure(calls, series, records.measure_settings(settings))}
    outcomes = records.outcomes_of(calls, authors.SHOWN, settings)
    for horizon in authors.SHOWN:
        for name in ("good", "bad"):
            nets = [
                found[horizon].net_pct
                for call, found in zip(calls, outcomes, strict=True)
                if call.author == name and found and horizon in found
            ]
            figures = whole[name].horizons[horizon]
            assert len(nets) == figures.calls
            assert sum(nets) / len(nets) == pytest.approx(figures.mean.mean)


def test_a_call_without_a_bar_and_a_horizon_that_has_not_ended_are_unknown(
    world: dict[str, Any], time: RecordedClock
) -> None:
    earlier = T0 - timedelta(hours=3)
    builders.candidate(world["silent"], {"SOL": "long"}, posted_at=earlier, ingested_at=earlier)
    builders.candidate(
        world["silent"], posted_at=T0 - timedelta(hours=2), ingested_at=T0 - timedelta(hours=2)
    )
    eth, sol = sorted(authors.author("silent", None).calls, key=lambda call: call.token)
    assert [one.known for one in eth.outcomes] == [True, True, False, False]
    assert {one.exit_by for one in sol.outcomes} == {"no price"}
    builders.candidate(world["silent"], {"BTC": "long"})
    assert {one.exit_by for one in authors.author("silent", None).calls[0].outcomes} == {""}


def test_the_leaderboard_is_the_same_to_every_user_and_sortable(world: dict[str, Any]) -> None:
    records.update(policy().authors)
    shown = browser().get("/accounts?sort=mean").content.decode()
    assert shown.index("@good") < shown.index("@bad") < shown.index("@silent")
    assert "not enough data" in shown
    by_name = [row.name for row in authors.leaderboard(None, "name").items]
    assert by_name == ["bad", "good", "silent"]
    for key in authors.SORTS:
        assert browser().get(f"/accounts?sort={key}").status_code == 200
    first, second = (authors.leaderboard(None, "calls", page, limit=2) for page in (1, 2))
    assert [row.name for row in (*first.items, *second.items)] == ["good", "bad", "silent"]
    for query in ("sort=luck", "page=0", "page=9", "page=x", "colour=red"):
        answer = browser().get(f"/accounts?{query}")
        assert answer.status_code == 422
        assert 'role="alert"' in answer.content.decode()
    followed = {row.name: row.followed for row in authors.leaderboard(world["alice"]).items}
    assert followed == {"good": True, "bad": False, "silent": False}


def test_an_accounts_page_shows_figures_intervals_decay_and_each_call(world: dict[str, Any]) -> None:
    records.update(policy().authors)
    shown = browser().get("/accounts/good").content.decode()
    for text in (
        "Over the benchmark",
        "<svg",
        "7 d",
        "15 m",
        "25 calls in the last 90 days",
        "long ETH 24",
        "target",
    ):
        assert text in shown, text
    assert "too few days" in shown
    page = authors.author("GOOD", None)
    assert (len(page.calls), page.problem) == (authors.CALLS, "")
    older = authors.author("good", None, page.next_before)
    assert [call.text for call in (*page.calls, *older.calls)] == [f"long ETH {n}" for n in range(24, -1, -1)]
    assert older.next_before is None


def test_too_little_data_is_said_plainly_and_deleted_calls_stay(world: dict[str, Any]) -> None:
    assert "is a day old and measured yet" in authors.author("bad", None).problem
    records.update(policy().authors)
    page = authors.author("bad", None)
    assert page.problem.startswith("Not enough data: there are calls on 3 days, and an interval needs 8")
    assert (page.deleted, [call.deleted for call in page.calls]) == (1, [True, False, False])
    shown = browser().get("/accounts/bad").content.decode()
    assert "1 of its calls were deleted; they stay in the record" in shown
    assert (
        "No data: no post of this account was read as a call"
        in browser().get("/accounts/silent").content.decode()
    )
    assert browser().get("/accounts/nobody").status_code == 404


def test_api_and_command_give_the_same_record(world: dict[str, Any]) -> None:
    from maxxit.access.auth import create_key

    records.update(policy().authors)
    headers: dict[str, Any] = {"x-api-key": create_key(world["alice"], "test", ["read"], by="test")}
    answer = Client().get("/api/records/good", headers=headers).json()
    out = StringIO()
    call_command("records", "show", "good", "--json", stdout=out)
    assert json.loads(out.getvalue())["horizons"] == answer["horizons"]
    board = Client().get("/api/records?sort=calls", headers=headers).json()
    out = StringIO()
    call_command("records", "list", "--sort=calls", "--json", stdout=out)
    assert [row["name"] for row in json.loads(out.getvalue())["items"]] == [
        row["name"] for row in board["items"]
    ]
    out = StringIO()
    call_command("records", "list", stdout=out)
    assert "not enough data" in out.getvalue()
    assert Client().get("/api/records?sort=luck", headers=headers).status_code == 422
    assert Client().get("/api/records/nobody", headers=headers).status_code == 404


def test_the_number_of_queries_does_not_grow_with_accounts_and_calls(world: dict[str, Any]) -> None:
    records.update(policy().authors)

    def queries() -> int:
        with CaptureQueriesContext(connection) as done:
            authors.leaderboard(None)
            authors.author("good", None)
        return len(done.captured_queries)

    few = queries()
    for number in range(10):
        builders.account(username=f"more{number}")
        builders.candidate(world["good"])
    assert queries() == few <= 10


def test_a_decay_curve_stays_within_its_frame() -> None:
    one = authors.Interval(1.5, 0.2, 2.8, 20)
    few = authors.Interval(-4.0, None, None, 3)
    horizons = [
        authors.Horizon(minutes, authors.horizon_text(minutes), 9, figure, figure, figure)
        for minutes, figure in ((15, one), (60, one), (10_080, few))
    ]
    plot = charts.decay(horizons)
    assert plot is not None
    assert [point.label for point in plot.points] == ["15 m", "1 h", "7 d"]
    for point in plot.points:
        assert plot.left <= point.x <= plot.right
        assert all(0 <= y <= plot.height for y in (point.y, point.low, point.high) if y is not None)
    assert charts.decay(horizons[:1]) is None
