"""Trading with a key of AWS KMS on the local chain: rotation, a crash between signature and storage, an outage."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from maxxit.core.errors import Retryable, Unknown
from tests.chain.sending.kms import SILENT, Kms, fake_kms
from tests.chain.sending.proxy import Proxy
from tests.chain.sending.safe_trader import SafeTrader, store_plan
from tests.chain.sending.test_outbox import wire as wire
from tests.chain.sending.test_safe_flow import Pipeline
from tests.chain.sending.test_safe_flow import pipeline as pipeline
from tests.chain.sending.test_safes import as_signed
from tests.chain.sending.test_stops_stay import signers
from trading.chain import chains, outbox
from trading.chain.kms import open_key
from trading.chain.models import ChainAttempt, ChainTransaction
from trading.chain.signer import Signed, Unsigned
from trading.venues.safe import plans, safes
from trading.venues.safe.venue import SafeVenue
from trading.wiring import venue

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    with fake_kms() as fake:
        fake.environment(monkeypatch)
        yield fake


def new_key(kms: Kms, trader: SafeTrader, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a key of KMS the current one; return its address, which has coins for gas."""
    key = kms.new_key()
    trader.lab.rpc("anvil_setBalance", key.address, hex(10**18))
    monkeypatch.setenv("EXECUTOR_KEYSTORE", f"aws-kms:{key.arn}")
    venue.cache_clear()
    return key.address


def previous(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_PREVIOUS_KEYSTORE", value)
    monkeypatch.setenv("EXECUTOR_PREVIOUS_PASSWORD", "correct horse battery staple")


def test_from_a_keystore_to_kms_and_on_to_another_key_of_kms(
    pipeline: Pipeline, kms: Kms, executor_keystore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/runbook.md says: the old key signs until the owners' signature is on chain."""
    at_once = chains.terms().model_copy(update={"loosen_delay": 0})  # another executor counts as looser
    monkeypatch.setattr(chains, "terms", lambda: at_once)
    old = pipeline.world.accounts["executor"]
    trader = pipeline.trader
    first = new_key(kms, trader, monkeypatch)
    previous(str(executor_keystore), monkeypatch)
    trader.venue = cast(SafeVenue, venue("safe"))
    planned = plans.plan(pipeline.deployment)
    assert trader.trade("open", "0.02").state == "filled"
    pipeline.world.execute_as_owner(as_signed(planned.transaction))
    assert safes.check(pipeline.deployment) == []
    assert trader.trade("close", "0.02").state == "filled"
    assert signers() == [old, first]

    previous(f"aws-kms:{next(iter(kms.keys.values())).arn}", monkeypatch)
    second = new_key(kms, trader, monkeypatch)
    trader.venue = cast(SafeVenue, venue("safe"))
    assert trader.venue.executors == (second, first)
    planned = plans.plan(pipeline.deployment)
    trader.lab.advance(2)  # past the Safe's cooldown
    assert trader.trade("open", "0.02").state == "filled"
    pipeline.world.execute_as_owner(as_signed(planned.transaction))
    assert safes.check(pipeline.deployment) == []
    assert trader.trade("close", "0.02").state == "filled"
    assert signers() == [old, first, first, second]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def trading(
    kms: Kms, trader: SafeTrader, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> tuple[SafeTrader, Proxy]:
    """A Safe whose policy names a key of KMS."""
    address = new_key(kms, trader, monkeypatch)
    trader.lab.set_policy(executor=address)
    plan = store_plan(trader.lab)
    plan.policy["executor"] = address
    plan.save()
    return trader, wire


def test_a_process_that_dies_between_signature_and_storage_leaves_nothing_behind(
    kms: Kms, trading: tuple[SafeTrader, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """KMS signs the same transaction differently the next time: neither bytes, hash nor nonce were used."""
    trader, wire = trading
    lost: list[Signed] = []
    store = outbox._store_attempt

    def dies(tx: ChainTransaction, signer: outbox.TransactionSigner, fees: tuple[int, int]) -> ChainAttempt:
        lost.append(
            signer.sign(
                Unsigned(
                    tx.chain_id,
                    int(tx.nonce or 0),
                    tx.to,
                    bytes.fromhex(tx.calldata[2:]),
                    tx.gas_limit,
                    *fees,
                )
            )
        )
        raise Killed

    prepared = trader.venue.prepare(trader.request())
    monkeypatch.setattr(outbox, "_store_attempt", dies)
    with pytest.raises(Killed):
        trader.venue.send(prepared)
    assert trader.tx(prepared.ref).state == "planned"
    assert not ChainAttempt.objects.exists()

    monkeypatch.setattr(outbox, "_store_attempt", store)
    wire.script = {"eth_sendRawTransaction": ["lost"]}
    with pytest.raises(Unknown):
        trader.venue.send(prepared)
    report = trader.venue.find(prepared.ref)  # sends the stored bytes again, and signs nothing
    assert report is not None
    assert report.state == "filled"
    attempt = ChainAttempt.objects.get()
    assert len(kms.signed) == 2
    assert attempt.hash != lost[0].hash
    assert trader.tx(prepared.ref).mined_hash == attempt.hash
    assert (trader.tx(prepared.ref).nonce, len(trader.opened())) == (0, 1)


def test_while_kms_does_not_answer_nothing_is_signed_and_then_it_is(
    kms: Kms, trading: tuple[SafeTrader, Proxy]
) -> None:
    trader, _ = trading
    prepared = trader.venue.prepare(trader.request())
    kms.faults.append(SILENT)
    with pytest.raises(Retryable, match="the executor's key could not be asked for"):
        trader.problem()
    assert trader.problem() == ""  # the public key is read from now on
    kms.faults.extend([SILENT, "ThrottlingException"])
    for _ in range(2):
        with pytest.raises(Retryable, match=r"AWS KMS|127\.0\.0\.1"):
            trader.venue.send(prepared)
        assert trader.tx(prepared.ref).state == "planned"
    trader.venue.send(prepared)
    assert (trader.tx(prepared.ref).state, trader.tx(prepared.ref).nonce) == ("final", 0)


@pytest.mark.parametrize("fault", [SILENT, "AccessDeniedException"])
def test_what_is_signed_is_followed_to_its_end_by_a_process_that_cannot_open_the_key(
    kms: Kms, trading: tuple[SafeTrader, Proxy], fault: str
) -> None:
    trader, wire = trading
    wire.script = {"eth_sendRawTransaction": ["lost"]}
    prepared = trader.venue.prepare(trader.request())
    with pytest.raises(Unknown):
        trader.venue.send(prepared)
    del trader.venue.signers  # a process that has just started
    open_key.cache_clear()
    kms.faults.extend([fault] * 2)
    report = trader.venue.find(prepared.ref)
    assert report is not None
    assert report.state == "filled"
    assert len(kms.faults) < 2, "the key was asked for"
