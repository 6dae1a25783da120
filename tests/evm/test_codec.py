"""What a chain answers, taken apart; what it answers wrongly is the node's failure and no bug of ours."""

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from maxxit.core.errors import Retryable
from maxxit.evm.codec import decode, revert_reason

ERROR, PANIC = keccak(text="Error(string)")[:4], keccak(text="Panic(uint256)")[:4]


def test_values_come_back_with_their_addresses_checksummed() -> None:
    usdc = "0xaf88d065e77c8cC2239327C5EDb3A432268e5831"
    data = encode(["address", "uint256", "address[]"], [usdc.lower(), 7, [usdc.lower()]])

    assert decode(["address", "uint256", "address[]"], data) == (usdc, 7, [usdc])


@pytest.mark.parametrize(
    ("types", "data"),
    [
        (["uint256"], b""),  # no contract at that address, as a node that lags sees it
        (["uint256"], b"\x01" * 31),
        (["bool"], b"\xff" * 32),
        (["bytes"], (2**200).to_bytes(32, "big")),
        (["address"], b"\xff" * 32),
        (["string"], (32).to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\xff" + bytes(31)),  # no UTF-8
        (["bytes"], b"\xff" * 32),
    ],
)
def test_an_answer_of_another_shape_is_asked_for_again(types: list[str], data: bytes) -> None:
    with pytest.raises(Retryable, match=r"chains\.yaml"):
        decode(types, data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("0x" + (ERROR + encode(["string"], ["TOO_LATE"])).hex(), "TOO_LATE"),
        ("0x" + (PANIC + encode(["uint256"], [17])).hex(), "PANIC_17"),
        ("", ""),
        ("0x", ""),
    ],
)
def test_a_revert_says_why(data: str, said: str) -> None:
    assert revert_reason(data) == said


@pytest.mark.parametrize(
    "data",
    [
        "0x08c379a0",
        "0x08c379a0" + "ff" * 40,
        "0x4e487b7101",
        "0x" + (ERROR + encode(["bytes"], [b"\xff"])).hex(),  # no UTF-8
        "0x" + (ERROR + b"\xff" * 32).hex(),  # a text at a place beyond all memory
        "Reverted 0x",  # as some nodes write it
    ],
)
def test_a_broken_revert_is_told_as_it_came(data: str) -> None:
    assert revert_reason(data) == data
