"""Send blockchain transactions exactly once: a transactional outbox. Bytes are stored before they are broadcast.

`plan` stores the intent in the database transaction that reserves the order, without network. `commit` assigns a nonce
and signs, in one database transaction under the signer's row lock. `follow` takes the next step on the chain: broadcast
the stored bytes, raise the fees of the same nonce, record a receipt, undo a reorg, or finish.

`MaySend` is asked right before each broadcast and each fee bump. A transaction that it holds back is only searched for
in blocks and expires once the module's deadline rules it out (`_expire`). If a later transaction waits for its nonce,
an empty transaction to ourselves uses that nonce up (ADR 11).

Every function may be killed at any point and called again, by any number of workers at once.

web3 and safe-eth-py are not used to send: neither stores bytes before they leave, both send through one endpoint, and
safe-eth-py (`send_unsigned_transaction`) sends a payload again with another nonce, which would trade twice.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

import structlog
from django.db import transaction
from django.db.models import QuerySet

from maxxit.core import clock, correlation
from maxxit.core.errors import Misconfigured, Rejected, Retryable, StaleState, Unknown
from maxxit.core.money import ZERO, plain
from maxxit.events.record import advance, record
from maxxit.evm.facts import Receipt
from maxxit.evm.node_errors import Refusal, fees_named, refusal
from maxxit.evm.rpc import BroadcastRejected, Chain, Fault, Head, code_of
from trading import ledger
from trading.chain.chains import ChainStanza
from trading.chain.models import ChainAttempt, ChainTransaction, Signer
from trading.chain.signer import Signed, Unsigned
from trading.chain.states import IN_FLIGHT, TxState
from trading.reasons import Reason

log = structlog.get_logger(__name__)

NOT_MINED = (TxState.SIGNED, TxState.BROADCAST, TxState.EXPIRED)
"""A nonce is assigned, and no attempt with it is known to be in a block."""
FOLLOWED = IN_FLIGHT | {TxState.EXPIRED}
COIN_DECIMALS = 18
BUMP_NUMERATOR, BUMP_DENOMINATOR = 115, 100
"""A fee bump raises both fees by at least 15 %; nodes require 10 %."""
GWEI = 10**9
TIP_LADDER = (1 * GWEI, 5 * GWEI, 25 * GWEI)
"""Minimum tip in wei after the first, second and third refusal that names no amount; doubled with each further one."""
ALERT_AFTER_REFUSALS = 3
"""Staff is alerted when no node accepted the transaction this many times in a row."""
NONCE_GAP = 16
"""How far the chain's nonce may be ahead of ours. Further ahead means a lying node, or another process with the key."""
STUCK_AFTER = 3
"""Staff is alerted when an earlier nonce stays unmined for this many times `bump_after`."""


class TransactionSigner(Protocol):
    """What the outbox needs of an executor's key."""

    address: str

    def sign(self, tx: Unsigned) -> Signed:
        """Sign. Raises Rejected where the signing policy forbids it."""
        ...


class MaySend(Protocol):
    """Asks the execution gate of the transaction's venue."""

    def __call__(self, tx: ChainTransaction) -> bool:
        """Return whether the transaction may be broadcast now; False where the gate cannot be read."""
        ...


def allow_nothing(tx: ChainTransaction) -> bool:
    """Allow nothing: `follow` only looks for receipts."""
    return False


def allow_exits(tx: ChainTransaction) -> bool:
    """Allow exits only: the default where no venue supplies its gate."""
    return bool(tx.terms.get("purpose") != "open")


@dataclass(frozen=True, slots=True)
class SendingRules:
    """A chain's parameters for sending, from `config/chains.yaml`."""

    finality_depth: int
    bump_after: timedelta
    replaced_after: timedelta
    max_fee: int
    """Upper limit of the fee, wei per gas."""
    min_tip: int
    """Wei per gas."""
    gas_limit: int
    coin: str
    """Symbol of the coin that gas is paid in."""


