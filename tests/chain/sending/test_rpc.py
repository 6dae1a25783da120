"""Several endpoints that watch each other (I12): the one that lies, lags or is elsewhere is named and not believed."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from eth_account import Account

from maxxit.core.errors import Misconfigured, Retryable, Unknown
from maxxit.evm.codec import encode_call
from maxxit.evm.rpc import Chain, Disagreement, Endpoint, Fault, TooManyBlocks, code_of
from maxxit.ops.devchain.world import local_key, transact
from tests.chain.lab import Lab
from tests.chain.sending.proxy import Proxy, proxied
from trading.chain import disagreements

pytestmark = pytest.mark.chain


@pytest.fixture
def three(sending_lab: Lab) -> Iterator[tuple[Chain, list[Proxy]]]:
    """Three endpoints of one chain."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(proxied(sending_lab.world.rpc_url)) for _ in range(3)]
        chain = open_chain(sending_lab, *(url for _, url in nodes))
        yield chain, [proxy for proxy, _ in nodes]
        for one in chain.endpoints:
            one.close()


def open_chain(lab: Lab, *urls: str, health: float = 0.0) -> Chain:
    return Chain(31337, urls, head_lag=2, health_seconds=health, timeout=2, multicall=lab.world.multicall)


def balance_calls(lab: Lab, many: int) -> list[tuple[str, bytes]]:
    data = encode_call("balanceOf(address)", lab.world.safe)
    return [(lab.world.usdc, data)] * many


def test_all_healthy(three: tuple[Chain, list[Proxy]]) -> None:
    chain, _ = three
    assert len(chain.healthy()) == 3
    assert chain.bad == {}
    assert chain.head().number > 0


