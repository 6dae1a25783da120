"""The way in, in a real browser: login, sign-up, wallets, drafts, double clicks, widths, keyboard, console."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from maxxit.access import wallets
from maxxit.access.models import BrowserSession, UserSettings
from tests.browser import Page, Wallet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

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
    """Keep what the tab shows at both widths, in both colours."""
    for width in (1440, 390):
        tab.size(width)
        assert tab.overflow <= 0, f"{name} is wider than {width} px"
        if SHOTS:
            tab.screenshot(Path(SHOTS) / f"{name}-{width}.png")
    tab.size(1440)


def log_in(tab: Page, name: str = "alice", password: str = PASSWORD) -> None:
    tab.type("#id_username", name)
    tab.type("#id_password", password)
    tab.following(lambda: tab.press("Enter"))


def session(tab: Page, live_server: Any, person: User) -> None:
    """Log in without the form."""
    from django.test import Client

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
