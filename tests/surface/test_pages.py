"""The dashboard and the page of one trade."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.contrib.auth.models import User

from maxxit.access.rows import deployments_of
from maxxit.web import charts
from positions.performance import figures
from positions.performance.equity import flows
from tests import builders
from tests.surface.conftest import World
from trading import gate, ledger
from trading.models import JournalKind

T0 = datetime(2026, 3, 2, tzinfo=UTC)


def test_the_dashboard_shows_what_is_mine(world: World) -> None:
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
    assert f"/chain/{world.of_alice.post.correlation_id}" in page


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
    url = f"/chain/{world.of_alice.post.correlation_id}"
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


def test_equity_begins_with_the_balances_and_ends_at_the_quotes(world: World) -> None:
    curve = figures.curve(deployments_of(world.alice))
    assert [value for _, value in curve[:2]] == [Decimal(10_000), Decimal("10038.16")]
    assert curve[-1][1] == figures.equity(deployments_of(world.alice))


def test_equity_begins_once_for_all_that_was_paid_in_before_anything_closed(world: World) -> None:
    newcomer = User.objects.create_user("newcomer")
    for usdc in ("10000", "2500"):
        builders.deployment(builders.agent(), usdc=usdc, owner=newcomer)
    assert [value for _, value in figures.curve(deployments_of(newcomer))] == [
        Decimal(12_500),
        Decimal(12_500),
    ]


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
    assert [amount for _, amount in flows([mine.pk])] == [Decimal(5_000), Decimal(-2_000)]


def test_a_plot_stays_within_its_frame() -> None:
    points = [(T0 + timedelta(hours=hour), Decimal(1000 + (hour * 37) % 11)) for hour in range(50)]
    plot = charts.equity(points)
    assert plot is not None
    corners = [tuple(map(float, pair.split(","))) for pair in plot.line.split()]
    assert all(plot.left <= x <= plot.right and 0 <= y <= plot.bottom for x, y in corners)
    assert corners == sorted(corners, key=lambda corner: corner[0])
    assert charts.equity(points[:1]) is None
    flat = charts.equity([(T0, Decimal(5)), (T0, Decimal(5))])
    assert flat is not None
    assert flat.rising
