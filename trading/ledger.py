"""The double-entry ledger: post fills, fees, profit share, gas and external transfers; append-only; balance = sum.

Accounts: `deployment:7` what the deployment's account at its venue holds; `deployment:7:payable` what it owes the
platform, in USDC, where the venue does not collect it, less what was paid from outside; `venue:…` and `venue:…:fees`
the other side of trades; `fees:platform`; `profit:<receiver>`; `executor:0x…` what an executor holds to pay for gas,
`gas:<chain id>` what it paid; `external` the world outside. Trades move the venue's cash (USDC or USD).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from django.db import connection
from django.db.models import Q, Sum

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.money import IS_TOKEN, USDC, ZERO, usdc
from maxxit.core.terms import OrderSide
from maxxit.market.venues import venue_policy
from maxxit.postgres import bulk
from trading.models import JournalKind, LedgerBalance, LedgerEntry, Order


class BookedFill(Protocol):
    """What a journal needs of a fill: tokens, and cash and fee in the venue's cash."""

    @property
    def quantity(self) -> Decimal: ...
    @property
    def cash(self) -> Decimal: ...
    @property
    def fee(self) -> Decimal: ...


@dataclass(frozen=True, slots=True)
class Move:
    """A transfer of an asset from one ledger account to another."""

    source: str
    target: str
    asset: str
    amount: Decimal
    """Positive, whole units."""
    kind: str


def account_of(deployment_id: int) -> str:
    """Return the ledger account of a deployment's holdings."""
    return f"deployment:{deployment_id}"


def payable_of(deployment_id: int) -> str:
    """Return the ledger account of what a deployment owes the platform (a debt is negative)."""
    return f"{account_of(deployment_id)}:payable"


def deployment_of(account: str) -> int | None:
    """Return the deployment's id of `account_of` or `payable_of`, None for any other account.

    Only `post` needs it. All others read `LedgerEntry.deployment`; the database refuses a line where both disagree.
    """
    owner, _, rest = account.partition(":")
    return int(rest.partition(":")[0]) if owner == "deployment" else None


@dataclass(frozen=True, slots=True)
class Journal:
    """What one journal books. `reference` is unique in its kind: the id of the fill, of the position, and so on."""

    kind: JournalKind
    reference: str | int
    moves: Sequence[Move]
    order_id: int | None = None
    correlation_id: UUID | None = None

    @property
    def name(self) -> str:
        """The name under which it is booked once."""
        return f"{self.kind}:{self.reference}"


def post(
    kind: JournalKind,
    reference: str | int,
    moves: Iterable[Move],
    *,
    order: Order | None = None,
    correlation_id: UUID | None = None,
) -> bool:
    """Book both lines of each move in the caller's transaction; return False if the journal was booked before."""
    corr = correlation_id or (order.correlation_id if order else None)
    return bool(post_all([Journal(kind, reference, list(moves), order.pk if order else None, corr)]))


def post_all(journals: Sequence[Journal]) -> int:
    """Book many journals in the caller's transaction, in two statements; return how many were not booked before."""
    names = [journal.name for journal in journals if any(move.amount for move in journal.moves)]
    if not names:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT journal FROM ledger_entries WHERE journal = ANY(%s)", [names])
        booked = {name for (name,) in cursor.fetchall()}
    new = [journal for journal in journals if journal.name not in booked]
    lines = [
        (journal, move, account, amount)
        for journal in new
        for move in journal.moves
        if move.amount
        for account, amount in ((move.source, -move.amount), (move.target, move.amount))
    ]
    if lines:
        bulk.insert(
            LedgerEntry,
            {
                "journal": [journal.name for journal, *_ in lines],
                "journal_kind": [journal.kind for journal, *_ in lines],
                "account": [account for *_, account, _ in lines],
                "deployment_id": [deployment_of(account) for *_, account, _ in lines],
                "asset": [move.asset for _, move, *_ in lines],
                "amount": [amount for *_, amount in lines],
                "kind": [move.kind for _, move, *_ in lines],
                "order_id": [journal.order_id for journal, *_ in lines],
                "correlation_id": [journal.correlation_id for journal, *_ in lines],
                "at": [clock.now()] * len(lines),
            },
        )
    return len(new)