def rules_of(stanza: ChainStanza) -> SendingRules:
    """Return a chain's parameters for sending."""
    return SendingRules(
        finality_depth=stanza.finality_depth,
        bump_after=timedelta(seconds=stanza.bump_after_seconds),
        replaced_after=timedelta(seconds=stanza.replaced_after_seconds),
        max_fee=stanza.max_fee_wei,
        min_tip=stanza.min_tip_wei,
        gas_limit=stanza.gas_limit,
        coin=stanza.coin,
    )


@dataclass(frozen=True, slots=True)
class Call:
    """A contract call to be signed."""

    to: str
    """Empty: the data creates a contract."""
    data: bytes
    value: int = 0
    """Wei that the executor pays with it."""


# -- the intent


def plan(key: str, chain_id: int, terms: Mapping[str, Any], deadline: datetime) -> ChainTransaction:
    """Store an intent in the caller's database transaction and return it; the same key returns the same intent."""
    tx, _ = ChainTransaction.objects.get_or_create(
        idempotency_key=key,
        defaults={
            "chain_id": chain_id,
            "terms": dict(terms),
            "deadline": deadline,
            "correlation_id": correlation.current(),
            "created_at": clock.now(),
        },
    )
    return tx


def drop(tx: ChainTransaction, why: str) -> None:
    """Give up an unsigned intent. Raises StaleState when it was signed meanwhile."""
    advance(tx, TxState.DROPPED, why=why, reason=why[:60])


# -- nonce and signature


def commit(
    tx: ChainTransaction, call: Call, chain: Chain, signer: TransactionSigner, sending: SendingRules
) -> None:
    """Move planned -> signed: store nonce, calldata and signed bytes together, before anything is broadcast.

    Raises Rejected where the executor cannot pay for gas or the deadline has passed, Retryable where the chain cannot
    be read, StaleState where another worker was first.
    """
    head = chain.head()
    fees, block = first_fees(head, sending), hex(head.number)
    floor, balance = chain.agreed_all(
        [
            (f"the nonce of {signer.address}", "eth_getTransactionCount", (signer.address, block)),
            (f"the balance of {signer.address}", "eth_getBalance", (signer.address, block)),
        ]
    )
    if balance < (cost := sending.gas_limit * fees[0] + call.value):
        needed = Decimal(cost).scaleb(-COIN_DECIMALS)
        paid_for = "gas and the call's value" if call.value else "gas"
        raise Rejected(
            f"executor {signer.address} needs {plain(needed)} {sending.coin} for {paid_for} and holds "
            f"{plain(Decimal(balance).scaleb(-COIN_DECIMALS))}: send it {sending.coin}",
            code=Reason.EXECUTOR_OUT_OF_GAS,
        )
    _refuse_far_nonce(tx, signer.address, floor)
    with transaction.atomic():
        row = _lock_signer(tx.chain_id, signer.address)
        fresh = ChainTransaction.objects.select_for_update().get(pk=tx.pk)
        if fresh.state != TxState.PLANNED:
            raise StaleState(f"{fresh} was signed by another worker")
        if clock.now() >= fresh.deadline:
            raise Rejected(
                f"its deadline {fresh.deadline:%Y-%m-%d %H:%M:%S} UTC passed before it was signed",
                code=Reason.DEADLINE,
            )
        nonce = max(row.next_nonce, floor)
        row.next_nonce = nonce + 1
        row.save(update_fields=["next_nonce"])
        tx.signer, tx.nonce, tx.to = row, nonce, call.to
        tx.calldata, tx.gas_limit = "0x" + call.data.hex(), sending.gas_limit
        tx.value = Decimal(call.value)
        _store_attempt(tx, signer, fees)
        advance(
            tx, TxState.SIGNED, data={"nonce": nonce}, signer=row, nonce=nonce, to=call.to, calldata=tx.calldata,
            gas_limit=tx.gas_limit, value=tx.value,
        )  # fmt: skip


