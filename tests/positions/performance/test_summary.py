"""The daily summary: what closed, what is open, and the change of equity without deposits."""

from datetime import date, timedelta
from decimal import Decimal as D

import pytest
from django.db import OperationalError

from maxxit.core import clock
from maxxit.events.models import Event
from positions import health
from positions.models import DailySummary, PnlSnapshot
from positions.performance import points, summary
from positions.tasks import CATCH_UP, snapshot_pass
from tests import builders as make
from tests.fakes import statement_timeout
from tests.positions.performance.test_points import paid
from tests.positions.test_book import again, entered, fills, leaving
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader

DAY = date(2026, 3, 2)


def test_a_day_is_what_closed_what_is_open_and_the_change_of_equity(trader: Trader) -> None:
    assert clock.now().date() == DAY
    points.take_points()
    lost = entered(trader)
    fills(leaving(trader, lost, "1800"), "0.4", usd="1800")
    again(lost)  # 720 - 800 - 1.2
    make.price("ETH", "2000")
    entered(trader)  # 800, fees 0.7
    paid(trader, "500")
    make.price("ETH", "2100")

    total, only = summary.save_summary(DAY)
    assert total.deployment_id is None
    assert only.deployment_id == trader.deployment.pk
    assert (only.realized_pnl_usd, only.unrealized_pnl_usd) == (D("-81.2"), D(40))
    assert (only.total_pnl_usd, only.day_pnl_usd) == (D("-41.2"), D("-41.9") - 0)
    assert (only.num_trades, only.win_rate, only.best_symbol, only.worst_symbol) == (1, 0, "ETH", "ETH")
    assert (only.equity_usd, only.deposits_usd) == (D(10_500) - D("41.9"), D(10_500))
    assert [getattr(total, name) for name in summary.AMOUNTS] == [
        getattr(only, name) for name in summary.AMOUNTS
    ]


def test_days_add_up_and_each_ends_once(trader: Trader) -> None:
    entered(trader)
    summary.save_summary(DAY)
    make.price("ETH", "2200")
    trader.time.move(hours=24)
    for _ in range(2):
        summary.end_day(DAY)
        summary.end_day(date(2026, 3, 3))

    rows = DailySummary.objects.filter(deployment=None).order_by("report_date")
    assert [row.report_date for row in rows] == [DAY, date(2026, 3, 3)]
    assert sum(row.day_pnl_usd for row in rows) == D(80) - D("0.7")
    events = Event.objects.filter(name="PNL_DAILY_SUMMARY").order_by("pk")
    assert [event.data["report_date"] for event in events] == ["2026-03-02", "2026-03-03"]


def test_the_nightly_pass_ends_the_day_before(trader: Trader) -> None:
    points.take_points()
    trader.time.move(hours=24)

    snapshot_pass()
    assert DailySummary.objects.get(deployment=None).report_date == DAY


def ended() -> list[str]:
    """The days whose end was recorded, in order."""
    events = Event.objects.filter(name="PNL_DAILY_SUMMARY").order_by("pk")
    return [event.data["report_date"] for event in events]


def test_days_that_were_missed_are_made_up_once_each(trader: Trader) -> None:
    points.take_points()
    trader.time.move(hours=24)
    snapshot_pass()
    assert ended() == ["2026-03-02"]
    make.price("ETH", "2000")
    entered(trader)  # 800, fees 0.7
    points.take_points()

    trader.time.move(hours=24 * 3 + 9)  # nothing ran at three midnights
    make.price("ETH", "2500")
    for _ in range(2):
        snapshot_pass()
        assert ended() == ["2026-03-02", "2026-03-03", "2026-03-04", "2026-03-05"]

    rows = DailySummary.objects.filter(deployment=None).order_by("report_date")
    assert [row.day_pnl_usd for row in rows] == [0, D("-0.7"), 0, 0]
    assert [row.equity_usd for row in rows] == [D(10_000), *[D("9999.3")] * 3]


def test_a_made_up_snapshot_has_the_equity_of_its_day_and_hides_no_loss_of_today(trader: Trader) -> None:
    make.price("ETH", "2000")
    entered(trader)
    points.take_points()
    trader.time.move(hours=24 + 9)  # the midnight in between was missed
    make.price("ETH", "1000")  # a loss of today

    snapshot_pass()
    row = PnlSnapshot.objects.get()
    assert (row.day, row.equity, row.deposits) == (DAY, D("9999.3"), D(10_000))
    assert row.unrealised_pnl == D("-0.7")
    figures: health.Figures = {}
    health._figures(figures, clock.now())
    assert health.AccountHealth("", **figures[trader.deployment.account]).daily_loss == D(400)


def test_a_day_of_which_only_figures_so_far_were_saved_is_ended_later(trader: Trader) -> None:
    points.take_points()
    summary.save_summary(DAY)
    trader.time.move(hours=24 * 2 + 1)
    snapshot_pass()
    assert ended() == ["2026-03-02", "2026-03-03"]


def test_what_ended_long_ago_is_not_made_up(trader: Trader) -> None:
    points.take_points()
    trader.time.move(hours=24 * 60)
    snapshot_pass()
    assert len(ended()) == CATCH_UP.days
    assert ended()[-1] == f"{clock.now().date() - timedelta(days=1)}"


def test_a_day_that_fails_stops_no_other_and_is_tried_again(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    points.take_points()
    trader.time.move(hours=24 * 2 + 1)
    end_day = summary.end_day

    def broken(day: date) -> DailySummary | None:
        if day == DAY:
            raise statement_timeout()
        return end_day(day)

    with monkeypatch.context() as failing:
        failing.setattr(summary, "end_day", broken)
        snapshot_pass()
    assert ended() == ["2026-03-03"]
    snapshot_pass()
    assert sorted(ended()) == ["2026-03-02", "2026-03-03"]


def test_without_the_database_no_other_day_is_tried(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    points.take_points()
    trader.time.move(hours=24 * 2 + 1)
    tried: list[date] = []

    def away(day: date) -> DailySummary | None:
        tried.append(day)
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(summary, "end_day", away)
    with pytest.raises(OperationalError):
        snapshot_pass()
    assert len(tried) == 1


@pytest.mark.django_db
def test_nothing_is_made_up_before_the_first_deployment(time: object) -> None:
    assert snapshot_pass().out == 0
    assert not DailySummary.objects.exists()


@pytest.mark.django_db
def test_without_deployments_there_is_no_summary(time: object) -> None:
    assert summary.end_day(DAY) is None
