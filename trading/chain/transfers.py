"""Watched addresses: one event for each transfer of a listed token, or of the chain's coin, to or from one of them.

Only final blocks are read, so that no reorg changes what was reported. The events of a range of blocks and the new
position are one database transaction, so that each transfer is reported once. A coin that a contract sends in the
course of a call is the value of no transaction and is not seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import QuerySet
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.core import clock
from maxxit.core.errors import InvalidInput, Misconfigured, Rejected, Retryable
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
EVENT, PRIVATE_EVENT = "address.transfer", "address.own_transfer"
"""Of an address that staff watches, and of one that its user added: that user alone is notified."""
USDC_DECIMALS = 6
BLOCKS, BATCH = 100, 20
"""Blocks of one range, and of one request for whole blocks."""
SECONDS = 40
"""In which one pass begins ranges; the next pass reads the rest."""
TOPICS = 200
"""Addresses of one filter: nodes limit its topics."""
MAX_LABEL = 60
Watched = Mapping[str, Sequence[WatchedAddress]]
"""Address in lower case -> who watches it."""


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


def watchable() -> dict[str, ChainStanza]:
    """Return name -> stanza of the chains that have an endpoint: users may watch addresses on these."""
    found: dict[str, ChainStanza] = {}
    for name, stanza in sorted(chains.all_chains().items()):
        try:
            found |= {name: stanza} if stanza.urls else {}
        except Misconfigured:
            continue
    return found


def check(chain: ChainStanza, address: str, min_usd: Decimal, user: Any = None) -> None:
    """Raise Rejected unless the address of `chain` may be watched for `user`.

    It has no valid checksum, is watched for that user already, the chain has too many, or `min_usd` is negative.
    """
    if not chains.is_address(address):
        raise Rejected(
            f"{address!r} is no address with a valid EIP-55 checksum: copy it as an explorer shows it",
            code="bad_address",
        )
    check_limit(min_usd)
    known, name = WatchedAddress.objects.filter(chain_id=chain.chain_id), chains.name_of(chain)
    if known.filter(address=address, user=user).exists():
        raise Rejected(f"{address} on {name} is watched already", code="watched_already")
    if known.count() >= (most := chains.watch_limits().per_chain):
        raise Rejected(f"{most} addresses of {name} are watched: remove one first", code="too_many")


def check_limit(min_usd: Decimal) -> None:
    """Raise Rejected for a negative limit of the transfers that are reported, in USD."""
    if min_usd < 0:
        raise Rejected(
            f"the smallest reported transfer is {plain(min_usd)} USD: give 0 or more", code="bad_number"
        )


def check_label(label: str) -> str:
    """Return the label without surrounding spaces. Raises Rejected for one that is too long, or has several lines."""
    text = label.strip()
    if len(text) > MAX_LABEL or not text.isprintable():
        raise Rejected(
            f"the label has {len(text)} characters: give {MAX_LABEL} at most, on one line", code="bad_label"
        )
    return text


@transaction.atomic
def add(
    chain_name: str,
    address: str,
    *,
    label: str,
    min_usd: Decimal,
    user: Any = None,
    private: bool = False,
) -> WatchedAddress:
    """Watch an address of a configured chain from the next final block on.

    Args:
        min_usd: smaller transfers are not reported; one without a price always is.
        user: who is notified beside staff.
        private: the user adds it, is notified alone, and has a limited number of them.

    Raises:
        Misconfigured: no such chain.
        Rejected: as `check` and `check_label` say, or the user has too many.
    """
    chain, text = chains.stanza(chain_name), check_label(label)
    if private:
        _check_room(user)
    check(chain, address, min_usd, user)
    if not WatchedAddress.objects.filter(chain_id=chain.chain_id).exists():
        _begin_anew(chain.chain_id)  # the last one may have been deleted with its user
    return WatchedAddress.objects.create(
        chain_id=chain.chain_id, address=address, label=text, min_usd=min_usd, user=user, private=private,
        created_at=clock.now(),
    )  # fmt: skip


FIELDS = {"bad_number": "min_usd", "bad_label": "label"}
"""Code of a refusal -> the field that is wrong; the address for others."""


def add_own(user: Any, chain_name: str, address: str, *, label: str, min_usd: Decimal) -> WatchedAddress:
    """Watch an address for a user who adds it, and who alone is notified. Raises InvalidInput with the field."""
    known = watchable()
    if chain_name not in known:
        raise InvalidInput(
            {"chain": f"no chain {chain_name!r} is read here; known: {', '.join(known) or 'none'}"}
        )
    try:
        return add(chain_name, address, label=label, min_usd=min_usd, user=user, private=True)
    except Rejected as error:
        raise InvalidInput({FIELDS.get(error.code, "address"): str(error)}) from error


def _check_room(user: Any) -> None:
    """Raise Rejected where the user has added too many. Locks the user, so that parallel calls count in turn."""
    get_user_model()._default_manager.select_for_update(no_key=True).filter(pk=user.pk).first()
    most = chains.watch_limits().per_user
    if WatchedAddress.objects.filter(user=user, private=True).count() >= most:
        raise Rejected(f"you watch {most} addresses, the most of one user: remove one first", code="too_many")


def of_user(user: Any) -> QuerySet[WatchedAddress]:
    """Select the addresses that are watched for a user, those that staff added for them as well."""
    return WatchedAddress.objects.filter(user=user)


def remove_own(row: WatchedAddress) -> None:
    """Watch an address no more that its user added. Raises Rejected for one that staff watches."""
    if not row.private:
        raise Rejected(f"staff watches {row} for you: ask them to remove it", code="not_yours")
    remove(row)


@transaction.atomic
def remove(row: WatchedAddress) -> None:
    """Watch an address no more."""
    row.delete()
    if not WatchedAddress.objects.filter(chain_id=row.chain_id).exists():
        _begin_anew(row.chain_id)


def _begin_anew(chain_id: int) -> None:
    """Forget how far a chain was read: what moved while no address was watched is not reported."""
    TransferScan.objects.filter(chain_id=chain_id).delete()


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
            watched = _watched(chain_id)
            if not watched:
                break  # the last one was removed meanwhile
            found = list(_token_transfers(chain, stanza, watched, start, end))
            found += _coin_transfers(chain, stanza, watched, start, end)
            reports = list(_reports(stanza, watched, found))
            with transaction.atomic():
                moved = TransferScan.objects.filter(pk=scan.pk, scanned_to=scan.scanned_to)
                if not moved.update(scanned_to=end):
                    break  # another worker was faster
                write([event for _, event in reports])
                WatchedAddress.objects.bulk_update(list({row for row, _ in reports}), ["day", "reported"])
            scan.scanned_to, reported = end, reported + len(reports)
    return reported


def _watched(chain_id: int) -> Watched:
    found: dict[str, list[WatchedAddress]] = {}
    for row in WatchedAddress.objects.filter(chain_id=chain_id):
        found.setdefault(row.address.lower(), []).append(row)
    return found


def _token_transfers(
    chain: Chain, stanza: ChainStanza, watched: Watched, start: int, end: int
) -> Iterator[Transfer]:
    """Yield the transfers of the chain's listed tokens, which a majority of its nodes agree on."""
    places = chains.addresses(stanza)
    units = {one.address.lower(): (symbol, one.decimals) for symbol, one in places.tokens.items()}
    units[places.usdc.lower()] = (USDC, USDC_DECIMALS)
    topics = ["0x" + address[2:].rjust(64, "0") for address in watched]
    asked: list[list[Any]] = []
    for first in range(0, len(topics), TOPICS):
        some = topics[first : first + TOPICS]
        asked += [[TRANSFER, some], [TRANSFER, None, some]]
    for entry in chain.logs(start, end, [{"address": list(units), "topics": one} for one in asked]):
        amount = int(entry.data, 16) if len(entry.topics) == 3 and len(entry.data) == 66 else 0
        if amount:
            symbol, decimals = units[entry.address]
            source, target = ("0x" + topic[-40:] for topic in entry.topics[1:])
            units_moved = Decimal(amount).scaleb(-decimals)
            yield Transfer(entry.transaction_hash, entry.block_number, source, target, symbol, units_moved)


