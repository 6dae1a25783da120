"""The page /performance: whose figures it shows, short histories, empty states, charts within their frames."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D
from itertools import pairwise

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from maxxit.core import clock
from maxxit.web import performance_charts as charts
from positions.models import BooksCheck, EquityPoint
from positions.performance import identity, points
from tests import builders as make
from tests.surface.conftest import World

T0 = datetime(2026, 3, 2, tzinfo=UTC)


def page(world: World, who: User, query: str = "") -> str:
    answer = world.logged_in(who).get(f"/performance{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_customer_sees_their_own_figures_and_staff_the_platform(world: World) -> None:
    points.take_points()
    mine = page(world, world.alice)
    for words in (
        "+38.16",
        "your deployments",
        "take_profit",
        f"@{world.of_alice.post.account.x_username}",
        "<svg",
    ):
        assert words in mine
    assert world.of_bob.agent.name not in mine
    everything = page(world, world.staff)
    for words in (
        "+76.32",
        "all deployments",
        world.of_alice.agent.name,
        world.of_bob.agent.name,
        "Models and posts",
    ):
        assert words in everything
    assert "Models and posts" not in mine
    one = page(world, world.staff, f"?deployment={world.of_bob.deployment.pk}")
    assert "+38.16" in one
    assert f"/api/trades.csv?deployment={world.of_bob.deployment.pk}" in one


def test_another_customers_deployment_and_an_unknown_period_are_not_found(world: World) -> None:
    browser = world.logged_in(world.alice)
    for query in (
        f"deployment={world.of_bob.deployment.pk}",
        "deployment=x",
        "deployment=0",
        "period=2d",
        "deployment=" + "9" * 30,
    ):
        assert browser.get(f"/performance?{query}").status_code == 404, query
    assert browser.get(f"/performance?deployment={world.of_alice.deployment.pk}&period=7d").status_code == 200
    assert Client().get("/performance").status_code == 302


def test_a_short_history_shows_how_many_days_are_missing_and_no_absurd_rate(world: World) -> None:
    points.take_points()
    text = page(world, world.alice)
    assert text.count("0 of 30 days") == 2  # APR; Sharpe, Sortino, Calmar
    assert not re.findall(r"\d{4,} %", text)


def test_positions_and_ledger_agree_as_of_the_newest_comparison(world: World) -> None:
    identity.check_books()  # builders write positions without their bookings
    BooksCheck.objects.update(wrong=[world.of_bob.deployment.pk])
    assert "agreed to the USDC base unit at" in page(world, world.alice)
    bobs = page(world, world.bob)
    assert f"ledger of deployment {world.of_bob.deployment.pk} differed at" in bobs
    assert "agreed to the USDC" not in bobs
    assert "differed at" in page(world, world.staff)
    BooksCheck.objects.all().delete()
    assert "ledger" not in page(world, world.alice)
    assert "base unit" not in page(world, User.objects.create_user("new"))


def test_a_newcomer_learns_what_to_do(world: World) -> None:
    text = page(world, User.objects.create_user("new"))
    assert 'You have no deployment yet. <a href="/start">Start an agent on paper</a>' in text
    assert "No trade has closed" in text
    assert "<svg" not in text


def test_a_deposit_is_a_marker_and_turns_no_loss_green(world: World) -> None:
    deployment, now = world.of_alice.deployment, clock.now()
    rows = [(10, "1000", "1000"), (6, "900", "1000"), (4, "5900", "6000"), (2, "5850", "6000")]
    EquityPoint.objects.bulk_create(
        EquityPoint(deployment=deployment, at=now - timedelta(hours=h), equity=D(e), deposits=D(d))
        for h, e, d in rows
    )
    text = page(world, world.alice, "?period=1d")
    assert 'class="marker deposit"' in text
    assert "deposit 5,000.00 USD" in text


def test_the_page_runs_under_the_strict_policy_and_in_a_bounded_number_of_queries(world: World) -> None:
    points.take_points()
    browser = world.logged_in(world.alice)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = browser.get("/performance")
        counts.append(len(queries))
        for _ in range(5):
            make.position(world.of_alice.deployment)
    assert counts[0] == counts[1] <= 40, counts
    text = answer.content.decode()
    assert "style=" not in text
    assert "<style" not in text
    assert not re.findall(r"\son\w+=", text)
    assert set(re.findall(r"<script[^>]*>(.)", text)) <= {"<"}


# -- charts


def inside(chart: charts.Chart | None) -> charts.Chart:
    assert chart is not None
    for points_text in (chart.line, chart.area):
        for x, y in (map(float, pair.split(",")) for pair in points_text.split()):
            assert chart.left <= x <= chart.right
            assert 0 <= y <= chart.bottom
    for bar in chart.bars:
        assert chart.left <= bar.x <= bar.x + bar.width <= chart.right
        assert 0 <= bar.y <= bar.y + bar.height <= chart.bottom
    for tick in chart.rows:
        assert 0 <= tick.place <= chart.bottom
    return chart


def test_lines_stay_within_their_frame_and_in_order_of_time() -> None:
    times = [T0 + timedelta(hours=hour) for hour in range(50)]
    values = [1000.0 + (hour * 37) % 11 for hour in range(50)]
    for chart in (
        charts.index_chart(times, values),
        charts.underwater_chart(times, [-(hour % 7) for hour in range(50)]),
        charts.equity_chart(times, [D(value) for value in values], [D(1000), *[D(0)] * 48, D(-5)], D(-1)),
    ):
        corners = [float(pair.split(",")[0]) for pair in inside(chart).line.split()]
        assert all(a <= b for a, b in pairwise(corners))


def test_a_flat_line_and_a_single_point() -> None:
    assert inside(charts.index_chart([T0, T0], [1.0, 1.0])).tone == ""
    assert inside(charts.equity_chart([T0, T0], [D(5), D(5)], [D(5), D(0)], D(0))).tone == ""
    assert charts.index_chart([T0], [1.0]) is None
    assert charts.underwater_chart([], []) is None


def test_the_colour_of_the_equity_is_that_of_the_pnl() -> None:
    times, flows = [T0, T0 + timedelta(hours=1)], [D(100), D(900)]
    chart = inside(charts.equity_chart(times, [D(100), D(990)], flows, D(-10)))
    assert chart.tone == "down"
    [marker] = chart.markers
    assert (marker.kind, marker.text) == ("deposit", "deposit 900.00 USD, 2026-03-02 01:00 UTC")


@pytest.mark.parametrize("values", [[5, -3, 0], [-1], [2, 3], [0]])
def test_bars_stand_on_zero(values: list[int]) -> None:
    days = [(date(2026, 3, 1 + number), D(value)) for number, value in enumerate(values)]
    chart = inside(charts.daily_chart(days))
    assert [bar.tone for bar in chart.bars] == ["up" if v > 0 else "down" if v < 0 else "" for v in values]
    assert charts.daily_chart([]) is None


def test_the_distribution_counts_every_trade() -> None:
    results = [D(value) for value in (-100, -99, -1, 0, 1, 50, 100)]
    chart = inside(charts.distribution_chart(results))
    counts = [int(bar.text.split()[0]) for bar in chart.bars]
    assert (len(counts), sum(counts)) == (charts.BINS, len(results))
    assert counts[charts.BINS // 2] == 3
    assert {bar.tone for bar in chart.bars[: charts.BINS // 2]} == {"down"}
    assert inside(charts.distribution_chart([D(0)])).bars
    assert charts.distribution_chart([]) is None