def _refuse_far_nonce(tx: ChainTransaction, address: str, floor: int) -> None:
    """Raise Retryable and alert staff if the chain's nonce is far ahead of ours. The first use adopts any nonce."""
    row = Signer.objects.filter(chain_id=tx.chain_id, address=address).first()
    if row is None or not row.next_nonce or floor <= row.next_nonce + NONCE_GAP:
        return
    _alert_once(tx, "transaction.nonce_ahead", executor=address, ours=row.next_nonce, chain=floor)
    raise Retryable(
        f"executor {address}: the chain's nonce {floor} is more than {NONCE_GAP} ahead of ours, {row.next_nonce}"
    )


def _alert_once(tx: ChainTransaction, name: str, **data: Any) -> None:
    """Record an event that alerts staff, once per transaction."""
    with transaction.atomic():
        fresh = ChainTransaction.objects.select_for_update().get(pk=tx.pk)
        if name in fresh.alerts:
            return
        fresh.alerts = [*fresh.alerts, name]
        fresh.save(update_fields=["alerts"])
        log.error(name, transaction=tx.pk, **data)
        record(name, tx, **data)


def _lock_signer(chain_id: int, address: str) -> Signer:
    """Lock the signer's row, so that nonces are assigned one at a time, and return it."""
    Signer.objects.get_or_create(chain_id=chain_id, address=address)
    return Signer.objects.select_for_update().get(chain_id=chain_id, address=address)


def _store_attempt(
    tx: ChainTransaction, signer: TransactionSigner, fees: tuple[int, int], *, cancels: bool = False
) -> ChainAttempt:
    """Sign the intent with these fees (max fee, tip; wei per gas) and store the bytes.

    `cancels`: sign an empty transaction to ourselves instead.
    """
    to, data = (signer.address, b"") if cancels else (tx.to, bytes.fromhex(tx.calldata[2:]))
    value = 0 if cancels else int(tx.value)
    signed = signer.sign(
        Unsigned(tx.chain_id, int(tx.nonce or 0), to, data, tx.gas_limit, fees[0], fees[1], value)
    )
    return ChainAttempt.objects.create(
        transaction=tx,
        number=tx.attempts.count() + 1,
        hash=signed.hash,
        raw="0x" + signed.raw.hex(),
        max_fee=fees[0],
        tip=fees[1],
        cancels=cancels,
        created_at=clock.now(),
    )


def first_fees(head: Head, sending: SendingRules) -> tuple[int, int]:
    """Return (max fee, tip) in wei per gas: twice the base fee plus tip.

    The base fee rises by at most 12.5 % per block (EIP-1559), so six full blocks in a row do not exceed it.
    """
    return min(2 * head.base_fee + sending.min_tip, sending.max_fee), min(sending.min_tip, sending.max_fee)


def bumped_fees(max_fee: int, tip: int, head: Head, sending: SendingRules) -> tuple[int, int] | None:
    """Return (max fee, tip) at least 15 % higher and enough for this head; None where that exceeds the limit.

    Wei per gas.
    """
    higher_tip = _raised_fee(tip)
    higher = max(_raised_fee(max_fee), 2 * head.base_fee + higher_tip)
    return (higher, higher_tip) if higher <= sending.max_fee else None


def fees_after_refusal(
    last: ChainAttempt, texts: Sequence[str], head: Head, sending: SendingRules
) -> tuple[int, int] | None:
    """Return the (max fee, tip) that nodes which refused `last` would accept, at least 15 % higher; wei per gas.

    `texts`: their error messages. If one names an amount, the smallest named counts: one accepting node is enough, and
    a lying node costs nothing. Otherwise the tip follows `TIP_LADDER`. None where the limit does not allow it.
    """
    max_fee, tip = int(last.max_fee), int(last.tip)
    named = [fees for text in texts if any(fees := fees_named(text, max_fee, tip))]
    base_fee, least = min(named, default=(0, 0))
    if not named and not any("replace" in text.lower() for text in texts):
        step = last.number - 1
        least = TIP_LADDER[step] if step < len(TIP_LADDER) else 2 * tip
    higher_tip = max(_raised_fee(tip), least)
    wanted = max(_raised_fee(max_fee), 2 * max(head.base_fee, base_fee) + higher_tip)
    needed = max(_raised_fee(max_fee), max(head.base_fee, base_fee) + higher_tip)
    return (min(wanted, sending.max_fee), higher_tip) if needed <= sending.max_fee else None


