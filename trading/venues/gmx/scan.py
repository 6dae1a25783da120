"""Read what GMX and the module did with Safes at final blocks, keep it, and book what no order's fill contains.

Only final blocks are read, so that no reorg changes what is kept. Each transaction is kept and booked in one database
transaction with the scan's new position. Booked here: refunds of execution fees, funding, borrowing, claimed funding,
profit shares that the module paid without a fill, and tokens other than USDC that GMX paid out.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Retryable
from maxxit.core.money import USDC
from maxxit.events.record import record
from maxxit.evm.facts import Log, Receipt
from trading import ledger
from trading.chain.outbox import COIN_DECIMALS
from trading.ledger import Move
from trading.models import JournalKind
from trading.passes import ends_the_pass, policy
from trading.perps import funding
from trading.perps.funding import Funding
from trading.venues.gmx import books
from trading.venues.gmx.access import GmxAccess, Pause
from trading.venues.gmx.books import Account, Cause
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.events import (
    EVENT_LOG_1,
    EVENT_LOG_2,
    Decoded,
    decode_logs,
    padded,
    topic_of,
)
from trading.venues.gmx.models import GmxScan, GmxTransaction
from trading.venues.safe.units import USDC_DECIMALS, whole

log = structlog.get_logger(__name__)

ORDER_EVENTS = ("OrderCreated", "OrderExecuted", "OrderCancelled", "OrderFrozen", "OrderUpdated")
"""EventLog2: topic 2 is the order's key, topic 3 the account."""
ACCOUNT_EVENTS = (
    "PositionIncrease", "PositionDecrease", "ExecutionFeeRefund", "FundingFeesClaimed", "CollateralClaimed",
)  # fmt: skip
"""EventLog1: topic 2 is the account."""
KEPT = frozenset(
    topic_of(name) for name in (*ORDER_EVENTS, *ACCOUNT_EVENTS, "PositionFeesCollected", "KeeperExecutionFee")
)


def begin(at: GmxAccess, safe: str) -> None:
    """Let the scan of a Safe begin now, unless it has begun. Called before anything of the Safe is signed."""
    if not GmxScan.objects.filter(chain_id=at.stanza.chain_id, safe=safe).exists():
        GmxScan.objects.get_or_create(
            chain_id=at.stanza.chain_id, safe=safe, defaults={"scanned_to": at.final_block()}
        )


def scanned_to(chain_id: int, safe: str, *, lock: bool = False) -> int | None:
    """Return the block up to which a Safe was read; None where its scan has not begun.

    Args:
        lock: wait for a worker that books now, and let none book more until the caller's database transaction ends.
    """
    rows = GmxScan.objects.filter(chain_id=chain_id, safe=safe)
    if lock:
        rows = rows.select_for_update()
    return rows.values_list("scanned_to", flat=True).first()


def read_new(at: GmxAccess, safes: Collection[str]) -> dict[str, Exception]:
    """Read, keep and book what happened with these Safes up to the newest final block.

    A Safe that failed is read again at once, then after each of `backoff_seconds` of config/passes.yaml.

    Returns:
        Safe -> why it was not read or booked; it stops no other.
    """
    rows = GmxScan.objects.filter(chain_id=at.stanza.chain_id, safe__in=sorted(safes))
    groups: defaultdict[int, list[str]] = defaultdict(list)
    problems: dict[str, Exception] = {}
    for safe, scanned_to in rows.values_list("safe", "scanned_to"):
        pause = at.scan_pauses.get(safe)
        if pause is not None and clock.now() < pause.until:
            problems[safe] = Retryable(f"{safe} is read again at {pause.until:%H:%M:%S} UTC: {pause.why}")
        else:
            groups[scanned_to].append(safe)
    if not groups:
        return problems
    try:
        block = at.final_block()
    except MaxxitError as error:
        return problems | {safe: error for group in groups.values() for safe in group}
    for scanned_to, group in groups.items():
        if scanned_to < block:
            failed = _read_group(at, sorted(group), scanned_to, block)
            _pause_failed(at, group, failed)
            problems |= failed
    return problems


def _read_group(at: GmxAccess, safes: Sequence[str], scanned_to: int, block: int) -> dict[str, Exception]:
    """Do what `_read` does; where it raises, return the error for each Safe."""
    try:
        return _read(at, safes, scanned_to, block)
    except Exception as error:
        if ends_the_pass(error):
            raise
        if not isinstance(error, MaxxitError):
            log.exception("gmx_not_read", safes=safes, error=str(error))
        return dict.fromkeys(safes, error)


