"""The dashboard and the page of one trade."""

from datetime import timedelta
from decimal import Decimal
from urllib.parse import quote

from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.views.defaults import server_error

from maxxit.access.rows import deployments_of
from maxxit.reports import performance
from maxxit.reports.scope import scope_of
from maxxit.reports.trades.trade import trade
from positions.models import Position
from positions.performance import figures, points, report
from tests import builders
from tests.surface.conftest import World
from tests.surface.test_commands import said
from trading import gate, ledger
from trading.deployments import stops
from trading.models import JournalKind


def test_the_dashboard_shows_what_is_mine(world: World) -> None:
    points.take_points()
    page = world.logged_in(world.alice).get("/").content.decode()
    for words in (
        "<svg",
        "+38.16",
        "take_profit",
        "cooldown",
        "account.cooldown_seconds_per_symbol",
        "+20.00",
    ):
        assert words in page
    assert f"/trades/{world.of_alice.position.pk}" in page


def test_a_newcomers_dashboard_is_empty_and_says_what_to_do(world: World) -> None:
    page = world.logged_in(User.objects.create_user("new")).get("/").content.decode()
    assert 'You have no deployment yet: <a href="/start">start an agent on paper</a>' in page
    assert world.of_alice.agent.name not in page


def test_a_stopped_account_is_shown_to_its_owner_alone(world: World) -> None:
    gate.kill(
        "reduce_only", by="maxxit", reason="drawdown is 12 %", account=world.of_alice.deployment.account
    )
    assert "drawdown is 12 %" in world.logged_in(world.alice).get("/").content.decode()
    assert "drawdown is 12 %" not in world.logged_in(world.bob).get("/").content.decode()
    assert "drawdown is 12 %" in world.logged_in(world.staff).get("/").content.decode()


def test_an_owner_is_led_to_where_they_release_their_own_stop(world: World) -> None:
    stops.stop(world.of_alice.deployment, "no_entries", by="alice", reason="stopped by its owner")
    mine = world.logged_in(world.alice).get("/").content.decode()
    assert 'You can release it: <a href="/agents">My agents</a>' in mine
    assert "An operator has to release it" not in mine
    assert "Its owner can release it" in world.logged_in(world.staff).get("/").content.decode()
    gate.kill("reduce_only", by="maxxit", reason="drawdown", account=world.of_alice.deployment.account)
    assert "An operator has to release it" in world.logged_in(world.alice).get("/").content.decode()


def test_the_result_of_a_closed_trade_is_one_figure_on_every_page(world: World) -> None:
    """After fees and profit share, so that rows add up to the tiles."""
    own = world.of_alice
    Position.objects.filter(pk=own.position.pk).update(profit_share=Decimal("7.63"))
    browser = world.logged_in(world.alice)
    since = (own.position.opened_at - timedelta(days=1)).isoformat()
    for url in (
        "/", "/activity", f"/trades/{own.position.pk}", f"/chain/{own.post.correlation_id}?whole=1", "/api/activity",
        f"/api/market/trades?symbol=ETH&since={quote(since)}",
    ):  # fmt: skip
        assert "30.53" in browser.get(url).content.decode(), url
    for url, rows in (("/", "Last trades"), ("/activity", 'class="feed"')):
        assert "38.16" not in browser.get(url).content.decode().partition(rows)[2], url
    assert [mark.text for mark in trade(own.position.pk).marks if mark.what == "EXIT"] == [
        "take profit +30.53"
    ]
    assert performance.results(scope_of(world.alice)) == [Decimal("30.53")]
    assert "PnL +30.53 USDC realised" in said("chain", f"--position={own.position.pk}")


def test_the_chain_page_tells_everything_in_order(world: World) -> None:
    url = f"/chain/{world.of_alice.post.correlation_id}?whole=1"
    page = world.logged_in(world.staff).get(url).content.decode()
    for words in (
        "what does it say",
        "closed by take_profit",
        "+38.16",
        "FILL",
        "LEDGER",
        "/admin/trading/order/",
    ):
        assert words in page
    assert "/admin/" not in world.logged_in(world.alice).get(url).content.decode()


def test_the_dashboard_s_curve_begins_with_the_first_point_and_ends_at_the_quotes(world: World) -> None:
    points.take_points()
    page = world.logged_in(world.alice).get("/").content.decode()
    assert "PnL without deposits, from 0.00 to +0.00 USD" in page  # earned before the first point


def test_equity_of_a_safe_follows_its_owners_deposits_and_leaves_out_his_tokens(world: World) -> None:
    mine = builders.deployment(builders.agent(venue="safe"), account="0x1", funded=False, owner=world.bob)
    account = ledger.account_of(mine.pk)
    before = figures.equity(deployments_of(world.bob))
    for number, (source, target, asset, amount) in enumerate(
        [
            ("external", account, "USDC", 5_000),
            (account, "external", "USDC", 2_000),
            ("external", account, "ETH", 1),
        ]
    ):
        ledger.post(
            JournalKind.EXTERNAL, number, [ledger.Move(source, target, asset, Decimal(amount), "external")]
        )

    assert figures.equity(deployments_of(world.bob)) - before == Decimal(3_000)
    shown = report.performance([mine.pk])
    assert (shown.deposits, shown.withdrawals, shown.pnl) == (5_000, 2_000, 0)


def test_a_page_that_is_not_there_leads_on(world: World) -> None:
    """The same for what does not exist and for what belongs to another account."""
    browser = world.logged_in(world.alice)
    nowhere, theirs = browser.get("/nope"), browser.get(f"/trades/{world.of_bob.position.pk}")
    assert (nowhere.status_code, theirs.status_code) == (404, 404)
    for answer in (nowhere, theirs):
        assert "There is no such page" in answer.content.decode()
        assert 'href="/activity"' in answer.content.decode()
    assert 'href="/login"' in Client().get("/nope").content.decode()


def test_a_failure_has_a_page_that_needs_nothing(rf: RequestFactory) -> None:
    answer = server_error(rf.get("/"))
    assert (answer.status_code, "The page could not be shown" in answer.content.decode()) == (500, True)


def test_who_lacks_a_permission_is_told_so(world: World) -> None:
    answer = world.logged_in(User.objects.create_user("clerk", is_staff=True)).get("/admin/stop")
    assert answer.status_code == 403
    assert "You may not do this" in answer.content.decode()


def test_what_is_empty_leads_to_the_first_agent(world: World) -> None:
    browser = world.logged_in(User.objects.create_user("new"))
    for path in ("/agents", "/wallet", "/activity", "/accounts", "/invoices"):
        assert 'href="/start"' in browser.get(path).content.decode(), path
    assert "Start another agent" not in browser.get("/agents").content.decode()
