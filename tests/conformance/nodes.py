"""Nodes: web3.py drives anvil and the proxy before it; their answers and our requests fit the OpenRPC document.

The document is that of MetaMask's `@metamask/api-specs`, which takes the `eth_` methods from ethereum/execution-apis.
Chainlink's aggregators are read by web3.py with the interface that Chainlink publishes.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from web3 import HTTPProvider, Web3
from web3.exceptions import TransactionNotFound, Web3RPCError

from tests.conformance.conftest import Fakes

HERE = Path(__file__).parent
SPEC: dict[str, Any] = json.loads(
    (HERE / "node_modules/@metamask/api-specs/dist/build/openrpc.json").read_text()
)
METHODS = {one["name"]: one for one in SPEC["methods"]}
CHAINLINK = json.loads((HERE / "recorded/chainlink.json").read_text())["abi"]
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
EMITS_A_LOG = Web3.to_bytes(hexstr="0x60006000a000")  # type: ignore[arg-type]
"""A contract's constructor: PUSH1 0, PUSH1 0, LOG0, STOP."""
AGGREGATE3: list[Any] = [
    {
        "name": "aggregate3",
        "type": "function",
        "stateMutability": "payable",
        "inputs": [
            {
                "name": "calls",
                "type": "tuple[]",
                "components": [
                    {"name": "target", "type": "address"},
                    {"name": "allowFailure", "type": "bool"},
                    {"name": "callData", "type": "bytes"},
                ],
            }
        ],
        "outputs": [
            {
                "name": "returnData",
                "type": "tuple[]",
                "components": [{"name": "success", "type": "bool"}, {"name": "returnData", "type": "bytes"}],
            }
        ],
    }
]
"""As in the README of github.com/mds1/multicall3."""


def fits(value: Any, schema: dict[str, Any], *, more: bool = False) -> None:
    """Raises where `value` is not what the document says. `more`: members that it does not know are no harm."""
    whole = {**schema, "components": SPEC["components"]}
    jsonschema.Draft7Validator(_open(whole) if more else whole).validate(value)


def _open(schema: Any) -> Any:
    """The schema without its bans: each fork of Ethereum adds members, and an empty list is of several kinds."""
    if isinstance(schema, dict):
        kept = {name: _open(one) for name, one in schema.items() if name != "additionalProperties"}
        return {"anyOf" if name == "oneOf" else name: one for name, one in kept.items()}
    return [_open(one) for one in schema] if isinstance(schema, list) else schema


def ask(url: str, method: str, *params: Any) -> dict[str, Any]:
    """One call, both sides of it checked against the document and JSON-RPC 2.0."""
    if method in METHODS:
        for given, told in zip(params, METHODS[method]["params"], strict=False):
            fits(given, told["schema"])
    body: Any = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    answer: dict[str, Any] = requests.post(url, json=body, timeout=30).json()
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), answer
    if "error" in answer:
        assert isinstance(answer["error"]["code"], int)
        assert isinstance(answer["error"]["message"], str)
    elif method in METHODS:
        fits(answer["result"], METHODS[method]["result"]["schema"], more=True)
    return answer


@pytest.fixture(params=["node", "proxy"])
def url(request: pytest.FixtureRequest, fakes: Fakes) -> str:
    fakes.node_says()
    return fakes.urls[request.param]


def test_web3_sends_a_transaction_and_reads_all_of_it(url: str) -> None:
    web3 = Web3(HTTPProvider(url))
    sender, receiver = list(web3.eth.accounts)[:2]
    sent = web3.eth.send_transaction({"from": sender, "to": receiver, "value": Web3.to_wei(1, "ether")})
    receipt = web3.eth.wait_for_transaction_receipt(sent, timeout=30)
    assert receipt["status"] == 1
    assert web3.eth.get_block(receipt["blockNumber"])["hash"] == receipt["blockHash"]
    assert web3.eth.get_transaction(sent)["nonce"] == web3.eth.get_transaction_count(sender) - 1
    with pytest.raises(TransactionNotFound):
        web3.eth.get_transaction_receipt("0x" + "1" * 64)  # type: ignore[arg-type]


