"""The ledger held against the chain, at a final block and to the unit.

Transfers into or out of a Safe that no transaction of ours made (deposits, withdrawals, the owner's own trades)
become EXTERNAL entries, found in the tokens' logs. What is left after that is explained by nothing: it becomes an
EXTERNAL entry too, with an alert. A failed read changes nothing.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.money import USDC, ZERO, plain
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading import ledger
from trading.chain import outbox
from trading.chain.models import ChainAttempt, ChainScan, ChainTransaction, SafePlan, Signer
from trading.chain.outbox import COIN_DECIMALS
from trading.chain.states import IN_FLIGHT, TxState
from trading.ledger import Move
from trading.models import Fill
from trading.venues.safe.trades import USDC_DECIMALS, fills_of, whole
from trading.venues.safe.venue import SafeVenue
from trading.wiring import venue

log = structlog.get_logger(__name__)

TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
BALANCE_LOW = "executor.balance_low"


@dataclass
class Reconciled:
    """What was found for one Safe. Amounts in whole units, the chain's less the ledger's."""

    safe: str
    block: int
    external: dict[str, Decimal] = field(default_factory=dict)
    """Moved by the owners since the last look, by asset; positive came in."""
    unexplained: dict[str, Decimal] = field(default_factory=dict)
    unbooked: list[str] = field(default_factory=list)
    """Final transactions of ours whose fills are not in the ledger yet."""
    in_flight: int = 0

    @property
    def sound(self) -> bool:
        """Whether ledger and chain agree once the owners' own movements are booked."""
        return not (self.unexplained or self.unbooked or self.in_flight)

    def as_json(self) -> dict[str, Any]:
        """For `--json`: amounts as text."""
        told = asdict(self) | {"sound": self.sound}
        for name in ("external", "unexplained"):
            told[name] = {asset: str(amount) for asset, amount in told[name].items()}
        return told


@dataclass
class GasBalance:
    """What was found for one executor, in the coin that gas is paid in; the chain's less the ledger's."""

    executor: str
    block: int
    coin: str
    external: Decimal = ZERO
    """Paid in since the last look; at the first look, all that it holds."""
    unexplained: Decimal = ZERO
    """Negative: it paid for something that we did not send."""
    in_flight: int = 0

    @property
    def sound(self) -> bool:
        """Whether ledger and chain agree once what was paid in is booked."""
        return not (self.unexplained or self.in_flight)

    def as_json(self) -> dict[str, Any]:
        """For `--json`: amounts as text."""
        amounts = {name: plain(getattr(self, name)) for name in ("external", "unexplained")}
        return asdict(self) | amounts | {"sound": self.sound}


def gas_balances() -> list[GasBalance]:
    """Every executor that ever signed. Raises Retryable or Unknown where the chain cannot be read."""
    found = []
    for name in sorted(
        set(Deployment.objects.exclude(safe_wallet="").values_list("agent__venue", flat=True))
    ):
        at = venue(name)
        if isinstance(at, SafeVenue):
            signers = Signer.objects.filter(chain_id=at.stanza.chain_id).order_by("pk")
            found += [gas_balance(at, signer) for signer in signers]
    return found


