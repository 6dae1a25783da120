"""Calls of GMX v2's ExchangeRouter, which owners and the recording make: the product's orders leave through the module.

Amounts are integers in GMX's units, as in `trading.venues.gmx.calls`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from eth_utils.crypto import keccak

from maxxit.core.errors import Retryable
from maxxit.evm.codec import ZERO_ADDRESS, decode, encode_call
from trading.venues.gmx.calls import OrderType

ADDRESSES = "(address,address,address,address,address,address,address[])"
NUMBERS = "(uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
PARAMS = f"({ADDRESSES},{NUMBERS},uint8,uint8,bool,bool,bool,bytes32,bytes32[])"
CREATE_ORDER = f"createOrder({PARAMS})"
"""Selector 0xf59c48eb, that of GMX v2.2."""
MAX_DATA = 18
"""Words of `dataList` that GMX accepts."""
NO_REFERRAL = bytes(32)
DECREASES = frozenset(
    {
        OrderType.MARKET_DECREASE,
        OrderType.LIMIT_DECREASE,
        OrderType.STOP_LOSS_DECREASE,
        OrderType.LIQUIDATION,
    }
)
TO_COLLATERAL = 1
"""decreasePositionSwapType: profit is swapped to the collateral token. With 0 a long's profit arrives in WETH."""


@dataclass(frozen=True, slots=True)
class OrderParams:
    """The argument of createOrder."""

    receiver: str
    cancellation_receiver: str
    callback_contract: str
    market: str
    initial_collateral_token: str
    size_delta_usd: int
    """USD × 10^30."""
    order_type: OrderType
    is_long: bool
    acceptable_price: int
    execution_fee: int
    """Wei."""
    initial_collateral_delta_amount: int = 0
    """Base units of the collateral token; a MarketIncrease takes what was sent to the vault."""
    trigger_price: int = 0
    callback_gas_limit: int = 0
    auto_cancel: bool = False
    data_list: tuple[bytes, ...] = ()
    min_output_amount: int = 0
    valid_from_time: int = 0
    ui_fee_receiver: str = ZERO_ADDRESS
    swap_path: tuple[str, ...] = ()
    decrease_swap_type: int = TO_COLLATERAL
    should_unwrap: bool = False
    referral_code: bytes = NO_REFERRAL

    def as_tuple(self) -> tuple[Any, ...]:
        """Return the nested tuple of the ABI. Raises ValueError for more data than GMX accepts."""
        if len(self.data_list) > MAX_DATA:
            raise ValueError(f"{len(self.data_list)} words of data: GMX accepts {MAX_DATA}")
        addresses = (
            self.receiver, self.cancellation_receiver, self.callback_contract, self.ui_fee_receiver, self.market,
            self.initial_collateral_token, list(self.swap_path),
        )  # fmt: skip
        numbers = (
            self.size_delta_usd, self.initial_collateral_delta_amount, self.trigger_price, self.acceptable_price,
            self.execution_fee, self.callback_gas_limit, self.min_output_amount, self.valid_from_time,
        )  # fmt: skip
        return (
            addresses, numbers, int(self.order_type), self.decrease_swap_type, self.is_long, self.should_unwrap,
            self.auto_cancel, self.referral_code, list(self.data_list),
        )  # fmt: skip

    @classmethod
    def of_tuple(cls, values: Sequence[Any]) -> Self:
        """Return the parameters of a decoded tuple."""
        addresses, numbers, kind, swap_type, is_long, should_unwrap, auto_cancel, referral, data = values
        receiver, cancellation, callback, ui_fee, market, collateral, path = addresses
        size, amount, trigger, acceptable, fee, gas, min_output, valid_from = numbers
        return cls(
            receiver, cancellation, callback, market, collateral, size, OrderType(kind), is_long, acceptable, fee,
            amount, trigger, gas, auto_cancel, tuple(data), min_output, valid_from, ui_fee, tuple(path), swap_type,
            should_unwrap, referral,
        )  # fmt: skip


def create_order(params: OrderParams) -> bytes:
    """Return calldata of createOrder."""
    return encode_call(CREATE_ORDER, params.as_tuple())


def send_wnt(receiver: str, amount: int) -> bytes:
    """Return calldata of sendWnt: wraps `amount` wei of the call's value for `receiver`."""
    return encode_call("sendWnt(address,uint256)", receiver, amount)


def send_tokens(token: str, receiver: str, amount: int) -> bytes:
    """Return calldata of sendTokens, which the Router's allowance pays."""
    return encode_call("sendTokens(address,address,uint256)", token, receiver, amount)


def cancel_order(key: bytes) -> bytes:
    """Return calldata of cancelOrder; GMX refuses a market order younger than 300 s."""
    return encode_call("cancelOrder(bytes32)", key)


def claim_funding_fees(markets: Sequence[str], tokens: Sequence[str], receiver: str) -> bytes:
    """Return calldata of claimFundingFees."""
    return encode_call("claimFundingFees(address[],address[],address)", list(markets), list(tokens), receiver)


def multicall(calls: Sequence[bytes]) -> bytes:
    """Return calldata of multicall."""
    return encode_call("multicall(bytes[])", list(calls))


_TYPES: dict[bytes, tuple[str, tuple[str, ...]]] = {
    keccak(text=f"{name}({','.join(types)})")[:4]: (name, types)
    for name, types in (
        ("createOrder", (PARAMS,)),
        ("sendWnt", ("address", "uint256")),
        ("sendTokens", ("address", "address", "uint256")),
        ("cancelOrder", ("bytes32",)),
        ("claimFundingFees", ("address[]", "address[]", "address")),
        ("multicall", ("bytes[]",)),
    )
}


def decode_call(data: bytes) -> tuple[str, tuple[Any, ...]]:
    """Return name and arguments of a call of the ExchangeRouter; those of createOrder as `OrderParams`.

    Raises Retryable for a function that is not listed here or for data of another shape.
    """
    try:
        name, types = _TYPES[data[:4]]
    except KeyError:
        raise Retryable(f"0x{data[:4].hex()} is no function of GMX's ExchangeRouter that we use") from None
    values = decode(types, data[4:])
    return name, (OrderParams.of_tuple(values[0]),) if name == "createOrder" else values


def position_key(account: str, market: str, collateral_token: str, *, is_long: bool) -> bytes:
    """Return the key under which GMX stores a position: keccak of account, market, collateral token and side."""
    encoded = encode_call("_(address,address,address,bool)", account, market, collateral_token, is_long)
    return keccak(encoded[4:])
