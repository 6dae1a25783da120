"""`manage.py pnl`: today, the saved days, the end of a day, and why the PnL is zero."""

import json
import time as clock_time
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal as D
from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.pipeline.models import Release, StageRun
from maxxit.reports import checks, pnl, pnl_explain
from maxxit.reports.scope import scope_of
from positions.models import DailySummary, PnlPart, Position
from positions.performance import points, roll_up
from signals_app.models import CtPost
from tests import builders as make
from tests.positions.performance.test_points import paid
from tests.positions.test_book import again, entered, fills, leaving
from tests.surface.conftest import World
from tests.surface.test_commands import said, told
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader
from trading import gate, ledger
from trading.deployments import stops
from trading.models import Order
from trading.venues.base import Report


def traded(trader: Trader) -> None:
    """A losing trade (-81.2) and an open position (+40 before fees of 0.7), after a deposit of 500."""
    points.take_points()
    lost = entered(trader)
    fills(leaving(trader, lost, "1800"), "0.4", usd="1800")
    again(lost)
    make.price("ETH", "2000")
    entered(trader)
    paid(trader, "500")
    make.price("ETH", "2100")


def codes(trader: Trader) -> list[str]:
    """The causes that are found for the trader's deployment."""
    return [row.code for row in pnl_explain.explain(scope_of(deployment=trader.deployment.pk)).findings]


def test_today_is_what_closed_what_is_open_and_the_change_without_deposits(trader: Trader) -> None:
    traded(trader)
    report = told("pnl", "today", f"--deployment={trader.deployment.pk}")

    assert (report["realised_usd"], report["unrealised_usd"], report["total_usd"]) == ("-81.2", "40", "-41.2")
    assert (report["equity_usd"], report["deposits_usd"]) == ("10458.1", "10500")
    assert report["day_pnl_usd"] == "-41.9"
    assert (report["closed"], report["winners"], report["win_rate"]) == (1, 0, "0")
    assert (report["buys"], report["sells"], report["volume_usd"]) == (2, 1, "2320")
    text = said("pnl", "today")
    for words in ("-81.20", "+40.00", "-41.90 without deposits", "2 buys, 1 sells", "2,320.00", "ETH"):
        assert words in text


def test_today_without_a_trade_names_the_command_that_explains(trader: Trader) -> None:
    assert "`manage.py pnl explain` says why" in said("pnl", "today")


def test_the_week_lists_saved_days_the_newest_first(trader: Trader) -> None:
    assert "no day is saved yet" in said("pnl", "week")
    points.take_points()
    said("pnl", "save")
    trader.time.move(hours=24)
    entered(trader)
    saved = told("pnl", "save")

    assert [row["deployment"] for row in saved["summaries"]] == [None, trader.deployment.pk]
    days = told("pnl", "week")["days"]
    assert [day["report_date"] for day in days] == ["2026-03-03", "2026-03-02"]
    assert [day["day_pnl_usd"] for day in days] == ["-0.7", "0"]
    own = told("pnl", "week", f"--deployment={trader.deployment.pk}")["days"]
    assert [day["day_pnl_usd"] for day in own] == ["-0.7", "0"]
    assert len(told("pnl", "week", "--days=1")["days"]) == 1
    assert "-0.70" in said("pnl", "week")


def test_the_days_of_several_deployments_are_added_up(trader: Trader) -> None:
    other = make.booked_deployment(trader.agent)
    traded(trader)
    said("pnl", "save")
    scope = scope_of(agent=trader.agent.name)
    assert scope.deployments == [trader.deployment.pk, other.pk]

    [together], [total] = pnl.week(scope), pnl.week(scope_of())
    for name in (
        "realized_pnl_usd",
        "unrealized_pnl_usd",
        "day_pnl_usd",
        "equity_usd",
        "num_trades",
        "win_rate",
    ):
        assert together[name] == total[name], name
    assert together["worst_symbol"] == "ETH"


