"""Reconcile the ledger with Safes and executors' gas balances on the chain, at a final block, to the base unit.

Transfers into or out of a Safe that none of our transactions made (deposits, withdrawals, the owners' own trades) are
found in the tokens' logs and booked as external. A difference that remains is unexplained: it is booked as external too
and raises an alert. A failed read changes nothing. Transfers are decoded here: one topic and one word
take 20 µs, by web3's contracts 230, and a backfill reads thousands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Model, Q
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.money import USDC, ZERO, plain
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading import ledger
from trading.chain import outbox
from trading.chain.models import DEPLOY, ChainScan, ChainTransaction, SafePlan, Signer
from trading.chain.outbox import COIN_DECIMALS
from trading.chain.states import IN_FLIGHT, TxState
from trading.ledger import Move
from trading.models import JournalKind
from trading.venues.parallel import result_of
from trading.venues.safe.access import SafeAccess
from trading.venues.safe.units import whole
from trading.wiring import venue

log = structlog.get_logger(__name__)

TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
BALANCE_LOW = "executor.balance_low"
FAILED = "safe.check_failed"


@dataclass
class Reconciled:
    """The result for one Safe. Amounts in whole units, chain minus ledger."""

    safe: str
    block: int
    external: dict[str, Decimal] = field(default_factory=dict)
    """Asset -> net transfers by the owners since the last reconciliation; positive: in."""
    unexplained: dict[str, Decimal] = field(default_factory=dict)
    unbooked: list[str] = field(default_factory=list)
    """Intents of ours that are final while their fills are not in the ledger yet."""
    in_flight: int = 0
    problem: str = ""
    """Why it was not compared; empty where it was."""

    @property
    def sound(self) -> bool:
        """Whether ledger and chain agree once the owners' own transfers are booked."""
        return not (self.unexplained or self.unbooked or self.in_flight or self.problem)

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json` and events, amounts as text."""
        fields = asdict(self) | {"sound": self.sound}
        for name in ("external", "unexplained"):
            fields[name] = {asset: str(amount) for asset, amount in fields[name].items()}
        return fields


@dataclass
class GasBalance:
    """The result for one executor, in whole units of the coin that gas is paid in; chain minus ledger."""

    executor: str
    """Empty where not even the executors of a venue are known; `problem` names it."""
    block: int
    coin: str
    external: Decimal = ZERO
    """Deposited since the last reconciliation; at the first one, its whole balance."""
    unexplained: Decimal = ZERO
    """Negative: it paid for something that we did not send, so somebody else may have its key."""
    in_flight: int = 0
    problem: str = ""
    """Why it was not compared; empty where it was."""

    @property
    def sound(self) -> bool:
        """Whether ledger and chain agree once deposits are booked."""
        return not (self.unexplained or self.in_flight or self.problem)

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json` and events, amounts as text."""
        amounts = {name: plain(getattr(self, name)) for name in ("external", "unexplained")}
        return asdict(self) | amounts | {"sound": self.sound}


def gas_balances() -> list[GasBalance]:
    """Reconcile the executor in use and every one that ever signed. One that cannot be compared stops no other."""
    results, of_chains = list[GasBalance](), dict[int, list[SafeAccess]]()
    for name in sorted(
        set(Deployment.objects.exclude(safe_wallet="").values_list("agent__venue", flat=True))
    ):
        at = result_of(partial(_access_with_signers, name))
        if isinstance(at, Exception):
            log.error("executors_not_compared", venue=name, error=str(at), exc_info=_exc_info(at))
            results.append(GasBalance("", 0, "", problem=f"venue {name}: {_problem(at)}"))
        elif at is not None:
            of_chains.setdefault(at.stanza.chain_id, []).append(at)
    for venues in of_chains.values():  # spot and perpetual futures share the executors
        at = venues[0]
        for signer in _signers_of(at):
            result = result_of(partial(_compare_executor, at, signer, venues))
            if isinstance(result, Exception):
                note_check_failure(signer, "executor_not_compared", result, executor=signer.address)
                result = GasBalance(signer.address, 0, at.sending.coin, problem=_problem(result))
            results.append(result)
    return results


def _access_with_signers(name: str) -> SafeAccess | None:
    """Return access to the Safes of a venue whose executors are known; None where it trades from none."""
    if (at := venue(name).safe_access()) is not None:
        _signers_of(at)
    return at


def _compare_executor(at: SafeAccess, signer: Signer, venues: Sequence[SafeAccess]) -> GasBalance:
    """Compare an executor that has to pay for entries at each of these venues."""
    return gas_balance(at, signer, needed=max(one.entry_cost() for one in venues))


def note_check_failure(row: Model, what: str, error: Exception, **facts: str) -> None:
    """Log that a Safe or an executor was not checked. An error that nobody foresaw alerts staff, once a day.

    Args:
        row: what was not checked.
        what: name of the log line.
    """
    log.warning(what, error=str(error), exc_info=_exc_info(error), **facts)
    since = clock.now() - timedelta(days=1)
    if isinstance(error, MaxxitError) or Event.objects.filter(
        name=FAILED, subject=subject(row), at__gt=since
    ).exists():  # fmt: skip
        return
    record(FAILED, row, what=what, error=_problem(error)[:300], **facts)


def _exc_info(error: Exception) -> Exception | None:
    """Return what the log shows of an error besides its text: the traceback of one that nobody foresaw."""
    return None if isinstance(error, MaxxitError) else error


def _problem(error: Exception) -> str:
    return str(error) if isinstance(error, MaxxitError) else f"{type(error).__name__}: {error}"


def _signers_of(at: SafeAccess) -> list[Signer]:
    """Return the executor in use on a chain and every one that ever signed there."""
    executors = ChainTransaction.objects.filter(chain_id=at.stanza.chain_id).exclude(
        terms__purpose=DEPLOY  # a deployer's key pays for other things, too
    )
    in_use, _ = Signer.objects.get_or_create(chain_id=at.stanza.chain_id, address=at.executors[0])
    signed = Q(pk__in=executors.values("signer"))
    return list(Signer.objects.filter(signed | Q(pk=in_use.pk)).order_by("pk"))


def gas_balance(at: SafeAccess, signer: Signer, *, needed: int = 0) -> GasBalance:
    """Book deposits to an executor and compare its gas balance, unless it has transactions in flight.

    Transfers of the coin leave no logs, so only the sign of the net difference distinguishes deposits from payments.
    Raises Retryable or Unknown where the chain cannot be read.

    Args:
        needed: wei that one entry costs now; below it staff is alerted, whatever the chain's threshold.
    """
    block = at.final_block()
    result = GasBalance(signer.address, block, at.sending.coin)
    held = at.chain.agreed("a balance", "eth_getBalance", signer.address, hex(block))
    account = ledger.executor_of(signer.address)
    warn_if_low(at, signer, held, needed)  # first: what follows may fail
    for tx in signer.transactions.filter(state=TxState.EXPIRED):
        outbox.follow(tx, at.chain, None, at.sending, outbox.allow_nothing)  # a late revert costs gas too
    with transaction.atomic():
        Signer.objects.select_for_update().get(pk=signer.pk)
        ours = signer.transactions.all()
        result.in_flight = ours.filter(_not_final(block)).count()
        if result.in_flight:
            return result
        difference = Decimal(held).scaleb(-COIN_DECIMALS) - ledger.balance(account, at.sending.coin)
        if difference > 0:
            result.external = difference
        else:
            result.unexplained = difference
        move = ledger.external_move(account, at.sending.coin, difference)
        ledger.post(JournalKind.EXTERNAL, f"{signer.address}:{signer.chain_id}:{block}", [move])
        if result.unexplained:
            log.error("executor_paid_for_something_else", executor=signer.address, by=str(difference))
            record("reconcile.unexplained", signer, **result.as_json())
    return result


def warn_if_low(at: SafeAccess, signer: Signer, held: int, needed: int = 0) -> None:
    """Record `executor.balance_low`, which alerts staff, once a day while `held` (wei) is below the threshold.

    The threshold is the chain's, or `needed` (wei) where that is more.
    """
    least = max(at.stanza.executor_low_wei, needed)
    if held >= least:
        return
    since = clock.now() - timedelta(days=1)
    if not Event.objects.filter(name=BALANCE_LOW, subject=subject(signer), at__gt=since).exists():
        limit = Decimal(least).scaleb(-COIN_DECIMALS)
        balance = Decimal(held).scaleb(-COIN_DECIMALS)
        record(
            BALANCE_LOW,
            signer,
            left=f"{plain(balance)} {at.sending.coin}",
            limit=f"{plain(limit)} {at.sending.coin}",
        )


def reconcile_all() -> list[Reconciled]:
    """Reconcile every Safe that was ever verified, also while its entries are stopped.

    A Safe that cannot be compared, or whose venue cannot be opened, stops no other: its result has a `problem`.
    """
    known = SafePlan.objects.exclude(verified_at=None).values("safe")
    deployments = Deployment.objects.filter(safe_wallet__in=known).select_related("agent")
    safes = {(deployment.agent.venue, deployment.safe_wallet) for deployment in deployments}
    of_venues: dict[str, list[str]] = {}
    for name, safe in sorted(safes):
        of_venues.setdefault(name, []).append(safe)
    return [result for name, own in of_venues.items() for result in _reconcile_venue(name, own)]


def _reconcile_venue(name: str, safes: Sequence[str]) -> Iterator[Reconciled]:
    """Reconcile the Safes of one venue. Where its chain does not answer, the rest is not asked one by one."""
    at = result_of(lambda: venue(name).safe_access())
    if isinstance(at, Exception):
        log.error("venue_not_opened", venue=name, error=str(at), exc_info=_exc_info(at))
        yield from (Reconciled(safe, 0, problem=_problem(at)) for safe in safes)
        return
    if at is None:
        return
    silent = ""
    for safe in safes:
        if silent:
            yield Reconciled(safe, 0, problem=silent)
            continue
        result = result_of(partial(reconcile, at, safe))
        if isinstance(result, Exception):
            deployment = Deployment.objects.filter(safe_wallet=safe, agent__venue=name).latest("pk")
            note_check_failure(deployment, "safe_not_compared", result, venue=name, safe=safe)
            result, silent = Reconciled(safe, 0, problem=_problem(result)), at.silence()
        yield result


def reconcile(at: SafeAccess, safe: str) -> Reconciled:
    """Book the owners' transfers of one Safe and compare the rest. Nothing is compared while orders are in flight."""
    block, account = at.read_block(safe), at.account_of(safe)
    result = Reconciled(safe, block)
    ours = ChainTransaction.objects.filter(chain_id=at.stanza.chain_id, terms__safe=safe)
    result.in_flight = ours.filter(_not_final(block)).count()
    seen = ChainScan.objects.filter(
        chain_id=at.stanza.chain_id, safe=safe
    ).first()  # all transfers up to `scanned_to` are booked
    result.unbooked = list(at.unbooked(safe, seen.scanned_to if seen else 0))
    if result.in_flight or result.unbooked:
        return result
    held = at.balances_at(safe, block)
    scan, first = ChainScan.objects.get_or_create(chain_id=at.stanza.chain_id, safe=safe)
    moves = [] if first else list(_owner_transfers(at, safe, scan.scanned_to + 1, block))
    with transaction.atomic():
        scan = ChainScan.objects.select_for_update().get(pk=scan.pk)
        if scan.scanned_to > block or at.has_moved(safe, block) or ours.filter(_not_final(block)).exists():
            return (
                result  # a later reconciliation was faster, or the ledger has moved past the block meanwhile
            )
        for reference, asset, amount in moves:
            if _book(account, JournalKind.EXTERNAL, reference, asset, amount):
                result.external[asset] = result.external.get(asset, ZERO) + amount
        differences = _differences(account, held)
        if first:
            result.external = differences
        else:
            result.unexplained = differences
        kind = JournalKind.EXTERNAL if first else JournalKind.UNEXPLAINED
        for asset, amount in differences.items():
            _book(account, kind, f"{safe}:{block}:{asset}", asset, amount)
        _move_revoked_cash(account, block)
        ChainScan.objects.filter(pk=scan.pk).update(scanned_to=block)
        if result.unexplained:
            log.error("ledger_differs_from_chain", safe=safe, block=block, by=result.as_json()["unexplained"])
            record("reconcile.unexplained", _booking_deployment(account), **result.as_json())
    return result


