"""Sending exactly once. What may leave is stored before it leaves, and only what is stored ever leaves.

`plan` stores the intent in the transaction that reserves the order; no network. `commit` gives it a nonce and
signs it, in one database transaction under the signer's row; `follow` does whatever the chain asks for next:
broadcast the stored bytes, raise the fees of the same nonce, note a receipt, take a reorg back, end.

Each function may be killed at any instruction and called again, by any number of workers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol

import structlog
from django.db import transaction

from maxxit.core import clock, correlation
from maxxit.core.errors import Rejected, Retryable, StaleState
from maxxit.events.record import advance, record
from trading import ledger
from trading.chain.models import ChainAttempt, ChainTransaction, Signer
from trading.chain.rpc import Chain, Fault, Head, code_of
from trading.chain.signer import Signed, Unsigned
from trading.chain.states import TxState

log = structlog.get_logger(__name__)

KNOWN = ("already known", "known transaction", "already imported", "already in mempool", "alreadyknown")
NONCE_USED = ("nonce too low", "nonce is too low", "oldnonce", "invalid nonce")
UNDERPRICED = ("underpriced", "less than block base fee", "fee too low", "feetoolow", "below base fee")
NO_MONEY = ("insufficient funds", "insufficient balance")
COIN_DECIMALS = 18
BUMP_NUMERATOR, BUMP_DENOMINATOR = 115, 100
"""Both fees rise by at least 15 %: nodes ask for 10."""


class Signs(Protocol):
    """The key, as far as the outbox needs it."""

    address: str

    def sign(self, tx: Unsigned) -> Signed:
        """Sign, or refuse."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
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


def commit(tx: ChainTransaction, call: Call, chain: Chain, signer: Signs, pace: Pace) -> None:
    """planned -> signed: a nonce, the calldata and the signed bytes, all stored at once, before anything leaves.

    Raises Rejected where the executor cannot pay for gas, Retryable where the chain cannot be read, StaleState
    where another worker was first.
    """
    head = chain.head()
    fees = first_fees(head, pace)
    floor = chain.nonce(signer.address)
    if int(chain.read("eth_getBalance", signer.address, "latest"), 16) < pace.gas_limit * fees[0]:
        raise Rejected(f"executor {signer.address} has no money for gas", code="executor_out_of_gas")
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
        tx.calldata, tx.gas_limit = "0x" + call.data.hex(), pace.gas_limit
        _store_attempt(tx, signer, fees)
        advance(
            tx, TxState.SIGNED, data={"nonce": nonce}, signer=row, nonce=nonce, to=call.to, calldata=tx.calldata,
            gas_limit=tx.gas_limit,
        )  # fmt: skip


def _locked(chain_id: int, address: str) -> Signer:
    """The signer's row, locked: one nonce at a time."""
    Signer.objects.get_or_create(chain_id=chain_id, address=address)
    return Signer.objects.select_for_update().get(chain_id=chain_id, address=address)


def _store_attempt(tx: ChainTransaction, signer: Signs, fees: tuple[int, int]) -> ChainAttempt:
    """Sign this intent with these fees and store the bytes."""
    made = signer.sign(
        Unsigned(
            tx.chain_id,
            int(tx.nonce or 0),
            tx.to,
            bytes.fromhex(tx.calldata[2:]),
            tx.gas_limit,
            fees[0],
            fees[1],
        )
    )
    return ChainAttempt.objects.create(
        transaction=tx,
        number=tx.attempts.count() + 1,
        hash=made.hash,
        raw="0x" + made.raw.hex(),
        max_fee=fees[0],
        tip=fees[1],
        created_at=clock.now(),
    )


def first_fees(head: Head, pace: Pace) -> tuple[int, int]:
    """(max fee, tip) in wei a gas: twice the base fee, so that six full blocks in a row cannot outrun it."""
    return min(2 * head.base_fee + pace.min_tip, pace.max_fee), min(pace.min_tip, pace.max_fee)


