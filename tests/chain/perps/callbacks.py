"""GMX's callbacks as GMX encodes them."""

from typing import Any

from maxxit.evm.codec import encode_call

CALLBACKS = ("afterOrderExecution", "afterOrderCancellation", "afterOrderFrozen")
EXECUTION, CANCELLATION, FROZEN = CALLBACKS
LISTS = ("address", "uint256", "int256", "bool", "bytes32", "bytes", "string")
DATA_TYPE = "(" + ",".join(f"((string,{kind})[],(string,{kind}[])[])" for kind in LISTS) + ")"
"""GMX's EventLogData: named values and named lists of each type."""


def event_data(
    addresses: dict[str, str] | None = None,
    numbers: dict[str, int] | None = None,
    bools: dict[str, bool] | None = None,
) -> tuple[Any, ...]:
    """Return an EventLogData with these named values."""
    named = [addresses, numbers, None, bools, None, None, None]
    return tuple((list((values or {}).items()), []) for values in named)


def callback(name: str, key: bytes, order: tuple[Any, ...], result: tuple[Any, ...]) -> bytes:
    """Return the calldata of a callback about an order."""
    return encode_call(f"{name}(bytes32,{DATA_TYPE},{DATA_TYPE})", key, order, result)
