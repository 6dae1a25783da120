"""Watched addresses: one event for each transfer of a listed token, or of the chain's coin, to or from one of them.

Only final blocks are read, so that no reorg changes what was reported. The events of a range of blocks and the new
position are one database transaction, so that each transfer is reported once. A coin that a contract sends in the
course of a call is the value of no transaction and is not seen.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable
from maxxit.core.money import CASH, USDC, plain
from maxxit.events.record import NewEvent, subject, write
from maxxit.evm import facts
from maxxit.evm.facts import Receipt
from maxxit.evm.rpc import Chain, Question
from maxxit.market import quotes
from trading.chain import chains
from trading.chain.chains import ChainStanza
from trading.chain.models import TransferScan, WatchedAddress
from trading.chain.outbox import COIN_DECIMALS
from trading.passes import TimeBudget, ends_the_pass

log = structlog.get_logger(__name__)
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
EVENT = "address.transfer"
USDC_DECIMALS = 6
BLOCKS, BATCH = 100, 20
"""Blocks of one range, and of one request for whole blocks."""
SECONDS = 40
"""In which one pass begins ranges; the next pass reads the rest."""
MOST = 200
"""Watched addresses of one chain: nodes limit the topics of a filter."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer in a final block. Addresses in lower case."""

    transaction_hash: str
    block: int
    source: str
    target: str
    asset: str
    amount: Decimal
    """Whole units of the asset, more than 0."""


def check(chain: ChainStanza, address: str, min_usd: Decimal) -> None:
    """Raise Rejected unless the address of `chain` may be watched.

    It has no valid checksum, is watched already, the chain has too many, or `min_usd` is negative.
    """
    if not chains.is_address(address):
        raise Rejected(f"{address!r} is no address with a valid EIP-55 checksum", code="bad_address")
    check_limit(min_usd)
    known, name = WatchedAddress.objects.filter(chain_id=chain.chain_id), chains.name_of(chain)
    if known.filter(address=address).exists():
        raise Rejected(f"{address} on {name} is watched already: `manage.py addresses label` renames it")
    if known.count() >= MOST:
        raise Rejected(f"{MOST} addresses of {name} are watched: remove one first", code="too_many")


def check_limit(min_usd: Decimal) -> None:
    """Raise Rejected for a negative limit of the transfers that are reported, in USD."""
    if min_usd < 0:
        raise Rejected(
            f"the smallest reported transfer is {plain(min_usd)} USD: give 0 or more", code="bad_number"
        )


def add(chain_name: str, address: str, *, label: str, min_usd: Decimal, user: Any = None) -> WatchedAddress:
    """Watch an address of a configured chain from the next final block on.

    Args:
        min_usd: smaller transfers are not reported; one without a price always is.
        user: who is notified beside staff.

    Raises:
        Misconfigured: no such chain.
        Rejected: as `check` says.
    """
    chain = chains.stanza(chain_name)
    with transaction.atomic():
        check(chain, address, min_usd)
        return WatchedAddress.objects.create(
            chain_id=chain.chain_id, address=address, label=label, min_usd=min_usd, user=user, created_at=clock.now()
        )  # fmt: skip


def remove(row: WatchedAddress) -> None:
    """Watch an address no more."""
    with transaction.atomic():
        row.delete()
        if not WatchedAddress.objects.filter(chain_id=row.chain_id).exists():
            TransferScan.objects.filter(chain_id=row.chain_id).delete()  # the next address begins anew


def watch() -> int:
    """Report the new transfers of every watched address; return how many. A chain that fails stops no other."""
    budget, reported = TimeBudget(SECONDS), 0
    for chain_id in WatchedAddress.objects.order_by("chain_id").values_list("chain_id", flat=True).distinct():
        try:
            reported += _watch_chain(chain_id, budget)
        except Exception as error:
            if ends_the_pass(error):
                raise
            log.warning("transfers_not_read", chain=chain_id, error=str(error))
    return reported


def _watch_chain(chain_id: int, budget: TimeBudget) -> int:
    stanza = chains.chain_of_id(chain_id)
    if stanza is None:
        raise Rejected(
            f"chain {chain_id} is not in config/chains.yaml: remove its addresses", code="no_chain"
        )
    reported = 0
    with closing(chains.connect(stanza)) as chain:
        final = max(chain.head().number - stanza.finality_depth + 1, 0)
        scan, _ = TransferScan.objects.get_or_create(chain_id=chain_id, defaults={"scanned_to": final})
        while scan.scanned_to < final and budget.left():
            start, end = scan.scanned_to + 1, min(scan.scanned_to + BLOCKS, final)
            watched = {row.address.lower(): row for row in WatchedAddress.objects.filter(chain_id=chain_id)}
            if not watched:
                break  # the last one was removed meanwhile
            found = list(_token_transfers(chain, stanza, watched, start, end))
            found += _coin_transfers(chain, stanza, watched, start, end)
            events = list(_events(stanza, watched, found))
            with transaction.atomic():
                moved = TransferScan.objects.filter(pk=scan.pk, scanned_to=scan.scanned_to)
                if not moved.update(scanned_to=end):
                    break  # another worker was faster
                write(events)
            scan.scanned_to, reported = end, reported + len(events)
    return reported


