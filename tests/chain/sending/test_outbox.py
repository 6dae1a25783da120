"""The sending protocol and the venue above it, one trait at a time, on a real chain behind a proxy that misbehaves."""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.events.models import Event
from maxxit.evm.rpc import Chain, Head
from maxxit.ops.devchain.anvil import revert_to
from maxxit.pipeline.stages import ALERTS
from tests import builders as make
from tests.chain.sending.proxy import Proxy, proxied
from tests.chain.sending.safe_trader import SafeTrader, store_plan, verified
from trading import ledger
from trading.chain import outbox
from trading.chain.models import ChainAttempt, ChainTransaction, Signer
from trading.chain.signer import SigningPolicy, open_signers
from trading.venues.safe.contract import module as m

D = Decimal
pytestmark = [pytest.mark.chain, pytest.mark.django_db]


@pytest.fixture
def wire(trader: SafeTrader) -> Iterator[Proxy]:
    """A proxy before the node; the Safe is planned and verified."""
    store_plan(trader.lab)
    verified(make.deployment(make.agent(venue="safe"), account=trader.world.safe, funded=False), trader.lab)
    with proxied(trader.world.rpc_url) as (proxy, url):
        trader.venue.chain = Chain(
            31337, [url], head_lag=5, health_seconds=60, timeout=2, multicall=trader.world.multicall
        )
        yield proxy
        trader.close()
        trader.lab.rpc("evm_setAutomine", True)


def sending(trader: SafeTrader, **changes: Any) -> None:
    trader.venue.sending = replace(trader.venue.sending, **changes)


def test_one_intent_one_nonce_and_the_order_holds_only_a_reference(trader: SafeTrader, wire: Proxy) -> None:
    before = trader.executor_nonce()
    request = trader.request()
    prepared = trader.venue.prepare(request)
    assert wire.seen == []  # no network in the reserving transaction
    assert dict(prepared.payload) == {"transaction": request.client_order_id}
    assert trader.venue.find(prepared.ref) is None
    trader.venue.send(prepared)
    trader.venue.send(prepared)

    tx = trader.tx(prepared.ref)
    assert (tx.state, tx.nonce, tx.attempts.count()) == ("final", before, 1)
    assert trader.executor_nonce() == before + 1
    assert Signer.objects.get().next_nonce == before + 1
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert (report.state, len(report.fills)) == ("filled", 1)
    assert report.fills[0].platform_fee == D("0.2")
    assert trader.opened() == [trader.trade_id(request)]


def test_silence_is_unknown_and_the_receipt_is_the_evidence(trader: SafeTrader, wire: Proxy) -> None:
    wire.script = {"eth_sendRawTransaction": ["silent"]}
    prepared = trader.venue.prepare(trader.request())
    with pytest.raises(Unknown):
        trader.venue.send(prepared)
    assert trader.tx(prepared.ref).state == "signed"
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert report.state == "filled"
    assert len(trader.opened()) == 1


def test_lost_bytes_are_sent_again_byte_for_byte(trader: SafeTrader, wire: Proxy) -> None:
    wire.script = {"eth_sendRawTransaction": ["lost"]}
    prepared = trader.venue.prepare(trader.request())
    with pytest.raises(Unknown):
        trader.venue.send(prepared)
    (before,) = ChainAttempt.objects.values_list("hash", "raw")
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert report.state == "filled"
    assert ChainAttempt.objects.values_list("hash", "raw").get() == before
    assert trader.tx(prepared.ref).mined_hash == before[0]


def test_nonce_too_low_means_look_for_the_receipt(trader: SafeTrader, wire: Proxy) -> None:
    wire.script = {"eth_sendRawTransaction": ["twice"], "eth_getTransactionReceipt": ["ok", "stale"]}
    before = trader.executor_nonce()
    report = trader.trade()
    assert report.state == "filled"
    assert trader.executor_nonce() == before + 1
    assert len(trader.opened()) == 1


def test_nonce_too_low_raises_no_fees_even_where_the_nonce_cannot_be_seen_yet(
    trader: SafeTrader, wire: Proxy
) -> None:
    ref = trader.send(trader.request())
    ChainTransaction.objects.update(state="broadcast", block_number=None, block_hash="", mined_hash="")
    wire.script = {"eth_getTransactionReceipt": ["stale"], "eth_getTransactionCount": ["stale"]}
    report = trader.venue.find(ref)
    assert report is not None
    assert report.state == "accepted"
    assert trader.tx(ref).attempts.count() == 1
    report = trader.venue.find(ref)
    assert report is not None
    assert report.state == "filled"