def test_watch_shows_the_report_again_until_ctrl_c(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(clock_time, "sleep", sleep)
    assert said("pnl", "watch", "--every", "10").count("PnL (USD)") == 3
    assert waits == [10, 10, 10]
    assert told("pnl", "watch")["shown"] == 1


def agrees(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue holds what the ledger says."""
    held = partial(ledger.balances, trader.deployment.pk)
    monkeypatch.setattr(trader.venue, "balances", lambda _: {k: v for k, v in held().items() if v})


def test_the_end_of_a_day_settles_books_reconciles_computes_and_saves_and_can_be_repeated(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    agrees(trader, monkeypatch)
    trader.venue.fills_at_once = False
    order = trader.placed()
    trader.venue.fill(order.venue_ref)
    points.take_points()
    trader.time.move(hours=24)

    out = StringIO()
    with suppress(SystemExit):
        call_command("pnl", "eod", "--json", stdout=out)
    ended = json.loads(out.getvalue())
    assert [step["ok"] for step in ended["steps"]] == [True] * 5, ended
    assert ended["day"] == "2026-03-02"
    assert [step["detail"] for step in ended["steps"]][:3] == [
        "1 settled, none left in flight",
        "1 positions opened, 0 closed",
        "1 accounts compared, no difference",
    ]
    text = said("pnl", "eod")
    assert "1/5 ok   settle orders in flight: 0 settled, none left in flight" in text
    assert Event.objects.filter(name="PNL_DAILY_SUMMARY").count() == 1
    assert DailySummary.objects.filter(deployment=None).count() == 1
    assert Position.objects.get().quantity == order.quantity


def test_a_step_that_fails_names_what_to_do_and_stops_no_other(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    trader.venue.fills_at_once = False
    trader.placed()
    points.take_points()
    trader.time.move(hours=24)
    monkeypatch.setattr(trader.venue, "find", lambda ref: Report("accepted", ()))
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("pnl", "eod", stdout=out, no_color=True)

    assert ended.value.code == 1
    text = out.getvalue()
    for words in (
        "1/5 BAD  settle orders in flight: 0 settled, still in flight: 1 at paper",
        "do: repeat in a minute",
        "3/5 ok   reconcile accounts with their venues: 1 accounts compared, no difference; what orders in flight",
        "5/5 ok   save the summary: PnL of 2026-03-02 0 USD",
    ):
        assert words in text, text


def test_a_difference_with_the_venue_fails_its_step(trader: Trader) -> None:
    points.take_points()
    trader.time.move(hours=24)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("pnl", "eod", stdout=out, no_color=True)
    line = f"{trader.deployment.account} at paper: venue minus ledger is -10000 USDC"
    assert f"3/5 BAD  reconcile accounts with their venues: {line}" in out.getvalue()
    assert "do: `manage.py reconcile` lists each difference" in out.getvalue()


def test_a_day_that_has_not_ended_is_not_ended(trader: Trader) -> None:
    with pytest.raises(CommandError, match=r"2026-03-02 ends at 24:00 UTC.*`manage.py pnl save`"):
        said("pnl", "eod", "--day", "2026-03-02")
    with pytest.raises(CommandError, match="give it as 2026-01-31"):
        said("pnl", "eod", "--day", "yesterday")
    with pytest.raises(CommandError, match="has not begun"):
        said("pnl", "save", "--day", "2026-03-03")


def test_another_release_ends_no_day(trader: Trader) -> None:
    Release.objects.create(fingerprint="other", declared_at=clock.now())
    with pytest.raises(CommandError, match="the declared release is other"):
        said("pnl", "eod")


# -- why is it 0?


def test_an_order_that_is_still_accepted_has_no_result_yet(trader: Trader) -> None:
    trader.venue.fills_at_once = False
    trader.placed()
    trader.time.move(minutes=3)

    finding = next(row for row in pnl_explain.explain(scope_of()).findings if row.code == "in_flight")
    assert "1 orders are still accepted at their venue (oldest 0:03:00)" in finding.text
    assert "manage.py reconcile --once" in finding.fix


def test_fills_that_are_not_booked_and_orders_without_a_price_are_named(trader: Trader) -> None:
    trader.venue.fills_at_once = False
    fills(trader.placed(), "0.4")
    assert "not_booked" in codes(trader)
    Order.objects.update(average_price=None)
    assert "no_fill_price" in codes(trader)


def test_open_positions_alone_have_unrealised_pnl(trader: Trader) -> None:
    entered(trader)
    make.price("ETH", "2100")
    [finding] = [row for row in pnl_explain.explain(scope_of()).findings if row.code == "no_closed_position"]
    assert "1 are open, worth 40 USD unrealised" in finding.text
    assert finding.urgency == "note"


def test_a_closed_gate_a_kill_switch_and_a_stopped_account_are_named(trader: Trader) -> None:
    assert not [code for code in codes(trader) if code.startswith("gate:")]
    gate.kill("no_entries", by="test", reason="drill", account=trader.deployment.account)
    assert "gate:kill_switch" in codes(trader)
    gate.set_dry_run("paper", True, by="test", reason="test")
    assert "gate:dry_run" in codes(trader)


def test_blocked_orders_are_counted_by_reason(trader: Trader) -> None:
    for reason in ("cooldown", "cooldown", "market_closed"):
        make.order(trader.deployment, by=trader.signal(), state="blocked", reason=reason)
    found = {row.code: row for row in pnl_explain.explain(scope_of()).findings}
    assert found["blocked:cooldown"].count == 2
    assert "account.cooldown_seconds_per_symbol" in found["blocked:cooldown"].fix
    assert found["blocked:market_closed"].urgency == "wait"


def test_no_signal_names_why_posts_were_declined_and_no_post_when_one_was_last_read(trader: Trader) -> None:
    assert {"no_signal", "no_post"} <= set(codes(trader))
    author = make.account(trader.agent)
    post = make.candidate(author)
    data = {"agent": trader.agent.name, "token": "ETH", "reason": "too_old", "measured": "", "limit": ""}
    Event.objects.create(
        name="signal.declined", subject=f"signals_app.ctpost:{post.pk}", data=data, at=clock.now(),
        correlation_id=post.correlation_id,
    )  # fmt: skip
    found = {row.code: row for row in pnl_explain.explain(scope_of()).findings}
    assert "1 times too_old" in found["no_signal"].text
    assert "no_post" not in found
    trader.signal()
    assert "no_signal" not in codes(trader)


def test_the_error_of_a_platform_s_job_is_for_staff_alone(world: World) -> None:
    CtPost.objects.update(posted_at=clock.now() - timedelta(days=2))
    error = "Traceback\nConnectError: https://api.x.example/2/users?key=internal"
    StageRun.objects.filter(stage="ingest").update(error=error)
    answers = {}
    for who in (world.alice, world.staff):
        answer = Client().get("/api/pnl/explain", headers=world.key(who))
        [answers[who]] = [row for row in answer.json()["findings"] if row["code"] == "no_post"]
    assert "ConnectError: https://api.x.example" in answers[world.staff]["text"]
    mine = answers[world.alice]
    assert mine["text"].endswith(" UTC and failed: staff sees why")
    assert (mine["urgency"], mine["fix"]) == ("act", "follow more accounts: page Accounts")


def test_an_owners_own_stop_is_released_by_the_owner(world: World) -> None:
    stops.stop(world.of_alice.deployment, "no_entries", by="alice", reason="stopped by its owner")
    found = {row.code: row for row in pnl_explain.explain(scope_of(world.alice)).findings}
    assert found["gate:kill_switch"].fix == "its owner releases it: page My agents"
    assert found["gate:kill_switch"].audience == "customer"


def test_a_stale_quote_and_a_token_without_one_are_named(trader: Trader) -> None:
    entered(trader)
    trader.time.move(hours=2)
    assert "stale_quote" in codes(trader)


def test_without_a_deployment_or_an_active_one_that_is_said_first(trader: Trader, db: None) -> None:
    type(trader.deployment).objects.update(state="paused")
    assert codes(trader)[0] == "none_active"
    assert pnl_explain.explain(scope_of(make.agent().owner)).label == "all deployments"


def test_the_books_of_a_deployment_agree_or_are_said_to_differ(trader: Trader) -> None:
    traded(trader)
    pk = str(trader.deployment.pk)
    [books] = told("pnl", "explain", pk)["books"]
    assert (books["pnl_usd"], books["difference_usd"]) == ("-41.9", "0")
    assert "positions and ledger agree" in said("pnl", "explain", pk)

    Position.objects.filter(state="closed").update(realised_pnl=D(0))
    assert "books_differ" in codes(trader)
    text = said("pnl", "explain")
    assert "they differ by 81.2" in text
    assert f"manage.py statement {pk}" in text


def test_a_customer_is_told_about_their_own_deployments_alone(world: World) -> None:
    mine = pnl_explain.explain(scope_of(world.alice))
    assert [row.deployment for row in mine.books] == [world.of_alice.deployment.pk]
    assert mine.label == "your deployments"
    for what in ({"deployment": world.of_bob.deployment.pk}, {"agent": world.of_bob.agent.name}):
        with pytest.raises(Exception, match="there is no deployment"):
            scope_of(world.alice, **what)


def test_an_unknown_deployment_is_named(world: World) -> None:
    with pytest.raises(CommandError, match=r"there is no deployment 999: `manage.py portfolio` lists"):
        said("pnl", "explain", "999")


def test_since_a_moment_long_ago(trader: Trader) -> None:
    """The short list keeps its old options."""
    trader.time.move(hours=-1)
    assert told("pnl", "--week")["since"] == (clock.now() - timedelta(days=6)).replace(hour=0).isoformat()


def test_sums_that_differ_from_their_positions_are_found_and_rebuilt(trader: Trader) -> None:
    position = entered(trader)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    trader.time.move(hours=1)
    roll_up.roll_up()
    assert checks.parts().ok
    PnlPart.objects.filter(dimension="token", deployment=trader.deployment).update(won=1)

    failed = checks.parts()
    assert (failed.ok, str(trader.deployment.pk) in failed.detail) == (False, True)
    call_command("pnl", "rebuild", "--yes")
    assert checks.parts().ok
