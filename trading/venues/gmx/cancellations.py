"""Cancel orders at GMX: what no keeper executes any more, what a cancelled entry left, exits before a close of ours.

A cancellation is an intent of its own, followed by each look until it is final. What is not cancelled in the end stops
the entries of the Safe, which alerts staff and its owner.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.terms import Purpose
from maxxit.evm.rpc import Fault
from trading import ledger
from trading.chain import outbox
from trading.chain.models import ChainTransaction
from trading.chain.states import TxState
from trading.models import Order
from trading.venues.base import Prepared
from trading.venues.gmx import orders
from trading.venues.gmx.access import GmxAccess
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.endings import ending_of
from trading.venues.gmx.orders import LEG_KEYS, Ended, hex_key
from trading.venues.safe import entry_stops

log = structlog.get_logger(__name__)

Send = Callable[[Prepared], None]
"""`Venue.send`."""
CANCEL_TRIES = 3
"""So many transactions of one cancellation may revert; then the Safe's entries stop."""
WITHOUT_EFFECT = (TxState.DROPPED, TxState.EXPIRED, TxState.CANCELED, TxState.REPLACED)
"""How a cancellation ends that no contract ever saw: the gate was closed, or the executor could not pay for it."""
AGAIN_AFTER = timedelta(seconds=30)
"""Until one that ended so is planned anew."""
CANCEL_SECONDS = 600
"""Until when a cancellation may be signed."""
TIDY_FOR = timedelta(minutes=15)
"""For how long the exits of a cancelled entry are cancelled before it is reported."""


def tidy(
    at: GmxAccess, send: Send, tx: ChainTransaction, args: Mapping[str, Any], ended: Ended | None, fee: Decimal
) -> None:  # fmt: skip
    """Cancel what expired and what a cancelled entry left at GMX, and book its fee. Never raises for the chain."""
    try:
        if ended is None:
            if _has_expired(at, tx):
                cancel(at, send, tx, orders.key_of(tx))
        elif ended.reason:
            log.warning("gmx_order_cancelled", transaction=tx.pk, why=ended.detail)
            _book_fee(tx, fee)
            _note_cancelled(at, tx)
            for key in _exit_keys(args):
                cancel(at, send, tx, key)
    except (Retryable, Unknown, Rejected) as error:  # the next look tries again
        log.warning("order_not_cancelled", transaction=tx.pk, error=str(error))


def leaves_exits(at: GmxAccess, tx: ChainTransaction, args: Mapping[str, Any], ended: Ended) -> bool:
    """Return whether a cancelled entry still has a stop or a target at GMX: it is reported once it has none.

    After TIDY_FOR it is reported all the same, and the Safe's entries stop.
    """
    left = [key for key in _exit_keys(args) if ending_of(at, tx, key) is None]
    if not left or ended.at is None or clock.now() < ended.at + TIDY_FOR:
        return bool(left)
    _stop(at, tx.terms["safe"], left[0])
    return False


def release(at: GmxAccess, send: Send, tx: ChainTransaction) -> list[Exception]:
    """Cancel all that an entry has at GMX; return why some of it was not cancelled."""
    args, problems = orders.requested(tx), list[Exception]()
    for name in ("order_key", *LEG_KEYS.values()):
        try:
            if key := hex_key(args.get(name, b"")):
                cancel(at, send, tx, key)
        except (Retryable, Unknown) as error:  # the others are cancelled before it is raised
            problems.append(error)
        except Rejected as error:
            problems.append(Retryable(f"the exits of {tx.idempotency_key} were not cancelled: {error}"))
    return problems