def test_already_known_is_success(trader: SafeTrader, wire: Proxy) -> None:
    trader.lab.rpc("evm_setAutomine", False)
    wire.script = {"eth_sendRawTransaction": ["twice"]}
    ref = trader.send(trader.request())
    assert trader.tx(ref).state == "broadcast"
    trader.lab.rpc("evm_mine")
    report = trader.venue.find(ref)
    assert report is not None
    assert report.state == "filled"


def test_fees_rise_by_fifteen_percent_at_the_same_nonce_and_calldata(trader: SafeTrader, wire: Proxy) -> None:
    trader.lab.rpc("evm_setAutomine", False)
    sending(trader, bump_after=timedelta(0))
    ref = trader.send(trader.request())
    trader.venue.find(ref)
    tx, attempts = trader.tx(ref), list(trader.tx(ref).attempts.all())
    assert len(attempts) >= 2
    for old, new in itertools.pairwise(attempts):
        assert new.max_fee * 100 >= old.max_fee * 115
        assert new.tip * 100 >= old.tip * 115
        assert new.hash != old.hash
    assert {one.transaction_id for one in attempts} == {tx.pk}
    trader.lab.rpc("evm_mine")
    report = trader.venue.find(ref)
    assert report is not None
    assert report.state == "filled"
    assert trader.tx(ref).mined_hash in {one.hash for one in tx.attempts.all()}
    assert len(trader.opened()) == 1


def test_an_underpriced_transaction_is_raised_at_once_and_stored_first(
    trader: SafeTrader, wire: Proxy
) -> None:
    stored: list[int] = []
    real = wire.handle

    def handle(call: dict[str, Any]) -> dict[str, Any] | None:
        if call["method"] == "eth_sendRawTransaction" and not stored:
            stored.append(0)
            return {
                "jsonrpc": "2.0",
                "id": call["id"],
                "error": {"code": -32000, "message": "transaction underpriced"},
            }
        return real(call)

    wire.handle = handle  # type: ignore[method-assign]
    report = trader.trade()
    assert report.state == "filled"
    assert ChainAttempt.objects.count() == 2
    assert len(trader.opened()) == 1


def test_fees_never_go_above_their_limit(trader: SafeTrader) -> None:
    limits = replace(trader.venue.sending, max_fee=1_000, min_tip=10)
    assert outbox.bumped_fees(800, 10, Head(1, 1, 100), limits) == (920, 12)
    assert outbox.bumped_fees(900, 10, Head(1, 1, 100), limits) is None
    assert outbox.first_fees(Head(1, 1, 100), limits) == (210, 10)
    assert outbox.first_fees(Head(1, 1, 10_000), limits) == (1_000, 10)


def test_a_reorg_takes_nothing_that_was_booked_and_the_same_bytes_leave_again(
    trader: SafeTrader, wire: Proxy
) -> None:
    sending(trader, finality_depth=3)
    snapshot = trader.lab.rpc("evm_snapshot")
    request = trader.request()
    report = trader.trade(trade=request.trade, client_order_id=request.client_order_id)
    assert (report.state, report.fills) == ("accepted", ())
    tx = trader.tx(request.client_order_id)
    assert tx.state == "mined"
    revert_to(trader.lab.rpc, snapshot)  # the block is gone, and the transaction with it
    assert trader.opened() == []
    trader.venue.find(request.client_order_id)
    for _ in range(3):
        trader.lab.rpc("evm_mine")
    again = trader.venue.find(request.client_order_id)
    assert again is not None
    assert (again.state, len(trader.opened()), tx.attempts.count()) == ("filled", 1, 1)


def test_a_revert_is_rejected_by_its_name(trader: SafeTrader, wire: Proxy) -> None:
    trader.lab.rpc("evm_setAutomine", False)
    ref = trader.send(trader.request())
    guardian = trader.world.accounts["guardian"]
    data = m.call_data("stop", trader.world.safe, m.HALTED)
    trader.lab.rpc(
        "eth_sendTransaction",
        {"from": guardian, "to": trader.world.module, "data": "0x" + data.hex(), "gas": hex(500_000),
         "maxPriorityFeePerGas": hex(10**11), "maxFeePerGas": hex(10**12)},
    )  # fmt: skip
    trader.lab.rpc("evm_mine")
    trader.lab.rpc("evm_mine")
    report = trader.venue.find(ref)
    assert report is not None
    assert (report.state, report.reason) == ("rejected", "stopped")
    tx = trader.tx(ref)
    assert tx.state == "reverted"
    cost = Decimal(int(tx.gas_used or 0) * int(tx.gas_price or 0)).scaleb(-18)  # a revert costs as well
    assert ledger.balance(ledger.executor_of(trader.world.accounts["executor"]), "ETH") == -cost < 0


