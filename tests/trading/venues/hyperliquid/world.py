"""The adapter and the fake exchange in one process, for the tests of this folder and the contract of all venues."""

from contextlib import ExitStack
from decimal import Decimal
from functools import cache
from typing import Any

from eth_utils.crypto import keccak

from maxxit.core import clock
from tests.trading.venues.hyperliquid.exchange import Account
from tests.trading.venues.hyperliquid.server import Server, hyperliquid
from trading.venues.hyperliquid.access import Access
from trading.venues.hyperliquid.accounts import agent_address
from trading.venues.hyperliquid.client import Client, Keys
from trading.venues.hyperliquid.markets import Listing
from trading.venues.hyperliquid.venue import HyperliquidVenue

_servers = ExitStack()
MARKETS = {"BTC": {"asset": 0, "sz_decimals": 5}, "ETH": {"asset": 1, "sz_decimals": 4}}
OPTIONS: dict[str, Any] = {
    "network": "testnet",
    "markets": MARKETS,
    "daily_notional_usd": 100_000,
    "shorts": True,
    "max_leverage": Decimal(5),
}


def keys_of(account: str) -> Keys:
    """Return the keys of an account of a test: both follow from its name."""
    main, agent = ("0x" + keccak(text=f"{part} of {account}").hex() for part in ("main wallet", "agent"))
    return Keys(agent_address(main), agent)


def main_wallet(account: str) -> str:
    """Return the key of an account's main wallet."""
    return "0x" + keccak(text=f"main wallet of {account}").hex()


class KnownKeys(HyperliquidVenue):
    """The adapter; the exchange opens an account, with its agent, when it is asked for."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(**OPTIONS | {"base_url": server.url} | options)
        self.client = client_of(server.url)  # one for all tests, so that no connection is left open
        self.client.forget_limits()
        self.listing = Listing(self.client)
        self.access = Access(self.client, self.builder)
        self.server = server

    def _keys(self, account: str) -> Keys:
        self.account(account)
        return keys_of(account)

    def account(self, name: str, **fields: Any) -> Account:
        """Return an account of the exchange, opened with its agent at first."""
        keys = keys_of(name)
        known = keys.address in self.server.exchange.accounts
        account = self.server.exchange.account(keys.address, **fields)
        if not known:
            self.server.exchange.approve(account, agent_address(keys.agent_key))
        return account


@cache
def client_of(url: str) -> Client:
    """Return the one client of this process."""
    return Client(url)


@cache
def running() -> Server:
    """Return the fake of this process; it ends with the process."""
    return _servers.enter_context(hyperliquid())


def fresh() -> Server:
    """Return the fake with nothing in it but prices; its clock stands at the present time of the product's."""
    server, now = running(), clock.now()
    server.reset()
    server.exchange.time = lambda: now
    for coin, usd in (("BTC", "50000"), ("ETH", "2000"), ("SOL", "100")):
        server.exchange.price(coin, usd)
    return server


def contract_venue(depth: str = "") -> HyperliquidVenue:
    """Return a venue for the contract."""
    server = fresh()
    server.exchange.depth = Decimal(depth) if depth else None
    return KnownKeys(server)