def _coin_transfers(
    chain: Chain, stanza: ChainStanza, watched: Watched, start: int, end: int
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


def _reports(
    stanza: ChainStanza, watched: Watched, found: Sequence[Transfer]
) -> Iterator[tuple[WatchedAddress, NewEvent]]:
    """Yield (row, event) of each transfer that is worth its address's `min_usd`, one for each watched side.

    Counts them in the rows; beyond `reports_per_day` none is yielded.
    """
    assets = {one.asset for one in found} - set(CASH)
    prices = {symbol: quote.price for symbol, quote in quotes.latest(sorted(assets), closing=True).items()}
    for one in sorted(found, key=lambda one: one.block):
        price = Decimal(1) if one.asset in CASH else prices.get(one.asset)
        usd = None if price is None else one.amount * price
        for direction, own, other in (("out", one.source, one.target), ("in", one.target, one.source)):
            for row in watched.get(own, ()):
                if (usd is None or usd >= row.min_usd) and (left := _reports_left(row)):
                    data = _data(
                        stanza, row, one, direction, to_checksum_address(other) if other else "", usd
                    )
                    if left == 1:
                        data["text"] += (
                            f". It is the last one reported today (UTC): {row.reported} are the most of one address. "
                            "Watch it with a larger smallest transfer"
                        )
                    yield row, NewEvent(PRIVATE_EVENT if row.private else EVENT, subject(row), None, data)


def _reports_left(row: WatchedAddress) -> int:
    """Count one more transfer of the row today; return how many may be reported, this one included; 0: not even it."""
    today = clock.now().date()
    if row.day != today:
        row.day, row.reported = today, 0
    most = chains.watch_limits().reports_per_day
    if row.reported >= most:
        return 0
    row.reported += 1
    return most - row.reported + 1


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