def test_a_trade_id_that_was_used_is_refused_before_anything_is_signed(
    trader: SafeTrader, wire: Proxy
) -> None:
    request = trader.request()
    trader.send(request)
    with pytest.raises(Rejected) as refused:
        trader.send(replace(request, client_order_id="mx-another"))
    assert refused.value.code == "trade_id_used"
    assert trader.tx("mx-another").state == "dropped"
    assert Signer.objects.get().next_nonce == trader.executor_nonce()  # no nonce was spent on it


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"side": "sell"}, "shorts_not_supported"),
        ({"symbol": "SOL"}, "token_not_listed"),
        ({"quantity": D("0.003")}, "below_min_trade"),
        ({"quantity": D("0.5")}, "above_max_trade"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    trader: SafeTrader, wire: Proxy, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(Rejected) as refused:
        trader.send(trader.request(**changes))
    assert refused.value.code == code
    assert ChainAttempt.objects.count() == 0
    assert not ChainTransaction.objects.exclude(nonce=None).exists()
    nonce = trader.executor_nonce()
    assert set(Signer.objects.values_list("next_nonce", flat=True)) <= {0, nonce}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lab: lab.send("guardian", m.call_data("stop", lab.safe, m.NO_ENTRIES)), "stopped"),
        (lambda lab: lab.set_policy(loss_budget=40_000_000), "policy_differs"),
        (lambda lab: lab.send(lab.safe, m.call_data("revoke")), "executor_not_allowed"),
    ],
)
def test_the_safe_is_looked_at_before_every_trade(
    trader: SafeTrader, wire: Proxy, change: Any, code: str
) -> None:
    change(trader.lab)
    with pytest.raises(Rejected) as refused:
        trader.send(trader.request())
    assert refused.value.code == code


def test_a_stop_of_entries_does_not_stop_exits(trader: SafeTrader, wire: Proxy) -> None:
    bought = trader.trade()
    trader.lab.send("guardian", m.call_data("stop", trader.world.safe, m.NO_ENTRIES))
    sold = trader.trade("close", str(bought.fills[0].quantity))
    assert sold.state == "filled"
    assert sold.fills[0].quantity == bought.fills[0].quantity
    assert trader.lab.held() == 0


def test_an_intent_past_its_deadline_is_never_signed(trader: SafeTrader, wire: Proxy) -> None:
    prepared = trader.venue.prepare(trader.request(deadline=clock.now() - timedelta(seconds=1)))
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert (report.state, report.reason) == ("expired", "never_sent")
    with pytest.raises(Rejected):
        trader.venue.send(prepared)
    assert ChainAttempt.objects.count() == 0


def test_a_canceled_intent_is_never_signed(trader: SafeTrader, wire: Proxy) -> None:
    prepared = trader.venue.prepare(trader.request())
    trader.venue.cancel(prepared.ref)
    with pytest.raises(Rejected, match="given up"):
        trader.venue.send(prepared)
    assert trader.executor_nonce() == 0


def test_a_chain_that_cannot_be_read_signs_nothing(trader: SafeTrader, wire: Proxy) -> None:
    wire.chances = {"eth_call": {"lost": 1.0}}
    with pytest.raises(Retryable):
        trader.send(trader.request())
    assert ChainTransaction.objects.get().state == "planned"
    with pytest.raises(Retryable):
        trader.problem("ETH")


def test_a_nonce_that_a_stranger_took_ends_the_intent(trader: SafeTrader, wire: Proxy) -> None:
    wire.script = {"eth_sendRawTransaction": ["lost"]}
    sending(trader, replaced_after=timedelta(0))
    prepared = trader.venue.prepare(trader.request())
    with pytest.raises(Unknown):
        trader.venue.send(prepared)
    trader.world.send("executor", trader.world.accounts["executor"], b"")
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert (report.state, report.reason) == ("replaced", "nonce_taken")
    assert trader.opened() == []


