"""Sending exactly once. What may leave is stored before it leaves, and only what is stored ever leaves.

`plan` stores the intent in the transaction that reserves the order; no network. `commit` gives it a nonce and
signs it, in one database transaction under the signer's row; `follow` does whatever the chain asks for next:
broadcast the stored bytes, raise the fees of the same nonce, note a receipt, take a reorg back, end.

Whether a transaction may leave is asked of `MaySend` right before each broadcast and each rise of its fees. One that
may not is only looked for in blocks, and ends once the module can no longer take it (`_expire`). Its nonce is used up
by an empty transaction to ourselves when a later one waits for it (ADR 11).

Each function may be killed at any instruction and called again, by any number of workers at once.
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
from maxxit.core.errors import Rejected, Retryable, StaleState, Unknown
from maxxit.events.record import advance, record
from maxxit.evm.facts import Receipt
from maxxit.evm.refusals import Refusal, fees_named, refusal
from maxxit.evm.rpc import Chain, Fault, Head, NotTaken, code_of
from trading import ledger
from trading.chain.models import ChainAttempt, ChainTransaction, Signer
from trading.chain.signer import Signed, Unsigned
from trading.chain.states import IN_FLIGHT, TxState

log = structlog.get_logger(__name__)

OPEN = (TxState.SIGNED, TxState.BROADCAST, TxState.EXPIRED)
"""A nonce was given, and nothing with it is known to be in a block."""
FOLLOWED = IN_FLIGHT | {TxState.EXPIRED}
COIN_DECIMALS = 18
BUMP_NUMERATOR, BUMP_DENOMINATOR = 115, 100
"""Both fees rise by at least 15 %: nodes ask for 10."""
GWEI = 10**9
TIP_LADDER = (1 * GWEI, 5 * GWEI, 25 * GWEI)
"""The least tip in wei after the first, second and third refusal that names no amount; twice the last from then on."""
REFUSED_LOOKS = 3
"""So many looks in a row at which no node took it, and staff is alerted."""
NONCE_GAP = 16
"""How far the chain's nonce may be ahead of ours: further means a lie, or that another process holds the key."""
STUCK_AFTER = 3
"""Times `bump_after` that a transaction in front may stay unmined before staff is alerted for the one behind."""


class TransactionSigner(Protocol):
    """The key, as far as the outbox needs it."""

    address: str

    def sign(self, tx: Unsigned) -> Signed:
        """Sign, or refuse."""
        ...


class MaySend(Protocol):
    """The gate in front of a transaction, as its venue reads it at this moment."""

    def __call__(self, tx: ChainTransaction) -> bool:
        """Whether the transaction may be broadcast now; False where that cannot be read."""
        ...


def receipts_only(tx: ChainTransaction) -> bool:
    """Nothing may leave."""
    return False


def no_entries(tx: ChainTransaction) -> bool:
    """What holds where no venue stands behind: nothing that opens may leave."""
    return bool(tx.terms.get("purpose") != "open")


@dataclass(frozen=True, slots=True)
class SendingRules:
    """A chain's rules for sending, from `config/chains.yaml`."""

    finality_depth: int
    bump_after: timedelta
    replaced_after: timedelta
    max_fee: int
    """Wei a gas; never more."""
    min_tip: int
    gas_limit: int
    coin: str
    """What gas is paid in."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be signed."""

    to: str
    data: bytes


# -- the intent


def plan(key: str, chain_id: int, terms: Mapping[str, Any], deadline: datetime) -> ChainTransaction:
    """Store an intent, in the caller's transaction. The same key is the same intent."""
    found, _ = ChainTransaction.objects.get_or_create(
        idempotency_key=key,
        defaults={
            "chain_id": chain_id,
            "terms": dict(terms),
            "deadline": deadline,
            "correlation_id": correlation.current(),
            "created_at": clock.now(),
        },
    )
    return found


def drop(tx: ChainTransaction, why: str) -> None:
    """Give up an intent that was never signed. Raises StaleState when it was signed meanwhile."""
    advance(tx, TxState.DROPPED, why=why, reason=why[:60])


# -- nonce and signature


