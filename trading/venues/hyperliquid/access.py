"""What an account allows now, and at what price a market would fill an order; each answer is kept for some seconds."""

from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from maxxit.core import clock
from maxxit.core.money import ZERO
from maxxit.core.terms import OrderSide
from trading.reasons import Reason
from trading.venues.cache import Cache
from trading.venues.hyperliquid import accounts
from trading.venues.hyperliquid.client import Client, Keys
from trading.venues.hyperliquid.wire import Builder

TERMS_SECONDS, AGENTS_SECONDS, BOOK_SECONDS = 300, 600, 2
"""How long an account's mode and approvals are used again for its entries, its agents for the alarm, an order book."""
Levels = list[tuple[Decimal, Decimal]]
"""(USD, tokens), the best first."""


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """What an account allows now."""

    agents: tuple[accounts.Agent, ...]
    mode: str
    builder_approved: bool


class Access:
    """Reads agents, approvals and order books. `builder`: whom each order pays a fee; None for nobody."""

    def __init__(self, client: Client, builder: Builder | None) -> None:
        self._client, self._builder, self._cache = client, builder, Cache()

    def terms(self, keys: Keys) -> AccountTerms:
        """Return what an account allows."""

        def ask() -> AccountTerms:
            address, builder = keys.address, self._builder
            return AccountTerms(
                tuple(accounts.read_agents(self._client, address)),
                accounts.mode_of(self._client, address),
                builder is None or accounts.builder_is_approved(self._client, address, builder),
            )

        return self._cache.read(("terms", keys.address), TERMS_SECONDS, ask)

    def problem(self, keys: Keys) -> str:
        """Return the reason code why an account may open nothing now; empty where it may."""
        terms, own = self.terms(keys), accounts.agent_address(keys.agent_key)
        valid = {agent.address for agent in terms.agents if agent.valid_until > clock.now()}
        if own not in valid:
            return Reason.AGENT_EXPIRED
        if valid - {own}:
            return Reason.UNKNOWN_AGENT
        if terms.mode not in accounts.PLAIN_MODES:
            return Reason.ACCOUNT_MODE
        return "" if terms.builder_approved else Reason.BUILDER_FEE_NOT_APPROVED

    def strangers(self, keys: Keys) -> list[accounts.Agent]:
        """Return the valid agents of an account that are not ours."""
        ask = partial(accounts.read_agents, self._client, keys.address)
        agents = self._cache.read(("agents", keys.address), AGENTS_SECONDS, ask)
        own, now = accounts.agent_address(keys.agent_key), clock.now()
        return [agent for agent in agents if agent.address != own and agent.valid_until > now]

    def average_price(self, coin: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the average price, USD, at which the order book would fill `cash` USDC; None where it is too thin."""
        bids, asks = self._cache.read(("book", coin), BOOK_SECONDS, partial(self._book, coin))
        left, tokens = cash, ZERO
        for price, size in asks if side == OrderSide.BUY else bids:
            taken = min(left, price * size)
            tokens += taken / price
            left -= taken
            if not left:
                return cash / tokens
        return None

    def _book(self, coin: str) -> tuple[Levels, ...]:
        """Return bids and asks of a market."""
        levels = self._client.info_object("l2Book", "levels", coin=coin)["levels"]
        return tuple([(Decimal(one["px"]), Decimal(one["sz"])) for one in side] for side in levels)