def test_an_executor_without_money_for_gas_spends_no_nonce(trader: SafeTrader, wire: Proxy) -> None:
    trader.lab.rpc("anvil_setBalance", trader.world.accounts["executor"], "0x0")
    with pytest.raises(Rejected) as refused:
        trader.send(trader.request())
    assert refused.value.code == "executor_out_of_gas"


def test_a_deployment_that_is_not_verified_has_a_problem(trader: SafeTrader, wire: Proxy) -> None:
    assert trader.problem("ETH") == ""
    assert trader.problem("SOL") == "token_not_listed"
    Deployment.objects.update(verified_at=None)
    assert trader.problem("ETH") == "safe_not_verified"


def test_a_cooldown_is_waited_out(trader: SafeTrader, wire: Proxy) -> None:
    trader.lab.set_policy(cooldown=600)
    plan = store_plan(trader.lab)
    plan.policy["cooldown"] = 600
    plan.save()
    trader.trade()
    prepared = trader.venue.prepare(trader.request())
    with pytest.raises(Retryable, match="cooldown"):
        trader.venue.send(prepared)
    assert trader.tx(prepared.ref).state == "planned"
    trader.lab.set_policy(cooldown=0)
    plan.policy["cooldown"] = 0
    plan.save()
    trader.venue.send(prepared)
    assert trader.tx(prepared.ref).state == "final"


def refuse(wire: Proxy, floor: int, words: str) -> list[int]:
    """The node takes no tip below `floor`, and says so in these words; the tips that it saw."""
    tips: list[int] = []
    real = wire.handle

    def handle(call: dict[str, Any]) -> dict[str, Any] | None:
        if call["method"] != "eth_sendRawTransaction":
            return real(call)
        tips.append(
            TypedTransaction.from_bytes(HexBytes(call["params"][0])).as_dict()["maxPriorityFeePerGas"]
        )
        if tips[-1] >= floor:
            return real(call)
        return call | {"error": {"code": -32000, "message": words.format(floor=floor, tip=tips[-1])}}

    wire.handle = handle  # type: ignore[method-assign]
    return tips


GWEI = 10**9


@pytest.mark.parametrize(
    "words",
    [
        "transaction gas price below minimum: gas tip cap {tip}, minimum needed {floor}",
        "transaction underpriced: tip needed {floor}, tip permitted {tip}",
        "FeeTooLow, EffectivePriorityFeePerGas too low {tip} < {floor}, BaseFee: 7",
        "gas price too low: minimum is 25 gwei",
    ],
)
def test_a_refusal_that_names_an_amount_raises_the_tip_to_it_in_one_look(
    trader: SafeTrader, wire: Proxy, words: str
) -> None:
    tips = refuse(wire, 25 * GWEI, words)
    report = trader.trade()
    assert report.state == "filled"
    # on a starved machine the same bytes may be broadcast again
    assert list(dict.fromkeys(tips)) == [trader.venue.sending.min_tip, 25 * GWEI]


@pytest.mark.parametrize("words", ["Gas price below configured minimum gas price", "transaction underpriced"])
def test_a_refusal_that_names_none_reaches_25_gwei_in_three_looks(
    trader: SafeTrader, wire: Proxy, words: str
) -> None:
    tips = refuse(wire, 25 * GWEI, words)
    prepared = trader.venue.prepare(trader.request())
    for _ in range(3):
        trader.venue.send(prepared)
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert report.state == "filled"
    assert max(tips) == 25 * GWEI