def _raised_fee(fee: int) -> int:
    return -(-fee * BUMP_NUMERATOR // BUMP_DENOMINATOR)


# -- on the chain


def follow(
    tx: ChainTransaction,
    chain: Chain,
    signer: TransactionSigner | None,
    sending: SendingRules,
    may_send: MaySend = allow_exits,
    *,
    just_signed: bool = False,
) -> None:
    """Take the next steps of a signed transaction: record a receipt, broadcast, bump fees, or expire it.

    `signer` None: this process cannot raise fees. `just_signed`: the caller signed it a moment ago, so that no receipt
    can exist and none is asked for. Raises Retryable where the chain cannot be read or no node accepts the bytes,
    Unknown where a broadcast got no answer.
    """
    tx.refresh_from_db()
    if tx.state not in FOLLOWED:
        return
    attempts = list(tx.attempts.order_by("number"))
    receipt = None if just_signed else find_receipt(chain, attempts)
    if receipt is not None:
        _record_canceled(tx, chain, sending)
        _record_receipt(tx, receipt, chain, sending)
        return
    if tx.state == TxState.MINED:
        log.warning("receipt_vanished", transaction=tx.pk, block=tx.block_number)
        advance(tx, TxState.BROADCAST, why="reorg", block_number=None, block_hash="", mined_hash="")
    if tx.state == TxState.EXPIRED:
        return
    if not may_send(tx):
        _expire(tx, attempts, chain, sending)
        return
    if signer is not None:
        _cancel_earlier_nonces(tx, chain, signer, sending, may_send)
    _broadcast(tx, attempts, chain, signer, sending, may_send)


def _broadcast(
    tx: ChainTransaction,
    attempts: list[ChainAttempt],
    chain: Chain,
    signer: TransactionSigner | None,
    sending: SendingRules,
    may_send: MaySend,
) -> None:
    """Broadcast the newest stored bytes, raise the fees if they are refused or overdue, and look for a receipt."""
    refused = _send(tx, attempts[-1], chain, may_send)
    if (
        refused is not None
        and refused.has(Refusal.NONCE_USED)
        and _nonce_is_used(tx, attempts, chain, sending)
    ):
        return
    if signer is not None and (refused is None or refused.has(Refusal.FEES)):
        _bump_fees(tx, attempts[-1], chain, signer, sending, may_send, texts=refused.texts if refused else ())
    if refused is None:
        receipt = find_receipt(chain, list(tx.attempts.order_by("number")))
        if receipt is not None:
            _record_receipt(tx, receipt, chain, sending)


def _expire(tx: ChainTransaction, attempts: list[ChainAttempt], chain: Chain, sending: SendingRules) -> None:
    """Expire a held-back transaction once a final block is past its deadline and its nonce is unused there.

    From then on the module rejects the bytes. The nonce stays unused until a later transaction needs it.
    """
    if attempts[-1].cancels or clock.now() < tx.deadline:
        return
    final = max(chain.head().number - sending.finality_depth + 1, 0)
    if tx.signer is None or tx.nonce is None or chain.block(final).timestamp <= tx.deadline.timestamp():
        return
    if chain.nonce(tx.signer.address, hex(final)) <= tx.nonce:
        advance(tx, TxState.EXPIRED, why=Reason.HELD_BACK, reason=Reason.HELD_BACK)


def _cancel_earlier_nonces(
    tx: ChainTransaction, chain: Chain, signer: TransactionSigner, sending: SendingRules, may_send: MaySend
) -> None:
    """Cancel earlier transactions that are held back, because nodes queue `tx` until their nonces are used.

    An earlier transaction that may be sent is left to its own order; staff is alerted if it stays unmined for long.
    """
    for held in _earlier_nonces(tx).filter(state__in=NOT_MINED):
        try:
            if held.state == TxState.EXPIRED or not may_send(held):
                _cancel(held, chain, signer, sending, lambda _: may_send(tx))
        except (
            Retryable,
            Unknown,
            Misconfigured,  # of a key service
        ) as error:  # the next call tries again; `tx` is broadcast anyway
            log.warning("nonce_not_cleared", transaction=held.pk, error=str(error))
        waited = clock.now() - min(held.attempts.values_list("created_at", flat=True))
        if held.state in NOT_MINED and waited > STUCK_AFTER * sending.bump_after:
            _alert_once(
                held, "transaction.stuck", nonce=held.nonce, behind=tx.idempotency_key, seconds=waited.total_seconds()
            )  # fmt: skip


def _earlier_nonces(tx: ChainTransaction) -> QuerySet[ChainTransaction]:
    """Return the signer's transactions with a lower nonce, in order."""
    earlier = ChainTransaction.objects.filter(signer=tx.signer, nonce__lt=tx.nonce)
    return earlier.select_related("signer").order_by("nonce")


def _record_canceled(tx: ChainTransaction, chain: Chain, sending: SendingRules) -> None:
    """Record the receipts of earlier transactions that were cancelled for `tx`, so that their orders can end."""
    for held in (
        _earlier_nonces(tx).filter(state__in=[*NOT_MINED, TxState.MINED], attempts__cancels=True).distinct()
    ):
        receipt = find_receipt(chain, list(held.attempts.order_by("number")))
        if receipt is not None:
            with suppress(StaleState):  # another worker recorded it at the same moment
                _record_receipt(held, receipt, chain, sending)


def _cancel(
    tx: ChainTransaction, chain: Chain, signer: TransactionSigner, sending: SendingRules, may_send: MaySend
) -> None:
    """Replace a held-back transaction by an empty one with the same nonce, stored before it is sent.

    Whichever is mined is recorded; the original bytes are not broadcast again.
    """
    attempts = list(tx.attempts.order_by("number"))
    receipt = find_receipt(chain, attempts)
    if receipt is not None:
        _record_receipt(tx, receipt, chain, sending)
        return
    if not attempts[-1].cancels:
        head = chain.head()
        fees = bumped_fees(int(attempts[-1].max_fee), int(attempts[-1].tip), head, sending) or (
            max(sending.max_fee, int(attempts[-1].max_fee)),
            int(attempts[-1].tip),
        )
        with transaction.atomic():
            _lock_signer(tx.chain_id, signer.address)
            if tx.attempts.count() != attempts[-1].number:
                return  # another worker was first
            attempts.append(_store_attempt(tx, signer, fees, cancels=True))
            if tx.state == TxState.EXPIRED:
                advance(tx, TxState.SIGNED, why=Reason.CANCELED)
            record("transaction.cancel", tx, nonce=tx.nonce)
    _broadcast(tx, attempts, chain, signer, sending, may_send)


def find_receipt(chain: Chain, attempts: list[ChainAttempt]) -> Receipt | None:
    """Return the receipt of the attempt that is in a block, the newest first, as the endpoints agree; or None."""
    hashes = [attempt.hash for attempt in reversed(attempts)]
    receipts: list[Receipt | None] = chain.agreed_all(
        [(f"the receipt of {hash_}", "eth_getTransactionReceipt", (hash_,)) for hash_ in hashes]
    )
    return next((receipt for receipt in receipts if receipt is not None), None)


@dataclass(frozen=True, slots=True)
class BroadcastRefusal:
    """The error messages of nodes that did not accept the stored bytes."""

    texts: tuple[str, ...]

    def has(self, kind: Refusal) -> bool:
        """Return whether one of them refused for this reason."""
        return any(refusal(text) == kind for text in self.texts)


def _send(
    tx: ChainTransaction, attempt: ChainAttempt, chain: Chain, may_send: MaySend
) -> BroadcastRefusal | None:
    """Broadcast stored bytes; return None once a node has them, else a refusal about the nonce or the fees.

    The only function that broadcasts. Raises Retryable where the gate is closed or the bytes are refused for another
    reason, Unknown where a node did not answer.
    """
    if not may_send(tx):
        raise Retryable(f"transaction {tx.pk} is held back by the gate")
    try:
        chain.broadcast(bytes.fromhex(attempt.raw[2:]))
    except BroadcastRejected as error:
        refused = BroadcastRefusal(tuple(fault.text for fault in error.faults))
        if not refused.has(Refusal.KNOWN):
            _count_refusal(tx, refused)
            if refused.has(Refusal.NONCE_USED) or refused.has(Refusal.FEES):
                return refused
            if error.silent:
                raise Unknown(
                    f"transaction {tx.pk} was refused ({error.text}), and another node did not answer"
                ) from error
            raise Retryable(f"transaction {tx.pk} was refused by every node: {error.text}") from error
        log.info("already_known", transaction=tx.pk)
    if attempt.broadcast_at is None:
        attempt.broadcast_at = clock.now()
        attempt.save(update_fields=["broadcast_at"])
    if tx.refusals:
        tx.refusals = 0
        tx.save(update_fields=["refusals"])
    if tx.state == TxState.SIGNED:
        advance(tx, TxState.BROADCAST, data={"hash": attempt.hash})
    return None


def _count_refusal(tx: ChainTransaction, refused: BroadcastRefusal) -> None:
    """Count a broadcast that no node accepted; alert staff when that repeats."""
    log.info("not_taken", transaction=tx.pk, answer="; ".join(refused.texts))
    tx.refusals += 1
    tx.save(update_fields=["refusals"])
    if tx.refusals >= ALERT_AFTER_REFUSALS:
        _alert_once(tx, "transaction.refused", looks=tx.refusals, why="; ".join(refused.texts)[:300])


def _nonce_is_used(
    tx: ChainTransaction, attempts: list[ChainAttempt], chain: Chain, sending: SendingRules
) -> bool:
    """Return whether the endpoints agree that the nonce is used; record which transaction used it.

    One of our attempts: its receipt is recorded. None of ours, after `replaced_after`: the state becomes replaced. The
    intent is never sent again with another nonce.
    """
    if tx.signer is None or tx.nonce is None or chain.nonce(tx.signer.address) <= tx.nonce:
        return False
    receipt = find_receipt(chain, attempts)
    if receipt is not None:
        _record_receipt(tx, receipt, chain, sending)
        return True
    deep = max(chain.head().number - sending.finality_depth + 1, 0)
    waited = clock.now() - attempts[-1].created_at >= sending.replaced_after
    if waited and chain.nonce(tx.signer.address, hex(deep)) > tx.nonce:
        log.error("nonce_taken_by_a_stranger", transaction=tx.pk, nonce=tx.nonce)
        advance(tx, TxState.REPLACED, why=Reason.NONCE_TAKEN, reason=Reason.NONCE_TAKEN)
    return True


def _bump_fees(
    tx: ChainTransaction,
    last: ChainAttempt,
    chain: Chain,
    signer: TransactionSigner,
    sending: SendingRules,
    may_send: MaySend,
    *,
    texts: Sequence[str] = (),
) -> None:
    """Store and send another attempt with the same nonce and calldata and higher fees.

    `texts`: the messages with which `last` was refused; empty: bump once `bump_after` has passed.
    """
    if not texts and clock.now() - last.created_at < sending.bump_after:
        return
    head = chain.head()
    fees = (
        fees_after_refusal(last, texts, head, sending)
        if texts
        else bumped_fees(int(last.max_fee), int(last.tip), head, sending)
    )
    if fees is None:
        _alert_once(tx, "transaction.fees_at_limit", max_fee=int(last.max_fee), limit=sending.max_fee)
        return
    if not may_send(tx):
        return
    with transaction.atomic():
        _lock_signer(tx.chain_id, signer.address)
        if tx.attempts.count() != last.number:
            return  # another worker was first
        attempt = _store_attempt(tx, signer, fees, cancels=last.cancels)
        record("transaction.bumped", tx, attempt=attempt.number, max_fee=fees[0], tip=fees[1])
    _send(tx, attempt, chain, may_send)


def _record_receipt(tx: ChainTransaction, receipt: Receipt, chain: Chain, sending: SendingRules) -> None:
    """Record a receipt: the state becomes mined, and final once it is `finality_depth` blocks deep."""
    number, block = receipt.block_number, receipt.block_hash
    if tx.state == TxState.MINED and tx.block_hash != block:
        advance(tx, TxState.BROADCAST, why="reorg", block_number=None, block_hash="", mined_hash="")
    if tx.state != TxState.MINED:
        advance(
            tx, TxState.MINED, data={"block": number}, block_number=number, block_hash=block,
            mined_hash=receipt.transaction_hash,
        )  # fmt: skip
    if chain.head().number - number + 1 < sending.finality_depth:
        return
    agreed = chain.block(number)
    if agreed.hash == block:
        _finalise(tx, receipt, agreed.timestamp, chain, sending)


def _finalise(
    tx: ChainTransaction, receipt: Receipt, timestamp: int, chain: Chain, sending: SendingRules
) -> None:
    """Move mined -> final, reverted or canceled, and book its gas and value; a revert costs gas too."""
    price = receipt.gas_price or 0
    cost = receipt.gas_used * price + (receipt.l1_fee or 0)
    paid: dict[str, Any] = {"gas_used": receipt.gas_used, "gas_price": Decimal(price)}
    canceled = tx.attempts.filter(hash=receipt.transaction_hash, cancels=True).exists()
    why = "" if receipt.succeeded or canceled else revert_code(tx, chain, receipt.block_number)
    with transaction.atomic():
        if canceled:
            advance(tx, TxState.CANCELED, why=Reason.HELD_BACK, reason=Reason.HELD_BACK, **paid)
        elif receipt.succeeded:
            logs = [one.as_json() | {"blockTimestamp": hex(timestamp)} for one in receipt.logs]
            advance(tx, TxState.FINAL, data={"block": receipt.block_number}, logs=logs, **paid)
        else:
            advance(tx, TxState.REVERTED, why=why, reason=why, **paid)
        if tx.signer is not None:
            amount = Decimal(cost).scaleb(-COIN_DECIMALS)
            value = tx.value.scaleb(-COIN_DECIMALS) if receipt.succeeded and not canceled else ZERO
            ledger.book_gas(
                tx.idempotency_key, tx.signer.address, tx.chain_id, sending.coin, amount, value=value
            )


def revert_code(tx: ChainTransaction, chain: Chain, block: int) -> str:
    """Return the reason code of a revert, by replaying the call on the state after its block, then before it."""
    sender = tx.signer.address if tx.signer else ""
    for number in (block, block - 1):
        try:
            if tx.to:
                chain.call(
                    tx.to,
                    bytes.fromhex(tx.calldata[2:]),
                    sender=sender,
                    block=hex(number),
                    value=int(tx.value),
                )
            else:
                chain.agreed_call({"from": sender, "data": tx.calldata}, hex(number))
        except Fault as error:
            if error.reason:
                return code_of(error.reason)
    return Reason.REVERTED


def find_intent(key: str) -> ChainTransaction | None:
    """Return the intent with that key, or None."""
    return ChainTransaction.objects.select_related("signer").filter(idempotency_key=key).first()