def test_one_thread_looks_again_while_the_others_go_by_the_last_look(
    three: tuple[Chain, list[Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, _ = three
    known, heads = chain.healthy(), chain._heads
    looking, go_on, looks = threading.Event(), threading.Event(), []

    def slowly() -> dict[str, int]:
        looks.append(1)
        looking.set()
        assert go_on.wait(20)
        return heads()

    monkeypatch.setattr(chain, "_heads", slowly)
    other = threading.Thread(target=chain.healthy)
    other.start()
    assert looking.wait(20)
    deadline = threading.Timer(5, go_on.set)  # a second look would stand still without it
    deadline.start()
    assert chain.healthy() == known
    assert looks == [1]
    deadline.cancel()
    go_on.set()
    other.join(20)


def test_many_values_in_one_request_each_five_hundred(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab
) -> None:
    chain, proxies = three
    chain.health_seconds = 60
    chain.healthy()
    proxies[0].seen.clear()
    found = chain.many(balance_calls(sending_lab, 1_001))

    assert {int.from_bytes(one, "big") for one in found} == {sending_lab.usdc()}
    assert (len(found), proxies[0].seen.count("eth_call")) == (1_001, 3)


def test_a_silent_endpoint_is_left_out(three: tuple[Chain, list[Proxy]]) -> None:
    chain, proxies = three
    proxies[0].chances = {"eth_chainId": {"lost": 1.0}}
    assert len(chain.healthy()) == 2
    assert "does not answer" in chain.bad[chain.endpoints[0].name]


def test_an_endpoint_of_another_chain_is_left_out(three: tuple[Chain, list[Proxy]]) -> None:
    chain, proxies = three
    proxies[1].answers = {"eth_chainId": "0x1"}
    assert len(chain.healthy()) == 2
    assert chain.bad[chain.endpoints[1].name] == "is chain 1, not 31337"


@pytest.mark.parametrize("head", ["0x1", "0xffffff"])
def test_a_head_far_behind_or_ahead_is_not_believed(three: tuple[Chain, list[Proxy]], head: str) -> None:
    chain, proxies = three
    proxies[2].answers = {"eth_blockNumber": head}
    assert len(chain.healthy()) == 2
    assert "is at block" in chain.bad[chain.endpoints[2].name]


def test_an_endpoint_on_another_branch_is_named(three: tuple[Chain, list[Proxy]]) -> None:
    chain, proxies = three
    proxies[0].answers = {"eth_getBlockByNumber": {"hash": "0x" + "13" * 32}}
    assert [one.name for one in chain.healthy()] == [one.name for one in chain.endpoints[1:]]
    assert "contradicts the others" in chain.bad[chain.endpoints[0].name]


def mined(lab: Lab) -> str:
    """The hash of a transaction in the newest block."""
    transact(lab.rpc, lab.world.accounts["deployer"], lab.world.accounts["rogue"], b"")
    newest: str = lab.rpc("eth_getBlockByNumber", "latest", False)["transactions"][0]
    return newest


def test_a_lie_about_a_receipt_is_outvoted_and_named(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab
) -> None:
    chain, proxies = three
    noted: list[tuple[int, str, str]] = []
    chain._report = lambda *told: noted.append(told)
    hash_ = mined(sending_lab)
    real = sending_lab.rpc("eth_getTransactionReceipt", hash_)
    proxies[1].answers = {"eth_getTransactionReceipt": real | {"blockHash": "0x" + "66" * 32}}
    asked = ("the receipt", "eth_getTransactionReceipt", (hash_,))
    first, second = chain.agreed_all([asked, asked])
    assert first == second
    assert first.succeeded
    liar = chain.endpoints[1].name
    assert noted == [(31337, liar, "contradicts the others about the receipt")]
    assert chain.bad[liar] == "contradicts the others about the receipt"


@pytest.mark.parametrize("behind", [1, 2])
def test_endpoints_that_have_no_receipt_yet_lag_and_contradict_nobody(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab, behind: int
) -> None:
    chain, proxies = three
    noted: list[tuple[int, str, str]] = []
    chain._report = lambda *told: noted.append(told)
    for proxy in proxies[:behind]:
        proxy.answers = {"eth_getTransactionReceipt": None}
    found = chain.agreed("the receipt", "eth_getTransactionReceipt", mined(sending_lab))
    assert (found is None) == (behind == 2)
    assert noted == []
    assert not any("contradicts" in why for why in chain.bad.values())


def test_two_of_which_one_lags_are_asked_again_and_neither_is_named(sending_lab: Lab) -> None:
    noted: list[tuple[int, str, str]] = []
    with proxied(sending_lab.world.rpc_url) as (_, one), proxied(sending_lab.world.rpc_url) as (slow, two):
        chain = open_chain(sending_lab, one, two)
        chain._report = lambda *told: noted.append(told)
        slow.answers = {"eth_getTransactionReceipt": None}
        with pytest.raises(Retryable, match="only 1 have the receipt yet; 2 must agree"):
            chain.agreed("the receipt", "eth_getTransactionReceipt", mined(sending_lab))
        for endpoint in chain.endpoints:
            endpoint.close()
    assert noted == []


def test_a_cache_that_fails_breaks_no_read_and_is_asked_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = []

    def slow(*args: Any, **options: Any) -> None:
        times.append(args)
        raise TimeoutError("the cache does not answer")

    monkeypatch.setattr(disagreements.cache, "set", slow)
    for _ in range(3):
        disagreements.note(1, "slow-cache.example", "contradicts the others about block 5")
    assert len(times) == 1


def test_two_that_contradict_each_other_are_both_refused(sending_lab: Lab) -> None:
    with proxied(sending_lab.world.rpc_url) as (_, one), proxied(sending_lab.world.rpc_url) as (liar, two):
        chain = open_chain(sending_lab, one, two)
        liar.answers = {"eth_getTransactionCount": "0x63"}
        with pytest.raises(Disagreement, match=r"contradict each other about the nonce"):
            chain.nonce(sending_lab.world.accounts["executor"])
        for endpoint in chain.endpoints:
            endpoint.close()


def test_nobody_to_believe_is_retryable_and_says_why(three: tuple[Chain, list[Proxy]]) -> None:
    chain, proxies = three
    for proxy in proxies:
        proxy.answers = {"eth_chainId": "0x1"}
    with pytest.raises(Retryable, match="is chain 1"):
        chain.head()


def test_a_read_goes_on_to_the_next_endpoint(three: tuple[Chain, list[Proxy]], sending_lab: Lab) -> None:
    chain, proxies = three
    proxies[0].chances = {"eth_call": {"lost": 1.0}}
    assert len(chain.many(balance_calls(sending_lab, 1))) == 1
    assert "eth_call" in proxies[0].seen


def test_an_endpoint_over_its_limit_is_passed_by_and_refuses_nothing(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab
) -> None:
    chain, proxies = three
    chain.health_seconds = 60
    chain.healthy()
    proxies[0].chances = {"eth_call": {"limited": 1.0}, "eth_getTransactionCount": {"limited": 1.0}}

    assert len(chain.many(balance_calls(sending_lab, 1))) == 1
    assert chain.nonce(sending_lab.world.safe) >= 0
    for proxy in proxies:
        proxy.chances = {"eth_call": {"limited": 1.0}, "eth_sendRawTransaction": {"limited": 1.0}}
    with pytest.raises(Retryable, match="eth_call"):
        chain.call(sending_lab.world.usdc, b"")
    with pytest.raises(Retryable, match="daily request count exceeded"):
        chain.broadcast(b"\x01")


def test_an_endpoint_that_is_broken_is_passed_by_and_refuses_nothing(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab
) -> None:
    chain, proxies = three
    chain.health_seconds = 60
    chain.healthy()
    broken = {"eth_getTransactionCount": {"broken": 1.0}, "eth_getBlockByNumber": {"broken": 1.0}}
    proxies[0].chances = broken

    assert chain.head().number > 0
    assert chain.nonce(sending_lab.world.safe) >= 0
    assert "internal error" in next(iter(chain.bad.values()))
    for proxy in proxies:
        proxy.chances = broken
    for question in (chain.head, partial(chain.nonce, sending_lab.world.safe)):
        with pytest.raises(Retryable, match="no endpoint"):
            question()


@pytest.mark.parametrize("message", ["header not found", "Too Many Requests", "rate limit reached"])
def test_a_node_that_says_so_in_words_is_busy_too(message: str) -> None:
    with pytest.raises(Retryable, match="is busy"):
        Endpoint("http://127.0.0.1:1", 1.0)._result({"error": {"code": -32000, "message": message}})


@pytest.mark.parametrize("answer", [None, "0xzz", 7, {}])
def test_an_answer_that_is_no_hex_is_asked_for_again(
    sending_lab: Lab, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    chain = open_chain(sending_lab, sending_lab.world.rpc_url)
    monkeypatch.setattr(chain, "read", lambda *_: answer)

    with pytest.raises(Retryable, match="answered eth_call with"):
        chain.call(sending_lab.world.usdc, b"")


def test_silence_after_a_broadcast_is_unknown_and_a_refusal_says_why(
    three: tuple[Chain, list[Proxy]],
) -> None:
    chain, proxies = three
    for proxy in proxies:
        proxy.chances = {"eth_sendRawTransaction": {"silent": 1.0}}
    with pytest.raises(Unknown):
        chain.broadcast(b"\x02\x01")
    proxies[0].chances = {}
    with pytest.raises(Fault):
        chain.broadcast(b"\x02\x01")


def test_a_revert_carries_the_contracts_reason(three: tuple[Chain, list[Proxy]], sending_lab: Lab) -> None:
    chain, _ = three
    data = encode_call("stop(address,uint256)", sending_lab.safe, 2)
    with pytest.raises(Fault) as refused:
        chain.call(sending_lab.module, data, sender=sending_lab.world.accounts["rogue"])
    assert refused.value.code == "not_guardian"


def test_an_endpoint_needs_https_unless_it_is_this_machine(sending_lab: Lab) -> None:
    with pytest.raises(Misconfigured, match="https"):
        open_chain(sending_lab, "http://rpc.example/secret-key")
    with pytest.raises(Misconfigured, match="no endpoints"):
        open_chain(sending_lab)


@pytest.mark.parametrize(
    ("reason", "code"),
    [("TRADE_ID_USED", "trade_id_used"), ("Too little received", "too_little_received"), ("", "reverted")],
)
def test_reasons_become_codes(reason: str, code: str) -> None:
    assert code_of(reason) == code


def odd(wire: Proxy, how: str) -> None:
    """An honest node of another make: the same receipt, written differently."""
    real = wire.handle

    def handle(call: dict[str, Any]) -> dict[str, Any] | None:
        found = real(call)
        if found is None or not isinstance(found.get("result"), dict):
            return found
        told = found["result"]
        rewritten = {
            "extra": told | {"timeboosted": False},
            "order": dict(reversed(list(told.items()))),
            "case": {name: upper(value) for name, value in told.items()},
            "less": {
                name: value for name, value in told.items() if name not in ("effectiveGasPrice", "type")
            },
        }
        return found | {"result": rewritten[how]}

    wire.handle = handle  # type: ignore[method-assign]


def upper(value: Any) -> Any:
    return "0x" + value[2:].upper() if isinstance(value, str) and value.startswith("0x") else value


@pytest.mark.parametrize("how", ["extra", "order", "case", "less"])
def test_two_honest_endpoints_of_different_makers_agree(sending_lab: Lab, how: str) -> None:
    tx = sending_lab.world.send("guardian", sending_lab.world.accounts["guardian"], b"")
    with proxied(sending_lab.world.rpc_url) as (_, one), proxied(sending_lab.world.rpc_url) as (wire, two):
        odd(wire, how)
        chain = open_chain(sending_lab, one, two)
        found = chain.agreed("the receipt", "eth_getTransactionReceipt", tx["transactionHash"])
        assert found.succeeded
        assert found.gas_price == int(tx["effectiveGasPrice"], 16)
        assert chain.head().number >= found.block_number
        assert chain.block(found.block_number).hash == found.block_hash
        for endpoint in chain.endpoints:
            endpoint.close()


def test_the_one_that_still_answers_decides_nothing(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab
) -> None:
    chain, proxies = three
    chain.health_seconds = 60
    chain.healthy()
    for proxy in proxies[:2]:
        proxy.chances = {
            method: {"limited": 1.0}
            for method in (
                "eth_getTransactionReceipt",
                "eth_getTransactionCount",
                "eth_getBlockByNumber",
                "eth_call",
            )
        }
    proxies[2].answers = {"eth_getTransactionCount": "0xffff", "eth_getTransactionReceipt": None}
    for question in (
        partial(chain.nonce, sending_lab.world.safe),
        partial(chain.agreed, "the receipt", "eth_getTransactionReceipt", "0x" + "00" * 32),
        chain.head,
        partial(chain.many, balance_calls(sending_lab, 1), block="0x1", agreed=True),
    ):
        with pytest.raises(Retryable):
            question()


def test_a_balance_that_decides_is_no_single_endpoints(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab
) -> None:
    chain, proxies = three
    proxies[0].answers = {"eth_call": "0x" + "00" * 31 + "01"}
    block = hex(chain.head().number)
    [found] = chain.many(balance_calls(sending_lab, 1), block=block, agreed=True)
    assert int.from_bytes(found, "big") == sending_lab.usdc()
    assert "contradicts" in chain.bad[chain.endpoints[0].name]


@pytest.mark.parametrize("number", ["0x1", "0xffffff"])
def test_the_head_is_one_that_most_have(three: tuple[Chain, list[Proxy]], number: str) -> None:
    chain, proxies = three
    chain.health_seconds = 60
    chain.healthy()
    real = chain.head()
    block = {"number": number, "hash": "0x" + "13" * 32, "timestamp": "0x1", "baseFeePerGas": "0xffffffffff"}
    proxies[0].answers = {"eth_getBlockByNumber": block}
    assert chain.head() == real


@pytest.mark.parametrize("how", ["broken", "limited", "lost"])
def test_one_endpoint_that_says_no_censors_no_broadcast(
    three: tuple[Chain, list[Proxy]], sending_lab: Lab, how: str
) -> None:
    chain, proxies = three
    chain.health_seconds = 60
    chain.healthy()
    proxies[0].chances = {"eth_sendRawTransaction": {how: 1.0}}
    sending_lab.rpc("evm_setAutomine", False)
    try:
        signed = Account.from_key(local_key("guardian")).sign_transaction(
            {"type": 2, "chainId": 31337, "nonce": nonce_of(sending_lab), "to": sending_lab.safe, "value": 0,
             "gas": 100_000, "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9}
        )  # fmt: skip
        chain.broadcast(bytes(signed.raw_transaction))
    finally:
        sending_lab.rpc("evm_setAutomine", True)
        sending_lab.rpc("evm_mine")
    assert [proxy.seen.count("eth_sendRawTransaction") for proxy in proxies] == [1, 1, 1]


def nonce_of(lab: Lab) -> int:
    return int(lab.rpc("eth_getTransactionCount", lab.world.accounts["guardian"], "latest"), 16)


def test_an_endpoint_without_batches_is_asked_one_by_one(three: tuple[Chain, list[Proxy]]) -> None:
    chain, _ = three
    one = chain.endpoints[0]
    real = one._post

    def post(body: Any, *, writes: bool = False) -> Any:
        if isinstance(body, list):
            return {
                "jsonrpc": "2.0",
                "id": None,
                "error": {"code": -32600, "message": "batches are not served"},
            }
        return real(body, writes=writes)

    one._post = post  # type: ignore[method-assign]
    assert len(chain.healthy()) == 3
    assert not one.takes_batches


class Narrow(Proxy):
    """A node that answers for so many blocks at most."""

    most, words = 10, "block range is too wide"
    spans: tuple[int, ...] = ()

    def handle(self, call: dict[str, Any]) -> dict[str, Any] | None:
        if call["method"] != "eth_getLogs":
            return super().handle(call)
        asked = call["params"][0]
        low, high = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
        self.spans = (*self.spans, high - low + 1)
        if high - low + 1 > self.most:
            return call | {"error": {"code": -32005, "message": self.words}}
        return call | {"result": [log_at(number) for number in range(low, high + 1)]}


def log_at(number: int) -> dict[str, Any]:
    word = "0x" + f"{number:064x}"
    return {"address": "0x" + "11" * 20, "topics": [word], "data": "0x", "blockNumber": hex(number),
            "transactionHash": word, "logIndex": "0x0"}  # fmt: skip


@pytest.mark.parametrize("most", [1, 10, 1_000])
@pytest.mark.parametrize(
    "words", ["limit exceeded", "query returned more than 10000 results", "no words known"]
)
def test_a_refused_range_is_halved_and_its_size_kept(
    sending_lab: Lab, monkeypatch: pytest.MonkeyPatch, most: int, words: str
) -> None:
    monkeypatch.setattr("tests.chain.sending.proxy.Proxy", Narrow)
    with proxied(sending_lab.world.rpc_url) as (wire, url):
        wire.most, wire.words = most, words  # type: ignore[attr-defined]
        chain = open_chain(sending_lab, url, health=60)
        found = [one.block_number for one in chain.logs(1, 60, [{}])]
        again = [one.block_number for one in chain.logs(61, 61, [{}])]
        chain.endpoints[0].close()
    assert (found, again) == (list(range(1, 61)), [61])
    spans = wire.spans  # type: ignore[attr-defined]
    assert max(spans) == 60
    assert sum(span > most for span in spans) <= 12


def test_a_node_that_answers_for_no_range_is_not_asked_for_ever(
    sending_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.chain.sending.proxy.Proxy", Narrow)
    with proxied(sending_lab.world.rpc_url) as (wire, url):
        wire.most = 0  # type: ignore[attr-defined]
        chain = open_chain(sending_lab, url, health=60)
        with pytest.raises(TooManyBlocks):
            list(chain.logs(1, 4_000, [{}]))
        wire.most = 4_000  # type: ignore[attr-defined]
        assert len(list(chain.logs(1, 4_000, [{}]))) == 4_000
        chain.endpoints[0].close()
    assert len(wire.spans) < 20  # type: ignore[attr-defined]