def external_move(account: str, asset: str, amount: Decimal) -> Move:
    """Return the transfer of `amount` from outside into an account, whole units; negative: out of it."""
    source, target = ("external", account) if amount > 0 else (account, "external")
    return Move(source, target, asset, abs(amount), "external")


def booking_deployment(account: str, venue: str | None = None) -> Deployment | None:
    """Return the deployment to which transfers of an account are booked: its first one that is not revoked.

    Its first one where all are revoked; None where it has none. Without `venue` its deployments at any venue count.
    """
    rows = Deployment.objects.filter(account=account)
    if venue is not None:
        rows = rows.filter(agent__venue=venue)
    rows = rows.alias(is_revoked=Q(state=DeploymentState.REVOKED)).order_by("is_revoked", "pk")
    return rows.select_related("agent").first()


def first_deposit_at(deployment: Deployment) -> datetime | None:
    """Return when the cash of the deployment's account was booked first; None before that."""
    deposits = LedgerEntry.objects.filter(deployment=deployment, journal_kind=JournalKind.DEPOSIT)
    return deposits.order_by("pk").values_list("at", flat=True).first()


def deposit(deployment: Deployment, amount: Decimal) -> bool:
    """Book the starting balance of a deployment in its venue's cash, once; return whether it was booked now."""
    cash = venue_policy(deployment.agent.venue).cash
    move = Move("external", account_of(deployment.pk), cash, usdc(amount), "deposit")
    return post(JournalKind.DEPOSIT, deployment.pk, [move])


def fill_journal(order: Order, fill_id: int, fill: BookedFill) -> Journal:
    """Return the journal of a fill: tokens against the venue's cash, and the venue's fee."""
    account, venue = account_of(order.deployment_id), f"venue:{order.venue}"
    asset = venue_policy(order.venue).cash
    token = Move(venue, account, order.symbol, fill.quantity, "trade")
    cash = Move(account, venue, asset, fill.cash, "trade")
    if order.side == OrderSide.SELL:
        token = Move(account, venue, order.symbol, fill.quantity, "trade")
        cash = Move(venue, account, asset, fill.cash, "trade")
    fee = Move(account, f"venue:{order.venue}:fees", asset, fill.fee, "venue_fee")
    return Journal(JournalKind.FILL, fill_id, [token, cash, fee], order.pk, order.correlation_id)


def platform_fee_journal(
    order: Order, amount: Decimal, *, collected: bool, with_fill: int | None = None
) -> Journal:
    """Return the journal of the platform's fee of one trade: in the venue's cash where that took it, else in USDC.

    Args:
        collected: the venue took it from the account itself.
        with_fill: the id of the later fill that the fee grew with, where it depends on what was traded.
    """
    payer = account_of(order.deployment_id) if collected else payable_of(order.deployment_id)
    reference = f"{order.pk}:{with_fill}" if with_fill else order.pk
    asset = venue_policy(order.venue).cash if collected else USDC
    move = Move(payer, "fees:platform", asset, amount, "platform_fee")
    return Journal(JournalKind.FEE, reference, [move], order.pk, order.correlation_id)


def collected_fees_journal(
    order: Order, fill_id: int, fee: Decimal | None, share: Decimal | None, share_receiver: str
) -> Journal:
    """Return the journal of platform fee and profit share that the venue collected with a fill, in its cash."""
    account, asset = account_of(order.deployment_id), venue_policy(order.venue).cash
    moves = [
        Move(account, "fees:platform", asset, fee or ZERO, "platform_fee"),
        Move(account, f"profit:{share_receiver or 'platform'}", asset, share or ZERO, "profit_share"),
    ]
    return Journal(JournalKind.TAKEN, fill_id, moves, order.pk, order.correlation_id)