def test_of_several_amounts_the_least_counts_and_none_goes_beyond_the_limit(
    trader: SafeTrader, wire: Proxy
) -> None:
    limits = replace(trader.venue.sending, max_fee=100 * GWEI)
    last = ChainAttempt(number=1, max_fee=D(3 * GWEI), tip=D(GWEI))
    head = Head(1, 1, GWEI)
    said = [f"gas tip cap 1000000000, minimum needed {amount}" for amount in (90 * GWEI, 25 * GWEI)]
    assert outbox.fees_after_refusal(last, said, head, limits) == (27 * GWEI, 25 * GWEI)
    assert outbox.fees_after_refusal(last, said[:1], head, replace(limits, max_fee=80 * GWEI)) is None
    base = ["max fee per gas less than block base fee: maxFeePerGas: 3000000000, baseFee: 20000000000"]
    assert outbox.fees_after_refusal(last, base, head, limits) == (
        2 * 20 * GWEI + 115 * GWEI // 100,
        115 * GWEI // 100,
    )
    assert outbox.fees_after_refusal(last, ["replacement transaction underpriced"], head, limits) == (
        345 * GWEI // 100,
        115 * GWEI // 100,
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("txpool is full", "transaction.refused"),
        ("insufficient funds for gas * price + value", "transaction.refused"),
        ("minimum needed 900000000000", "transaction.fees_at_limit"),
    ],
)
def test_a_refusal_that_repeats_is_told_to_staff_once(
    trader: SafeTrader, wire: Proxy, words: str, name: str
) -> None:
    refuse(wire, 10**18, words)
    prepared = trader.venue.prepare(trader.request())
    looks = []
    for _ in range(5):
        with suppress(Retryable):
            trader.venue.send(prepared)
        looks.append(Event.objects.filter(name=name).count())
    assert looks == [0, 0, 1, 1, 1] if name == "transaction.refused" else looks[-1] == 1
    [alert] = Event.objects.filter(name=name)
    assert alert.subject == f"trading.chaintransaction/{trader.tx(prepared.ref).pk}"
    assert name in ALERTS


def test_a_nonce_far_above_ours_is_refused_with_an_alert(trader: SafeTrader, wire: Proxy) -> None:
    trader.trade()
    trader.lab.advance(2)
    wire.answers = {"eth_getTransactionCount": hex(1 + outbox.NONCE_GAP + 1)}
    prepared = trader.venue.prepare(trader.request())
    for _ in range(2):
        with pytest.raises(Retryable, match="ahead of ours"):
            trader.venue.send(prepared)
    assert (trader.tx(prepared.ref).state, Signer.objects.get().next_nonce) == ("planned", 1)
    [alert] = Event.objects.filter(name="transaction.nonce_ahead")
    assert alert.data["chain"] == 1 + outbox.NONCE_GAP + 1
    assert alert.name in ALERTS
    wire.answers = {}
    trader.venue.send(prepared)
    assert trader.tx(prepared.ref).nonce == 1


def test_a_call_pays_its_value_once_and_the_ledger_books_it(trader: SafeTrader, wire: Proxy) -> None:
    sending(trader, bump_after=timedelta(0))
    receiver, value = trader.world.accounts["rogue"], 3 * 10**15
    policy = SigningPolicy(frozenset({receiver}), frozenset({b""}), max_value=value)
    [signer] = open_signers(31337, policy, 60).values()
    chain, executor = trader.venue.chain, ledger.executor_of(signer.address)
    held = int(trader.lab.rpc("eth_getBalance", receiver, "latest"), 16)
    before = ledger.balance(executor, "ETH")
    tx = outbox.plan("mx-value", 31337, {"purpose": "close"}, clock.now() + timedelta(minutes=5))
    trader.lab.rpc("evm_setAutomine", False)
    outbox.commit(tx, outbox.Call(receiver, b"", value), chain, signer, trader.venue.sending)
    for _ in range(2):  # sent, then with higher fees
        outbox.follow(tx, chain, signer, trader.venue.sending)
    trader.lab.rpc("evm_mine")
    outbox.follow(tx, chain, signer, trader.venue.sending)

    tx.refresh_from_db()
    assert (tx.state, tx.value, tx.attempts.count() > 1) == ("final", value, True)
    assert int(trader.lab.rpc("eth_getBalance", receiver, "latest"), 16) == held + value
    gas = (tx.gas_used or 0) * (tx.gas_price or 0)
    assert before - ledger.balance(executor, "ETH") == D(gas + value).scaleb(-18)
    assert ledger.balance(ledger.execution_fees_of(31337), "ETH") == D("0.003")


def test_an_executor_that_cannot_pay_the_value_signs_nothing(trader: SafeTrader, wire: Proxy) -> None:
    receiver, value = trader.world.accounts["rogue"], 10**30
    policy = SigningPolicy(frozenset({receiver}), frozenset({b""}), max_value=value)
    [signer] = open_signers(31337, policy, 60).values()
    tx = outbox.plan("mx-poor", 31337, {"purpose": "close"}, clock.now() + timedelta(minutes=5))
    with pytest.raises(Rejected, match="for gas and the call's value and holds"):
        outbox.commit(tx, outbox.Call(receiver, b"", value), trader.venue.chain, signer, trader.venue.sending)
    assert tx.attempts.count() == 0
