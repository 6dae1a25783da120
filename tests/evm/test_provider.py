"""web3 and safe-eth-py read through our RPC client: by votes, of one block, and by no connection of their own."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from web3.exceptions import BadFunctionCallOutput

from maxxit.core.config import ROOT
from maxxit.core.errors import Rejected, Retryable
from maxxit.evm.provider import VotingProvider, offline, reading
from maxxit.evm.rpc import Chain, Endpoint, Fault
from trading.venues.safe import library

SAFE = "0x29fcB43b46531BcA003ddC8FCB67FFE91900C762"
OWNER, THIEF = "0xd9Db270c1B5E3Bd161E8c8503c55cEABeE709552", "0x41675C099F32341bf84BFc5382aF534df5C7461a"
HEAD = 0x64
Answer = dict[str, Any]


def error(data: str, message: str = "execution reverted") -> Answer:
    """A JSON-RPC error as nodes give it for a revert."""
    return {"error": {"code": 3, "message": message, "data": data}}


def result(types: list[str], *values: Any) -> Answer:
    return {"result": "0x" + encode(types, values).hex()}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Chain]:
    """A chain of nodes, each with its answer to what is not about the chain itself; `asked` has those questions."""

    def post(self: Endpoint, body: Any, **_: Any) -> Any:
        if isinstance(body, list):
            return [answered(self, one) for one in body]
        return answered(self, body)

    def answered(node: Endpoint, body: dict[str, Any]) -> Answer:
        number = int(node.url.rpartition("/")[2])
        header = {"number": hex(HEAD), "hash": "0x" + "11" * 32, "timestamp": "0x1", "baseFeePerGas": "0x1"}
        known = {"eth_chainId": "0x7a69", "eth_blockNumber": hex(HEAD), "eth_getBlockByNumber": header}
        if body["method"] in known:
            return {"jsonrpc": "2.0", "id": body["id"], "result": known[body["method"]]}
        asked.append((body["method"], body["params"]))
        return {"jsonrpc": "2.0", "id": body["id"], **answers[number]}

    monkeypatch.setattr(Endpoint, "_post", post)
    asked: list[tuple[str, list[Any]]] = []
    answers: list[Answer] = []

    def made(*given: Answer) -> Chain:
        answers[:] = given
        urls = [f"http://127.0.0.1:1/{number}" for number in range(len(given))]
        chain = Chain(31337, urls, head_lag=5, health_seconds=60, timeout=5, multicall=SAFE)
        chain.asked = asked  # type: ignore[attr-defined]
        return chain

    return made


def test_a_majority_of_the_configured_endpoints_decides(nodes: Callable[..., Chain]) -> None:
    right, wrong = result(["address[]"], [OWNER]), result(["address[]"], [THIEF])

    with library.read_safe(nodes(right, wrong, right), SAFE) as safe:
        assert safe.retrieve_owners() == [OWNER]
    with pytest.raises(Retryable), library.read_safe(nodes(right, wrong), SAFE) as safe:
        safe.retrieve_owners()
    silent = {"error": {"code": -32005, "message": "rate limit"}}
    with pytest.raises(Retryable), library.read_safe(nodes(right, silent, silent), SAFE) as safe:
        safe.retrieve_owners()


def test_all_values_are_of_one_block(nodes: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch) -> None:
    chain = nodes(result(["uint256"], 7))
    safe = library.safe_at(library.reading(chain), SAFE)
    assert safe.retrieve_nonce() == 7
    monkeypatch.setattr(Chain, "head", lambda _: pytest.fail("the head is read once"))
    safe.retrieve_threshold()
    safe.retrieve_code()
    safe.retrieve_transaction_guard()

    assert {params[-1] for _, params in chain.asked} == {hex(HEAD)}  # type: ignore[attr-defined]
    assert {method for method, _ in chain.asked} == {  # type: ignore[attr-defined]
        *("eth_call", "eth_getCode", "eth_getStorageAt")
    }


def test_a_revert_is_agreed_on_by_its_data_and_not_by_its_words(nodes: Callable[..., Chain]) -> None:
    data = "0x" + (keccak(text="Error(string)")[:4] + encode(["string"], ["GS013"])).hex()
    chain = nodes(
        error(data), error(data.upper().replace("0X", "0x"), "VM Exception: revert"), result(["uint256"], 1)
    )

    with pytest.raises(Fault) as fault:
        library.safe_at(library.reading(chain), SAFE).retrieve_nonce()
    assert (fault.value.reason, fault.value.reverted) == ("GS013", True)
    with pytest.raises(Retryable):
        library.safe_at(library.reading(nodes(error(data), result(["uint256"], 1))), SAFE).retrieve_nonce()


@pytest.mark.parametrize("answer", [{"result": "0x"}, error("0x"), {"result": "0x01"}])
def test_what_does_not_answer_like_a_safe_is_none(nodes: Callable[..., Chain], answer: Answer) -> None:
    with (
        pytest.raises(Rejected, match=f"{SAFE} is not a Safe on chain 31337"),
        library.read_safe(nodes(answer), SAFE) as safe,
    ):
        safe.retrieve_nonce()


def test_numbers_are_read_as_numbers(nodes: Callable[..., Chain]) -> None:
    assert reading(nodes({"result": "0x2a"})).eth.get_balance(SAFE) == 42  # type: ignore[arg-type]
    assert reading(nodes({"result": "0x2a"})).eth.chain_id == 31337


def test_nothing_is_sent_and_what_is_no_state_is_not_read(nodes: Callable[..., Chain]) -> None:
    web3 = reading(nodes({"result": "0x" + "11" * 32}))
    for send in (
        lambda: web3.eth.send_raw_transaction(b"\x01"),
        lambda: web3.eth.send_transaction({"from": SAFE, "to": SAFE, "nonce": 1, "gas": 1, "gasPrice": 1}),  # type: ignore[typeddict-item]
    ):
        with pytest.raises(NotImplementedError, match="outbox"):
            send()  # type: ignore[no-untyped-call]
    with pytest.raises(NotImplementedError):
        web3.eth.get_logs({})
    with pytest.raises(NotImplementedError):
        offline().eth.get_balance(SAFE)  # type: ignore[arg-type]


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a library tried to reach itself; every try fails."""
    tried: list[str] = []

    def send(self: requests.Session, request: requests.PreparedRequest, **_: Any) -> None:
        tried.append(str(request.url))
        raise requests.ConnectionError

    monkeypatch.setattr(requests.Session, "send", send)
    return tried