def book_owner_withdrawal(
    reference: str, position_of: int, booked_to: int, out: Decimal, asset: str, value: Decimal
) -> bool:
    """Book that `out` tokens of `asset` which a Safe's owner withdrew belonged to a position of `position_of`.

    The withdrawal itself was booked as external to the deployment `booked_to`. No balance changes: the journal reads as
    if `position_of` had sold the tokens for `value` USDC and the owner had withdrawn that cash. From then on the
    withdrawal is valued at a fixed USDC amount and no longer at the token's price. Return whether it was booked now.
    """
    seller = account_of(position_of)
    moves = [
        Move(seller, "external", asset, out, "taken_out"),
        Move("external", seller, USDC, value, "taken_out"),
        Move("external", account_of(booked_to), asset, out, "external"),
        Move(seller, "external", USDC, value, "external"),
    ]
    return post(JournalKind.TAKEN_OUT, reference, moves)


def taken_shares(entry_order_ids: Sequence[int]) -> dict[int, Decimal]:
    """Return entry order -> profit share in USDC that the venue collected with the fills that closed its position."""
    lines = LedgerEntry.objects.filter(
        order__closes__in=entry_order_ids, journal_kind=JournalKind.TAKEN, kind="profit_share", amount__gt=0
    )
    return dict(lines.order_by().values_list("order__closes").annotate(Sum("amount")))


PLATFORM_FEES = """
SELECT order_id, sum(amount) FROM ledger_entries
WHERE order_id = ANY(%s) AND kind = 'platform_fee' AND account = 'fees:platform' GROUP BY order_id
"""


def platform_fees(order_ids: Sequence[int]) -> dict[int, Decimal]:
    """Return order -> platform fee in USDC booked with it, collected by the venue or by the platform."""
    with connection.cursor() as cursor:
        cursor.execute(PLATFORM_FEES, [list(order_ids)])
        return dict(cursor.fetchall())


def profit_share_journal(
    position_id: int, order: Order, amount: Decimal, receiver: str, *, collected: bool
) -> Journal:
    """Return the journal of a position's profit share, in the venue's cash where that took it, else in USDC.

    The platform gets it where there is no receiver.
    """
    payer = account_of(order.deployment_id) if collected else payable_of(order.deployment_id)
    asset = venue_policy(order.venue).cash if collected else USDC
    move = Move(payer, f"profit:{receiver or 'platform'}", asset, amount, "profit_share")
    return Journal(JournalKind.SHARE, position_id, [move], order.pk, order.correlation_id)


def book_subscription(deployment_id: int, reference: str, amount: Decimal) -> bool:
    """Book a month of a subscription in USDC as a debt, once per reference; return whether it was booked now."""
    move = Move(payable_of(deployment_id), "fees:platform", USDC, amount, "platform_fee")
    return post(JournalKind.SUBSCRIPTION, f"{deployment_id}:{reference}", [move])


def book_payment(deployment_id: int, reference: str, amount: Decimal) -> bool:
    """Book a payment in USDC that repays what a deployment owes, once per reference; return whether it was booked now.

    The money comes from outside, so its lines are `external`: a flow of the deployment, not a profit.
    """
    move = Move("external", payable_of(deployment_id), USDC, amount, "external")
    return post(JournalKind.PAYMENT, reference, [move])


def executor_of(address: str) -> str:
    """Return the ledger account of an executor, which pays for gas."""
    return f"executor:{address}"


