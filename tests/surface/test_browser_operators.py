"""Each page in a real browser: fits a phone, both colour schemes, no serious finding, no console error."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from maxxit.notify import worker
from maxxit.notify.models import Alert, PriceRule
from maxxit.web.unfold import OPERATOR_PAGES
from tests.browser import Page
from tests.surface.conftest import World
from tests.surface.test_browser import nameless
from trading import gate
from trading.models import PaperBalance
from trading.operations import change_requests, changes, limit_overrides
from trading.operations.change_requests import Asker
from trading.second_person import Kind

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.limit(600)]

SHOTS = os.environ.get("MAXXIT_SHOTS", "")
OF_CUSTOMERS = (
    "/", "/start", "/agents", "/performance", "/activity", "/accounts", "/market", "/invoices", "/notifications",
    "/wallet",
    "/settings", "/settings/password", "/settings/wallets", "/settings/sessions", "/settings/keys",
    "/settings/export", "/settings/close", "/second-factor",
)  # fmt: skip
SCROLLERS = """[...document.querySelectorAll("body *")].filter((one) => one.scrollWidth > one.clientWidth + 1
  && ["auto", "scroll"].includes(getComputedStyle(one).overflowX) && one.clientWidth > 0 && !one.matches("pre"))
  .map((one) => `${one.tagName}.${one.className} ${one.scrollWidth} > ${one.clientWidth}`)"""
"""What scrolls sideways inside the page."""


def enter(tab: Page, live_server: Any, person: Any) -> None:
    client = Client()
    client.force_login(person)
    tab.cookie("sessionid", client.cookies["sessionid"].value, live_server.url)


def colours(tab: Page, name: str) -> None:
    """Use light or dark colours, as the visitor's system says."""
    tab.prefer(name)
    if tab.path.startswith("/admin"):  # the theme reads the preference when a page is loaded
        dark = "true" if name == "dark" else "false"
        tab.evaluate(f"document.documentElement.classList.toggle('dark', {dark})")


def look(tab: Page, name: str) -> list[str]:
    """Return what is wrong: too wide or scrolling sideways on a phone, a finding of axe, no name; keep pictures."""
    wrong = []
    for width in (1440, 390):
        tab.size(width)
        if (wide := tab.evaluate("document.documentElement.scrollWidth")) > width:
            wrong.append(f"{name}: {wide} px wide at {width} px")
        for scheme in ("light", "dark"):
            colours(tab, scheme)
            findings = tab.axe_findings(of_colours=scheme == "dark")
            wrong += [f"{name}, {scheme}, {width} px: {finding}" for finding in findings]
            if SHOTS:
                tab.screenshot(Path(SHOTS) / f"{name}-{width}-{scheme}.png")
    ours = tab.evaluate("document.querySelector('#nav-filter') === null")  # not the theme's own fields
    wrong += [f"{name}: {one}" for one in (*tab.evaluate(SCROLLERS), *(nameless(tab) if ours else ()))]
    tab.size(1440)
    return wrong


def file_name(path: str) -> str:
    return path.strip("/").replace("/", "-") or "dashboard"


def test_each_page_of_a_customer_fits_a_phone(tab: Page, live_server: Any, world: World) -> None:
    enter(tab, live_server, world.alice)
    made = world.of_alice
    month = f"{timezone.now():%Y-%m}"
    details = (
        f"/trades/{made.position.pk}", f"/trades/{made.open_position.pk}", f"/signals/{made.signal.pk}",
        f"/accounts/{made.post.account.x_username}", f"/chain/{made.post.correlation_id}?whole=1",
        f"/invoices/{made.deployment.pk}/{month}", f"/agents/{made.deployment.pk}/twin",
    )  # fmt: skip
    wrong = []
    for path in (*OF_CUSTOMERS, *details):
        tab.open(f"{live_server.url}{path}")
        wrong += look(tab, f"customer-{file_name(path.partition('?')[0])}")
    assert not wrong, "\n".join(wrong)


