"""The adapter and the fake broker in one process, for the tests of this folder and the contract of all venues."""

from contextlib import ExitStack
from decimal import Decimal
from functools import cache
from typing import Any

from tests.trading.venues.alpaca.server import Server, alpaca
from trading.venues.alpaca.access import Access
from trading.venues.alpaca.client import Client, Keys
from trading.venues.alpaca.venue import AlpacaVenue

_servers = ExitStack()


class KnownKeys(AlpacaVenue):
    """The adapter; each account's key is its own name, and the broker opens the account when it is asked for."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(base_url=server.url, **options)
        self.client = client_of(server.url)  # one for all tests, so that no connection is left open
        self.client._paused.clear()
        self.access = Access(self.client)
        self.server = server
        self.wrong: set[str] = set()
        """Accounts whose secret was changed at the broker."""

    def _keys(self, account: str) -> Keys:
        secret = self.server.broker.account(account).secret
        return Keys(account, "before" if account in self.wrong else secret)


@cache
def client_of(url: str) -> Client:
    """Return the one client of this process."""
    return Client(url)


@cache
def running() -> Server:
    """Return the fake of this process; it ends with the process."""
    return _servers.enter_context(alpaca())


def fresh() -> Server:
    """Return the fake with nothing in it but prices: AAPL and ETH as stocks, BTC/USD and SOL/USD as crypto."""
    server = running()
    server.reset()
    server.broker.price("AAPL", "200")
    server.broker.price("ETH", "2000")
    server.broker.price("BTC/USD", "50000")
    server.broker.price("SOL/USD", "100")
    return server


def contract_venue(depth: str = "") -> AlpacaVenue:
    """Return a venue for the contract: ETH is a stock of which the accounts hold enough to sell."""
    server = fresh()
    server.broker.price("BTC", "50000")
    server.broker.depth = Decimal(depth) if depth else None
    server.broker.refuses_other_side = False  # the contract buys and sells at the same time
    for account in ("contract:1", "contract:2"):
        server.broker.account(account, held={"ETH": Decimal(100)})
    return KnownKeys(server, stocks=("AAPL", "ETH", "BTC"), shorts=True)
