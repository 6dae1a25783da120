"""Several endpoints that watch each other (I12): the one that lies, lags or is elsewhere is named and not believed."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from maxxit.core.errors import Misconfigured, Retryable, Unknown
from tests.chain.lab import Lab
from tests.chain.sending.proxy import Proxy, proxied
from trading.chain.rpc import Chain, Disagreement, Endpoint, Fault, code_of
from trading.contracts.codec import encode_call

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


def test_a_lie_about_a_receipt_is_outvoted_and_named(three: tuple[Chain, list[Proxy]]) -> None:
    chain, proxies = three
    proxies[1].answers = {"eth_getTransactionReceipt": {"status": "0x1", "blockHash": "0x" + "66" * 32}}
    assert chain.agreed("the receipt", "eth_getTransactionReceipt", "0x" + "00" * 32) is None
    assert "contradicts the others about the receipt" in chain.bad[chain.endpoints[1].name]


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