def book_gas(
    intent: str, executor: str, chain_id: int, asset: str, amount: Decimal, *, value: Decimal = ZERO
) -> bool:
    """Book the gas of a transaction in the chain's coin (whole units), once, whether it succeeded or reverted.

    Args:
        value: what a transaction that succeeded paid to the contract it called: GMX's execution fees.
    """
    payer = executor_of(executor)
    moves = [
        Move(payer, f"gas:{chain_id}", asset, amount, "gas"),
        Move(payer, execution_fees_of(chain_id), asset, value, "venue_fee"),
    ]
    order = Order.objects.filter(client_order_id=intent).first()
    return post(JournalKind.GAS, intent, moves, order=order)


def execution_fees_of(chain_id: int) -> str:
    """Return the ledger account of execution fees: what executors paid, less what was refunded to Safes."""
    return f"venue:execution_fees:{chain_id}"


def coins_of_safe(safe: str) -> str:
    """Return the ledger account of a Safe's coins of its chain, which no deployment trades and none is sized by."""
    return f"safe:{safe}"


def balance(account: str, asset: str) -> Decimal:
    """Return the balance of any ledger account."""
    lines = LedgerEntry.objects.filter(account=account, asset=asset)
    return lines.aggregate(total=Sum("amount"))["total"] or ZERO


def received(account: str) -> dict[str, Decimal]:
    """Return the balances of a ledger account that belongs to no deployment: asset -> whole units, without zeros."""
    lines = LedgerEntry.objects.filter(account=account).values_list("asset").annotate(total=Sum("amount"))
    return {asset: total for asset, total in lines if total}


def balances(deployment_id: int) -> dict[str, Decimal]:
    """Return what a deployment holds: asset -> whole units."""
    rows = LedgerBalance.objects.filter(account=account_of(deployment_id))
    return dict(rows.values_list("asset", "amount"))


def held_by_all() -> dict[str, Decimal]:
    """Return what all deployments hold together, less what they owe the platform: asset -> whole units."""
    return dict(LedgerBalance.objects.order_by("asset").values_list("asset").annotate(Sum("amount")))


@dataclass(frozen=True, slots=True)
class Worth:
    """What a deployment holds and owes, for sizing."""

    traded: Mapping[str, Decimal]
    """Asset -> whole units, without tokens that the owners moved in or out."""
    owed: Decimal = ZERO
    """USDC that it owes the platform, zero or negative."""


WORTH = f"""
SELECT account, asset, amount FROM ledger_balances WHERE account = ANY(%(accounts)s)
UNION ALL
SELECT 'deployment:' || deployment_id, asset, -sum(amount) FROM ledger_entries
WHERE deployment_id = ANY(%(ids)s) AND kind = 'external' AND asset {IS_TOKEN}
GROUP BY deployment_id, asset
"""  # noqa: S608 (constants only)


def worth(deployment_ids: Iterable[int]) -> dict[int, Worth]:
    """Return what sizing may count on, of many deployments, in one statement."""
    ids = list(dict.fromkeys(deployment_ids))
    amounts: dict[str, dict[str, Decimal]] = {
        account: {} for pk in ids for account in (account_of(pk), payable_of(pk))
    }
    with connection.cursor() as cursor:
        cursor.execute(WORTH, {"ids": ids, "accounts": list(amounts)})
        for account, asset, amount in cursor.fetchall():
            amounts[account][asset] = amounts[account].get(asset, ZERO) + amount
    return {pk: Worth(amounts[account_of(pk)], amounts[payable_of(pk)].get(USDC, ZERO)) for pk in ids}


def traded(deployment_id: int) -> Mapping[str, Decimal]:
    """Return `balances` without tokens that the owners moved in or out: what sizing may count on."""
    return worth([deployment_id])[deployment_id].traded


def owed(deployment_id: int) -> Decimal:
    """Return the USDC that a deployment owes the platform, zero or negative."""
    return worth([deployment_id])[deployment_id].owed


def drift() -> dict[str, Decimal]:
    """Return the assets whose entries do not sum to zero, with the sum; empty when the ledger balances."""
    totals = LedgerEntry.objects.values_list("asset").annotate(total=Sum("amount"))
    return {asset: total for asset, total in totals if total}
