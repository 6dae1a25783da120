"""The keys of an account at a broker in a real browser: stored, tested and refused without a reload, at both widths."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.contrib.auth.models import User
from django.test import Client

from agents import following
from maxxit.market.venues import VenuePolicy, venues
from maxxit.web import agents
from tests import builders as make
from tests.browser import Page
from tests.surface.test_browser import shot
from tests.trading.credentials.test_store import Broker
from tests.trading.venues.hyperliquid.world import KnownKeys, fresh
from trading import wiring
from trading.credentials import sealing
from trading.tasks import run_credentials
from trading.venues.base import KeyAccess, Venue

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SECRET = "s3cr3t-canary-4711-do-not-show"


def test_an_agent_at_an_exchange_begins_at_start_and_is_led_to_its_keys(
    tab: Page, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = VenuePolicy(adapter="hyperliquid", shorts=True, max_leverage=Decimal(5), paper=False)
    monkeypatch.setitem(venues(), "hyperliquid", policy)
    exchange, opened = KnownKeys(fresh()), wiring.VENUES.open
    monkeypatch.setattr(
        wiring.VENUES,
        "open",
        lambda adapter, **options: exchange if adapter == "hyperliquid" else opened(adapter, **options),
    )
    wiring.venue.cache_clear()
    for module in (following, agents):
        monkeypatch.setattr(module, "post_sources", lambda: ("x", "jsonl"))
    client = Client()
    client.force_login(User.objects.create_user("alice"))
    tab.cookie("sessionid", client.cookies["sessionid"].value, live_server.url)

    tab.open(f"{live_server.url}/start")
    tab.type("#id_others", "alice_fx")
    tab.click("input[name=money][value=hyperliquid]")
    tab.wait_text("your money stays there")
    shot(tab, "start-exchange")
    tab.following(lambda: tab.click("button[value=start]"))
    tab.wait_text("is set up. Store the keys of its account now.")
    assert "The whole account can be lost" in tab.text()
    shot(tab, "keys-exchange")
    wiring.venue.cache_clear()


def test_keys_are_stored_tested_and_refused_without_a_reload(
    tab: Page, live_server: Any, monkeypatch: pytest.MonkeyPatch, use_venue: Callable[[Venue], None]
) -> None:
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    broker = Broker()
    broker.access = KeyAccess(
        "2a5f-9c11", ("trade stocks", "trade crypto"), may_trade=True, may_withdraw=False
    )
    use_venue(broker)
    alice = User.objects.create_user("alice")
    make.deployment(
        make.agent(owner=alice, name="Broker agent"), owner=alice, state="draft", funded=False, usdc="0"
    )
    client = Client()
    client.force_login(alice)
    tab.cookie("sessionid", client.cookies["sessionid"].value, live_server.url)

    tab.open(f"{live_server.url}/agents")
    tab.following(lambda: tab.click("a[href$='/keys']"))
    tab.wait_text("No keys are stored")
    shot(tab, "keys-none")
    tab.type("#id_key_id", "PK-CANARY-7788")
    tab.type("#id_secret", SECRET)
    tab.following(lambda: tab.click("main form button[type=submit]", clicks=2))
    tab.wait_text("Testing the keys that end in …7788")
    assert SECRET not in tab.evaluate("document.documentElement.outerHTML")
    shot(tab, "keys-testing")
    assert run_credentials() == 1
    tab.wait_text("The keys were tested and stored")  # without a reload
    assert "trade stocks; trade crypto" in tab.text()

    tab.open(f"{live_server.url}{tab.path}")
    shot(tab, "keys")
    broker.access = KeyAccess("2a5f-9c11", ("trade", "transfer"), may_trade=True, may_withdraw=True)
    tab.following(lambda: tab.evaluate("document.querySelector('input[value=test]').form.requestSubmit()"))
    tab.wait_text("Testing the connection")
    assert run_credentials() == 1
    tab.wait_text("The test failed")
    tab.wait_text("may withdraw money")
    shot(tab, "keys-refused")
    tab.following(lambda: tab.evaluate("document.querySelector('input[value=remove]').form.requestSubmit()"))
    tab.wait_text("The keys are removed. Revoke them at the venue as well.")
