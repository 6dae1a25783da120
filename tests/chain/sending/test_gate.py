"""A shut gate on a real chain: nothing that opens leaves, what it holds back ends, and no exit waits for its nonce."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError

from maxxit.core import clock
from maxxit.core.errors import Retryable, Unknown
from maxxit.events.models import Event
from maxxit.evm.rpc import Chain
from maxxit.pipeline.stages import ALERTS
from tests import builders as make
from tests.chain.sending.proxy import Proxy, proxied
from tests.chain.sending.safe_trader import SafeTrader, store_plan, verified
from trading import gate, ledger
from trading.chain import outbox
from trading.chain.models import ChainTransaction, Signer
from trading.chain.signer import Unsigned

pytestmark = [pytest.mark.chain, pytest.mark.django_db]
SEND = "eth_sendRawTransaction"


def shut(how: str, account: str = "") -> None:
    if how == "dry_run":
        gate.set_dry_run("safe", True, by="operator", reason="stop")
    elif how == "revoked":
        gate.revoke("safe", by="operator", reason="stop")
    else:
        gate.kill(how, by="operator", reason="stop", account=account)


ENTRIES_ONLY = ("no_entries", "reduce_only", "flatten", "account")
EVERYTHING = ("dry_run", "revoked")


@pytest.fixture
def wire(trader: SafeTrader) -> Iterator[Proxy]:
    store_plan(trader.lab)
    verified(make.deployment(make.agent(venue="safe"), account=trader.world.safe, funded=False), trader.lab)
    with proxied(trader.world.rpc_url) as (proxy, url):
        trader.venue.chain = Chain(
            31337, [url], head_lag=5, health_seconds=60, timeout=2, multicall=trader.world.multicall
        )
        yield proxy
        trader.close()


def lost_entry(trader: SafeTrader, wire: Proxy, **changes: Any) -> str:
    """An entry that is signed, and whose broadcast was lost."""
    wire.script = {SEND: ["lost"]}
    prepared = trader.venue.prepare(trader.request(**changes))
    with pytest.raises(Unknown):
        trader.venue.send(prepared)
    wire.seen.clear()
    return prepared.ref


def bought(trader: SafeTrader) -> str:
    """A position from before, past the Safe's cooldown; its quantity."""
    report = trader.trade()
    trader.lab.advance(2)
    return str(report.fills[0].quantity)


def close_it(trader: SafeTrader, how: str) -> None:
    shut("flatten" if how == "account" else how, trader.world.safe if how == "account" else "")


@pytest.mark.parametrize("how", ENTRIES_ONLY + EVERYTHING)
def test_a_signed_entry_does_not_leave_through_a_shut_gate_and_does_once_it_is_open(
    trader: SafeTrader, wire: Proxy, how: str
) -> None:
    ref = lost_entry(trader, wire)
    close_it(trader, how)
    for _ in range(3):
        trader.venue.send(trader.venue.prepare(trader.request(client_order_id=ref)))
        report = trader.venue.find(ref)
        assert report is not None
        assert report.state == "accepted"
    assert SEND not in wire.seen
    assert "eth_getTransactionReceipt" in wire.seen
    assert (trader.opened(), trader.tx(ref).attempts.count()) == ([], 1)

    gate.release(by="operator", reason="over")
    make.open_gate("safe")
    report = trader.venue.find(ref)
    assert report is not None
    assert (report.state, len(trader.opened())) == ("filled", 1)


def test_another_accounts_switch_holds_nothing_back(trader: SafeTrader, wire: Proxy) -> None:
    ref = lost_entry(trader, wire)
    shut("flatten", "0x" + "11" * 20)
    report = trader.venue.find(ref)
    assert report is not None
    assert report.state == "filled"


@pytest.mark.parametrize("how", ENTRIES_ONLY + EVERYTHING)
def test_fees_of_an_entry_are_not_raised_behind_a_shut_gate(
    trader: SafeTrader, wire: Proxy, how: str
) -> None:
    trader.lab.rpc("evm_setAutomine", False)
    try:
        ref = trader.send(trader.request())
        trader.venue.sending = trader.venue.sending.__class__(
            **{name: getattr(trader.venue.sending, name) for name in trader.venue.sending.__slots__}
            | {"bump_after": timedelta(0)}
        )
        close_it(trader, how)
        wire.seen.clear()
        trader.venue.find(ref)
        assert (SEND in wire.seen, trader.tx(ref).attempts.count()) == (False, 1)
        trader.lab.rpc("evm_mine")
        report = trader.venue.find(ref)  # it was on its way: that is noted
    finally:
        trader.lab.rpc("evm_setAutomine", True)
    assert report is not None
    assert report.state == "filled"


def test_an_unsigned_entry_is_not_signed_behind_a_shut_gate(trader: SafeTrader, wire: Proxy) -> None:
    prepared = trader.venue.prepare(trader.request())
    shut("flatten")
    with pytest.raises(Retryable, match="gate"):
        trader.venue.send(prepared)
    assert (trader.tx(prepared.ref).state, Signer.objects.count()) == ("planned", 0)