def commit(
    tx: ChainTransaction, call: Call, chain: Chain, signer: TransactionSigner, sending: SendingRules
) -> None:
    """planned -> signed: a nonce, the calldata and the signed bytes, all stored at once, before anything leaves.

    Raises Rejected where the executor cannot pay for gas, Retryable where the chain cannot be read, StaleState
    where another worker was first.
    """
    head = chain.head()
    fees, block = first_fees(head, sending), hex(head.number)
    floor, balance = chain.agreed_all(
        [
            (f"the nonce of {signer.address}", "eth_getTransactionCount", (signer.address, block)),
            (f"the balance of {signer.address}", "eth_getBalance", (signer.address, block)),
        ]
    )
    if balance < sending.gas_limit * fees[0]:
        raise Rejected(f"executor {signer.address} has no money for gas", code="executor_out_of_gas")
    _refuse_far_nonce(tx, signer.address, floor)
    with transaction.atomic():
        row = _locked(tx.chain_id, signer.address)
        fresh = ChainTransaction.objects.select_for_update().get(pk=tx.pk)
        if fresh.state != TxState.PLANNED:
            raise StaleState(f"{fresh} was signed by another worker")
        if clock.now() >= fresh.deadline:
            raise Rejected("its deadline has passed before it was signed", code="deadline")
        nonce = max(row.next_nonce, floor)
        row.next_nonce = nonce + 1
        row.save(update_fields=["next_nonce"])
        tx.signer, tx.nonce, tx.to = row, nonce, call.to
        tx.calldata, tx.gas_limit = "0x" + call.data.hex(), sending.gas_limit
        _store_attempt(tx, signer, fees)
        advance(
            tx, TxState.SIGNED, data={"nonce": nonce}, signer=row, nonce=nonce, to=call.to, calldata=tx.calldata,
            gas_limit=tx.gas_limit,
        )  # fmt: skip


def _refuse_far_nonce(tx: ChainTransaction, address: str, floor: int) -> None:
    """Raises Retryable, with an alert, where the chain's nonce is far ahead of ours. The first use adopts any nonce."""
    row = Signer.objects.filter(chain_id=tx.chain_id, address=address).first()
    if row is None or not row.next_nonce or floor <= row.next_nonce + NONCE_GAP:
        return
    _alert_once(tx, "transaction.nonce_ahead", executor=address, ours=row.next_nonce, chain=floor)
    raise Retryable(
        f"executor {address}: the chain's nonce {floor} is more than {NONCE_GAP} ahead of ours, {row.next_nonce}"
    )


def _alert_once(tx: ChainTransaction, name: str, **data: Any) -> None:
    """Record an event that staff is alerted to, once for each transaction."""
    with transaction.atomic():
        fresh = ChainTransaction.objects.select_for_update().get(pk=tx.pk)
        if name in fresh.alerts:
            return
        fresh.alerts = [*fresh.alerts, name]
        fresh.save(update_fields=["alerts"])
        log.error(name, transaction=tx.pk, **data)
        record(name, tx, **data)


def _locked(chain_id: int, address: str) -> Signer:
    """The signer's row, locked: one nonce at a time."""
    Signer.objects.get_or_create(chain_id=chain_id, address=address)
    return Signer.objects.select_for_update().get(chain_id=chain_id, address=address)


def _store_attempt(
    tx: ChainTransaction, signer: TransactionSigner, fees: tuple[int, int], *, cancels: bool = False
) -> ChainAttempt:
    """Sign this intent with these fees and store the bytes. `cancels`: an empty transaction to ourselves instead."""
    to, data = (signer.address, b"") if cancels else (tx.to, bytes.fromhex(tx.calldata[2:]))
    made = signer.sign(Unsigned(tx.chain_id, int(tx.nonce or 0), to, data, tx.gas_limit, fees[0], fees[1]))
    return ChainAttempt.objects.create(
        transaction=tx,
        number=tx.attempts.count() + 1,
        hash=made.hash,
        raw="0x" + made.raw.hex(),
        max_fee=fees[0],
        tip=fees[1],
        cancels=cancels,
        created_at=clock.now(),
    )


def first_fees(head: Head, sending: SendingRules) -> tuple[int, int]:
    """(max fee, tip) in wei a gas: twice the base fee, so that six full blocks in a row cannot outrun it."""
    return min(2 * head.base_fee + sending.min_tip, sending.max_fee), min(sending.min_tip, sending.max_fee)


def bumped(max_fee: int, tip: int, head: Head, sending: SendingRules) -> tuple[int, int] | None:
    """Both fees at least 15 % higher, and enough for this head; None when that would be above the limit."""
    higher_tip = _higher(tip)
    higher = max(_higher(max_fee), 2 * head.base_fee + higher_tip)
    return (higher, higher_tip) if higher <= sending.max_fee else None


