"""Cancel orders at GMX: what no keeper executes any more, what a cancelled entry left, exits before a close of ours.

A cancellation is an intent of its own, followed by each look until it is final. What is not cancelled in the end stops
the entries of the Safe, which alerts staff and its owner.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog

from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Rejected, Retryable, Unknown
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
from trading.venues.safe.verify import plan_in_force

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
"""From then on an order that is still at GMX stops the Safe's entries, and a cancelled entry is reported."""


def tidy(
    at: GmxAccess, send: Send, tx: ChainTransaction, args: Mapping[str, Any], ended: Ended | None, fee: Decimal
) -> None:  # fmt: skip
    """Cancel what expired and what a cancelled entry left at GMX, and book its fee. Never raises a MaxxitError."""
    try:
        if ended is None:
            if expired_at := _expired_at(at, tx):
                _cancel_all(at, send, tx, [orders.key_of(tx)], since=expired_at)
        elif ended.reason:
            log.warning("gmx_order_cancelled", transaction=tx.pk, why=ended.detail)
            _cancel_all(at, send, tx, _exit_keys(args), since=ended.at)
            _book_fee(tx, fee)
            _note_cancelled(at, tx)
    except MaxxitError as error:  # the next look tries again
        log.warning("order_not_tidied", transaction=tx.pk, error=str(error))


def leaves_exits(at: GmxAccess, tx: ChainTransaction, args: Mapping[str, Any], ended: Ended) -> bool:
    """Return whether a cancelled entry still has a stop or a target at GMX: it is reported once it has none.

    After TIDY_FOR it is reported all the same.
    """
    if ended.at is not None and clock.now() >= ended.at + TIDY_FOR:
        return False
    return any(ending_of(at, tx, key) is None for key in _exit_keys(args))


def release(at: GmxAccess, send: Send, tx: ChainTransaction) -> list[Exception]:
    """Cancel all that an entry has at GMX; return why some of it was not cancelled (Retryable, Unknown)."""
    return [
        problem
        if isinstance(problem, Retryable | Unknown)
        else Retryable(f"the exits of {tx.idempotency_key} were not cancelled: {problem}")
        for problem in _cancel_all(at, send, tx, orders.keys_of(tx))
    ]


def _cancel_all(
    at: GmxAccess, send: Send, tx: ChainTransaction, keys: Iterable[str], since: datetime | None = None
) -> list[MaxxitError]:
    """Cancel these orders that a transaction created; return why some were not. One that fails stops no other."""
    problems = []
    for key in keys:
        try:
            cancel(at, send, tx, key, since)
        except MaxxitError as error:  # the next look tries again
            log.warning("order_not_cancelled", transaction=tx.pk, key=key, error=str(error))
            problems.append(error)
    return problems


def cancel(at: GmxAccess, send: Send, tx: ChainTransaction, key: str, since: datetime | None = None) -> None:
    """Have the module cancel an order of GMX, unless it has ended: one transaction, followed by each call.

    A transaction that reverts is replaced by another one, a few times; then the Safe's entries stop and staff is
    alerted. One that never reached the contract is replaced without limit, after AGAIN_AFTER; entries stop after
    TIDY_FOR. Raises Rejected, Retryable, Unknown, or Misconfigured without a key.

    Args:
        since: when it had to be cancelled; None: when the first try that never reached the contract was planned.
    """
    if ending_of(at, tx, key) is not None:
        return
    made = ChainTransaction.objects.filter(chain_id=tx.chain_id, terms__cancels=key)
    if since is None:
        without_effect = made.filter(state__in=WITHOUT_EFFECT).order_by("pk")
        since = without_effect.values_list("created_at", flat=True).first()
    if since is not None and clock.now() >= since + TIDY_FOR:
        _stop(tx, key)
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
            _stop(tx, key)
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
    now = at.allowed_now(safe)
    try:
        signer = at.signer_for(now)
    except Rejected:
        _stop(tx, key)  # only the owners can name our key again
        raise
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


def _expired_at(at: GmxAccess, tx: ChainTransaction) -> datetime | None:
    """Return since when no keeper executes a market order any more, by the clock of the chain; None while one may."""
    made = orders.created_at(tx)
    if made is None:
        return None
    expired = made + timedelta(seconds=p.REQUEST_SECONDS)
    now = at.chain.block(at.chain.head().number).timestamp
    return expired if now > expired.timestamp() else None


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


def _stop(tx: ChainTransaction, key: str) -> None:
    """Stop the entries of a Safe whose order cannot be cancelled, which alerts staff and its owner once."""
    if (plan := plan_in_force(tx.chain_id, tx.terms["safe"])) is not None:
        entry_stops.stop(plan, entry_stops.EVERYTHING, entry_stops.REVERTS, order=key)