def cancel(at: GmxAccess, send: Send, tx: ChainTransaction, key: str) -> None:
    """Have the module cancel an order of GMX, unless it has ended: one transaction, followed by each call.

    A transaction that reverts is replaced by another one, a few times; then the Safe's entries stop and staff is
    alerted. One that never reached the contract is replaced without limit, after AGAIN_AFTER. Raises Rejected,
    Retryable or Unknown.
    """
    if ending_of(at, tx, key) is not None:
        return
    made = ChainTransaction.objects.filter(chain_id=tx.chain_id, terms__cancels=key)
    latest = made.order_by("-pk").first()
    if latest is not None and latest.state in WITHOUT_EFFECT:
        if clock.now() < latest.updated_at + AGAIN_AFTER:
            raise Retryable(
                f"{latest.idempotency_key} ended without effect ({latest.reason or latest.state}): it is planned anew "
                f"{AGAIN_AFTER.total_seconds():.0f} s later"
            )
        latest = None
    elif latest is not None and latest.state == TxState.REVERTED:
        if made.filter(state=TxState.REVERTED).count() >= CANCEL_TRIES:
            _stop(at, tx.terms["safe"], key)
            return
        latest = None
    if latest is None:
        latest = _plan(at, tx, key, made.count())
    if latest is None or latest.state == TxState.FINAL:
        return
    send(Prepared(latest.idempotency_key, {}))


def _plan(at: GmxAccess, tx: ChainTransaction, key: str, number: int) -> ChainTransaction | None:
    """Store the intent of a cancellation; None where GMX would refuse it now."""
    safe, data = tx.terms["safe"], p.cancel_data(tx.terms["safe"], bytes.fromhex(key[2:]))
    signer = at.signer_for(at.allowed_now(safe))
    try:
        at.chain.call(at.module, data, sender=signer.address, block="pending")
    except Fault as fault:  # it has ended meanwhile, or is too young
        log.info("cancellation_refused", safe=safe, key=key, error=str(fault))
        return None
    terms = {
        "venue": at.name, "account": tx.terms["account"], "safe": safe, "purpose": Purpose.CLOSE, "cancels": key,
    }  # fmt: skip
    deadline = clock.now() + timedelta(seconds=CANCEL_SECONDS)
    return outbox.plan(f"{key[:34]}/cancel/{number}", tx.chain_id, terms, deadline)


def _exit_keys(args: Mapping[str, Any]) -> list[str]:
    """Return the keys of the exits that an entry created."""
    return [key for name in LEG_KEYS.values() if (key := hex_key(args.get(name, b"")))]


def _has_expired(at: GmxAccess, tx: ChainTransaction) -> bool:
    """Return whether no keeper executes a market order any more, by the clock of the chain."""
    made = orders.created_at(tx)
    head = at.chain.head()
    now = at.chain.block(head.number).timestamp
    return made is not None and now > made.timestamp() + p.REQUEST_SECONDS


def _book_fee(tx: ChainTransaction, fee: Decimal) -> None:
    """Book the platform fee that the module took with an entry which GMX cancelled: no fill carries it."""
    order = Order.objects.filter(client_order_id=tx.idempotency_key).first()
    if order is not None and fee:
        ledger.post_all([ledger.platform_fee_journal(order, fee, collected=True)])


def _note_cancelled(at: GmxAccess, tx: ChainTransaction) -> None:
    """Stop a Safe whose latest entries all came to nothing: each costs gas and execution fees."""
    plan, limit = at.plan_of(tx.terms["safe"]), at.stanza.reverts_before_stop
    if plan is None:
        return
    entries = ChainTransaction.objects.filter(
        chain_id=tx.chain_id, state=TxState.FINAL, terms__safe=tx.terms["safe"], terms__venue=at.name,
        terms__purpose=Purpose.OPEN,
    )  # fmt: skip
    if plan.failures_since:
        entries = entries.filter(created_at__gt=plan.failures_since)
    newest = list(entries.order_by("-pk")[:limit])
    endings = [ending_of(at, one, orders.key_of(one)) for one in newest]
    if len(newest) == limit and all(one is not None and one.reason for one in endings):
        last = endings[0]
        entry_stops.stop(
            plan,
            entry_stops.EVERYTHING,
            entry_stops.REVERTS,
            cancelled=limit,
            last=last.detail if last else "",
        )


def _stop(at: GmxAccess, safe: str, key: str) -> None:
    """Stop the entries of a Safe whose order cannot be cancelled, which alerts staff and its owner once."""
    if (plan := at.plan_of(safe)) is not None:
        entry_stops.stop(plan, entry_stops.EVERYTHING, entry_stops.REVERTS, order=key)