def test_a_contract_cannot_make_web3_fetch_a_url(
    nodes: Callable[..., Chain], no_connection: list[str]
) -> None:
    """EIP-3668: web3's own providers fetch the URLs that such a revert names."""
    lookup = keccak(text="OffchainLookup(address,string[],bytes,bytes4,bytes)")[:4]
    terms = [SAFE, ["https://example.org/{sender}/{data}"], b"", b"\0" * 4, b""]
    data = lookup + encode(["address", "string[]", "bytes", "bytes4", "bytes"], terms)
    with pytest.raises(Fault):
        library.safe_at(library.reading(nodes(error("0x" + data.hex()))), SAFE).retrieve_nonce()

    assert VotingProvider.global_ccip_read_enabled is False
    assert no_connection == []


def test_safe_eth_py_has_no_connection_of_its_own(
    nodes: Callable[..., Chain], no_connection: list[str]
) -> None:
    client = library.reading(nodes(result(["uint256"], 1)))
    safe = library.safe_at(client, SAFE)
    assert safe.retrieve_threshold() == 1
    assert client.get_chain_id() == 31337
    with pytest.raises(NotImplementedError):
        client.raw_batch_request([{"method": "eth_chainId"}])
    with pytest.raises(NotImplementedError):
        client.send_raw_transaction(b"\x01")
    with pytest.raises(BadFunctionCallOutput):
        library.proxy_factory(library.reading(nodes({"result": "0x"}))).get_proxy_creation_code()

    assert no_connection == []
    assert client.http_session is None


HEAVY = ("web3", "safe_eth", "eth_account", "requests")
START = """
import sys
import django
django.setup()
from maxxit.celery import app
app.loader.import_default_modules()
import maxxit.urls
import trading.venues.safe.venue, trading.venues.safe.safes, trading.venues.safe.reconcile, maxxit.ops.local
print(len(app.tasks), *(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_no_process_loads_web3_when_it_starts() -> None:
    """The web, every worker (each imports every task) and the supervisor; what settles a Safe's trade loads it then."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "maxxit.settings",
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }
    answer = subprocess.run(
        [sys.executable, "-c", START, *HEAVY],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tasks, *loaded = answer.stdout.split()
    assert int(tasks) > 20
    assert loaded == []
