"""The double-entry ledger: what moved, between whom, because of what. Append-only; balance = sum.

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
from trading.models import Fill, LedgerBalance, LedgerEntry, Order

DEPOSIT = "deposit:"
"""The journal of a starting balance, before the deployment's id."""
UNEXPLAINED = "unexplained:"
"""The journals of differences that nothing on the chain explains begin so."""


@dataclass(frozen=True, slots=True)
class Move:
    """So much of an asset from one account to another."""

    source: str
    target: str
    asset: str
    amount: Decimal
    """Positive, whole units."""
    kind: str


def account_of(deployment_id: int) -> str:
    """The ledger's account of a deployment."""
    return f"deployment:{deployment_id}"


def payable_of(deployment_id: int) -> str:
    """The ledger's name of what a deployment owes the platform (a debt is negative)."""
    return f"deployment:{deployment_id}:payable"


def post(
    journal: str, moves: Iterable[Move], *, order: Order | None = None, correlation_id: UUID | None = None
) -> bool:
    """Book a journal once: both lines of each move, in the caller's transaction. False when it stood already."""
    if LedgerEntry.objects.filter(journal=journal).exists():
        return False
    at = clock.now()
    lines = [
        LedgerEntry(
            journal=journal,
            account=account,
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
    """The starting balance of a deployment, once."""
    move = Move("external", account_of(deployment.pk), USDC, usdc(amount), "deposit")
    return post(f"{DEPOSIT}{deployment.pk}", [move])


def book_fill(order: Order, fill: Fill) -> bool:
    """Token against cash, and the venue's fee."""
    mine, venue = account_of(order.deployment_id), f"venue:{order.venue}"
    token = Move(venue, mine, order.symbol, fill.quantity, "trade")
    cash = Move(mine, venue, USDC, fill.cash, "trade")
    if order.side == OrderSide.SELL:
        token = Move(mine, venue, order.symbol, fill.quantity, "trade")
        cash = Move(venue, mine, USDC, fill.cash, "trade")
    fee = Move(mine, f"venue:{order.venue}:fees", USDC, fill.fee, "venue_fee")
    return post(f"fill:{fill.pk}", [token, cash, fee], order=order)


def book_platform_fee(order: Order, amount: Decimal, *, collected: bool) -> bool:
    """The platform's fee of one trade. `collected`: the venue took it from the account itself."""
    payer = account_of(order.deployment_id) if collected else payable_of(order.deployment_id)
    return post(f"fee:{order.pk}", [Move(payer, "fees:platform", USDC, amount, "platform_fee")], order=order)


def book_collected_fees(
    order: Order, fill: Fill, fee: Decimal | None, share: Decimal | None, share_receiver: str
) -> bool:
    """Platform fee and profit share that the venue itself took with a fill, as it measured them."""
    mine = account_of(order.deployment_id)
    moves = [
        Move(mine, "fees:platform", USDC, fee or ZERO, "platform_fee"),
        Move(mine, f"profit:{share_receiver or 'platform'}", USDC, share or ZERO, "profit_share"),
    ]
    return post(f"taken:{fill.pk}", moves, order=order)


def book_owner_withdrawal(
    journal: str, position_of: int, booked_to: int, out: Decimal, asset: str, value: Decimal
) -> bool:
    """Tokens (`out` of `asset`) that a Safe's owner took out, booked as his own at `booked_to`, were a position's.

    No balance changes: it reads as if the deployment `position_of` had sold them for `value` in USDC, and he had taken
    out that. So what he took counts as traded away, and its worth moves with the market no longer.
    """
    seller = account_of(position_of)
    moves = [
        Move(seller, "external", asset, out, "taken_out"),
        Move("external", seller, USDC, value, "taken_out"),
        Move("external", account_of(booked_to), asset, out, "external"),
        Move(seller, "external", USDC, value, "external"),
    ]
    return post(journal, moves)


def taken_share(idempotency_prefix: str) -> Decimal:
    """The profit share in USDC that venues took with the fills of these closing orders."""
    lines = LedgerEntry.objects.filter(
        order__idempotency_key__startswith=idempotency_prefix,
        journal__startswith="taken:",
        kind="profit_share",
    )
    return lines.filter(amount__gt=0).aggregate(total=Sum("amount"))["total"] or ZERO


def platform_fees(orders: QuerySet[Order]) -> Decimal:
    """The platform's fee in USDC as it was booked with these orders, whoever collected it."""
    lines = LedgerEntry.objects.filter(order__in=orders, kind="platform_fee", account="fees:platform")
    return lines.aggregate(total=Sum("amount"))["total"] or ZERO


def book_profit_share(journal: str, order: Order, amount: Decimal, receiver: str, *, collected: bool) -> bool:
    """The share of a winner, to the agent's profit receiver (`platform` where it names none)."""
    payer = account_of(order.deployment_id) if collected else payable_of(order.deployment_id)
    move = Move(payer, f"profit:{receiver or 'platform'}", USDC, amount, "profit_share")
    return post(journal, [move], order=order)


def executor_of(address: str) -> str:
    """The ledger's name of the account that pays for gas."""
    return f"executor:{address}"


def book_gas(intent: str, executor: str, chain_id: int, asset: str, amount: Decimal) -> bool:
    """What a transaction cost its executor in the chain's own coin, once, whether it went through or reverted."""
    move = Move(executor_of(executor), f"gas:{chain_id}", asset, amount, "gas")
    order = Order.objects.filter(client_order_id=intent).first()
    return post(f"gas:{intent}", [move], order=order)


def balance(account: str, asset: str) -> Decimal:
    """The sum of any account's lines."""
    lines = LedgerEntry.objects.filter(account=account, asset=asset)
    return lines.aggregate(total=Sum("amount"))["total"] or ZERO


def balances(deployment_id: int) -> dict[str, Decimal]:
    """What a deployment holds, by asset."""
    rows = LedgerBalance.objects.filter(account=account_of(deployment_id))
    return dict(rows.values_list("asset", "amount"))


def held_by_all() -> dict[str, Decimal]:
    """What all deployments hold together, less what they owe the platform, per asset."""
    return dict(LedgerBalance.objects.order_by("asset").values_list("asset").annotate(Sum("amount")))


def traded(deployment_id: int) -> dict[str, Decimal]:
    """The same without the tokens that the owner moved in or out himself: what trading may count on."""
    found = balances(deployment_id)
    own = LedgerEntry.objects.filter(account=account_of(deployment_id), kind="external").exclude(asset=USDC)
    for asset, moved in own.order_by().values_list("asset").annotate(Sum("amount")):
        found[asset] = found.get(asset, ZERO) - moved
    return found


def owed(deployment_id: int) -> Decimal:
    """USDC that the deployment owes the platform, zero or negative."""
    found = LedgerBalance.objects.filter(account=payable_of(deployment_id), asset=USDC).first()
    return found.amount if found else ZERO


def drift() -> dict[str, Decimal]:
    """What the whole ledger fails to sum to zero by, per asset; empty when it is sound."""
    totals = LedgerEntry.objects.values_list("asset").annotate(total=Sum("amount"))
    return {asset: total for asset, total in totals if total}
