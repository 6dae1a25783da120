"""What `tests.conformance.serve` can ask of the fake of Hyperliquid."""

import json
from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from unittest.mock import patch

from maxxit.core import clock
from tests.trading.venues.hyperliquid.server import Server
from tests.trading.venues.hyperliquid.world import KnownKeys, agent_address, keys_of, main_wallet
from trading.venues.base import Request
from trading.venues.hyperliquid import nonces
from trading.venues.hyperliquid.wire import Builder


class HyperliquidScenes:
    """One fake, for the methods below."""

    hyperliquid: Server

    def hyperliquid_opens(self, name: str) -> dict[str, str]:
        """Open an account in a fresh world; return its main wallet's key, its address and its agent's key."""
        self.hyperliquid.reset()
        exchange = self.hyperliquid.exchange
        for coin, usd in (("BTC", "50000"), ("ETH", "2000"), ("SOL", "100")):
            exchange.price(coin, usd)
        keys = keys_of(name)
        exchange.approve(exchange.account(keys.address), agent_address(keys.agent_key))
        return {"main": main_wallet(name), "address": keys.address, "agent": keys.agent_key}

    def hyperliquid_price(self, coin: str, usd: str) -> None:
        """Set a price."""
        self.hyperliquid.exchange.price(coin, usd)

    def hyperliquid_pays(self, address: str, coin: str, usdc: str) -> None:
        """Pay funding."""
        self.hyperliquid.exchange.pay_funding(self.hyperliquid.exchange.accounts[address], coin, usdc)

    def hyperliquid_liquidates(self, address: str, coin: str, usd: str) -> None:
        """Liquidate a position."""
        self.hyperliquid.exchange.liquidate(self.hyperliquid.exchange.accounts[address], coin, usd)

    def hyperliquid_fault(self, name: str, kind: str) -> None:
        """Let the next request of this type go wrong."""
        self.hyperliquid.misbehaves(name, kind)

    def hyperliquid_kinds(self) -> list[str]:
        """Return path and type of every request since the last call."""
        lines = [one.line for one in self.hyperliquid.requests]
        self.hyperliquid.requests.clear()
        return lines

    def hyperliquid_asked(self) -> list[dict[str, Any]]:
        """Return every request since the last `hyperliquid_kinds`, without forgetting it."""
        return [asdict(one) | {"body": json.loads(one.body)} for one in self.hyperliquid.requests]

    def hyperliquid_ours(self, name: str, side: str, purpose: str, builder: str) -> list[dict[str, Any]]:
        """Send an order by our adapter, look it up and read the account; return the requests."""
        ours, numbers = KnownKeys(self.hyperliquid), count(nonces.milliseconds(clock.now()))
        ours.builder = Builder(builder, 50)
        ours.signer = type(ours.signer)(_with_builder(ours.signer.policy, ours.builder), ours.signer.mainnet)
        deadline = clock.now() + timedelta(minutes=5)
        request = Request(
            "mx-ours",
            name,
            "ETH",
            side,
            purpose,
            Decimal("0.4"),
            Decimal(2000),
            deadline,
            leverage=Decimal(3),
        )
        before = len(self.hyperliquid.requests)
        with (
            patch.object(nonces, "take_many", lambda *asked: {name: next(numbers) for name in asked[2]}),
            patch.object(nonces, "notional_of_day", lambda *_: {}),
            patch.object(ours, "_prices", lambda _: {"ETH": Decimal(2000)}),
        ):
            prepared = ours.prepare(request)
            ours.send(prepared)
        ours.find(prepared.ref)
        ours.balances(name)
        ours.key_access({"address": keys_of(name).address, "agent_key": keys_of(name).agent_key})
        asked = [asdict(one) | {"body": json.loads(one.body)} for one in self.hyperliquid.requests[before:]]
        del self.hyperliquid.requests[before:]
        return asked


def _with_builder(policy: Any, builder: Builder) -> Any:
    return replace(policy, builder=builder)
