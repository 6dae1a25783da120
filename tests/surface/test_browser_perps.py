"""Perpetual futures of a Safe in a real browser on the local chain: wizard, signature, Wallet, limits, revocation."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache

from agents import following
from agents.models import Deployment
from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.world import local_key, read
from maxxit.web import agents
from positions.models import Position
from tests import builders as make
from tests.browser import Page
from tests.browser_wallet import ChainWallet
from tests.chain.lab import USDC
from tests.fakes import FakeModel
from tests.surface.test_browser import PASSWORD, session, shot
from tests.trading.venues.gmx.conftest import config, perps_lab, trader  # noqa: F401  # fixtures
from tests.trading.venues.gmx.test_flow import Pipeline
from tests.trading.venues.gmx.world import PerpsTrader
from trading.chain.models import SafePlan
from trading.deployments import wallet_setup
from trading.venues.safe import snapshot

pytestmark = [
    pytest.mark.browser,
    pytest.mark.chain,
    pytest.mark.django_db(transaction=True),
    pytest.mark.limit(240),
]


@pytest.fixture
def alice() -> Iterator[User]:
    cache.clear()
    yield User.objects.create_user("alice", password=PASSWORD)
    cache.clear()


@pytest.fixture
def chain(trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch) -> PerpsTrader:  # noqa: F811
    """The local chain with the PerpModule, and an account that may be followed."""
    for module in (following, agents):
        monkeypatch.setattr(module, "post_sources", lambda: ("x",))
    make.account(username="alice_fx", source="x")
    policy = snapshot.safe_policy()
    pages = policy.pages.model_copy(update={"read_seconds": 10})  # the machine may be busy
    monkeypatch.setattr(snapshot, "safe_policy", lambda: policy.model_copy(update={"pages": pages}))
    return trader


@pytest.fixture
def wallet(chain: PerpsTrader, tab: Page) -> ChainWallet:
    made = ChainWallet(chain.world.rpc_url, local_key("rogue"))
    tab.inject(made)
    return made


@pytest.fixture
def visit(tab: Page, live_server: Any, alice: User) -> Callable[[str], None]:
    session(tab, live_server, alice)
    return lambda path: tab.open(f"{live_server.url}{path}")


def fits_a_phone(tab: Page) -> bool:
    """Whether nothing is wider than 390 px. A phone's window grows with its page, so its own width says nothing."""
    tab.size(390)
    width: int = tab.evaluate("document.documentElement.scrollWidth")
    tab.size(1440)
    return width <= 390


def module_on(chain: PerpsTrader, safe: str) -> bool:
    answer: bool = read(
        chain.lab.rpc, safe, encode_call("isModuleEnabled(address)", chain.lab.perps), ["bool"]
    )[0]
    return answer


def signed(chain: PerpsTrader, owner: User, wallet: ChainWallet) -> Deployment:
    """A deployment with a new Safe of the wallet, verified and active, with 500 USDC."""
    agent = make.agent(venue="gmx", tokens=["ETH"], owner=owner, name="Perps")
    make.account(agent)
    row = make.deployment(
        agent, usdc="0", funded=False, account="gmx:draft", safe_capital=500, state="draft", owner=owner
    )
    made = wallet_setup.plan_new(row, wallet.address)
    assert made.send is not None
    chain.lab.send("rogue", bytes.fromhex(made.send.data[2:]), to=made.send.to)
    chain.world.mint("USDC", made.safe, 500 * USDC)
    assert wallet_setup.verify_and_activate(row, by="alice") == wallet_setup.Verified([])
    row.refresh_from_db()
    return row


def test_from_the_wizard_to_a_safe_that_trades(
    tab: Page, visit: Callable[[str], None], chain: PerpsTrader, wallet: ChainWallet, alice: User
) -> None:
    visit("/start")
    tab.wait_text("perpetual futures at GMX with up to 5x leverage")
    tab.click("input[value=alice_fx]")
    tab.click("input[name=money][value=gmx]")
    tab.evaluate("document.querySelector('#id_capital').value = ''")
    tab.type("#id_capital", "500")
    shot(tab, "perps-start")
    tab.following(lambda: tab.click("button[value=start]", clicks=2))
    deployment = Deployment.objects.get(owner=alice)
    assert tab.path == f"/wallet/{deployment.pk}/setup"
    assert "at most 200.00 USDC a day, 400.00 in all" in tab.text(".permission")
    shot(tab, "perps-choose")

    tab.click("#connect", clicks=2)
    tab.wait_text("Sign: create the Safe with these limits")
    card = tab.text(".permission")
    for part in (
        "collateral of at most 100.00 USDC, leverage of at most 5x, size of at most 500.00 USDC",
        "more than 1 % worse than the price feed",
        "as GMX's execution fee",
        "a liquidation takes the whole collateral of a trade",
    ):
        assert part in card, part
    shot(tab, "perps-sign")
    tab.click("#sign", clicks=2)
    tab.wait_text("trades from your Safe")
    tab.wait_text("Send 500.00 USDC to your Safe")
    shot(tab, "perps-deposit")
    assert (len(wallet.sent), wallet.signed) == (1, [])
    deployment.refresh_from_db()
    safe = deployment.safe_wallet
    assert (deployment.state, deployment.account) == ("active", f"gmx:{safe}")
    assert module_on(chain, safe)

    chain.world.mint("USDC", wallet.address, 500 * USDC)
    tab.click("#transfer")
    tab.wait("!document.querySelector('#transfer')")
    tab.wait_text("500.00 of 500.00", "#safe-usdc")


