"""What a Coinbase product allows now, what an account holds, and what its key may do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from maxxit.core.money import USD, ZERO
from maxxit.market.instruments import instrument
from trading.reasons import Reason
from trading.venues.base import KeyAccess
from trading.venues.cache import Cache
from trading.venues.coinbase.client import Client, Refusal, number, reading
from trading.venues.coinbase.orders import product_of
from trading.venues.coinbase.token import Keys

log = structlog.get_logger(__name__)

PRODUCT_SECONDS, CASH_SECONDS = 60, 15
"""How long a product's rules and an account's cash are used again."""
CLOSED_BY = (
    "trading_disabled",
    "is_disabled",
    "cancel_only",
    "limit_only",
    "post_only",
    "view_only",
    "auction_mode",
)
"""Any of these stops entries: exits are market orders, which each of them refuses."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product's rules."""

    problem: str
    """The reason code why no entry is sent; empty for none."""
    base_increment: Decimal
    """Smallest step of a quantity, tokens."""
    price_increment: Decimal
    """Smallest step of a price, USD."""


class Access:
    """Reads products and accounts; keeps each for some seconds."""

    def __init__(self, client: Client) -> None:
        self._client, self._cache = client, Cache()
        self._price_steps: dict[str, Decimal] = {}

    def price_step(self, symbol: str) -> Decimal:
        """Return the step of a price, USD, without asking: the coarser of our tick and what Coinbase answered last."""
        return max(instrument(symbol).tick, self._price_steps.get(symbol, ZERO))

    def product(self, keys: Keys, symbol: str) -> Product:
        """Return the rules of a token's product against USD."""

        def ask() -> Product:
            try:
                row = self._client.get(keys, f"/products/{product_of(symbol)}", "product_id")
            except Refusal as refusal:
                if refusal.status == 404:
                    return Product(Reason.TOKEN_NOT_LISTED, ZERO, ZERO)
                raise
            with reading(f"product {product_of(symbol)}"):
                product = _product(symbol, row)
            self._price_steps[symbol] = product.price_increment
            return product

        return self._cache.read(("product", symbol), PRODUCT_SECONDS, ask)

    def cash(self, keys: Keys) -> Decimal:
        """Return the USD that the account may spend, without what its open orders hold."""

        def ask() -> Decimal:
            with reading("accounts"):
                rows = [row for row in self._accounts(keys) if row["currency"] == USD]
                return sum((_amount(row, "available_balance") for row in rows), ZERO)

        return self._cache.read(("cash", keys.name), CASH_SECONDS, ask)

    def balances(self, keys: Keys) -> dict[str, Decimal]:
        """Return every asset of the account, with what its open orders hold; USD even if there is none."""
        held = {USD: ZERO}
        with reading("accounts"):
            for row in self._accounts(keys):
                amount = _amount(row, "available_balance") + _amount(row, "hold")
                held[row["currency"]] = held.get(row["currency"], ZERO) + amount
        return {asset: amount for asset, amount in held.items() if amount or asset == USD}

    def key_access(self, keys: Keys) -> KeyAccess:
        """Return what a key may do. One whose permission to transfer is not told counts as able to withdraw."""
        row = self._client.get(keys, "/key_permissions", "can_trade")
        names = ("view", "trade", "transfer")
        words = tuple(name for name in names if row.get(f"can_{name}"))
        portfolio = str(row.get("portfolio_uuid") or "")
        return KeyAccess(
            portfolio,
            (*words, f"portfolio {portfolio}") if portfolio else words,
            may_trade=row.get("can_view") is True and row["can_trade"] is True,
            may_withdraw=row.get("can_transfer") is not False,
        )

    def _accounts(self, keys: Keys) -> Iterator[dict[str, Any]]:
        for row in self._client.pages(keys, "/accounts", "accounts"):
            if not isinstance(row["currency"], str) or not row["currency"]:
                raise ValueError("an account has no currency")
            yield row


def _product(symbol: str, row: Mapping[str, Any]) -> Product:
    """Parse a product."""
    base, price = number(row["base_increment"]), number(row.get("price_increment") or row["quote_increment"])
    if price <= 0:
        raise ValueError(f"its price step is {price}")
    problem = ""
    if row.get("status") not in ("online", "", None) or any(row.get(name) for name in CLOSED_BY):
        problem = Reason.MARKET_CLOSED
    lot = instrument(symbol).lot
    if base <= 0 or lot % base:
        log.error("lot_too_fine", product=row["product_id"], lot=str(lot), base_increment=str(base))
        problem = Reason.TOKEN_NOT_LISTED
    return Product(problem, base, price)


def _amount(row: Mapping[str, Any], name: str) -> Decimal:
    return number(row[name]["value"])
