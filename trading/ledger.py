"""The double-entry ledger: post fills, fees, profit share, gas and external transfers; append-only; balance = sum.

Accounts: `deployment:7` what the deployment's account at its venue holds; `deployment:7:payable` what it owes the
platform where the venue does not collect it; `venue:…` and `venue:…:fees` the other side of trades;
`fees:platform`; `profit:<receiver>`; `executor:0x…` what an executor holds to pay for gas, `gas:<chain id>` what it
paid; `external` the world outside.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db.models import QuerySet, Sum

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.money import USDC, ZERO, usdc
from maxxit.core.terms import OrderSide
from trading.models import Fill, JournalKind, LedgerBalance, LedgerEntry, Order


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


def post(
    kind: JournalKind,
    reference: str | int,
    moves: Iterable[Move],
    *,
    order: Order | None = None,
    correlation_id: UUID | None = None,
) -> bool:
    """Book both lines of each move in the caller's transaction; return False if the journal was booked before.

    `reference` is unique among the journals of its kind: the id of the fill, the transfer or the position.
    """
    journal = f"{kind}:{reference}"
    if LedgerEntry.objects.filter(journal=journal).exists():
        return False
    at = clock.now()
    lines = [
        LedgerEntry(
            journal=journal,
            journal_kind=kind,
            account=account,
            deployment_id=deployment_of(account),
            asset=move.asset,
            amount=amount,
            kind=move.kind,
            order=order,
            correlation_id=correlation_id or (order.correlation_id if order else None),
            at=at,
        )
        for move in moves
        if move.amount
        for account, amount in ((move.source, -move.amount), (move.target, move.amount))
    ]
    LedgerEntry.objects.bulk_create(lines)
    return True


def deposit(deployment: Deployment, amount: Decimal) -> bool:
    """Book the starting balance of a deployment in USDC, once; return whether it was booked now."""
    move = Move("external", account_of(deployment.pk), USDC, usdc(amount), "deposit")
    return post(JournalKind.DEPOSIT, deployment.pk, [move])


def book_fill(order: Order, fill: Fill) -> bool:
    """Book a fill once: tokens against cash (USDC), and the venue's fee; return whether it was booked now."""
    account, venue = account_of(order.deployment_id), f"venue:{order.venue}"
    token = Move(venue, account, order.symbol, fill.quantity, "trade")
    cash = Move(account, venue, USDC, fill.cash, "trade")
    if order.side == OrderSide.SELL:
        token = Move(account, venue, order.symbol, fill.quantity, "trade")
        cash = Move(venue, account, USDC, fill.cash, "trade")
    fee = Move(account, f"venue:{order.venue}:fees", USDC, fill.fee, "venue_fee")
    return post(JournalKind.FILL, fill.pk, [token, cash, fee], order=order)


def book_platform_fee(
    order: Order, amount: Decimal, *, collected: bool, with_fill: Fill | None = None
) -> bool:
    """Book the platform's fee of one trade in USDC; False when it was booked already.

    Args:
        collected: the venue took it from the account itself.
        with_fill: the later fill that the fee grew with, where it depends on what was traded.
    """
    payer = account_of(order.deployment_id) if collected else payable_of(order.deployment_id)
    reference = f"{order.pk}:{with_fill.pk}" if with_fill else order.pk
    move = Move(payer, "fees:platform", USDC, amount, "platform_fee")
    return post(JournalKind.FEE, reference, [move], order=order)


def book_collected_fees(
    order: Order, fill: Fill, fee: Decimal | None, share: Decimal | None, share_receiver: str
) -> bool:
    """Book platform fee and profit share (USDC) that the venue collected with a fill, in the venue's figures."""
    account = account_of(order.deployment_id)
    moves = [
        Move(account, "fees:platform", USDC, fee or ZERO, "platform_fee"),
        Move(account, f"profit:{share_receiver or 'platform'}", USDC, share or ZERO, "profit_share"),
    ]
    return post(JournalKind.TAKEN, fill.pk, moves, order=order)


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


def taken_share(entry_order_id: int) -> Decimal:
    """Return the profit share in USDC that the venue collected with the fills that closed this entry's position."""
    lines = LedgerEntry.objects.filter(
        order__closes=entry_order_id, journal_kind=JournalKind.TAKEN, kind="profit_share"
    )
    return lines.filter(amount__gt=0).aggregate(total=Sum("amount"))["total"] or ZERO


def platform_fees(orders: QuerySet[Order]) -> Decimal:
    """Return the platform fee in USDC booked with these orders, collected by the venue or by the platform."""
    lines = LedgerEntry.objects.filter(order__in=orders, kind="platform_fee", account="fees:platform")
    return lines.aggregate(total=Sum("amount"))["total"] or ZERO


def book_profit_share(
    position_id: int, order: Order, amount: Decimal, receiver: str, *, collected: bool
) -> bool:
    """Book a position's profit share in USDC to the profit receiver (`platform` where the agent names none), once."""
    payer = account_of(order.deployment_id) if collected else payable_of(order.deployment_id)
    move = Move(payer, f"profit:{receiver or 'platform'}", USDC, amount, "profit_share")
    return post(JournalKind.SHARE, position_id, [move], order=order)


def executor_of(address: str) -> str:
    """Return the ledger account of an executor, which pays for gas."""
    return f"executor:{address}"


def book_gas(intent: str, executor: str, chain_id: int, asset: str, amount: Decimal) -> bool:
    """Book the gas of a transaction in the chain's coin (whole units), once, whether it succeeded or reverted."""
    move = Move(executor_of(executor), f"gas:{chain_id}", asset, amount, "gas")
    order = Order.objects.filter(client_order_id=intent).first()
    return post(JournalKind.GAS, intent, [move], order=order)


def balance(account: str, asset: str) -> Decimal:
    """Return the balance of any ledger account."""
    lines = LedgerEntry.objects.filter(account=account, asset=asset)
    return lines.aggregate(total=Sum("amount"))["total"] or ZERO


def balances(deployment_id: int) -> dict[str, Decimal]:
    """Return what a deployment holds: asset -> whole units."""
    rows = LedgerBalance.objects.filter(account=account_of(deployment_id))
    return dict(rows.values_list("asset", "amount"))


def held_by_all() -> dict[str, Decimal]:
    """Return what all deployments hold together, less what they owe the platform: asset -> whole units."""
    return dict(LedgerBalance.objects.order_by("asset").values_list("asset").annotate(Sum("amount")))


def traded(deployment_id: int) -> dict[str, Decimal]:
    """Return `balances` without tokens that the owners moved in or out: what sizing may count on."""
    holdings = balances(deployment_id)
    external = LedgerEntry.objects.filter(deployment=deployment_id, kind="external").exclude(asset=USDC)
    for asset, moved in external.order_by().values_list("asset").annotate(Sum("amount")):
        holdings[asset] = holdings.get(asset, ZERO) - moved
    return holdings


def owed(deployment_id: int) -> Decimal:
    """Return the USDC that a deployment owes the platform, zero or negative."""
    row = LedgerBalance.objects.filter(account=payable_of(deployment_id), asset=USDC).first()
    return row.amount if row else ZERO


def drift() -> dict[str, Decimal]:
    """Return the assets whose entries do not sum to zero, with the sum; empty when the ledger balances."""
    totals = LedgerEntry.objects.values_list("asset").annotate(total=Sum("amount"))
    return {asset: total for asset, total in totals if total}