def test_a_gate_that_cannot_be_read_is_shut(
    trader: SafeTrader, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = lost_entry(trader, wire)

    def broken(*_: object) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(gate, "read", broken)
    trader.venue.find(ref)
    assert SEND not in wire.seen


@pytest.mark.parametrize("how", ENTRIES_ONLY)
def test_an_exit_leaves_past_the_nonce_of_an_entry_that_is_held_back(
    trader: SafeTrader, wire: Proxy, how: str
) -> None:
    quantity = bought(trader)
    entry = trader.request(account=trader.world.safe, trade="1/777")
    ref = lost_entry(trader, wire, trade=entry.trade)
    close_it(trader, how)
    before = int(trader.lab.rpc("eth_getBalance", trader.world.accounts["executor"], "latest"), 16)
    sold = trader.trade("close", quantity, trade="1/1")

    assert sold.state == "filled"
    assert trader.lab.held() == 0
    held = trader.venue.find(ref)
    assert held is not None
    assert (held.state, held.reason) == ("canceled", "held_back")
    assert len(trader.opened()) == 1
    tx = trader.tx(ref)
    assert [one.cancels for one in tx.attempts.all()] == [False, True]
    assert trader.executor_nonce() == Signer.objects.get().next_nonce == 3
    paid = before - int(trader.lab.rpc("eth_getBalance", trader.world.accounts["executor"], "latest"), 16)
    gas = sum(int(one.gas_used or 0) * int(one.gas_price or 0) for one in ChainTransaction.objects.all()[:2])
    assert gas == paid > 0
    assert ledger.balance(ledger.executor_of(trader.world.accounts["executor"]), "ETH") < 0


@pytest.mark.parametrize("how", EVERYTHING)
def test_dry_run_and_revocation_hold_exits_and_cancels_too(trader: SafeTrader, wire: Proxy, how: str) -> None:
    quantity = bought(trader)
    lost_entry(trader, wire, trade="1/777")
    prepared = trader.venue.prepare(trader.request("close", quantity, trade="1/1"))
    shut(how)
    with pytest.raises(Retryable, match="gate"):
        trader.venue.send(prepared)
    assert SEND not in wire.seen


@pytest.mark.parametrize("how", ENTRIES_ONLY + EVERYTHING)
def test_what_is_held_back_past_its_deadline_ends_and_its_nonce_is_used_up_when_it_is_needed(
    trader: SafeTrader, wire: Proxy, how: str
) -> None:
    ref = lost_entry(trader, wire)
    close_it(trader, how)
    with clock.frozen(clock.now() + timedelta(minutes=6)):
        report = trader.venue.find(ref)
        assert report is not None
        assert report.state == "accepted"  # the module may still take it: no final block is past its deadline
    trader.lab.advance(360)
    with clock.frozen(clock.now() + timedelta(minutes=6)):
        report = trader.venue.find(ref)
        assert report is not None
        assert (report.state, report.reason) == ("expired", "held_back")
        assert SEND not in wire.seen

        gate.release(by="operator", reason="over")
        make.open_gate("safe")
        later = trader.trade()
        assert later.state == "filled"
        assert len(trader.opened()) == 1
        assert trader.tx(ref).state == "canceled"


def test_bytes_that_were_canceled_never_leave_again_but_what_a_node_had_already_is_noted(
    trader: SafeTrader, wire: Proxy
) -> None:
    quantity = bought(trader)
    trader.lab.rpc("evm_setAutomine", False)
    try:
        wire.script = {SEND: ["silent"]}
        prepared = trader.venue.prepare(trader.request(trade="1/777"))
        with pytest.raises(Unknown):  # a node has it, and we do not know
            trader.venue.send(prepared)
        trader.lab.rpc("evm_mine")
        shut("flatten")
        wire.script = {"eth_getTransactionReceipt": ["stale"] * 3}
        close = trader.venue.prepare(trader.request("close", quantity, trade="1/1"))
        trader.venue.send(close)
        trader.lab.rpc("evm_mine")
    finally:
        trader.lab.rpc("evm_setAutomine", True)
    trader.venue.find(close.ref)
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert report.state == "filled"  # it was mined before the gate was shut
    assert len(trader.opened()) == 2


def test_a_nonce_in_front_that_stays_unmined_is_told_to_staff_once(trader: SafeTrader, wire: Proxy) -> None:
    quantity = bought(trader)
    ref = lost_entry(trader, wire, trade="1/777")
    real, raw = wire.handle, trader.tx(ref).attempts.get().raw

    def handle(call: dict[str, Any]) -> dict[str, Any] | None:
        if call["method"] == SEND and call["params"][0] == raw:
            return None
        return real(call)

    wire.handle = handle  # type: ignore[method-assign]
    trader.lab.rpc("evm_setAutomine", False)
    try:
        with clock.frozen(clock.now() + timedelta(seconds=61)):
            prepared = trader.venue.prepare(trader.request("close", quantity, trade="1/1"))
            for _ in range(2):
                trader.venue.send(prepared)
        [stuck] = Event.objects.filter(name="transaction.stuck")
    finally:
        trader.lab.rpc("evm_setAutomine", True)
    assert stuck.subject == f"trading.chaintransaction/{trader.tx(ref).pk}"
    assert stuck.data["behind"] == prepared.ref
    assert stuck.name in ALERTS


def test_the_key_signs_nothing_else_to_itself(trader: SafeTrader) -> None:
    [signer] = trader.venue.signers.values()
    empty = Unsigned(31337, 0, signer.address, b"", 21_000, 10, 1)
    assert signer.sign(empty).raw
    for data in (b"\0", b"\x01" * 36):
        with pytest.raises(Exception, match="does not sign"):
            signer.sign(Unsigned(31337, 0, signer.address, data, 21_000, 10, 1))


def test_without_a_venue_no_entry_leaves() -> None:
    assert not outbox.allow_exits(ChainTransaction(terms={"purpose": "open"}))
    assert outbox.allow_exits(ChainTransaction(terms={"purpose": "close"}))
