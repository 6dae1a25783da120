"""Activity, a trade and the accounts in a real browser: two clicks to the reason, one close, live figures, widths."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from signals_app.models import AuthorRecord
from tests import builders
from tests.browser import Page
from tests.surface.conftest import World
from tests.surface.test_browser import shot
from trading.models import Order

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def visit(tab: Page, live_server: Any, world: World) -> Callable[[str], None]:
    """Open a page as alice."""
    client = Client()
    client.force_login(world.alice)
    tab.cookie("sessionid", client.cookies["sessionid"].value, live_server.url)
    return lambda path: tab.open(f"{live_server.url}{path}")


def test_the_reason_is_two_clicks_away(tab: Page, visit: Callable[[str], None], world: World) -> None:
    """Once in the menu, once on Show; what a filter refuses stays in its field."""
    visit("/")
    tab.following(lambda: tab.click('nav a[href="/activity"]'))
    shot(tab, "activity")
    tab.type("input[name=agent]", world.of_alice.agent.name)
    tab.type("input[name=token]", "eth")
    tab.type("input[name=at]", f"{world.of_alice.blocked.created_at:%Y-%m-%dT%H:%M}")
    tab.following(lambda: tab.click(".filters button"))
    assert "did trade ETH" in tab.text(".answer")
    assert "the last entry in this symbol is too recent" in tab.text(".answer")
    shot(tab, "activity-why")


def test_the_money_of_the_feed_is_visible_on_a_phone(tab: Page, visit: Callable[[str], None]) -> None:
    visit("/activity")
    tab.size(390)
    right = tab.evaluate(
        "Math.max(...[...document.querySelectorAll('.money')].map((one) => one.getBoundingClientRect().right))"
    )
    assert 0 < right <= 390
    assert "+38.16" in tab.text(".feed")


def test_a_trade_is_drawn_lives_and_closes_once(
    tab: Page, visit: Callable[[str], None], world: World
) -> None:
    position = world.of_alice.open_position
    visit(f"/trades/{position.pk}")
    tab.wait("document.getElementById('trade-chart').dataset.bars > 0")
    shot(tab, "trade-open")
    builders.price("ETH", "2100")
    tab.wait_text("Close 0.4 ETH, about 840 USD")
    tab.click("#close > summary")
    tab.wait("document.getElementById('close').open")
    tab.following(lambda: tab.click("#close-now", clicks=2))
    tab.wait_text("is closing: the order is on its way")
    assert tab.text("#close") == ""
    assert Order.objects.filter(closes=position.entry_order).count() == 1


@pytest.mark.parametrize("place", ["trade-chart", "chart"])
def test_a_chart_follows_the_colour_scheme_while_the_page_is_open(
    tab: Page, visit: Callable[[str], None], world: World, place: str
) -> None:
    canvas = f"document.querySelector('#{place} canvas')"
    corner = f"[...{canvas}.getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)"
    visit("/market" if place == "chart" else f"/trades/{world.of_alice.open_position.pk}")
    tab.wait(f"{corner}.join() === '255,255,255'")
    tab.dark()
    tab.wait(f"Math.max(...{corner}) < 80")
    tab.prefer("light")
    tab.wait(f"{corner}.join() === '255,255,255'")


def test_a_question_is_not_taken_away_by_the_refresh(
    tab: Page, visit: Callable[[str], None], world: World
) -> None:
    """What a person is asked to confirm stays as it was asked."""
    visit(f"/trades/{world.of_alice.open_position.pk}")
    tab.evaluate("document.querySelector('#close > summary').focus()")
    tab.press("Enter")
    tab.wait("document.getElementById('close').open")
    builders.price("ETH", "2100")
    tab.evaluate("new Promise((resolve) => setTimeout(resolve, 6000))")
    assert tab.evaluate("document.getElementById('close').open")
    assert "about 820 USD" in tab.text("#close-now")


def test_a_click_that_began_before_a_refresh_is_not_lost(
    tab: Page, visit: Callable[[str], None], world: World
) -> None:
    visit(f"/trades/{world.of_alice.open_position.pk}")
    builders.price("ETH", "2100")
    tab.click("#close > summary", held=6)
    tab.wait("document.getElementById('close').open")


def test_a_closed_trade_the_accounts_and_a_record(
    tab: Page, visit: Callable[[str], None], world: World
) -> None:
    author = world.of_alice.post.account
    figure = {"mean": 0.5, "low": None, "high": None, "p_value": None, "clusters": 3}
    one = {"calls": 3, "hit_rate": figure, "mean": figure, "excess": figure}
    AuthorRecord.objects.filter(account=author).update(
        calls=3, excess_pct=0.5, figures={"horizons": {"60": one, "1440": one}}
    )
    visit(f"/trades/{world.of_alice.position.pk}")
    tab.wait("document.getElementById('trade-chart').dataset.markers !== undefined")
    shot(tab, "trade-closed")
    tab.following(lambda: tab.click('nav a[href="/accounts"]'))
    shot(tab, "accounts")
    tab.following(lambda: tab.click(f'a[href="/accounts/{author.x_username}"]'))
    assert "Not enough data: there are calls on 3 days" in tab.text()
    tab.dark()
    shot(tab, "account-dark")
