"""What `tests.conformance.serve` can ask of the fake of Coinbase Advanced."""

import json
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

from maxxit.core import clock
from tests.trading.venues.coinbase.server import Server
from tests.trading.venues.coinbase.socket import Socket
from tests.trading.venues.coinbase.tokens import issue
from tests.trading.venues.coinbase.world import KnownKeys
from trading.venues.base import Request


class CoinbaseScenes:
    """One fake, for the methods below."""

    coinbase: Server
    coinbase_socket: Socket

    def coinbase_opens(self, key: str, kind: str) -> str:
        """Forget everything but the requests, open a portfolio, set prices; return the private key of its API key."""
        self.coinbase.faults.clear()
        self.coinbase.exchange.reset()
        self.coinbase.exchange.updates.append(self.coinbase_socket.update)
        issued = issue(kind)
        self.coinbase.exchange.portfolio(key, issued)
        for symbol, usd in (("ETH", "2000"), ("BTC", "50000")):
            self.coinbase.exchange.price(symbol, usd)
        return issued.secret

    def coinbase_sets(self, **settings: Any) -> None:
        """Change the exchange: `fills`, `page`, `skew_seconds`, or what every portfolio holds of ETH, `eth`."""
        exchange = self.coinbase.exchange
        exchange.skew = timedelta(seconds=settings.pop("skew_seconds", 0))
        if eth := settings.pop("eth", ""):
            for portfolio in exchange.portfolios.values():
                portfolio.held["ETH"] = Decimal(eth)
        for name, value in settings.items():
            setattr(exchange, name, value)

    def coinbase_fills(self, key: str, order: str, size: str) -> None:
        """Execute some of an order."""
        self.coinbase.exchange.fill(self.coinbase.exchange.portfolio(key), order, size)

    def coinbase_fault(self, name: str, method: str, path: str) -> None:
        """Let the next request that fits go wrong."""
        self.coinbase.misbehaves(name, method, path)

    def coinbase_ours(self, key: str, symbol: str, quantity: str) -> list[dict[str, Any]]:
        """Do by our adapter what it does with an account; return the requests."""
        ours = KnownKeys(self.coinbase)
        keys, deadline = ours._keys(key), clock.now() + timedelta(minutes=5)
        entry, leaving = (
            ours.prepare(
                Request(
                    f"mx-{purpose}", key, symbol, side, purpose, Decimal(quantity), Decimal(2000), deadline
                )
            )
            for side, purpose in (("buy", "open"), ("sell", "close"))
        )
        before = len(self.coinbase.requests)
        ours.problem(1, key, symbol, "open")
        ours._preview(keys, symbol, "buy", Decimal(quantity) * 2000, Decimal(2000))
        ours.send(entry)
        self.coinbase_fills(key, json.loads(entry.payload["body"])["client_order_id"], "0.1")
        ours.find(entry.ref)
        KnownKeys(self.coinbase).find(entry.ref)
        ours.send(leaving)
        ours.cancel(leaving.ref)
        ours.access.key_access(keys)
        ours.client.clock_skew()
        asked = [asdict(one) for one in self.coinbase.requests[before:]]
        del self.coinbase.requests[before:]
        return asked

    def coinbase_asked(self) -> list[dict[str, Any]]:
        """Return every request since the last `coinbase_lines`."""
        return [asdict(one) for one in self.coinbase.requests]

    def coinbase_lines(self) -> list[str]:
        """Return method and path of every request since the last call."""
        lines = self.coinbase.lines()
        self.coinbase.requests.clear()
        return lines

    def coinbase_subscribed(self) -> list[dict[str, Any]]:
        """Return and forget what clients of the user stream sent."""
        received, self.coinbase_socket.received = self.coinbase_socket.received, []
        return received