def test_every_method_that_we_use_answers_as_the_document_says(url: str) -> None:
    web3 = Web3(HTTPProvider(url))
    sender, receiver = (one.lower() for one in list(web3.eth.accounts)[:2])
    sent = web3.eth.send_transaction({"from": web3.eth.accounts[0], "data": EMITS_A_LOG})
    assert len(web3.eth.wait_for_transaction_receipt(sent, timeout=30)["logs"]) == 1
    slot, number = "0x" + "0" * 64, hex(web3.eth.block_number)
    for method, params in {
        "eth_blockNumber": (),
        "eth_chainId": (),
        "eth_accounts": (),
        "eth_call": ({"to": receiver, "input": "0x"}, "latest"),  # we and web3.py send `data`, its older name
        "eth_getBalance": (sender, "latest"),
        "eth_getBlockByNumber": (number, False),
        "eth_getCode": (sender, number),
        "eth_getLogs": ({"fromBlock": number, "toBlock": number},),
        "eth_getStorageAt": (sender, slot, "latest"),
        "eth_getTransactionCount": (sender, "pending"),
        "eth_getTransactionReceipt": (sent.to_0x_hex(),),
    }.items():
        assert "result" in ask(url, method, *params), method
    assert ask(url, "eth_getTransactionReceipt", "0x" + "1" * 64)["result"] is None


def test_the_proxys_errors_are_json_rpc_errors(fakes: Fakes) -> None:
    web3 = Web3(HTTPProvider(fakes.urls["proxy"], exception_retry_configuration=None))
    for fault, code in {"limited": -32005, "broken": -32603}.items():
        fakes.node_says(script={"eth_blockNumber": [fault, fault]})
        assert ask(fakes.urls["proxy"], "eth_blockNumber")["error"]["code"] == code
        with pytest.raises(Web3RPCError) as failed:
            web3.eth.block_number  # noqa: B018
        assert failed.value.rpc_response
        assert failed.value.rpc_response["error"]["code"] == code
    fakes.node_says(answers={"eth_blockNumber": "0x10"})
    assert ask(fakes.urls["proxy"], "eth_blockNumber")["result"] == "0x10"
    fakes.node_says(script={"eth_getTransactionReceipt": ["stale"]})
    assert ask(fakes.urls["proxy"], "eth_getTransactionReceipt", "0x" + "1" * 64)["result"] is None


def test_receipts_of_other_clients_fit_the_document_but_for_what_is_known_of_them(fakes: Fakes) -> None:
    """Each entry of tests/chain/zoo stands for a real client; what it adds or lacks is what the zoo is about."""
    strict = [one for one in fakes.receipts() if one["client"] == "geth"]
    assert strict
    for one in strict:
        fits(one["result"], METHODS["eth_getTransactionReceipt"]["result"]["schema"])


def test_the_fake_aggregators_are_chainlinks(fakes: Fakes) -> None:
    """web3.py packs Multicall3 and reads the rounds with Chainlink's own interface."""
    fakes.market_says(price="2000.5")
    told = fakes.chainlink()
    web3 = Web3(HTTPProvider(fakes.urls["market"]))
    many = web3.eth.contract(address=Web3.to_checksum_address(MULTICALL3), abi=AGGREGATE3)
    feed = web3.eth.contract(abi=CHAINLINK)
    targets = [Web3.to_checksum_address(told[name]) for name in ("feed", "feed", "sequencer")]
    data = [feed.encode_abi(name) for name in ("decimals", "latestRoundData", "latestRoundData")]
    answers = many.functions.aggregate3(
        [(to, True, one) for to, one in zip(targets, data, strict=True)]
    ).call()
    assert all(success for success, _ in answers)
    types = [one["type"] for one in CHAINLINK[1]["outputs"]]
    (decimals,) = web3.codec.decode(["uint8"], answers[0][1])
    _, answer, started, updated, _ = web3.codec.decode(types, answers[1][1])
    assert (answer, decimals) == (200_050_000_000, 8)
    assert started <= updated == told["block_time"]
    assert web3.codec.decode(types, answers[2][1])[1] == 0  # the sequencer is up
    assert fakes.market_ours(feed="chainlink")["price"] == "2000.50000000"
