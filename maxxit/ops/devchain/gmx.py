"""Deploys the double of GMX v2 to the local chain: its contracts, roles, settings and a market for each listed token.

The double is our own Vyper (contracts/gmx). It speaks GMX's interface and is held against a recording of GMX's own
contracts (tests/chain/gmx). For chain 31337 only.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trading.chain.chains import SYMBOLS, GmxContracts, GmxMarket
from trading.venues.safe.contract.build import GMX, load

USDC_UNIT = 10**6
USD = 10**30
"""One USD, and the factor 1, in GMX's 30 decimals."""
YEAR = 365 * 86_400
POOL_USD = 20_000_000
"""Liquidity on each side of each market."""
OTHERS_LONG_USD, OTHERS_SHORT_USD = 400_000, 300_000
"""Open interest of the rest of the market, so that one side pays funding to the other."""
OTHERS_COLLATERAL_USD = 70_000
"""Of each side of the rest of the market."""
GENERAL: dict[str, int] = {
    "MIN_COLLATERAL_USD": USD,
    "MIN_POSITION_SIZE_USD": USD,
    "REQUEST_EXPIRATION_TIME": 300,  # seconds in which keepers execute a market order
    "MAX_CALLBACK_GAS_LIMIT": 2_000_000,
    "MAX_AUTO_CANCEL_ORDERS": 6,
    "ESTIMATED_GAS_FEE_BASE_AMOUNT_V2_1": 600_000,
    "ESTIMATED_GAS_FEE_PER_ORACLE_PRICE": 250_000,
    "ESTIMATED_GAS_FEE_MULTIPLIER_FACTOR": USD,
    "INCREASE_ORDER_GAS_LIMIT": 3_900_000,
    "DECREASE_ORDER_GAS_LIMIT": 3_900_000,
}
"""As recorded, or as GMX's documentation names them for Arbitrum."""
OF_MARKET: dict[str, int] = {
    "LIQUIDATION_FEE_FACTOR": USD * 20 // 10_000,  # 20 bp, recorded
    "FUNDING_FACTOR": 6
    * USD
    // 10**8,  # a second, at a complete imbalance; the recording shows only the maximum
    "MAX_FUNDING_FACTOR_PER_SECOND": USD * 9 // 10 // YEAR,  # 90 % a year, recorded
    "POSITION_IMPACT_EXPONENT_FACTOR": 2 * USD,  # recorded
    "MIN_COLLATERAL_FACTOR": USD // 100,  # 1 %: the recording refuses 0.6 % and has 10 %
    "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION": USD // 200,  # 0.5 %: the recording liquidates at 0.3 %
}
OF_SIDE: dict[str, tuple[int, int]] = {
    "POSITION_FEE_FACTOR": (
        USD * 6 // 10_000,
        USD * 4 // 10_000,
    ),  # 6 bp; 4 bp where the balance improves; recorded
    "POSITION_IMPACT_FACTOR": (10**17, 5 * 10**16),  # of a worse and of a better balance; recorded
    "BORROWING_FACTOR": (USD * 625 // 10**11, USD * 625 // 10**11),  # 6.25e-9 a second at full use; recorded
    "MAX_OPEN_INTEREST": (100_000_000 * USD, 100_000_000 * USD),
    "RESERVE_FACTOR": (USD * 95 // 100, USD * 95 // 100),
    "MAX_PNL_FACTOR_FOR_ADL": (USD * 85 // 100, USD * 85 // 100),
}
"""(False, True): of shorts and longs, or of a balance that did not and did improve."""


def data_key(name: str, *words: Any, types: str = "") -> bytes:
    """Return a key of GMX's data store: keccak of the name's hash and `words`, one type for each in `types`.

    Types are letters: a(ddress), b(ool), w (bytes32).
    """
    kinds = {"a": "address", "b": "bool", "w": "bytes32"}
    whole = keccak(encode(["string"], [name]))
    return (
        keccak(encode(["bytes32", *(kinds[letter] for letter in types)], [whole, *words])) if words else whole
    )


class Token(Protocol):
    """The part of the world's `TokenInfo` that is used here."""

    @property
    def symbol(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def decimals(self) -> int: ...


class Deployer(Protocol):
    """The part of the world's `Builder` that is used here."""

    @property
    def deployer(self) -> str: ...
    def local(self, name: str, types: list[str], args: list[Any]) -> str: ...
    def call(self, to: str, signature: str, *args: Any) -> None: ...


@dataclass(frozen=True)
class Gmx:
    """Addresses of the double; `markets` by the symbol of their index token."""

    role_store: str
    data_store: str
    event_emitter: str
    oracle: str
    router: str
    order_vault: str
    exchange_router: str
    order_handler: str
    engine: str
    liquidation_handler: str
    adl_handler: str
    reader: str
    wrapped_native: str
    markets: Mapping[str, str]
    source: str
    """Hash of the artifacts that were deployed."""

    def contracts(self, tokens: Iterable[Token], module: str | None = None) -> GmxContracts:
        """Return the addresses as the venue's configuration."""
        return GmxContracts(
            exchange_router=self.exchange_router, order_vault=self.order_vault, data_store=self.data_store,
            event_emitter=self.event_emitter, reader=self.reader, role_store=self.role_store,
            wrapped_native=self.wrapped_native, module=module,
            markets={
                SYMBOLS.get(token.symbol, token.symbol): GmxMarket(
                    market=self.markets[token.symbol], decimals=token.decimals
                )
                for token in tokens
            },
        )  # fmt: skip


def source() -> str:
    """Return a hash of the committed artifacts."""
    code = "".join(load(path.stem)["bytecode"] for path in sorted(GMX.glob("[A-Z]*.vy")))
    return hashlib.sha256(code.encode()).hexdigest()


def deploy_gmx(
    builder: Deployer, usdc: str, tokens: Iterable[Token], prices: Mapping[str, Decimal], keeper: str
) -> Gmx:
    """Deploy the double with a market for each of `tokens`, backed by USDC and by the token itself.

    WETH among the tokens wraps the native coin that pays execution fees. `prices` in USD size the pools. `keeper` may
    execute, liquidate and deleverage; the deployer may write the data store, as a controller.
    """
    tokens = tuple(tokens)
    wnt = next(token.address for token in tokens if token.symbol == "WETH")
    roles = builder.local("RoleStore", [], [])
    data = builder.local("DataStore", ["address"], [roles])

    def deploy(name: str, *more: str) -> str:
        return builder.local(name, ["address"] * (1 + len(more)), [data, *more])

    emitter, router, vault = deploy("EventEmitter"), deploy("Router"), deploy("Bank", wnt)
    oracle = deploy("Oracle", emitter)
    engine = deploy("PositionEngine", emitter, oracle, vault)
    handler = deploy("OrderHandler", emitter, oracle, vault, engine)
    exchange = deploy("ExchangeRouter", emitter, router, handler, wnt)
    liquidation, adl = (deploy("LiquidationHandler", emitter, handler, oracle) for _ in range(2))
    reader = builder.local("Reader", [], [])
    granted = {
        "CONTROLLER": (oracle, engine, handler, exchange, liquidation, adl, builder.deployer),
        "ROUTER_PLUGIN": (exchange,),
        **dict.fromkeys(
            ("ORDER_KEEPER", "FROZEN_ORDER_KEEPER", "LIQUIDATION_KEEPER", "ADL_KEEPER"), (keeper,)
        ),
    }
    pairs = [(account, data_key(role)) for role, accounts in granted.items() for account in accounts]
    builder.call(roles, "grantRoles((address,bytes32)[])", pairs)

    values: dict[bytes, int] = {data_key(name): value for name, value in GENERAL.items()}
    markets = {}
    for token in tokens:
        market = deploy("Bank", wnt)
        markets[token.symbol] = market
        builder.call(
            data, "setMarket((address,address,address,address))", (market, token.address, token.address, usdc)
        )
        tokens_in_pool = int(POOL_USD * 10**token.decimals / prices[token.symbol])
        in_usdc = (POOL_USD + 2 * OTHERS_COLLATERAL_USD) * USDC_UNIT
        builder.call(usdc, "mint(address,uint256)", market, in_usdc)
        builder.call(token.address, "mint(address,uint256)", market, tokens_in_pool)
        values |= market_values(market, usdc, token, prices[token.symbol])
        values[data_key("POOL_AMOUNT", market, token.address, types="aa")] = tokens_in_pool
        values[data_key("POOL_AMOUNT", market, usdc, types="aa")] = POOL_USD * USDC_UNIT
    builder.call(data, "setUints(bytes32[],uint256[])", list(values), list(values.values()))
    return Gmx(
        roles, data, emitter, oracle, router, vault, exchange, handler, engine, liquidation, adl, reader, wnt,
        markets, source(),
    )  # fmt: skip


def market_values(market: str, usdc: str, token: Token, price: Decimal) -> dict[bytes, int]:
    """Return settings of a market and the open interest of the rest of its traders, entered at `price`."""
    values = {data_key(name, market, types="a"): value for name, value in OF_MARKET.items()}
    for name, pair in OF_SIDE.items():
        for flag, value in zip((False, True), pair, strict=True):
            values[data_key(name, market, flag, types="ab")] = value
    values[data_key("POSITION_IMPACT_POOL_AMOUNT", market, types="a")] = 10 * 10**token.decimals
    for is_long, size in ((True, OTHERS_LONG_USD), (False, OTHERS_SHORT_USD)):
        side = (market, usdc, is_long)
        values |= {
            data_key("OPEN_INTEREST", *side, types="aab"): size * USD,
            data_key("OPEN_INTEREST_IN_TOKENS", *side, types="aab"): int(size * 10**token.decimals / price),
            data_key("COLLATERAL_SUM", *side, types="aab"): OTHERS_COLLATERAL_USD * USDC_UNIT,
        }
    return values