def _token_transfers(
    chain: Chain, stanza: ChainStanza, watched: dict[str, WatchedAddress], start: int, end: int
) -> Iterator[Transfer]:
    """Yield the transfers of the chain's listed tokens, which a majority of its nodes agree on."""
    places = chains.addresses(stanza)
    units = {one.address.lower(): (symbol, one.decimals) for symbol, one in places.tokens.items()}
    units[places.usdc.lower()] = (USDC, USDC_DECIMALS)
    topics = ["0x" + address[2:].rjust(64, "0") for address in watched]
    asked = [[TRANSFER, topics], [TRANSFER, None, topics]]
    for entry in chain.logs(start, end, [{"address": list(units), "topics": one} for one in asked]):
        amount = int(entry.data, 16) if len(entry.topics) == 3 and len(entry.data) == 66 else 0
        if amount:
            symbol, decimals = units[entry.address]
            source, target = ("0x" + topic[-40:] for topic in entry.topics[1:])
            units_moved = Decimal(amount).scaleb(-decimals)
            yield Transfer(entry.transaction_hash, entry.block_number, source, target, symbol, units_moved)


def _coin_transfers(
    chain: Chain, stanza: ChainStanza, watched: dict[str, WatchedAddress], start: int, end: int
) -> Iterator[Transfer]:
    """Yield the values of transactions. One node lists them; that each succeeded in its block, a majority agrees on."""
    for first in range(start, end + 1, BATCH):
        numbers = range(first, min(first + BATCH, end + 1))
        blocks = chain.read_all([("eth_getBlockByNumber", (hex(number), True)) for number in numbers])
        sent = [
            (number, one)
            for number, block in zip(numbers, blocks, strict=True)
            for one in _payments(block, number, stanza.chain_id)
            if one.value and {one.sender, one.to} & watched.keys()
        ]
        questions: list[Question] = [
            (f"the receipt of {one.transaction_hash}", "eth_getTransactionReceipt", (one.transaction_hash,))
            for _, one in sent
        ]
        receipts: Sequence[Receipt | None] = chain.agreed_all(questions) if questions else []
        for (number, one), receipt in zip(sent, receipts, strict=True):
            if receipt is None or receipt.block_number != number:
                raise Retryable(
                    f"chain {stanza.chain_id}: the nodes do not have {one.transaction_hash} in block {number}"
                )
            if receipt.succeeded:
                amount = Decimal(one.value).scaleb(-COIN_DECIMALS)
                yield Transfer(one.transaction_hash, number, one.sender, one.to, stanza.coin, amount)


def _payments(block: Any, number: int, chain_id: int) -> tuple[facts.Payment, ...]:
    try:
        return facts.payments(block)
    except facts.Malformed as error:
        raise Retryable(f"chain {chain_id}: no transactions of block {number}: {error}") from error


def _events(
    stanza: ChainStanza, watched: dict[str, WatchedAddress], found: Sequence[Transfer]
) -> Iterator[NewEvent]:
    """Yield the event of each transfer that is worth its address's `min_usd`, one for each watched side."""
    assets = {one.asset for one in found} - set(CASH)
    prices = {symbol: quote.price for symbol, quote in quotes.latest(sorted(assets), closing=True).items()}
    for one in sorted(found, key=lambda one: one.block):
        price = Decimal(1) if one.asset in CASH else prices.get(one.asset)
        usd = None if price is None else one.amount * price
        for direction, own, other in (("out", one.source, one.target), ("in", one.target, one.source)):
            row = watched.get(own)
            if row is not None and (usd is None or usd >= row.min_usd):
                data = _data(stanza, row, one, direction, to_checksum_address(other) if other else "", usd)
                yield NewEvent(EVENT, subject(row), None, data)


def _data(
    stanza: ChainStanza, row: WatchedAddress, one: Transfer, direction: str, other: str, usd: Decimal | None
) -> dict[str, Any]:
    chain = chains.name_of(stanza)
    worth = f"about {usd:.2f} USD" if usd is not None else "no price"
    text = (
        f"{plain(one.amount)} {one.asset} ({worth}) {'left' if direction == 'out' else 'arrived at'} "
        f"{row.label or row.address} on {chain}, {'to' if direction == 'out' else 'from'} {other or 'a new contract'}"
    )
    owner = {"owner_id": row.user_id} if row.user_id else {}
    return {
        "text": text,
        "chain": chain,
        "address": row.address,
        "label": row.label,
        "direction": direction,
        "counterparty": other,
        "asset": one.asset,
        "amount": plain(one.amount),
        "usd": None if usd is None else plain(usd),
        "transaction": one.transaction_hash,
        "block": one.block,
    } | owner