def _pause_failed(at: GmxAccess, safes: Sequence[str], failed: Mapping[str, Exception]) -> None:
    """Let the Safes that failed again wait before they are read the next time, and forget those that were read."""
    for safe in safes:
        before = at.scan_pauses.pop(safe, None)
        if safe in failed:
            failures = before.failures + 1 if before else 1
            delay = policy().reconcile.retry_delay(failures - 1) if failures > 1 else timedelta(0)
            at.scan_pauses[safe] = Pause(failures, clock.now() + delay, str(failed[safe]))


def _read(at: GmxAccess, safes: Sequence[str], scanned_to: int, block: int) -> dict[str, Exception]:
    """Read and keep what happened with Safes after block `scanned_to`; return Safe -> why it was not kept."""
    names = {padded(safe): safe for safe in safes}
    found: dict[str, set[str]] = {}
    for entry in at.chain.logs(scanned_to + 1, block, _filters(at, list(names))):
        touched = {names[topic] for topic in entry.topics if topic in names}
        found.setdefault(entry.transaction_hash, set()).update(touched)
    receipts = _receipts(at, list(found))
    times = {
        number: at.chain.block(number).timestamp for number in {one.block_number for one in receipts.values()}
    }
    problems: dict[str, Exception] = {}
    for safe in safes:
        hashes = [hash_ for hash_, touched in found.items() if safe in touched]
        try:
            if missing := [one for one in hashes if one not in receipts]:
                raise Retryable(
                    f"chain {at.stanza.chain_id} has logs of {missing[0]} and no receipt of it yet"
                )
            _keep(at, safe, scanned_to, block, [receipts[one] for one in hashes], times)
        except Exception as error:  # what cannot be booked of one Safe stops no other
            if ends_the_pass(error):
                raise
            if not isinstance(error, MaxxitError):
                log.exception("gmx_not_kept", safe=safe, error=str(error))
            problems[safe] = error
    return problems


def _receipts(at: GmxAccess, hashes: Sequence[str]) -> dict[str, Receipt]:
    """Return hash -> receipt, of those that the nodes have."""
    questions = [(f"the receipt of {one}", "eth_getTransactionReceipt", (one,)) for one in hashes]
    receipts: dict[str, Receipt | None] = dict(zip(hashes, at.chain.agreed_all(questions), strict=True))
    return {one: receipt for one, receipt in receipts.items() if receipt is not None}


def _filters(at: GmxAccess, accounts: list[str]) -> list[dict[str, Any]]:
    """Return the filters of eth_getLogs for the events that name these accounts (as topics)."""
    by_key = [EVENT_LOG_2, [topic_of(name) for name in ORDER_EVENTS], None, accounts]
    by_account = [EVENT_LOG_1, [topic_of(name) for name in ACCOUNT_EVENTS], accounts]
    settled = [topic for topic, event in p.events().items() if event.event_name == "TradeSettled"]
    return [
        {"address": at.gmx.event_emitter, "topics": by_key},
        {"address": at.gmx.event_emitter, "topics": by_account},
        {"address": at.module, "topics": [settled, accounts]},
    ]


@transaction.atomic
def _keep(
    at: GmxAccess,
    safe: str,
    scanned_to: int,
    block: int,
    receipts: Sequence[Receipt],
    times: Mapping[int, int],
) -> None:
    """Keep and book a Safe's transactions, unless another worker did."""
    scan = GmxScan.objects.select_for_update().get(chain_id=at.stanza.chain_id, safe=safe)
    if scan.scanned_to != scanned_to:
        return
    deployment = ledger.booking_deployment(at.account_of(safe), at.name)
    for receipt in sorted(receipts, key=lambda one: (one.block_number, one.logs[0].index)):
        logs = [entry.as_json() for entry in receipt.logs]
        decoded = decode_logs(logs, at.gmx.event_emitter)
        executed, problems = _executed(decoded, at.money_of(safe))
        tokens = books.tokens_received(decoded, at.money_of(safe), _markets(at))
        problems += [
            f"{amount} base units of {token} were received, which is no token of config/chains.yaml"
            for token, amount in tokens.items()
            if asset_of(at, token) is None
        ]
        if problems:
            log.error("gmx_not_decoded", transaction=receipt.transaction_hash, problems=problems)
            record(
                "gmx.not_decoded", deployment or scan, transaction=receipt.transaction_hash,
                problems="; ".join(problems)[:500],
            )  # fmt: skip
        when = datetime.fromtimestamp(times[receipt.block_number], UTC)
        row = GmxTransaction.objects.create(
            chain_id=at.stanza.chain_id,
            safe=safe,
            hash=receipt.transaction_hash,
            block_number=receipt.block_number,
            at=when,
            keys=sorted(
                {event.value.key for event in decoded.events if event.name in ORDER_EVENTS and event.value}
            ),
            forced=any(one.cause != Cause.ORDER for one in executed),
            logs=[entry.as_json() for entry in receipt.logs if _is_kept(at, entry)],
        )
        if deployment is not None:
            _book(at, deployment, row, decoded, executed)
        _book_tokens(at, row, tokens)
    scan.scanned_to = block
    scan.save(update_fields=["scanned_to"])