def gas_balance(at: SafeVenue, signer: Signer) -> GasBalance:
    """Book what was paid to an executor, and compare the gas. While it has transactions in flight nothing is compared.

    A coin's transfers leave no logs, so what came in is told from what went out by its sign alone.
    """
    block = max(at.chain.head().number - at.sending.finality_depth + 1, 0)
    result = GasBalance(signer.address, block, at.sending.coin)
    for tx in signer.transactions.filter(state=TxState.EXPIRED):
        outbox.follow(tx, at.chain, None, at.sending, outbox.allow_nothing)  # a late revert costs gas, too
    held = at.chain.agreed("a balance", "eth_getBalance", signer.address, hex(block))
    account = ledger.executor_of(signer.address)
    warn_if_low(at, signer, held)
    with transaction.atomic():
        Signer.objects.select_for_update().get(pk=signer.pk)
        ours = signer.transactions.all()
        result.in_flight = ours.filter(_later(block)).count()
        if result.in_flight:
            return result
        difference = Decimal(held).scaleb(-COIN_DECIMALS) - ledger.balance(account, at.sending.coin)
        if difference > 0:
            result.external = difference
        else:
            result.unexplained = difference
        source, target = ("external", account) if difference > 0 else (account, "external")
        move = Move(source, target, at.sending.coin, abs(difference), "external")
        ledger.post(f"external:{signer.address}:{signer.chain_id}:{block}", [move])
        if result.unexplained:
            log.error("executor_paid_for_something_else", executor=signer.address, by=str(difference))
            record("reconcile.unexplained", signer, **result.as_json())
    return result


def warn_if_low(at: SafeVenue, signer: Signer, held: int) -> None:
    """Record `executor.balance_low`, which alerts staff, once a day while `held` wei are below the threshold."""
    if held >= at.stanza.executor_low_wei:
        return
    since = clock.now() - timedelta(days=1)
    if not Event.objects.filter(name=BALANCE_LOW, subject=subject(signer), at__gt=since).exists():
        limit = Decimal(at.stanza.executor_low_wei).scaleb(-COIN_DECIMALS)
        left = Decimal(held).scaleb(-COIN_DECIMALS)
        record(
            BALANCE_LOW,
            signer,
            left=f"{plain(left)} {at.sending.coin}",
            limit=f"{plain(limit)} {at.sending.coin}",
        )


def reconcile_all() -> list[Reconciled]:
    """Every Safe that was ever verified: what is held there is ours to book also while its entries are stopped.

    Raises Retryable or Unknown where the chain cannot be read.
    """
    known = SafePlan.objects.exclude(verified_at=None).values("safe")
    found = Deployment.objects.filter(safe_wallet__in=known)
    safes = {(one.agent.venue, one.safe_wallet) for one in found.select_related("agent")}
    opened = [(venue(name), safe) for name, safe in sorted(safes)]
    return [reconcile(at, safe) for at, safe in opened if isinstance(at, SafeVenue)]


def reconcile(at: SafeVenue, safe: str) -> Reconciled:
    """Book what the owners moved and compare the rest. While orders are in flight nothing is compared."""
    block = max(at.chain.head().number - at.sending.finality_depth + 1, 0)
    result = Reconciled(safe, block)
    ours = ChainTransaction.objects.filter(chain_id=at.stanza.chain_id, terms__safe=safe)
    result.in_flight = ours.filter(_later(block)).count()
    seen = ChainScan.objects.filter(
        chain_id=at.stanza.chain_id, safe=safe
    ).first()  # up to there all was booked
    result.unbooked = list(_unbooked(ours.filter(block_number__gt=seen.scanned_to if seen else 0)))
    if result.in_flight or result.unbooked:
        return result
    held = at.balances_at(safe, block)
    scan, first = ChainScan.objects.get_or_create(chain_id=at.stanza.chain_id, safe=safe)
    moves = [] if first else list(_foreign(at, safe, scan.scanned_to + 1, block))
    with transaction.atomic():
        scan = ChainScan.objects.select_for_update().get(pk=scan.pk)
        if scan.scanned_to > block or ours.filter(_later(block)).exists():
            return (
                result  # another look was later than ours, or the ledger has gone beyond the block meanwhile
            )
        for journal, asset, amount in moves:
            if _book(safe, journal, asset, amount):
                result.external[asset] = result.external.get(asset, ZERO) + amount
        left = _differences(safe, held)
        if first:
            result.external = left
        else:
            result.unexplained = left
        prefix = "external:" if first else ledger.UNEXPLAINED
        for asset, amount in left.items():
            _book(safe, f"{prefix}{safe}:{block}:{asset}", asset, amount)
        _hand_over(safe, block)
        ChainScan.objects.filter(pk=scan.pk).update(scanned_to=block)
        if result.unexplained:
            log.error("ledger_differs_from_chain", safe=safe, block=block, by=result.as_json()["unexplained"])
            record("reconcile.unexplained", _owner(safe), **result.as_json())
    return result


