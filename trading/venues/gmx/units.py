"""Convert between GMX's integers and Decimal whole units, and estimate execution fees."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from trading.venues.safe.units import USDC_DECIMALS, base

USD_DECIMALS = 30
USD_PER_USDC_UNIT: int = 10 ** (USD_DECIMALS - USDC_DECIMALS)
"""What one base unit of USDC is in a size."""
COLUMN_UNIT = Decimal(1).scaleb(-18)
"""The ledger keeps 18 decimals."""
_BELOW_COLUMN: int = 10 ** (USD_DECIMALS - 18)
BASE_GAS, GAS_PER_ORACLE_PRICE, ORACLE_PRICES = 600_000, 250_000, 3
EXECUTION_GAS, GAS_PER_SWAP = 3_900_000, 1_000_000
"""GMX's gas limits as recorded (gmx-v2-recorded.json): the fee must pay for all of them."""


def usd(amount: int) -> Decimal:
    """Return USD of a size in USD × 10^30, cut to the ledger's 18 decimals.

    The ledger books differences of sizes that were cut in this way, so that nothing is lost over several orders.
    """
    return Decimal(amount // _BELOW_COLUMN).scaleb(-18)


def size_of(amount: Decimal) -> int:
    """Return a size in USD × 10^30, of whole base units of USDC, rounded down."""
    return base(amount, USDC_DECIMALS) * USD_PER_USDC_UNIT


def price_of(value: int, decimals: int) -> Decimal:
    """Return USD per token of a price in USD × 10^(30 - decimals of the token)."""
    return Decimal(value).scaleb(decimals - USD_DECIMALS)


def price_units(price: Decimal, decimals: int, *, up: bool) -> int:
    """Return a price in USD × 10^(30 - decimals of the token), rounded up or down to GMX's unit."""
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return int(price.scaleb(USD_DECIMALS - decimals).to_integral_value(rounding=rounding))


def execution_gas(callback_gas: int, swaps: int = 0) -> int:
    """Return the gas that GMX wants an order's execution fee to pay for.

    Args:
        callback_gas: the order's callbackGasLimit.
        swaps: markets of its swap path, and one for a decrease whose profit is swapped to the collateral.
    """
    limit = EXECUTION_GAS + GAS_PER_SWAP * swaps + callback_gas
    return BASE_GAS + GAS_PER_ORACLE_PRICE * (ORACLE_PRICES + swaps) + limit


def execution_fee(gas_price: int, callback_gas: int, swaps: int = 0, headroom_bps: int = 10_000) -> int:
    """Return an order's execution fee in wei; what the keeper does not use is refunded.

    Args:
        gas_price: wei per gas; GMX refuses an order whose fee does not pay for `tx.gasprice` at its creation.
        headroom_bps: of the fee, for a price that rises before the order is executed: 15000 is half more.
    """
    return -(-gas_price * execution_gas(callback_gas, swaps) * headroom_bps // 10_000)