def _executed(decoded: Decoded, account: Account) -> tuple[list[books.Execution], list[str]]:
    """Return the changes of positions and everything that could not be decoded or is not ours to book."""
    try:
        return books.executions(decoded, account), list(decoded.problems)
    except Retryable as error:
        return [], [*decoded.problems, str(error)]


def _is_kept(at: GmxAccess, entry: Log) -> bool:
    address = entry.address.lower()
    if address == at.gmx.event_emitter.lower():
        return len(entry.topics) > 1 and entry.topics[1] in KEPT
    return address in {at.module.lower(), at.places.usdc.lower()} and bool(entry.topics)


def _book(
    at: GmxAccess,
    deployment: Deployment,
    row: GmxTransaction,
    decoded: Decoded,
    executed: Sequence[books.Execution],
) -> None:
    """Book what no fill of an order contains."""
    name = f"{row.hash[:34]}:{row.safe[-6:]}"
    if refund := books.refunds(decoded, row.safe):
        source, coins = ledger.execution_fees_of(row.chain_id), ledger.coins_of_safe(row.safe)
        move = Move(source, coins, at.sending.coin, whole(refund, COIN_DECIMALS), "venue_fee")
        ledger.post(JournalKind.GAS, f"refund:{name}", [move])
    funding.book(deployment, [*_costs(at, row, executed), *_claims(at, row, decoded)])
    if not any(not one.increases for one in executed):  # else it is in the fill's report
        share, receiver = share_of(row, at.module)
        if share:
            move = Move(ledger.account_of(deployment.pk), f"profit:{receiver}", USDC, share, "profit_share")
            ledger.post(JournalKind.TAKEN, f"gmx:{name}", [move])


def _markets(at: GmxAccess) -> frozenset[str]:
    return frozenset(market.market for market in at.gmx.markets.values())


def asset_of(at: GmxAccess, token: str) -> tuple[str, int] | None:
    """Return the ledger's asset and the decimals of a token; None for one that is not listed on the chain.

    The wrapped coin is an asset of its own: coins that the Safe receives have the coin's name.
    """
    if token == at.gmx.wrapped_native:
        return f"W{at.sending.coin}", COIN_DECIMALS
    listed = ((symbol, one.decimals) for symbol, one in at.places.tokens.items() if one.address == token)
    return next(listed, None)


def _book_tokens(at: GmxAccess, row: GmxTransaction, tokens: Mapping[str, int]) -> None:
    """Book what GMX paid out in other tokens than USDC: to the Safe's own account, in no deployment's equity."""
    for token, amount in tokens.items():
        if (asset := asset_of(at, token)) is not None:
            name, decimals = asset
            move = Move(
                f"venue:{at.name}", ledger.coins_of_safe(row.safe), name, whole(amount, decimals), "funding"
            )
            ledger.post(JournalKind.FUNDING, f"{row.hash[:34]}:{row.safe[-6:]}:{name}", [move])


def _costs(at: GmxAccess, row: GmxTransaction, executed: Sequence[books.Execution]) -> list[Funding]:
    """Return the funding and the borrowing that positions paid, as negative amounts of USDC."""
    return [
        Funding(at.symbol_of(one.market), -amount, f"{row.hash[:34]}:{one.index}:{kind}", row.at)
        for one in executed
        for kind, amount in (("funding", one.funding), ("borrow", one.borrowing))
        if amount
    ]


def _claims(at: GmxAccess, row: GmxTransaction, decoded: Decoded) -> list[Funding]:
    """Return the funding and the collateral in USDC that the Safe claimed."""
    return [
        Funding(
            at.symbol_of(one.market),
            whole(one.amount, USDC_DECIMALS),
            f"{row.hash[:34]}:claim{place}",
            row.at,
        )
        for place, one in enumerate(books.claims(decoded, at.money_of(row.safe)))
        if one.token == at.places.usdc and one.amount
    ]


def share_of(row: GmxTransaction, module: str) -> tuple[Decimal, str]:
    """Return the profit share in USDC that the module paid in a transaction, and its receiver."""
    settled = [one.args for one in p.decode_logs(row.logs, module) if one.name == "TradeSettled"]
    own = [one for one in settled if one["safe"] == row.safe]
    share = sum(one["share"] for one in own)
    return whole(share, USDC_DECIMALS), own[0]["profit_receiver"] if own else ""


def transactions_of(chain_id: int, safe: str, key: str) -> list[GmxTransaction]:
    """Return the kept transactions that name an order's key, oldest first."""
    rows = GmxTransaction.objects.filter(chain_id=chain_id, safe=safe, keys__contains=[key])
    return list(rows.order_by("block_number", "id"))