def test_the_wallet_shows_collateral_and_limits_which_are_changed_and_revoked(
    tab: Page, visit: Callable[[str], None], chain: PerpsTrader, wallet: ChainWallet, alice: User
) -> None:
    deployment = signed(chain, alice, wallet)
    safe = deployment.safe_wallet
    entry = chain.request(quantity="0.05", account=deployment.account, trade=f"{deployment.pk}/1")
    ref = chain.send(entry)
    chain.keep()
    assert chain.find(ref).state == "filled"
    chain.venue_of().balances(deployment.account)
    visit("/wallet")
    tab.wait_text("1 of 12 used, 11 left", ".gauges")
    text = tab.text(".wallets")
    assert "perpetual futures" in text
    assert "USDC of collateral in positions at GMX" in text
    assert "Largest trade: 100.00 USDC of collateral, 5x leverage, 500.00 USDC of size" in text
    shot(tab, "perps-wallet")
    assert fits_a_phone(tab)

    tab.following(lambda: tab.click(f"#limits-{deployment.pk}"))
    tab.type("#id_max_leverage", "7")
    tab.following(lambda: tab.click("main button[type=submit]"))
    tab.wait_text("Enter 1x to 5x, not 7x.")
    tab.problems.clear()  # Chromium logs each answer 422
    tab.type("#id_max_leverage", "3")
    tab.type("#id_max_collateral", "40")
    shot(tab, "perps-limits")
    tab.following(lambda: tab.click("main button[type=submit]", clicks=2))
    tab.wait_text("Sign: set these limits")
    assert "Leverage\t5x\t3x" in tab.text(".safe-steps table")
    shot(tab, "perps-limits-sign")
    tab.click("#sign", clicks=2)
    tab.wait_text("trades from your Safe")
    plan = SafePlan.objects.filter(safe=safe).exclude(verified_at=None).latest("verified_at")
    assert (plan.policy["max_leverage_bps"], plan.policy["max_collateral"]) == (30_000, 40 * USDC)

    visit("/wallet")
    tab.click(f"#revoke-{deployment.pk} summary")
    tab.wait(f"document.querySelector('#revoke-{deployment.pk}').open")
    assert "open positions at GMX" in tab.text(f"#revoke-{deployment.pk}")
    shot(tab, "perps-revoke")
    tab.click(f"#revoke-now-{deployment.pk}", clicks=2)
    tab.wait_text(f"The module is off. {deployment.agent.name} ended.")
    shot(tab, "perps-revoked")
    deployment.refresh_from_db()
    assert deployment.state == "revoked"
    assert not module_on(chain, safe)


def test_a_position_at_gmx_shows_leverage_liquidation_ratio_and_funding(
    tab: Page,
    visit: Callable[[str], None],
    chain: PerpsTrader,
    alice: User,
    tmp_path: Path,
    model: FakeModel,
) -> None:
    chain.deployment.owner = alice
    chain.deployment.save()
    flow = Pipeline(chain, tmp_path, model)
    flow.says("buying $ETH here, this is the bottom")
    flow.run()
    opened = Position.objects.get()
    flow.sound()

    visit("/")
    tab.wait_text("margin ratio")
    row = tab.text("main")
    assert "×, liquidation" in row
    assert "funding" in row
    shot(tab, "perps-positions")
    assert fits_a_phone(tab)
    visit(f"/trades/{opened.pk}")
    for label in (
        "Leverage, isolated margin",
        "Margin, USDC",
        "Liquidation, USD",
        "Margin ratio",
        "Funding, USDC",
    ):
        tab.wait_text(label)
    shot(tab, "perps-trade")
    assert fits_a_phone(tab)

    flow.lab.later(3_600)
    flow.move("0.9")
    chain.keep()
    for _ in range(3):
        flow.keep()
    closed = Position.objects.get()
    assert (closed.state, closed.exit_reason) == ("closed", "stop_loss")
    visit(f"/trades/{closed.pk}")
    tab.wait_text("Funding, USDC")
    shot(tab, "perps-trade-closed")
    assert closed.net_with_funding != Decimal(0)
