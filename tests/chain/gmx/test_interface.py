"""The double has the functions and errors of GMX v2's public ABI.

The signatures were compared with the ABIs in npm `@gmx-io/sdk` 1.4.0 on 29 November 2026. The package itself is no
dependency: with what it depends on it takes 345 MB.
"""

import re
from typing import Any

import pytest

from tests.chain.gmx.router import CREATE_ORDER
from trading.venues.gmx import refusals
from trading.venues.gmx.calls import ORDER, POSITION
from trading.venues.safe.contract.build import GMX, load

pytestmark = pytest.mark.chain

MARKET = "(address,address,address,address)"
PAGE = "(address,address,uint256,uint256)"
INTERFACE = {
    "ExchangeRouter": {
        "multicall(bytes[]) payable -> bytes[]",
        "sendWnt(address,uint256) payable -> ",
        "sendNativeToken(address,uint256) payable -> ",
        "sendTokens(address,address,uint256) payable -> ",
        f"{CREATE_ORDER} payable -> bytes32",
        "updateOrder(bytes32,uint256,uint256,uint256,uint256,uint256,bool) payable -> ",
        "cancelOrder(bytes32) payable -> ",
        "claimFundingFees(address[],address[],address) payable -> uint256[]",
        "setSavedCallbackContract(address,address) payable -> ",
        "dataStore() view -> address",
        "roleStore() view -> address",
        "router() view -> address",
        "orderHandler() view -> address",
    },
    "Reader": {
        f"getOrder(address,bytes32) view -> {ORDER}",
        f"getPosition(address,bytes32) view -> {POSITION}",
        f"getAccountOrders{PAGE} view -> (bytes32,{ORDER})[]",
        f"getAccountPositions{PAGE} view -> {POSITION}[]",
        f"getMarket(address,address) view -> {MARKET}",
        f"getMarkets(address,uint256,uint256) view -> {MARKET}[]",
    },
    "DataStore": {
        "roleStore() view -> address",
        "getUint(bytes32) view -> uint256",
        "getInt(bytes32) view -> int256",
        "getAddress(bytes32) view -> address",
        "getBool(bytes32) view -> bool",
        "getBytes32(bytes32) view -> bytes32",
        "containsBytes32(bytes32,bytes32) view -> bool",
        "containsAddress(bytes32,address) view -> bool",
        "getBytes32Count(bytes32) view -> uint256",
        "getAddressCount(bytes32) view -> uint256",
        "getBytes32ValuesAt(bytes32,uint256,uint256) view -> bytes32[]",
        "getAddressValuesAt(bytes32,uint256,uint256) view -> address[]",
    },
    "RoleStore": {"hasRole(address,bytes32) view -> bool"},
    "OrderHandler": {"executeOrder(bytes32,(address[],address[],bytes[])) nonpayable -> "},
    "LiquidationHandler": {
        "executeLiquidation(address,address,address,bool,(address[],address[],bytes[])) nonpayable -> ",
        "updateAdlState(address,bool,(address[],address[],bytes[])) nonpayable -> ",
        "executeAdl(address,address,address,bool,uint256,(address[],address[],bytes[])) nonpayable -> ",
    },
}


def flat(entry: dict[str, Any]) -> str:
    """The canonical type of an ABI entry's argument."""
    kind: str = entry["type"]
    if not kind.startswith("tuple"):
        return kind
    return "(" + ",".join(flat(part) for part in entry["components"]) + ")" + kind[5:]


@pytest.mark.parametrize("contract", INTERFACE)
def test_functions_are_those_of_gmx(contract: str) -> None:
    functions = {
        f"{entry['name']}({','.join(flat(one) for one in entry['inputs'])}) {entry['stateMutability']} -> "
        + ",".join(flat(one) for one in entry["outputs"])
        for entry in load(contract)["abi"]
        if entry["type"] == "function"
    }
    assert INTERFACE[contract] - functions == set()


def test_the_venue_decodes_every_error_with_which_an_order_can_fail() -> None:
    source = (GMX / "PositionEngine.vy").read_text()
    raised = set(re.findall(r'method_id\(\s*"(\w+)\(', source)) - {"PositionShouldNotBeLiquidated"}
    assert len(raised) == 12
    decoded = set(re.findall(r"^(\w+)\(", refusals.ERRORS, re.M))
    assert raised <= decoded
