"""The way in, in a real browser: login, sign-up, wallets, drafts, double clicks, widths, keyboard, console."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from agents import following
from agents.models import Deployment
from maxxit.access import wallets
from maxxit.access.auth import create_key
from maxxit.access.models import ApiKey, BrowserSession, UserSettings
from maxxit.web import agents
from tests import builders as make
from tests.browser import Page, Wallet, find_axe
from tests.passes import execute_pass
from trading.models import Order

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]

PASSWORD = "correct horse 41"
SHOTS = os.environ.get("MAXXIT_SHOTS", "")
"""A folder for screenshots; none are taken without."""


@pytest.fixture(autouse=True)
def open_sign_up(settings: Any) -> None:
    settings.SIGN_UP = "open"


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password=PASSWORD)


def shot(tab: Page, name: str) -> None:
    """Look at the tab at both widths: nothing is cut off, everything has a name; keep a picture."""
    for width in (1440, 390):
        tab.size(width)
        assert tab.overflow <= 0, f"{name} is wider than {width} px"
        if SHOTS:
            tab.screenshot(Path(SHOTS) / f"{name}-{width}.png")
        assert nameless(tab) == [], name
        if find_axe():
            preferred = tab.scheme
            for scheme in ("light", "dark"):
                tab.prefer(scheme)
                assert tab.axe_findings(of_colours=scheme == "dark") == [], f"{name}, {scheme}, {width} px"
            tab.prefer(preferred)
    tab.size(1440)


def nameless(tab: Page) -> list[str]:
    """Fields without a label, buttons and links without a text, ids that are not unique."""
    found: list[str] = tab.evaluate(
        """(() => {
          const text = (one) => one.getAttribute("aria-label") || one.textContent.trim();
          const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
          return [
            ...[...document.querySelectorAll("input:not([type=hidden]), select")].filter((one) => !one.labels?.length),
            ...[...document.querySelectorAll("button, a")].filter((one) => !text(one)),
          ].map((one) => one.outerHTML).concat(ids.filter((id, place) => ids.indexOf(id) !== place));
        })()"""
    )
    return found


def log_in(tab: Page, name: str = "alice", password: str = PASSWORD) -> None:
    tab.type("#id_username", name)
    tab.type("#id_password", password)
    tab.following(lambda: tab.press("Enter"))


def session(tab: Page, live_server: Any, person: User) -> None:
    """Log in without the form."""
    client = Client()
    client.force_login(person)
    tab.cookie("sessionid", client.cookies["sessionid"].value, live_server.url)


def test_a_newcomer_signs_up_by_keyboard_alone(tab: Page, live_server: Any) -> None:
    tab.zone("America/New_York")
    tab.open(f"{live_server.url}/sign-up")
    shot(tab, "sign-up")
    tab.evaluate("document.querySelector('#id_username').focus()")
    for text in ("carol", PASSWORD, PASSWORD):
        tab.call("Input.insertText", text=text)
        tab.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Create the account"
    tab.following(lambda: tab.press("Enter"))
    assert tab.path == "/"
    tab.wait_text("Welcome, carol")
    assert UserSettings.objects.get(user__username="carol").time_zone == "America/New_York"
    assert BrowserSession.objects.get(user__username="carol").browser.startswith("Mozilla/5.0")


def test_a_wrong_form_names_the_fields_and_keeps_what_was_typed(
    tab: Page, live_server: Any, alice: User
) -> None:
    tab.open(f"{live_server.url}/sign-up")
    tab.type("#id_username", "Alice")
    tab.type("#id_password1", "12345678")
    tab.type("#id_password2", "12345678")
    tab.following(lambda: tab.click("button[type=submit]"))
    assert "taken" in tab.text("#id_username_error")
    assert "entirely numeric" in tab.text("#id_password1_error")
    assert tab.evaluate("document.querySelector('#id_username').value") == "Alice"
    assert tab.evaluate("document.querySelector('#id_password1').value") == ""
    shot(tab, "sign-up-wrong")


def test_a_double_click_makes_one_account(tab: Page, live_server: Any) -> None:
    tab.open(f"{live_server.url}/sign-up")
    tab.type("#id_username", "carol")
    tab.type("#id_password1", PASSWORD)
    tab.type("#id_password2", PASSWORD)
    tab.following(lambda: tab.click("button[type=submit]", clicks=2))
    tab.wait_text("Welcome, carol")
    assert User.objects.count() == 1
    tab.following(lambda: tab.evaluate("history.back()"))  # the back button shows no old form
    assert "Create the account" not in tab.text("main")


def test_login_page(tab: Page, live_server: Any, alice: User) -> None:
    tab.open(f"{live_server.url}/market")
    assert tab.path == "/login?next=/market"
    shot(tab, "login")
    tab.dark()
    shot(tab, "login-dark")
    log_in(tab, password="wrong")
    assert "is wrong" in tab.text("[role=alert]")
    log_in(tab)
    assert tab.path == "/market"


def test_a_market_without_candles_says_so(tab: Page, live_server: Any, alice: User) -> None:
    session(tab, live_server, alice)
    tab.open(f"{live_server.url}/market")
    tab.wait("performance.getEntriesByType('resource').some((one) => one.name.endsWith('/market/tables'))")
    assert tab.text("#status") == "No candles of BTC yet."


def wallet_tab(tab: Page, live_server: Any, path: str = "/login", **options: Any) -> Wallet:
    wallet = Wallet(**options)
    tab.inject(wallet)
    tab.open(f"{live_server.url}{path}")
    return wallet


def test_the_holder_of_a_wallet_logs_in_and_comes_to_the_page_asked_for(
    tab: Page, live_server: Any, alice: User
) -> None:
    wallet = wallet_tab(tab, live_server, "/login?next=/market")
    wallets.link(alice, wallet.address)
    tab.following(lambda: tab.click("[data-wallet-start]"))
    assert tab.path == "/market"
    assert "alice" in tab.text("header")
    assert len(wallet.signed) == 1
    host = live_server.url.removeprefix("http://")
    assert wallet.signed[0].startswith(
        f"{host} wants you to sign in with your Ethereum account:\n{wallet.address}\n"
    )


def test_a_newcomer_signs_up_with_a_wallet(tab: Page, live_server: Any) -> None:
    wallet = wallet_tab(tab, live_server, "/sign-up")
    tab.click("[data-wallet-start]")
    tab.wait_text("Choose a user name first.", "[data-wallet-status]")
    tab.type("#id_username", "carol")
    tab.following(lambda: tab.click("[data-wallet-start]", clicks=2))
    tab.wait_text("Welcome, carol")
    assert [one.address for one in User.objects.get(username="carol").wallets.all()] == [wallet.address]
    assert len(wallet.signed) == 1


def test_without_a_wallet_the_page_says_what_to_do(tab: Page, live_server: Any) -> None:
    tab.open(f"{live_server.url}/login")
    tab.click("[data-wallet-start]")
    tab.wait_text("No wallet was found in this browser. Install one", "[data-wallet-status]")


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("eth_requestAccounts", "You refused to connect in your wallet. Nothing was signed."),
        ("personal_sign", "You refused to sign in your wallet. Nothing was signed."),
    ],
)
def test_a_refusal_in_the_wallet_is_said_and_may_be_tried_again(
    tab: Page, live_server: Any, alice: User, method: str, says: str
) -> None:
    wallet = wallet_tab(tab, live_server)
    wallets.link(alice, wallet.address)
    wallet.refuses.add(method)
    tab.click("[data-wallet-start]")
    tab.wait_text(says, "[data-wallet-status]")
    shot(tab, f"wallet-refused-{method}")
    wallet.refuses.clear()
    tab.following(lambda: tab.click("[data-wallet-start]"))
    assert tab.path == "/"


def test_a_wallet_on_another_chain_is_asked_to_switch(tab: Page, live_server: Any, alice: User) -> None:
    wallet = wallet_tab(tab, live_server, chain_id=1)
    wallets.link(alice, wallet.address)
    tab.click("[data-wallet-start]")
    tab.wait_text("Your wallet is on chain 1. Switch it to", "[data-wallet-status]")
    assert wallet.signed == []
    wallet.knows |= set(wallets.accepted_chains())
    tab.following(lambda: tab.click("[data-wallet-start]"))
    assert tab.path == "/"
    assert wallet.chain_id in wallets.accepted_chains()


def test_an_unlinked_wallet_is_told_how_to_get_in(tab: Page, live_server: Any) -> None:
    wallet_tab(tab, live_server)
    tab.click("[data-wallet-start]")
    tab.wait_text("No account has this wallet: sign up with it", "[data-wallet-status]")
    assert [problem for problem in tab.problems if "404" in problem]
    tab.problems.clear()  # the browser writes every answer of 400 or more to the console


def test_several_wallets_are_offered_by_name(tab: Page, live_server: Any, alice: User) -> None:
    """EIP-6963: each extension announces itself."""
    wallet = Wallet()
    wallets.link(alice, wallet.address)
    tab.inject(wallet)
    announce = """
      window.addEventListener("eip6963:requestProvider", () => {
        for (const name of ["First", "Second"]) window.dispatchEvent(new CustomEvent("eip6963:announceProvider",
          { detail: { info: { uuid: name, name, icon: "", rdns: "x" }, provider: window.ethereum } }));
      });"""
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=announce)
    tab.open(f"{live_server.url}/login")
    tab.click("[data-wallet-start]")
    tab.wait_text("Use Second")
    assert tab.evaluate("document.activeElement.textContent") == "Use First"
    tab.following(lambda: tab.click(".wallet-buttons button:last-child"))
    assert tab.path == "/"


def test_a_lost_connection_says_so(tab: Page, live_server: Any, alice: User) -> None:
    wallet = wallet_tab(tab, live_server)
    wallets.link(alice, wallet.address)
    tab.call(
        "Network.emulateNetworkConditions",
        offline=True,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    tab.click("[data-wallet-start]")
    tab.wait_text("Maxxit cannot be reached. Check your connection and try again.", "[data-wallet-status]")
    tab.call(
        "Network.emulateNetworkConditions",
        offline=False,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    tab.problems.clear()
    tab.following(lambda: tab.click("[data-wallet-start]"))
    assert tab.path == "/"


# -- settings


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_settings_at_both_widths(tab: Page, live_server: Any, alice: User, colours: str) -> None:
    wallets.link(alice, Wallet().address)
    create_key(alice, "the spreadsheet of my accountant", ["read", "rules"], by="test")
    session(tab, live_server, alice)
    Client(headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}).force_login(alice)
    if colours == "dark":
        tab.dark()
    for name in ("", "/password", "/wallets", "/sessions", "/keys", "/export", "/close"):
        tab.open(f"{live_server.url}/settings{name}")
        shot(tab, f"settings{name.replace('/', '-')}-{colours}")
    tab.open(f"{live_server.url}/second-factor")
    shot(tab, f"second-factor-{colours}")


def test_a_session_that_ends_while_typing_loses_nothing(tab: Page, live_server: Any, alice: User) -> None:
    session(tab, live_server, alice)
    tab.open(f"{live_server.url}/settings/keys")
    tab.type("#id_name", "my spreadsheet")
    tab.click("input[value=rules]")
    BrowserSession.objects.all().delete()
    tab.following(lambda: tab.click("form[data-draft] button[type=submit]"))
    assert tab.path == "/login?next=/settings/keys"
    log_in(tab)
    assert tab.path == "/settings/keys"
    tab.wait_text("What you typed before is back.")
    assert tab.evaluate("document.querySelector('#id_name').value") == "my spreadsheet"
    assert tab.evaluate("document.querySelector('input[value=rules]').checked")
    shot(tab, "draft")
    tab.following(lambda: tab.click("form[data-draft] button[type=submit]", clicks=2))
    tab.wait_text("Copy it now")
    secret = re.search(r"mxk_[\w-]{20,}", tab.text())
    assert secret
    shot(tab, "new-key")
    assert [row.scopes for row in ApiKey.objects.all()] == [["read", "rules"]]
    tab.open(f"{live_server.url}/settings/keys")
    assert "What you typed before" not in tab.text()  # it was sent
    assert secret[0] not in tab.text()


def test_a_draft_is_discarded_on_demand_and_when_logging_out(
    tab: Page, live_server: Any, alice: User
) -> None:
    session(tab, live_server, alice)
    tab.open(f"{live_server.url}/settings/keys")
    tab.type("#id_name", "draft one")
    tab.open(f"{live_server.url}/settings/keys")
    tab.wait("document.querySelector('.notice button') !== null")
    tab.click(".notice button")
    tab.wait("document.querySelector('#id_name').value === ''")
    tab.type("#id_name", "draft two")
    tab.following(lambda: tab.click("form[data-log-out] button"))
    assert tab.evaluate("Object.keys(sessionStorage).filter((name) => name.startsWith('draft:')).length") == 0


def test_a_page_from_before_the_login_says_that_nothing_was_sent(
    tab: Page, live_server: Any, alice: User
) -> None:
    session(tab, live_server, alice)
    tab.open(f"{live_server.url}/settings/keys")
    tab.type("#id_name", "my spreadsheet")
    tab.call("Network.deleteCookies", name="csrftoken", url=live_server.url)
    tab.following(lambda: tab.click("form[data-draft] button[type=submit]"))
    tab.wait_text("Nothing was sent")
    tab.problems.clear()  # status 403
    tab.following(lambda: tab.click("main a"))
    assert tab.evaluate("document.querySelector('#id_name').value") == "my spreadsheet"


def test_a_customer_chooses_a_time_zone(tab: Page, live_server: Any, alice: User) -> None:
    session(tab, live_server, alice)
    tab.open(f"{live_server.url}/settings")
    tab.type("#id_time_zone", "Mars/Base")
    tab.following(lambda: tab.click("form[data-draft] button[type=submit]"))
    assert "Mars/Base is no time zone" in tab.text("#id_time_zone_error")
    tab.type("#id_time_zone", "Asia/Kolkata")
    tab.following(lambda: tab.click("form[data-draft] button[type=submit]"))
    assert "Asia/Kolkata (UTC+05:30)" in tab.text("footer")


def test_a_customer_links_and_unlinks_a_wallet(tab: Page, live_server: Any, alice: User) -> None:
    session(tab, live_server, alice)
    wallet = wallet_tab(tab, live_server, "/settings/wallets")
    tab.following(lambda: tab.click("[data-wallet-start]"))
    tab.wait_text(f"{wallet.address} is linked")
    assert "Link this wallet to the Maxxit account alice." in wallet.signed[0]
    tab.following(lambda: tab.click("[name=unlink]"))
    tab.wait_text("is unlinked")
    assert not alice.wallets.exists()


def test_a_customer_closes_the_account(tab: Page, live_server: Any, alice: User) -> None:
    session(tab, live_server, alice)
    tab.open(f"{live_server.url}/settings/close")
    tab.type("#id_username", "alice")
    tab.type("#id_password", PASSWORD)
    tab.following(lambda: tab.click("button.danger"))
    tab.wait_text("Your account is closed.")
    assert not User.objects.filter(username="alice").exists()
    tab.open(f"{live_server.url}/settings")
    assert tab.path == "/login?next=/settings"


def test_a_newcomer_has_a_running_paper_agent_after_a_dozen_clicks(
    tab: Page, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (following, agents):
        monkeypatch.setattr(module, "post_sources", lambda: ("x",))
    for name in ("alice_fx", "bob_fx", "carla_fx"):
        make.account(username=name, source="x")
    clicks = 0

    def click(selector: str, *, leaves: bool = False) -> None:
        nonlocal clicks
        clicks += 1
        if leaves:
            tab.following(lambda: tab.click(selector))
        else:
            tab.click(selector)

    tab.open(f"{live_server.url}/sign-up")
    tab.type("#id_username", "carol")
    tab.type("#id_password1", PASSWORD)
    tab.type("#id_password2", PASSWORD)
    click("button[type=submit]", leaves=True)
    click("nav a[href='/agents']", leaves=True)
    shot(tab, "agents-empty")
    click("main a[href='/start']", leaves=True)
    for name in ("alice_fx", "bob_fx", "carla_fx"):
        click(f"input[value={name}]")
    tab.evaluate("document.querySelector('#id_capital').value = ''")
    tab.type("#id_capital", "500")
    tab.evaluate("document.querySelector('#id_sizing_preset').value = 'conservative'")
    click("button[value=check]", leaves=True)
    shot(tab, "start-refused")
    assert "with 500 USDC, conservative would place orders" in tab.text("main")
    tab.evaluate("document.querySelector('#id_sizing_preset').value = 'moderate'")
    click("button[value=start]", leaves=True)

    assert tab.path == "/agents"
    tab.wait_text("trades on paper now")
    shot(tab, "agents")
    assert Deployment.objects.get().state == "active"
    assert clicks <= 12


def test_an_owner_sets_a_limit_and_answers_an_entry(
    tab: Page, live_server: Any, alice: User, no_approval_file: object
) -> None:
    make.price("ETH", "2000")
    make.open_gate()
    deployment = make.booked_deployment(make.agent(), owner=alice)
    session(tab, live_server, alice)
    tab.open(f"{live_server.url}/agents")
    tab.following(lambda: tab.click(f"a[href='/agents/{deployment.pk}/limits']"))
    tab.type("#id_max_daily_usd", "2500")
    tab.click("#id_confirm_entries")
    shot(tab, "limits")
    tab.following(lambda: tab.click("form[data-draft] button[type=submit]"))
    tab.wait_text("It holds from the next order on")
    make.signal(deployment.agent)
    execute_pass()
    tab.open(f"{live_server.url}/")
    tab.following(lambda: tab.click("a[href='/confirmations']"))
    tab.wait_text("Buy ETH")
    shot(tab, "confirmations")
    tab.following(lambda: tab.click("form[action$='/confirm'] button"))
    tab.wait_text("ETH: confirmed")
    assert Order.objects.get().confirmed_at is not None
