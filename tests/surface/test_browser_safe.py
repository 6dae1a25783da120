"""A wallet agent in a real browser on the local chain: wizard, one signature, deposit, Wallet, revocation."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache

from agents import following
from agents.models import Deployment
from maxxit.access import wallets
from maxxit.access.models import BrowserSession
from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.world import Builder, local_key, read
from maxxit.web import agents
from tests import builders as make
from tests.browser import Page
from tests.browser_wallet import ChainWallet
from tests.chain.lab import USDC
from tests.chain.sending.conftest import (  # noqa: F401  # fixtures
    environment,
    executor_keystore,
    sending_lab,
    trader,
)
from tests.chain.sending.safe_trader import SafeTrader
from tests.surface.test_browser import PASSWORD, session, shot
from trading.chain.models import SafePlan
from trading.venues.base import Request
from trading.venues.safe import onboarding, plans, snapshot, verify

pytestmark = [pytest.mark.browser, pytest.mark.chain, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def alice() -> Iterator[User]:
    cache.clear()
    yield User.objects.create_user("alice", password=PASSWORD)
    cache.clear()


@pytest.fixture
def chain(trader: SafeTrader, monkeypatch: pytest.MonkeyPatch) -> SafeTrader:  # noqa: F811
    """The local chain, and an account that may be followed."""
    for module in (following, agents):
        monkeypatch.setattr(module, "post_sources", lambda: ("x",))
    make.account(username="alice_fx", source="x")
    policy = snapshot.safe_policy()
    # The machine may be busy. A read that a page of the test before began, and that fails now, must not count as a
    # chain that is away: a mark that is kept refuses the next start.
    pages = policy.pages.model_copy(update={"read_seconds": 20, "retry_seconds": 0})
    monkeypatch.setattr(snapshot, "safe_policy", lambda: policy.model_copy(update={"pages": pages}))
    return trader


@pytest.fixture
def wallet(chain: SafeTrader, tab: Page) -> ChainWallet:
    made = ChainWallet(chain.world.rpc_url, local_key("rogue"))
    tab.inject(made)
    return made


@pytest.fixture
def visit(tab: Page, live_server: Any, alice: User) -> Callable[[str], None]:
    session(tab, live_server, alice)
    return lambda path: tab.open(f"{live_server.url}{path}")


def start(tab: Page, visit: Callable[[str], None], capital: str = "500") -> Deployment:
    """Through the wizard to the page of the Safe."""
    visit("/start")
    tab.click("input[value=alice_fx]")
    tab.click("input[name=money][value=safe]")
    tab.evaluate("document.querySelector('#id_capital').value = ''")
    tab.type("#id_capital", capital)
    tab.following(lambda: tab.click("button[value=start]", clicks=2))
    assert tab.path != "/start", tab.text("main")  # what the form refused
    deployment = Deployment.objects.get()
    assert tab.path == f"/wallet/{deployment.pk}/setup"
    return deployment


def module_on(chain: SafeTrader, safe: str) -> bool:
    answer: bool = read(
        chain.lab.rpc, safe, encode_call("isModuleEnabled(address)", chain.world.module), ["bool"]
    )[0]
    return answer


def test_a_new_safe_in_one_signature_then_deposit_and_revocation(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet
) -> None:
    deployment = start(tab, visit)
    assert deployment.state == "draft"
    assert "at most 37.50 USDC a day, 100.00 in all" in tab.text(".permission")
    shot(tab, "safe-choose")
    tab.click("#connect", clicks=2)
    tab.wait_text("Sign: create the Safe with these limits")
    assert "spend 10.00 USDC to 100.00 USDC a trade" in tab.text(".permission")
    shot(tab, "safe-sign")
    tab.click("#sign", clicks=2)
    tab.wait_text("trades from your Safe")
    tab.wait_text("Send 500.00 USDC to your Safe")
    shot(tab, "safe-deposit")

    assert len(wallet.sent) == 1
    assert wallet.signed == []
    deployment.refresh_from_db()
    agent = deployment.agent
    assert (deployment.state, agent.state, deployment.module_enabled) == ("active", "active", True)
    assert deployment.verified_at is not None
    assert module_on(chain, deployment.safe_wallet)
    assert SafePlan.objects.get(safe=deployment.safe_wallet).policy["max_trade"] == 100 * USDC

    chain.world.mint("USDC", wallet.address, 500 * USDC)
    tab.click("#transfer")
    tab.wait("!document.querySelector('#transfer')")
    tab.wait_text("500.00 of 500.00", "#safe-usdc")

    visit("/wallet")
    tab.wait_text("500.00")
    assert "Loss budget of 24 hours" in tab.text(".gauges")
    assert "0.00 of 37.50 USDC used, 37.50 left" in tab.text(".gauges")
    bought = chain.trade(quantity="0.03", account=deployment.safe_wallet, trade=f"{deployment.pk}/1")
    assert bought.state == "filled"
    tab.wait_text("0.02998", ".wallets .results")  # without a reload
    tab.wait_text("75.00 of 500.00 USDC used", ".gauges")
    shot(tab, "wallet")
    tab.click(f"#revoke-{deployment.pk} summary")
    tab.wait(f"document.querySelector('#revoke-{deployment.pk}').open")
    assert f"and ends {agent.name} for good" in tab.text(f"#revoke-{deployment.pk}")
    shot(tab, "wallet-revoke")
    tab.click(f"#revoke-cancel-{deployment.pk}")
    tab.wait_text("Nothing was changed.")
    tab.click(f"#revoke-{deployment.pk} summary")
    tab.click(f"#revoke-now-{deployment.pk}", clicks=2)
    tab.wait_text(f"The module is off. {agent.name} ended.")
    tab.wait_text("module off")
    shot(tab, "wallet-revoked")
    deployment.refresh_from_db()
    assert deployment.state == "revoked"
    assert not module_on(chain, deployment.safe_wallet)
    assert len(wallet.sent) == 3


def filled(chain: SafeTrader, request: Request) -> bool:
    """Send an order and return whether it is filled."""
    report = chain.venue.find(chain.send(request))
    return report is not None and report.state == "filled"


def test_the_limits_of_a_safe_that_trades_are_changed_and_exits_go_on_meanwhile(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet
) -> None:
    deployment = start(tab, visit)
    tab.click("#connect")
    tab.wait_text("Sign: create the Safe with these limits")
    tab.click("#sign")
    tab.wait_text("trades from your Safe")
    deployment.refresh_from_db()
    safe = deployment.safe_wallet
    chain.world.mint("USDC", safe, 500 * USDC)
    entry = chain.request(quantity="0.03", account=safe, trade=f"{deployment.pk}/1")
    assert filled(chain, entry)

    visit("/wallet")
    tab.wait_text("Change the limits")
    tab.following(lambda: tab.click(f"#limits-{deployment.pk}"))
    tab.type("#id_max_trade", "2000")
    tab.following(lambda: tab.click("main button[type=submit]"))
    tab.wait_text("Enter 10.00 USDC to 1,000.00 USDC, not 2,000.00 USDC.")
    assert tab.evaluate("document.querySelector('#id_max_trade').value") == "2000"
    tab.problems.clear()  # Chromium logs each answer 422
    tab.type("#id_max_trade", "30")
    tab.type("#id_total_loss_budget", "60")
    shot(tab, "safe-limits")
    tab.following(lambda: tab.click("main button[type=submit]", clicks=2))
    assert tab.path == f"/wallet/{deployment.pk}/setup"
    tab.wait_text("Sign: set these limits")
    assert "One order\t100.00 USDC\t30.00 USDC" in tab.text(".safe-steps table")
    assert "which a limit of 30.00 USDC an order stops" in tab.text()
    shot(tab, "safe-limits-sign")

    closing = chain.request("close", "0.02", account=safe, trade=f"{deployment.pk}/1")
    assert filled(chain, closing)  # exits do not wait for the signature
    assert SafePlan.objects.filter(safe=safe, verified_at=None).count() == 1

    tab.click("#forget")
    tab.wait_text("trades from your Safe")
    assert SafePlan.objects.get(safe=safe).policy["max_trade"] == 100 * USDC
    visit(f"/wallet/{deployment.pk}/limits")
    tab.type("#id_max_trade", "50")
    tab.following(lambda: tab.click("main button[type=submit]"))
    tab.wait_text("Sign: set these limits")
    tab.click("#sign", clicks=2)
    tab.wait_text("trades from your Safe")
    deployment.refresh_from_db()
    assert (deployment.state, deployment.verified_at is not None) == ("active", True)
    in_force = verify.plan_in_force(31337, safe)
    assert in_force is not None
    assert in_force.policy["max_trade"] == 50 * USDC
    assert plans.limits_for(deployment, plans.chosen_limits(31337, safe)).max_trade == 50 * USDC
    visit("/wallet")
    tab.wait_text("Largest order: 50.00 USDC")

    visit(f"/wallet/{deployment.pk}/limits")
    tab.type("#id_max_trade", "80")
    tab.following(lambda: tab.click("main button[type=submit]"))
    tab.wait_text("A looser limit waits for the delay that you signed before")
    tab.click("#sign")
    tab.wait_text("is pending: in force from")
    shot(tab, "safe-limits-pending")
    assert verify.plan_in_force(31337, safe) == in_force
    closing = chain.request("close", "0.00998", account=safe, trade=f"{deployment.pk}/1")
    assert filled(chain, closing)


def test_what_goes_wrong_is_said_in_words_and_loses_nothing(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet
) -> None:
    deployment = start(tab, visit)
    wallet.refuses.add("eth_requestAccounts")
    tab.click("#connect")
    tab.wait_text("You refused to connect in your wallet. Nothing was signed.", "#safe-status")
    wallet.refuses.clear()

    wallet.chain_id = 1
    wallet.knows = {1}
    tab.click("#connect")
    tab.wait_text("Your wallet is on chain 1. Switch it to Local (31337) and try again.", "#safe-status")
    wallet.knows.add(31337)
    tab.click("#connect")
    tab.wait_text("Sign: create the Safe with these limits")
    assert wallet.chain_id == 31337

    balance = chain.lab.rpc("eth_getBalance", wallet.address, "latest")
    chain.lab.rpc("anvil_setBalance", wallet.address, hex(10**12))
    tab.click("#sign")
    tab.wait_text("ETH", "#safe-status")
    assert "Your wallet has" in tab.text("#safe-status")
    chain.lab.rpc("anvil_setBalance", wallet.address, balance)

    wallet.refuses.add("eth_sendTransaction")
    tab.click("#sign")
    tab.wait_text("You refused to sign in your wallet. Nothing was signed.", "#safe-status")
    shot(tab, "safe-refused")
    wallet.refuses.clear()

    wallet.gas_limit = 300_000
    tab.click("#sign")
    tab.wait_text("Nothing was changed: the transaction was reverted")
    shot(tab, "safe-reverted")
    wallet.gas_limit = 0

    visit(f"/wallet/{deployment.pk}/setup")  # as after a closed browser
    tab.wait_text("Sign: create the Safe with these limits")
    tab.click("#sign")
    tab.wait_text("trades from your Safe")
    deployment.refresh_from_db()
    assert deployment.state == "active"


def test_a_lost_connection_after_signing_is_made_up_for(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet
) -> None:
    """The wallet sent it, Maxxit was not told: the chain tells."""
    deployment = start(tab, visit)
    tab.click("#connect")
    tab.wait_text("Sign: create the Safe with these limits")
    offline(tab, True)
    tab.click("#sign")
    tab.wait_text("Maxxit cannot be reached", "#safe-status")
    assert len(wallet.sent) == 1
    offline(tab, False)
    tab.problems.clear()
    visit(f"/wallet/{deployment.pk}/setup")
    tab.wait_text("trades from your Safe")
    deployment.refresh_from_db()
    assert deployment.state == "active"
    assert SafePlan.objects.get().sent_hash == wallet.sent[0]


def test_what_was_signed_elsewhere_is_found_without_a_second_transaction(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet
) -> None:
    deployment = start(tab, visit)
    tab.click("#connect")
    tab.wait_text("Sign: create the Safe with these limits")
    send = SafePlan.objects.get().onboarding["send"]
    chain.lab.send("rogue", bytes.fromhex(send["data"][2:]), to=send["to"])
    tab.click("#sign")
    tab.wait_text("This Safe exists already: check the chain.", "#safe-status")
    tab.click("#check")
    tab.wait_text("trades from your Safe")
    assert wallet.sent == []
    deployment.refresh_from_db()
    assert deployment.state == "active"


def test_a_session_that_ends_loses_nothing(
    tab: Page,
    visit: Callable[[str], None],
    chain: SafeTrader,
    wallet: ChainWallet,
    live_server: Any,
    alice: User,
) -> None:
    deployment = start(tab, visit)
    BrowserSession.objects.all().delete()
    tab.click("#connect")
    tab.wait_text("Your session has ended. Reload the page and log in again.", "#safe-status")
    session(tab, live_server, alice)
    visit(f"/wallet/{deployment.pk}/setup")
    tab.click("#connect")
    tab.wait_text("Sign: create the Safe with these limits")


def test_of_several_wallets_one_is_chosen_and_the_action_goes_on(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet
) -> None:
    announce = """
      window.addEventListener("eip6963:requestProvider", () => {
        for (const name of ["First", "Second"]) window.dispatchEvent(new CustomEvent("eip6963:announceProvider",
          { detail: { info: { uuid: name, name, icon: "", rdns: "x" }, provider: window.ethereum } }));
      });"""
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=announce)
    start(tab, visit)
    tab.click("#connect")
    tab.wait_text("Use Second")
    tab.wait_text("Choose a wallet first.", "#safe-status")
    tab.click("[data-wallets] button:last-child")
    tab.wait_text("Sign: create the Safe with these limits")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_pages_at_both_widths_and_colours(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet, colours: str
) -> None:
    if colours == "dark":
        tab.dark()
    deployment = start(tab, visit)
    visit("/start")
    shot(tab, f"start-money-{colours}")
    visit("/wallet")
    shot(tab, f"wallet-empty-{colours}")
    visit(f"/wallet/{deployment.pk}/setup")
    tab.click("#connect")
    tab.wait_text("Sign: create the Safe with these limits")
    shot(tab, f"safe-sign-{colours}")
    visit("/wallet")
    tab.wait_text("A plan waits for your signature")
    shot(tab, f"wallet-planned-{colours}")
    visit("/agents")
    tab.wait_text("Continue with the wallet")
    shot(tab, f"agents-safe-{colours}")


def offline(tab: Page, away: bool) -> None:
    tab.call(
        "Network.emulateNetworkConditions",
        offline=away,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )


def test_several_owners_get_a_file_and_the_page_waits_for_them(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet, live_server: Any
) -> None:
    world = chain.world
    safe = Builder(world.rpc_url).safe([wallet.address, world.accounts["owner"]], 2)
    deployment = start(tab, visit)
    tab.click("#existing summary")
    tab.wait("document.querySelector('#existing').open")
    tab.type("#safe-address", safe.lower())
    tab.click("#use-existing")
    tab.wait_text("2 of 2 owners have to sign")
    assert len(wallet.signed) == 1
    assert f"may plan for the Safe {safe}" in wallet.signed[0]
    shot(tab, "safe-several")
    text = tab.evaluate("fetch(document.querySelector('#plan-file').href).then((answer) => answer.text())")
    file = json.loads(text)
    assert (file["version"], file["chainId"]) == ("1.0", "31337")
    assert [call["to"] for call in file["transactions"]] == [safe, world.module]
    deployment.refresh_from_db()
    assert deployment.state == "draft"
    plan = SafePlan.objects.get(safe=safe)
    tx = onboarding.enable_tx(31337, safe, world.module, verify.policy_of(plan), verify.rules_of(plan), 0)
    for role in ("owner", "rogue"):
        tx.sign(local_key(role).hex())
    world.send("owner", safe, onboarding.exec_data(tx))
    tab.wait_text("trades from your Safe")  # without a click
    deployment.refresh_from_db()
    assert deployment.state == "active"

    visit("/wallet")
    tab.wait_text("2 must sign")
    tab.click(f"#revoke-{deployment.pk} summary")
    tab.wait(f"document.querySelector('#revoke-{deployment.pk}').open")
    text = tab.evaluate(
        f"fetch(document.querySelector('#revoke-file-{deployment.pk}').href).then((one) => one.text())"
    )
    assert [call["to"] for call in json.loads(text)["transactions"]] == [world.module, safe]


def test_an_existing_safe_of_one_owner_is_signed_in_the_page(
    tab: Page, visit: Callable[[str], None], chain: SafeTrader, wallet: ChainWallet, alice: User
) -> None:
    """A wallet that logs the customer in needs no further signature than the transaction itself."""
    wallets.link(alice, wallet.address)
    safe = Builder(chain.world.rpc_url).safe([wallet.address])
    deployment = start(tab, visit)
    tab.click("#existing summary")
    tab.wait("document.querySelector('#existing').open")
    tab.type("#safe-address", "0x12")
    tab.click("#use-existing")
    tab.wait_text("0x12 is no address of a Safe", "#safe-status")
    tab.type("#safe-address", wallet.address)
    tab.click("#use-existing")
    tab.wait_text("is not a Safe on chain 31337", "#safe-status")
    tab.problems.clear()  # the browser writes every answer of 400 or more to the console
    tab.type("#safe-address", safe)
    tab.press("Enter")
    tab.wait_text("Sign: set these limits")
    tab.click("#sign")
    tab.wait_text("trades from your Safe")
    deployment.refresh_from_db()
    assert (deployment.state, deployment.safe_wallet) == ("active", safe)
    assert (len(wallet.sent), wallet.signed) == (1, [])