def _later(block: int) -> Q:
    """Transactions that the chain at that block says nothing final of."""
    return Q(state__in=IN_FLIGHT) | Q(block_number__gt=block)


def _unbooked(ours: Any) -> Iterator[str]:
    """Final transactions with a fill that the ledger does not have."""
    for tx in ours.filter(state=TxState.FINAL).iterator():
        ids = [one.fill_id for one in fills_of(tx)]
        if Fill.objects.filter(venue_fill_id__in=ids).count() != len(ids):
            yield tx.idempotency_key


def _foreign(at: SafeVenue, safe: str, start: int, end: int) -> Iterator[tuple[str, str, Decimal]]:
    """(journal, asset, signed amount) of every transfer in the blocks that none of our transactions made."""
    units = {at.places.usdc: (USDC, USDC_DECIMALS)} | {
        token.address: (symbol, token.decimals) for symbol, token in at.places.tokens.items()
    }
    padded = "0x" + safe[2:].lower().rjust(64, "0")
    sides = ((-1, [TRANSFER, padded]), (1, [TRANSFER, None, padded]))
    found = list(
        at.chain.logs(start, end, [{"address": list(units), "topics": topics} for _, topics in sides])
    )
    hashes = {entry.transaction_hash for entry in found}
    mine = set(ChainAttempt.objects.filter(hash__in=hashes).values_list("hash", flat=True))
    for entry in found:
        if entry.transaction_hash in mine:
            continue
        symbol, decimals = units[to_checksum_address(entry.address)]
        for sign, topics in sides:
            if entry.topics[len(topics) - 1] == padded:
                journal = f"external:{entry.transaction_hash[:34]}:{entry.index}:{sign}"
                yield journal, symbol, sign * whole(int(entry.data, 16), decimals)


def _differences(safe: str, held: dict[str, Decimal]) -> dict[str, Decimal]:
    booked: dict[str, Decimal] = {}
    for deployment in Deployment.objects.filter(account=safe):
        for asset, amount in ledger.balances(deployment.pk).items():
            booked[asset] = booked.get(asset, ZERO) + amount
    differences = {asset: held.get(asset, ZERO) - booked.get(asset, ZERO) for asset in {*held, *booked}}
    return {asset: amount for asset, amount in sorted(differences.items()) if amount}


def _owner(safe: str) -> Deployment:
    """Whom the Safe's own movements are booked to: its first deployment that is not revoked, if there is one."""
    found = list(Deployment.objects.filter(account=safe).order_by("pk"))
    return next((one for one in found if one.state != DeploymentState.REVOKED), found[0])


def _hand_over(safe: str, block: int) -> None:
    """The USDC of revoked deployments is the one's that trades from the Safe now, also what their last exits bring."""
    owner = _owner(safe)
    for old in Deployment.objects.filter(account=safe, state=DeploymentState.REVOKED).exclude(pk=owner.pk):
        left = ledger.balances(old.pk).get(USDC, ZERO)
        move = Move(ledger.account_of(old.pk), ledger.account_of(owner.pk), USDC, left, "external")
        if left > 0:
            ledger.post(f"handover:{old.pk}:{owner.pk}:{block}", [move])


def _book(safe: str, journal: str, asset: str, amount: Decimal) -> bool:
    mine = ledger.account_of(_owner(safe).pk)
    source, target = ("external", mine) if amount > 0 else (mine, "external")
    return ledger.post(journal, [Move(source, target, asset, abs(amount), "external")])
