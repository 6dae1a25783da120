"""What clients and gateways answer (`zoo/`, each with its source): every decoder, classifier and vote over all."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from maxxit.core.errors import Retryable
from maxxit.evm import facts
from maxxit.evm.node_errors import fees_named, range_suggested, refusal
from maxxit.evm.rpc import Endpoint, Fault
from trading.venues.safe.contract import module

ZOO = Path(__file__).parent / "zoo"
MAX_FEE, TIP = 3_500_000_000, 1_500_000_000
"""What was offered, wei a gas."""


def entries(name: str) -> list[Any]:
    found = json.loads((ZOO / f"{name}.json").read_text())["entries"]
    assert all(one["client"] and one["source"] for one in found)
    return [pytest.param(one, id=f"{one['client']}-{place}") for place, one in enumerate(found)]


def results(name: str) -> list[Any]:
    return [param.values[0]["result"] for param in entries(name)]


def refused(entry: dict[str, Any], method: str) -> Exception:
    with pytest.raises((Fault, Retryable)) as caught:
        Endpoint("http://127.0.0.1:1", 1.0)._result({"error": entry["error"]}, method)
    return caught.value


@pytest.mark.parametrize("entry", entries("send_errors"))
def test_a_refused_transaction_means_the_same_in_every_clients_words(entry: dict[str, Any]) -> None:
    error = refused(entry, "eth_sendRawTransaction")
    assert isinstance(error, Fault)
    assert refusal(error.text).value == entry["means"]
    named = entry.get("named", {})
    if entry["means"] == "fees":
        assert fees_named(error.text, MAX_FEE, TIP) == (named.get("base_fee", 0), named.get("tip", 0))


@pytest.mark.parametrize("entry", entries("log_errors"))
def test_a_refused_range_is_told_from_a_busy_node(entry: dict[str, Any]) -> None:
    error = refused(entry, "eth_getLogs")
    assert isinstance(error, Fault) == (entry["means"] == "fewer")
    assert range_suggested(str(error)) == (tuple(entry["suggested"]) if "suggested" in entry else None)


@pytest.mark.parametrize("entry", entries("call_errors"))
def test_a_contracts_no_is_told_from_a_nodes_trouble(entry: dict[str, Any]) -> None:
    error = refused(entry, "eth_call")
    assert isinstance(error, Fault)
    assert (error.reverted, error.reason) == (entry["reverted"], entry["reason"])


@pytest.mark.parametrize(
    ("name", "method"), [("receipts", "eth_getTransactionReceipt"), ("blocks", "eth_getBlockByNumber")]
)
def test_honest_clients_of_every_make_agree_by_twos_and_threes_and_all_together(
    name: str, method: str
) -> None:
    stated = [facts.of(method, answer) for answer in results(name)]
    for some in (*itertools.permutations(stated, 2), *itertools.combinations(stated, 3), stated):
        agreed = facts.agree(some, len(some))
        assert not any(facts.contradicts(one, agreed) for one in some)


LIES = [
    {"status": "0x0"},
    {"blockHash": "0x" + "66" * 32},
    {"blockNumber": "0x1534f14"},
    {"transactionHash": "0x" + "66" * 32},
    {"gasUsed": "0x3d4ed"},
    {"logs": []},
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: next(iter(lie)))
@pytest.mark.parametrize("entry", entries("receipts"))
def test_a_lie_in_any_clients_receipt_agrees_with_nobody(entry: dict[str, Any], lie: dict[str, Any]) -> None:
    honest = facts.receipt(entry["result"])
    liar = facts.receipt(entry["result"] | lie)
    with pytest.raises(facts.Contradiction):
        facts.agree([honest, liar], 2)
    assert facts.agree([honest, liar, honest], 2) == honest
    assert facts.contradicts(liar, honest)


@pytest.mark.parametrize("field", ["address", "data", "logIndex", "topics"])
@pytest.mark.parametrize("entry", entries("receipts"))
def test_a_lie_in_a_log_agrees_with_nobody(entry: dict[str, Any], field: str) -> None:
    wrong = {"address": "0x" + "66" * 20, "data": "0x66", "logIndex": "0x66", "topics": ["0x" + "66" * 32]}
    [log] = entry["result"]["logs"]
    liar = facts.receipt(entry["result"] | {"logs": [log | {field: wrong[field]}]})
    with pytest.raises(facts.Contradiction):
        facts.agree([facts.receipt(entry["result"]), liar], 2)


def test_what_was_paid_is_agreed_on_by_those_who_state_it() -> None:
    [stated, silent] = [facts.receipt(answer) for answer in (results("receipts")[0], results("receipts")[9])]
    assert stated is not None
    assert silent is not None
    assert stated.gas_price
    assert silent.gas_price is None
    assert facts.agree([stated, silent], 2).gas_price == stated.gas_price
    liar = facts.receipt(results("receipts")[0] | {"effectiveGasPrice": "0x1"})
    with pytest.raises(facts.Contradiction):
        facts.agree([stated, liar, silent], 2)
    assert facts.agree([stated, liar, stated], 2).gas_price == stated.gas_price


@pytest.mark.parametrize("needed", ["blockNumber", "status", "gasUsed", "logs", "transactionHash"])
@pytest.mark.parametrize("entry", entries("receipts"))
def test_a_receipt_without_what_is_decided_by_is_malformed(entry: dict[str, Any], needed: str) -> None:
    for answer in (
        {k: v for k, v in entry["result"].items() if k != needed},
        entry["result"] | {needed: None},
    ):
        with pytest.raises(facts.Malformed):
            facts.receipt(answer)


@pytest.mark.parametrize("address", ["0x", "0x" + "11" * 19, "0x" + "11" * 32, None])
def test_a_log_of_what_is_no_address_is_malformed(address: object) -> None:
    [log] = results("receipts")[0]["logs"]
    with pytest.raises(facts.Malformed):
        facts.logs([log | {"address": address}])


def test_a_log_without_the_topics_of_its_event_is_asked_for_again() -> None:
    topic = next(topic for topic, event in module.events().items() if event.event_name == "PositionOpened")
    [log] = results("receipts")[0]["logs"]
    said = log | {"address": "0x" + "11" * 20, "topics": [topic]}
    with pytest.raises(Retryable, match="a log of PositionOpened is malformed"):
        module.decode_logs([one.as_json() for one in facts.logs([said])], "0x" + "11" * 20)


@pytest.mark.parametrize("code", [[], {}, "busy", None])
def test_a_refusal_with_a_code_that_is_no_number_is_told_by_its_words(code: object) -> None:
    with pytest.raises(Fault, match="nonce too low"):
        Endpoint("http://127.0.0.1:1", 1.0)._result({"error": {"code": code, "message": "nonce too low"}})


def test_an_answer_in_a_batch_with_an_id_that_is_no_number_answers_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Endpoint("http://127.0.0.1:1", 1.0)
    monkeypatch.setattr(node, "_post", lambda _: [{"id": [1], "result": "0x1"}, {"id": 2, "result": "0x1"}])
    with pytest.raises(Retryable, match="neither a result nor an error"):
        node.batch([("eth_chainId", ()), ("eth_blockNumber", ())])


@pytest.mark.parametrize("value", [True, None, "", "10", "0xzz", "-0x1", -1, 1.5, [], {}])
def test_what_is_no_quantity_is_malformed(value: object) -> None:
    with pytest.raises(facts.Malformed):
        facts.count(value)


def test_a_pending_receipt_is_none_and_removed_logs_are_left_out() -> None:
    answer = results("receipts")[0]
    assert facts.receipt(answer | {"blockHash": None, "blockNumber": None}) is None
    assert facts.logs([answer["logs"][0] | {"removed": True}]) == ()


def test_the_word_of_a_limit_on_fees_that_are_too_high_raises_none() -> None:
    assert refusal("tx fee (1.26 ether) exceeds the configured cap (1.00 ether)").value == "other"
    assert fees_named("transaction underpriced", MAX_FEE, TIP) == (0, 0)
    assert fees_named("minimum needed 1000000000", MAX_FEE, TIP) == (0, 0)