def test_the_money_of_the_dashboard_is_visible_on_a_phone(tab: Page, live_server: Any, world: World) -> None:
    enter(tab, live_server, world.alice)
    tab.open(f"{live_server.url}/")
    tab.size(390)
    places = tab.evaluate(
        "[...document.querySelectorAll('.tile-money')].map((one) => one.getBoundingClientRect())"
        ".map((box) => [box.left, box.right])"
    )
    assert len(places) == 2
    assert all(0 < left < right <= 390 for left, right in places)
    assert "+38.16" in tab.text("main")


def test_notifications_are_set_up_in_the_browser(tab: Page, live_server: Any, world: World) -> None:
    """A test message, quiet hours, a rule; what is typed survives a refusal; the log refreshes by itself."""
    enter(tab, live_server, world.alice)
    tab.open(f"{live_server.url}/notifications")
    tab.following(lambda: tab.click("button[value=test]", clicks=2))
    tab.wait_text("On its way: Test message for alice")
    assert Alert.objects.filter(event__name="notification.tested").count() == 1
    tab.wait_text("waiting", "#log")
    worker.deliver()
    tab.wait("!document.querySelector('#log [data-under-way]')")
    tab.evaluate("document.querySelector('#id_quiet_from').value = '22:00'; 1")
    tab.following(lambda: tab.click("button[value=settings]"))
    tab.wait_text("need both a begin and an end")
    assert tab.evaluate("document.querySelector('#id_quiet_from').value") == "22:00"
    tab.problems.clear()  # Chromium logs each answer 422
    assert look(tab, "notifications-refused") == []
    tab.evaluate("document.querySelector('#id_quiet_to').value = '07:00'; 1")
    tab.following(lambda: tab.click("button[value=settings]"))
    tab.wait_text("Quiet hours are 22:00 to 07:00")
    tab.evaluate("document.querySelector('button[value=rule]').closest('details').open = true; 1")
    tab.type("#id_symbols", "btc")
    tab.type("#id_threshold", "70000")
    tab.following(lambda: tab.click("button[value=rule]"))
    tab.wait_text("is active")
    assert PriceRule.objects.filter(user=world.alice, symbols=["BTC"], threshold=70_000).count() == 1
    assert look(tab, "notifications-done") == []


def test_each_operator_page_fits_a_phone_and_stops_the_machine(
    tab: Page, live_server: Any, world: World
) -> None:
    enter(tab, live_server, world.staff)
    limit_overrides.set_override("max_trade_usd", "2000", by="olga", reason="a thin week")
    PaperBalance.objects.create(account=world.of_alice.deployment.account, asset="SOL", amount=3)
    limit = changes.set_limit("account.max_open_orders", "30")
    change_requests.ask(Kind.RAISE_LIMIT, limit, by=Asker("root on the command line"), reason="a calm week")
    wrong = []
    for name, *_ in OPERATOR_PAGES:
        tab.open(f"{live_server.url}{reverse(name)}")
        if name == "operator-change-requests":
            tab.evaluate(
                "document.querySelectorAll('.mx-grid details').forEach(one => { one.open = true }); 1"
            )
            tab.wait_text("Confirm account.max_open_orders: 20 → 30")
        wrong += look(tab, name)
    tab.open(f"{live_server.url}{reverse('operator-reconciliation')}")
    tab.following(lambda: tab.click("button[value=compare]"))
    tab.wait_text("Book 3 SOL")
    wrong += look(tab, "operator-reconciliation-found")
    tab.open(f"{live_server.url}{reverse('operator-limits')}?limit=account.max_open_orders#change")
    tab.type("#id_value", "10")
    tab.type("#id_reason", "a thin week")
    tab.following(lambda: tab.click("button[value=check]"))
    tab.wait_text("account.max_open_orders: 20 → 10")
    wrong += look(tab, "operator-limits-check")
    tab.following(lambda: tab.click("button[value=set]"))
    tab.wait_text("account.max_open_orders: 20 to 10, at once")
    tab.following(lambda: tab.click(".mx-stop-now"))
    assert not wrong, "\n".join(wrong)
    assert gate.kill_level() == "no_entries"
