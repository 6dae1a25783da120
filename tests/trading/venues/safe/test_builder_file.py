"""The file for Safe's Transaction Builder."""

from datetime import UTC, datetime
from typing import Any

from trading.venues.safe.builder_file import builder_file, checksum

APPROVE = {
    "inputs": [
        {"internalType": "address", "name": "spender", "type": "address"},
        {"internalType": "uint256", "name": "value", "type": "uint256"},
    ],
    "name": "approve",
    "payable": False,
}
SAVED_BY_THE_APP: dict[str, Any] = {
    "version": "1.0",
    "chainId": "1",
    "createdAt": 1761326849944,
    "meta": {
        "name": "Transactions Batch",
        "description": "",
        "txBuilderVersion": "1.18.2",
        "createdFromSafeAddress": "0xA77DE01e157f9f57C7c4A326eeE9C4874D0598b6",
        "createdFromOwnerAddress": "",
        "checksum": "0x8b5032f716845c8b08bab3d63dbd9ba92e056f3557793cd041e59b84e16aa989",
    },
    "transactions": [
        {
            "to": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
            "value": "0",
            "data": None,
            "contractMethod": APPROVE,
            "contractInputsValues": {
                "spender": "0x474e5Ded6b5D078163BFB8F6dBa355C3aA5478C8",
                "value": "100000000000",
            },
        }
    ],
}
"""github.com/5afe/safe-cli-nodejs, TRANSACTION_BUILDER_FORMAT_ANALYSIS.md: an example that the app saved."""


def test_the_checksum_is_that_of_the_app() -> None:
    assert checksum(SAVED_BY_THE_APP) == SAVED_BY_THE_APP["meta"]["checksum"]


def test_the_file_has_the_shape_of_the_app_s() -> None:
    made = builder_file(
        chain_id=42161,
        safe="0xA77DE01e157f9f57C7c4A326eeE9C4874D0598b6",
        calls=[{"to": "0x" + "11" * 20, "value": "0", "data": "0x12"}],
        name="a name",
        description="über",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert made.keys() == SAVED_BY_THE_APP.keys()
    assert made["meta"].keys() == SAVED_BY_THE_APP["meta"].keys()
    assert made["transactions"][0].keys() == SAVED_BY_THE_APP["transactions"][0].keys()
    assert (made["chainId"], made["createdAt"]) == ("42161", 1767225600000)
    assert made["meta"]["checksum"] == checksum(made)
