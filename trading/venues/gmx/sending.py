"""Turn a stored intent into the call of the PerpModule that is signed: checked, priced, and tried before."""

from collections.abc import Callable, Collection
from typing import Literal

import structlog

from maxxit.core.errors import MaxxitError, Rejected
from maxxit.core.terms import Purpose
from maxxit.evm.codec import decode, encode_call
from maxxit.evm.rpc import Fault
from trading.chain import outbox
from trading.chain.models import ChainTransaction, SafePlan
from trading.chain.outbox import Call
from trading.chain.signer import Signer
from trading.chain.states import IN_FLIGHT, TxState
from trading.passes import ends_the_pass
from trading.reasons import Reason
from trading.venues.gmx import accounts, orders, scan, verify
from trading.venues.gmx.access import GmxAccess
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.orders import PerpTrade
from trading.venues.gmx.units import USD_PER_USDC_UNIT
from trading.venues.gmx.verify import Allowed
from trading.venues.safe import entry_stops

log = structlog.get_logger(__name__)


def follow_sent(
    at: GmxAccess,
    advance: Callable[[ChainTransaction], bool],
    kind: Literal["cancels", "claims"],
    safes: Collection[str],
) -> None:
    """Take our cancellations or our claims of these Safes further on the chain. One that fails stops no other.

    Args:
        advance: `SafeVenue.advance`.
    """
    sent = ChainTransaction.objects.filter(
        chain_id=at.stanza.chain_id, terms__has_key=kind, terms__safe__in=sorted(safes),
        state__in=(*IN_FLIGHT, TxState.PLANNED),
    ).select_related("signer")  # fmt: skip
    for tx in sent:
        try:
            advance(tx)
        except Exception as error:  # the next look tries again
            if ends_the_pass(error):
                raise
            foreseen = isinstance(error, MaxxitError)
            log.warning(
                "transaction_not_followed", transaction=tx.pk, error=str(error), exc_info=not foreseen
            )


def call_of(at: GmxAccess, tx: ChainTransaction) -> tuple[Call, Signer]:
    """Return the call that an intent stands for, after a trial, and the key that signs it. Raises Rejected."""
    if refused := tx.terms.get("refused"):
        raise Rejected(f"the venue cannot do this: {refused}", code=refused)
    safe = tx.terms["safe"]
    now = at.allowed_now(safe)
    signer = at.signer_for(now)
    if key := tx.terms.get("cancels"):
        return Call(at.module, p.cancel_data(safe, bytes.fromhex(key[2:]))), signer
    if market := tx.terms.get("claims"):
        return Call(at.module, p.claim_data(safe, market, tx.terms["token"])), signer
    trade = PerpTrade.load(tx.terms)
    scan.begin(at, trade.safe)
    data, value = _data_of(at, trade, now)
    try:
        at.chain.call(at.module, data, sender=signer.address, block="pending", value=value)
    except Fault as fault:
        raise orders.rejection_of(fault) from fault
    return Call(at.module, data, value), signer


def _data_of(at: GmxAccess, trade: PerpTrade, now: Allowed) -> tuple[bytes, int]:
    """Return calldata and value of a trade, within what the Safe allows. Raises Rejected."""
    opens = trade.purpose == Purpose.OPEN
    if opens:
        plan = _plan(at, trade.safe)
        code = entry_stops.reason(plan, trade.market) or verify.opening_problem(
            now, plan, at.signers, trade.market, trade.collateral, -(-trade.size_usd // USD_PER_USDC_UNIT)
        )
        if code:
            raise Rejected(
                f"the Safe {trade.safe} does not allow it: {code}. {'; '.join(verify.differences(plan, now))}",
                code=code,
            )
    elif code := verify.closing_problem(now, at.signers):
        raise Rejected(f"the Safe {trade.safe} does not allow it: {code}", code=code)
    fee = _fee(at, now)
    bps = min(at.slippage_bps if opens else at.exit_slippage_bps, now.policy.slippage_bps)
    acceptable = orders.acceptable_price(_feed_price(at, trade), bps, buys=trade.buys)
    if opens:
        return orders.open_data(trade, acceptable, fee)
    return orders.close_data(trade, accounts.position_of(at, trade), acceptable, fee)


def _fee(at: GmxAccess, now: Allowed) -> int:
    """Return the execution fee of each order in wei: for the first fees of our transaction, with headroom.

    Raises Rejected where the policy or our own limit is below what GMX would accept.
    """
    price, _ = outbox.first_fees(at.chain.head(), at.sending)
    limit = min(now.policy.max_execution_fee, at.max_execution_fee)
    least = at.least_execution_fee(price)
    if least > limit:
        raise Rejected(
            f"GMX wants an execution fee of {least} wei for an order, the limit is {limit}",
            code=Reason.EXECUTION_FEE,
        )
    return at.execution_fee(price, limit)


def _feed_price(at: GmxAccess, trade: PerpTrade) -> int:
    """Return the price of the Safe's feed in GMX's units. Raises Rejected with the module's reason."""
    call = encode_call("price_of(address,address)", trade.safe, trade.market)
    return int(decode(["uint256"], at.chain.call(at.module, call, block="pending"))[0])


def _plan(at: GmxAccess, safe: str) -> SafePlan:
    """Return the Safe's plan in force. Raises Rejected where it has none."""
    plan = at.plan_of(safe)
    if plan is None:
        raise Rejected(
            f"the Safe {safe} has no verified plan for perpetual futures: run `manage.py perps plan`, then "
            "`perps verify`",
            code=Reason.SAFE_NOT_PLANNED,
        )
    return plan
