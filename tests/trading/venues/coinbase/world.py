"""The adapter and the fake exchange in one process, for the tests of this folder and the contract of all venues."""

from contextlib import ExitStack
from decimal import Decimal
from functools import cache
from typing import Any

from maxxit.core import clock
from tests.trading.venues.coinbase.server import Server, coinbase
from tests.trading.venues.coinbase.tokens import issue
from trading.venues.coinbase.access import Access
from trading.venues.coinbase.client import Client
from trading.venues.coinbase.token import Keys
from trading.venues.coinbase.venue import CoinbaseVenue

_servers = ExitStack()


class KnownKeys(CoinbaseVenue):
    """The adapter; each account's key is its own name, and the exchange opens the portfolio when it is asked for."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(base_url=server.url, **options)
        self.client = client_of(server.url)  # one for all tests, so that no connection is left open
        self.client._paused.clear()
        self.access = Access(self.client)
        self.server = server
        self.wrong: set[str] = set()
        """Accounts whose key was changed at the exchange."""

    def _keys(self, account: str) -> Keys:
        issued = self.server.exchange.portfolio(account).issued
        return Keys.parse(account, other_secret() if account in self.wrong else issued.secret)


@cache
def other_secret() -> str:
    """Return a key that the exchange does not know."""
    return issue().secret


@cache
def client_of(url: str) -> Client:
    """Return the one client of this process."""
    return Client(url)


@cache
def running() -> Server:
    """Return the fake of this process; it ends with the process."""
    return _servers.enter_context(coinbase())


def fresh() -> Server:
    """Return the fake with nothing in it but prices: ETH, BTC and SOL."""
    server = running()
    server.reset()
    for symbol, usd in (("ETH", "2000"), ("BTC", "50000"), ("SOL", "100")):
        server.exchange.price(symbol, usd)
    return server


def contract_venue(depth: str = "") -> CoinbaseVenue:
    """Return a venue for the contract: its accounts hold enough ETH to sell, and its clock stands still as ours."""
    server, now = fresh(), clock.now()
    server.exchange.time = lambda: now
    server.exchange.depth = Decimal(depth) if depth else None
    for account in ("contract:1", "contract:2"):
        server.exchange.portfolio(account).held |= {"ETH": Decimal(100)}
    return KnownKeys(server)
