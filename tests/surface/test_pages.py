"""The dashboard and the page of one trade."""

from decimal import Decimal

from django.contrib.auth.models import User

from maxxit.access.rows import deployments_of
from positions.performance import figures, points
from positions.performance.report import performance
from tests import builders
from tests.surface.conftest import World
from trading import gate, ledger
from trading.models import JournalKind


def test_the_dashboard_shows_what_is_mine(world: World) -> None:
    points.take_points()
    page = world.logged_in(world.alice).get("/").content.decode()
    for said in (
        "<svg",
        "+38.16",
        "take_profit",
        "cooldown",
        "account.cooldown_seconds_per_symbol",
        "+20.00",
    ):
        assert said in page
    assert f"/trades/{world.of_alice.position.pk}" in page


def test_a_newcomers_dashboard_is_empty_and_says_what_to_do(world: World) -> None:
    page = world.logged_in(User.objects.create_user("new")).get("/").content.decode()
    assert "You have no deployment yet" in page
    assert world.of_alice.agent.name not in page


def test_a_stopped_account_is_shown_to_its_owner_alone(world: World) -> None:
    gate.kill(
        "reduce_only", by="maxxit", reason="drawdown is 12 %", account=world.of_alice.deployment.account
    )
    assert "drawdown is 12 %" in world.logged_in(world.alice).get("/").content.decode()
    assert "drawdown is 12 %" not in world.logged_in(world.bob).get("/").content.decode()
    assert "drawdown is 12 %" in world.logged_in(world.staff).get("/").content.decode()


def test_the_chain_page_tells_everything_in_order(world: World) -> None:
    url = f"/chain/{world.of_alice.post.correlation_id}?whole=1"
    page = world.logged_in(world.staff).get(url).content.decode()
    for said in (
        "what does it say",
        "closed by take_profit",
        "+38.16",
        "FILL",
        "LEDGER",
        "/admin/trading/order/",
    ):
        assert said in page
    assert "/admin/" not in world.logged_in(world.alice).get(url).content.decode()


def test_the_dashboard_s_curve_begins_with_the_first_point_and_ends_at_the_quotes(world: World) -> None:
    points.take_points()
    page = world.logged_in(world.alice).get("/").content.decode()
    assert "Equity from 10,038.16 to 10,038.16 USD, PnL +0.00" in page  # earned before the first point


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
    shown = performance([mine.pk])
    assert (shown.deposits, shown.withdrawals, shown.pnl) == (5_000, 2_000, 0)
