"""Encode and decode the calls of GMX v2's Reader. Amounts are integers in GMX's units.

Sizes are USD × 10^30. Prices are USD × 10^(30 - decimals of the index token), so that price × tokens in base units is
USD × 10^30. Collateral is USDC in base units, fees are wei.
"""

from enum import IntEnum
from typing import NamedTuple

from maxxit.evm.codec import decode, encode_call


class OrderType(IntEnum):
    """GMX's kinds of orders."""

    MARKET_SWAP = 0
    LIMIT_SWAP = 1
    MARKET_INCREASE = 2
    LIMIT_INCREASE = 3
    MARKET_DECREASE = 4
    LIMIT_DECREASE = 5
    STOP_LOSS_DECREASE = 6
    LIQUIDATION = 7
    STOP_INCREASE = 8


POSITION = (
    "((address,address,address),"
    "(uint256,uint256,uint256,int256,uint256,uint256,uint256,uint256,uint256,uint256),(bool))"
)
"""Position.Props of the Reader: addresses; sizes, fee trackers and times; flags."""
ORDER = (
    "((address,address,address,address,address,address,address,address[]),"
    "(uint8,uint8,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256),"
    "(bool,bool,bool,bool),bytes32[])"
)
"""Order.Props of the Reader: addresses; kind, amounts and times; flags; data."""


class PositionState(NamedTuple):
    """A position as the Reader returns it."""

    account: str
    market: str
    collateral_token: str
    size_usd: int
    """USD × 10^30."""
    size_tokens: int
    """Base units of the index token."""
    collateral: int
    """Base units of the collateral token."""
    is_long: bool


class OrderState(NamedTuple):
    """An order that GMX stores."""

    key: bytes
    account: str
    market: str
    collateral_token: str
    order_type: OrderType
    size_delta_usd: int
    collateral: int
    """Base units that the vault holds for it: of an increase; of a decrease what it withdraws besides."""
    trigger_price: int
    execution_fee: int
    updated_at: int
    """Unix time."""
    is_long: bool
    frozen: bool
    auto_cancel: bool


def account_positions(data_store: str, account: str) -> bytes:
    """Return calldata of the Reader for an account's positions."""
    return encode_call("getAccountPositions(address,address,uint256,uint256)", data_store, account, 0, 100)


def account_orders(data_store: str, account: str) -> bytes:
    """Return calldata of the Reader for an account's orders."""
    return encode_call("getAccountOrders(address,address,uint256,uint256)", data_store, account, 0, 100)


def decode_positions(data: bytes) -> list[PositionState]:
    """Decode what `account_positions` returns."""
    return [
        PositionState(account, market, collateral_token, size_usd, size_tokens, collateral, is_long)
        for (account, market, collateral_token), (size_usd, size_tokens, collateral, *_), (
            is_long,
        ) in decode([f"{POSITION}[]"], data)[0]
    ]


def decode_orders(data: bytes) -> list[OrderState]:
    """Decode what `account_orders` returns: keys and orders."""
    return [
        OrderState(
            key=key, account=addresses[0], market=addresses[5], collateral_token=addresses[6],
            order_type=OrderType(numbers[0]), size_delta_usd=numbers[2], collateral=numbers[3],
            trigger_price=numbers[4], execution_fee=numbers[6], updated_at=numbers[9], is_long=flags[0],
            frozen=flags[2], auto_cancel=flags[3],
        )
        for key, (addresses, numbers, flags, _) in decode([f"(bytes32,{ORDER})[]"], data)[0]
    ]  # fmt: skip