def bumped(max_fee: int, tip: int, head: Head, pace: Pace) -> tuple[int, int] | None:
    """Both fees at least 15 % higher, and enough for this head; None when that would be above the limit."""
    higher_tip = -(-tip * BUMP_NUMERATOR // BUMP_DENOMINATOR)
    higher = max(-(-max_fee * BUMP_NUMERATOR // BUMP_DENOMINATOR), 2 * head.base_fee + higher_tip)
    return (higher, higher_tip) if higher <= pace.max_fee else None


# -- what the chain says


def follow(tx: ChainTransaction, chain: Chain, signer: Signs | None, pace: Pace) -> None:
    """Take a signed transaction as far as it goes now. `signer` None: this process cannot raise fees.

    Raises Retryable where the chain cannot be read, Unknown where a broadcast got no answer.
    """
    tx.refresh_from_db()
    if tx.state not in (TxState.SIGNED, TxState.BROADCAST, TxState.MINED):
        return
    attempts = list(tx.attempts.order_by("number"))
    receipt = find_receipt(chain, attempts)
    if receipt is not None:
        _note(tx, receipt, chain, pace)
        return
    if tx.state == TxState.MINED:
        log.warning("receipt_vanished", transaction=tx.pk, block=tx.block_number)
        advance(tx, TxState.BROADCAST, why="reorg", block_number=None, block_hash="", mined_hash="")
    answer = _send(tx, attempts[-1], chain)
    if answer is Answer.NONCE_USED:
        _lost(tx, attempts, chain, pace)
        return
    if answer is Answer.UNDERPRICED:
        if signer is not None:
            _raise_fees(tx, attempts[-1], chain, signer, pace, at_once=True)
        return
    if signer is not None:
        _raise_fees(tx, attempts[-1], chain, signer, pace, at_once=False)
    receipt = find_receipt(chain, [*attempts, *tx.attempts.filter(number__gt=attempts[-1].number)])
    if receipt is not None:
        _note(tx, receipt, chain, pace)


def find_receipt(chain: Chain, attempts: list[ChainAttempt]) -> dict[str, Any] | None:
    """The receipt of whichever attempt is in a block, as the endpoints agree; the newest attempt is asked first."""
    for attempt in reversed(attempts):
        found: dict[str, Any] | None = chain.agreed(
            f"the receipt of {attempt.hash}", "eth_getTransactionReceipt", attempt.hash
        )
        if found is not None and found.get("blockHash"):
            return found
    return None


class Answer(Enum):
    """What the nodes say to stored bytes."""

    TAKEN = "taken"
    NONCE_USED = "nonce_used"
    """Something with this nonce is in a block. Higher fees would change nothing, another nonce would trade twice."""
    UNDERPRICED = "underpriced"


def _send(tx: ChainTransaction, attempt: ChainAttempt, chain: Chain) -> Answer:
    """Broadcast stored bytes. Raises Retryable where they are refused for another reason, Unknown on silence."""
    try:
        chain.broadcast(bytes.fromhex(attempt.raw[2:]))
    except Fault as no:
        text = no.text.lower()
        if any(word in text for word in KNOWN):
            log.info("already_known", transaction=tx.pk)
        elif any(word in text for word in NONCE_USED):
            log.info("not_taken", transaction=tx.pk, answer=no.text)
            return Answer.NONCE_USED
        elif any(word in text for word in UNDERPRICED):
            log.info("not_taken", transaction=tx.pk, answer=no.text)
            return Answer.UNDERPRICED
        elif any(word in text for word in NO_MONEY):
            raise Retryable(f"the executor has no money for gas: {no.text}") from no
        else:
            raise Retryable(f"transaction {tx.pk} was not taken: {no.text}") from no
    if attempt.broadcast_at is None:
        attempt.broadcast_at = clock.now()
        attempt.save(update_fields=["broadcast_at"])
    if tx.state == TxState.SIGNED:
        advance(tx, TxState.BROADCAST, data={"hash": attempt.hash})
    return Answer.TAKEN


def _lost(tx: ChainTransaction, attempts: list[ChainAttempt], chain: Chain, pace: Pace) -> None:
    """The nonce is used up, says a node. By one of our attempts: noted. By a stranger's, for good: replaced.

    "nonce too low" means that something of this nonce is in a block: never, that it should be sent with another.
    """
    if tx.signer is None or tx.nonce is None or chain.nonce(tx.signer.address) <= tx.nonce:
        return
    receipt = find_receipt(chain, attempts)
    if receipt is not None:
        _note(tx, receipt, chain, pace)
        return
    deep = max(chain.head().number - pace.finality_depth + 1, 0)
    waited = clock.now() - attempts[-1].created_at >= pace.replaced_after
    if waited and chain.nonce(tx.signer.address, hex(deep)) > tx.nonce:
        log.error("nonce_taken_by_a_stranger", transaction=tx.pk, nonce=tx.nonce)
        advance(tx, TxState.REPLACED, why="nonce_taken", reason="nonce_taken")


def _raise_fees(
    tx: ChainTransaction, last: ChainAttempt, chain: Chain, signer: Signs, pace: Pace, *, at_once: bool
) -> None:
    """Another attempt at the same nonce and calldata, stored before it is sent; once the last one had its time."""
    if not at_once and clock.now() - last.created_at < pace.bump_after:
        return
    fees = bumped(int(last.max_fee), int(last.tip), chain.head(), pace)
    if fees is None:
        log.error("fees_at_their_limit", transaction=tx.pk, max_fee=int(last.max_fee))
        return
    with transaction.atomic():
        _locked(tx.chain_id, signer.address)
        if tx.attempts.count() != last.number:
            return  # another worker was first
        made = _store_attempt(tx, signer, fees)
        record("transaction.bumped", tx, attempt=made.number, max_fee=fees[0], tip=fees[1])
    _send(tx, made, chain)


def _note(tx: ChainTransaction, receipt: dict[str, Any], chain: Chain, pace: Pace) -> None:
    """A receipt: mined; and final once it is deep enough in the chain that all agree on."""
    number, block = int(receipt["blockNumber"], 16), str(receipt["blockHash"])
    if tx.state == TxState.MINED and tx.block_hash != block:
        advance(tx, TxState.BROADCAST, why="reorg", block_number=None, block_hash="", mined_hash="")
    if tx.state != TxState.MINED:
        advance(
            tx, TxState.MINED, data={"block": number}, block_number=number, block_hash=block,
            mined_hash=str(receipt["transactionHash"]),
        )  # fmt: skip
    if chain.head().number - number + 1 < pace.finality_depth or chain.block_hash(number) != block:
        return
    _end(tx, receipt, chain, pace)


def _end(tx: ChainTransaction, receipt: dict[str, Any], chain: Chain, pace: Pace) -> None:
    """mined -> final or reverted, and the gas into the ledger: a revert costs as well."""
    number, price = int(receipt["blockNumber"], 16), int(receipt.get("effectiveGasPrice") or "0x0", 16)
    used = int(receipt["gasUsed"], 16)
    cost = used * price + int(
        receipt.get("l1Fee") or "0x0", 16
    )  # rollups of the OP stack charge their data apart
    paid: dict[str, Any] = {"gas_used": used, "gas_price": Decimal(price)}
    good = int(receipt["status"], 16) == 1
    why = "" if good else revert_code(tx, chain, number)
    with transaction.atomic():
        if good:
            advance(tx, TxState.FINAL, data={"block": number}, logs=receipt["logs"], **paid)
        else:
            advance(tx, TxState.REVERTED, why=why, reason=why, **paid)
        if tx.signer is not None:
            amount = Decimal(cost).scaleb(-COIN_DECIMALS)
            ledger.book_gas(tx.idempotency_key, tx.signer.address, tx.chain_id, pace.coin, amount)


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