def raised(
    last: ChainAttempt, said: Sequence[str], head: Head, sending: SendingRules
) -> tuple[int, int] | None:
    """Fees that nodes which refused `last` would take, 15 % higher at least: what they name, or the next of the ladder.

    Of several amounts the least counts: one node that takes it is enough, and one that lies costs nothing. None where
    the limit does not allow it.
    """
    max_fee, tip = int(last.max_fee), int(last.tip)
    named = [one for text in said if any(one := fees_named(text, max_fee, tip))]
    base_fee, least = min(named, default=(0, 0))
    if not named and not any("replace" in text.lower() for text in said):
        step = last.number - 1
        least = TIP_LADDER[step] if step < len(TIP_LADDER) else 2 * tip
    higher_tip = max(_higher(tip), least)
    wanted = max(_higher(max_fee), 2 * max(head.base_fee, base_fee) + higher_tip)
    needed = max(_higher(max_fee), max(head.base_fee, base_fee) + higher_tip)
    return (min(wanted, sending.max_fee), higher_tip) if needed <= sending.max_fee else None


def _higher(fee: int) -> int:
    return -(-fee * BUMP_NUMERATOR // BUMP_DENOMINATOR)


# -- what the chain says


def follow(
    tx: ChainTransaction,
    chain: Chain,
    signer: TransactionSigner | None,
    sending: SendingRules,
    may_send: MaySend = no_entries,
    *,
    just_signed: bool = False,
) -> None:
    """Take a signed transaction as far as it goes now. `signer` None: this process cannot raise fees.

    `just_signed`: by the caller, a moment ago; nothing of it can be in a block yet, and no receipt is asked for first.
    Raises Retryable where the chain cannot be read or no node takes it, Unknown where a broadcast got no answer.
    """
    tx.refresh_from_db()
    if tx.state not in FOLLOWED:
        return
    attempts = list(tx.attempts.order_by("number"))
    receipt = None if just_signed else find_receipt(chain, attempts)
    if receipt is not None:
        _note_canceled(tx, chain, sending)
        _note(tx, receipt, chain, sending)
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
        _clear_the_way(tx, chain, signer, sending, may_send)
    _push(tx, attempts, chain, signer, sending, may_send)


def _push(
    tx: ChainTransaction,
    attempts: list[ChainAttempt],
    chain: Chain,
    signer: TransactionSigner | None,
    sending: SendingRules,
    may_send: MaySend,
) -> None:
    """Broadcast the newest stored bytes, raise the fees where they are refused or had their time, and look again."""
    no = _send(tx, attempts[-1], chain, may_send)
    if no is not None and no.means(Refusal.NONCE_USED) and _nonce_is_used(tx, attempts, chain, sending):
        return
    if signer is not None and (no is None or no.means(Refusal.FEES)):
        _raise_fees(tx, attempts[-1], chain, signer, sending, may_send, said=no.texts if no else ())
    if no is None:
        receipt = find_receipt(chain, list(tx.attempts.order_by("number")))
        if receipt is not None:
            _note(tx, receipt, chain, sending)


def _expire(tx: ChainTransaction, attempts: list[ChainAttempt], chain: Chain, sending: SendingRules) -> None:
    """End what may not leave once it can no longer do anything: past its deadline in a final block, and in none.

    From then on the module refuses the bytes wherever they are. Its nonce stays open until a later one needs it.
    """
    if attempts[-1].cancels or clock.now() < tx.deadline:
        return
    final = max(chain.head().number - sending.finality_depth + 1, 0)
    if tx.signer is None or tx.nonce is None or chain.block(final).timestamp <= tx.deadline.timestamp():
        return
    if chain.nonce(tx.signer.address, hex(final)) <= tx.nonce:
        advance(tx, TxState.EXPIRED, why="held_back", reason="held_back")


def _clear_the_way(
    tx: ChainTransaction, chain: Chain, signer: TransactionSigner, sending: SendingRules, may_send: MaySend
) -> None:
    """Use up the nonces in front that are held back, or the bytes of `tx` would wait for them in every pool.

    A nonce in front that may leave is its own order's: staff is alerted where it stays unmined for long.
    """
    for held in _in_front(tx).filter(state__in=OPEN):
        try:
            if held.state == TxState.EXPIRED or not may_send(held):
                _cancel(held, chain, signer, sending, lambda _: may_send(tx))
        except (
            Retryable,
            Unknown,
        ) as error:  # the next look is soon enough; what is behind may leave meanwhile
            log.warning("nonce_not_cleared", transaction=held.pk, error=str(error))
        waited = clock.now() - min(held.attempts.values_list("created_at", flat=True))
        if held.state in OPEN and waited > STUCK_AFTER * sending.bump_after:
            _alert_once(
                held, "transaction.stuck", nonce=held.nonce, behind=tx.idempotency_key, seconds=waited.total_seconds()
            )  # fmt: skip


def _in_front(tx: ChainTransaction) -> QuerySet[ChainTransaction]:
    """The transactions whose nonces come before."""
    found = ChainTransaction.objects.filter(signer=tx.signer, nonce__lt=tx.nonce)
    return found.select_related("signer").order_by("nonce")


def _note_canceled(tx: ChainTransaction, chain: Chain, sending: SendingRules) -> None:
    """Take note of what became of nonces in front that were used up for `tx`: their orders may be over."""
    for held in _in_front(tx).filter(state__in=[*OPEN, TxState.MINED], attempts__cancels=True).distinct():
        receipt = find_receipt(chain, list(held.attempts.order_by("number")))
        if receipt is not None:
            with suppress(StaleState):  # another worker noted it at the same moment
                _note(held, receipt, chain, sending)


def _cancel(
    tx: ChainTransaction, chain: Chain, signer: TransactionSigner, sending: SendingRules, may_send: MaySend
) -> None:
    """Replace a transaction that is held back by an empty one with its nonce, stored before it is sent.

    Whichever of them gets into a block is noted; its own bytes never leave again.
    """
    attempts = list(tx.attempts.order_by("number"))
    receipt = find_receipt(chain, attempts)
    if receipt is not None:
        _note(tx, receipt, chain, sending)
        return
    if not attempts[-1].cancels:
        head = chain.head()
        fees = bumped(int(attempts[-1].max_fee), int(attempts[-1].tip), head, sending) or (
            max(sending.max_fee, int(attempts[-1].max_fee)),
            int(attempts[-1].tip),
        )
        with transaction.atomic():
            _locked(tx.chain_id, signer.address)
            if tx.attempts.count() != attempts[-1].number:
                return  # another worker was first
            attempts.append(_store_attempt(tx, signer, fees, cancels=True))
            if tx.state == TxState.EXPIRED:
                advance(tx, TxState.SIGNED, why="canceled")
            record("transaction.cancel", tx, nonce=tx.nonce)
    _push(tx, attempts, chain, signer, sending, may_send)


def find_receipt(chain: Chain, attempts: list[ChainAttempt]) -> Receipt | None:
    """The receipt of whichever attempt is in a block, as the endpoints agree; the newest attempt counts first."""
    asked = [attempt.hash for attempt in reversed(attempts)]
    found: list[Receipt | None] = chain.agreed_all(
        [(f"the receipt of {one}", "eth_getTransactionReceipt", (one,)) for one in asked]
    )
    return next((one for one in found if one is not None), None)


@dataclass(frozen=True, slots=True)
class No:
    """What the nodes said that did not take stored bytes."""

    texts: tuple[str, ...]

    def means(self, kind: Refusal) -> bool:
        """Whether one of them said so."""
        return any(refusal(text) == kind for text in self.texts)


def _send(tx: ChainTransaction, attempt: ChainAttempt, chain: Chain, may_send: MaySend) -> No | None:
    """Broadcast stored bytes; None once a node has them, else the refusal where it says what to do next.

    Nothing else broadcasts. Raises Retryable where the gate was shut meanwhile or they are refused for another reason,
    Unknown on silence.
    """
    if not may_send(tx):
        raise Retryable(f"transaction {tx.pk} is held back by the gate")
    try:
        chain.broadcast(bytes.fromhex(attempt.raw[2:]))
    except NotTaken as error:
        no = No(tuple(one.text for one in error.faults))
        if not no.means(Refusal.KNOWN):
            _refused(tx, no)
            if no.means(Refusal.NONCE_USED) or no.means(Refusal.FEES):
                return no
            if error.silent:
                raise Unknown(
                    f"transaction {tx.pk} was not taken, and a node is silent: {error.text}"
                ) from error
            raise Retryable(f"transaction {tx.pk} was not taken: {error.text}") from error
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


def _refused(tx: ChainTransaction, no: No) -> None:
    """Count a look at which no node took it; staff is alerted when that repeats."""
    log.info("not_taken", transaction=tx.pk, answer="; ".join(no.texts))
    tx.refusals += 1
    tx.save(update_fields=["refusals"])
    if tx.refusals >= REFUSED_LOOKS:
        _alert_once(tx, "transaction.refused", looks=tx.refusals, why="; ".join(no.texts)[:300])


def _nonce_is_used(
    tx: ChainTransaction, attempts: list[ChainAttempt], chain: Chain, sending: SendingRules
) -> bool:
    """Whether the endpoints agree with the node that says so. By one of our attempts: noted. By a stranger's: replaced.

    "nonce too low" means that something of this nonce is in a block: never, that it should be sent with another.
    """
    if tx.signer is None or tx.nonce is None or chain.nonce(tx.signer.address) <= tx.nonce:
        return False
    receipt = find_receipt(chain, attempts)
    if receipt is not None:
        _note(tx, receipt, chain, sending)
        return True
    deep = max(chain.head().number - sending.finality_depth + 1, 0)
    waited = clock.now() - attempts[-1].created_at >= sending.replaced_after
    if waited and chain.nonce(tx.signer.address, hex(deep)) > tx.nonce:
        log.error("nonce_taken_by_a_stranger", transaction=tx.pk, nonce=tx.nonce)
        advance(tx, TxState.REPLACED, why="nonce_taken", reason="nonce_taken")
    return True


def _raise_fees(
    tx: ChainTransaction,
    last: ChainAttempt,
    chain: Chain,
    signer: TransactionSigner,
    sending: SendingRules,
    may_send: MaySend,
    *,
    said: Sequence[str] = (),
) -> None:
    """Another attempt at the same nonce and calldata, stored before it is sent.

    `said`: the words that `last` was refused with; none: once it had its time.
    """
    if not said and clock.now() - last.created_at < sending.bump_after:
        return
    head = chain.head()
    fees = (
        raised(last, said, head, sending) if said else bumped(int(last.max_fee), int(last.tip), head, sending)
    )
    if fees is None:
        _alert_once(tx, "transaction.fees_at_limit", max_fee=int(last.max_fee), limit=sending.max_fee)
        return
    if not may_send(tx):
        return
    with transaction.atomic():
        _locked(tx.chain_id, signer.address)
        if tx.attempts.count() != last.number:
            return  # another worker was first
        made = _store_attempt(tx, signer, fees, cancels=last.cancels)
        record("transaction.bumped", tx, attempt=made.number, max_fee=fees[0], tip=fees[1])
    _send(tx, made, chain, may_send)


def _note(tx: ChainTransaction, receipt: Receipt, chain: Chain, sending: SendingRules) -> None:
    """A receipt: mined; and final once it is deep enough in the chain that all agree on."""
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
        _end(tx, receipt, agreed.timestamp, chain, sending)


def _end(tx: ChainTransaction, receipt: Receipt, timestamp: int, chain: Chain, sending: SendingRules) -> None:
    """mined -> final, reverted or canceled, and the gas into the ledger: a revert costs as well."""
    price = receipt.gas_price or 0
    cost = receipt.gas_used * price + (receipt.l1_fee or 0)
    paid: dict[str, Any] = {"gas_used": receipt.gas_used, "gas_price": Decimal(price)}
    canceled = tx.attempts.filter(hash=receipt.transaction_hash, cancels=True).exists()
    why = "" if receipt.succeeded or canceled else revert_code(tx, chain, receipt.block_number)
    with transaction.atomic():
        if canceled:
            advance(tx, TxState.CANCELED, why="held_back", reason="held_back", **paid)
        elif receipt.succeeded:
            logs = [one.as_json() | {"blockTimestamp": hex(timestamp)} for one in receipt.logs]
            advance(tx, TxState.FINAL, data={"block": receipt.block_number}, logs=logs, **paid)
        else:
            advance(tx, TxState.REVERTED, why=why, reason=why, **paid)
        if tx.signer is not None:
            amount = Decimal(cost).scaleb(-COIN_DECIMALS)
            ledger.book_gas(tx.idempotency_key, tx.signer.address, tx.chain_id, sending.coin, amount)


def revert_code(tx: ChainTransaction, chain: Chain, block: int) -> str:
    """Why it reverted, as a code: asked of the chain as it stood after its block, and before it."""
    sender = tx.signer.address if tx.signer else ""
    for moment in (block, block - 1):
        try:
            chain.call(tx.to, bytes.fromhex(tx.calldata[2:]), sender=sender, block=hex(moment))
        except Fault as no:
            if no.reason:
                return code_of(no.reason)
    return "reverted"


def current(key: str) -> ChainTransaction | None:
    """The intent of that key, or None."""
    return ChainTransaction.objects.select_related("signer").filter(idempotency_key=key).first()