def _not_final(block: int) -> Q:
    """Return the filter for transactions that are not final at that block."""
    return Q(state__in=IN_FLIGHT) | Q(block_number__gt=block)


def _owner_transfers(at: SafeAccess, safe: str, start: int, end: int) -> Iterator[tuple[str, str, Decimal]]:
    """Yield (reference, asset, signed whole units) of each transfer in the blocks that no transaction of ours made."""
    units = at.booked_tokens
    padded = "0x" + safe[2:].lower().rjust(64, "0")
    sides = ((-1, [TRANSFER, padded]), (1, [TRANSFER, None, padded]))
    transfers = list(
        at.chain.logs(start, end, [{"address": list(units), "topics": topics} for _, topics in sides])
    )
    hashes = {entry.transaction_hash for entry in transfers}
    ours = at.own_transactions(hashes)
    for entry in transfers:
        if entry.transaction_hash in ours:
            continue
        symbol, decimals = units[to_checksum_address(entry.address)]
        for sign, topics in sides:
            if entry.topics[len(topics) - 1] == padded:
                reference = f"{entry.transaction_hash[:34]}:{entry.index}:{sign}"
                yield reference, symbol, sign * whole(int(entry.data, 16), decimals)


def _differences(account: str, held: dict[str, Decimal]) -> dict[str, Decimal]:
    booked: dict[str, Decimal] = {}
    for deployment in Deployment.objects.filter(account=account):
        for asset, amount in ledger.balances(deployment.pk).items():
            booked[asset] = booked.get(asset, ZERO) + amount
    differences = {asset: held.get(asset, ZERO) - booked.get(asset, ZERO) for asset in {*held, *booked}}
    return {asset: amount for asset, amount in sorted(differences.items()) if amount}


def _booking_deployment(safe: str) -> Deployment:
    """Return the deployment that the owners' transfers are booked to."""
    found = ledger.booking_deployment(safe)
    if found is None:
        raise Misconfigured(f"no deployment trades from the Safe {safe}")
    return found


def _move_revoked_cash(account: str, block: int) -> None:
    """Transfer the USDC of revoked deployments to the one that trades from the Safe now, also from later exits."""
    owner = _booking_deployment(account)
    for old in Deployment.objects.filter(account=account, state=DeploymentState.REVOKED).exclude(pk=owner.pk):
        amount = ledger.balances(old.pk).get(USDC, ZERO)
        move = Move(ledger.account_of(old.pk), ledger.account_of(owner.pk), USDC, amount, "external")
        if amount > 0:
            ledger.post(JournalKind.HANDOVER, f"{old.pk}:{owner.pk}:{block}", [move])


def _book(account: str, kind: JournalKind, reference: str, asset: str, amount: Decimal) -> bool:
    holdings = ledger.account_of(_booking_deployment(account).pk)
    return ledger.post(kind, reference, [ledger.external_move(holdings, asset, amount)])
