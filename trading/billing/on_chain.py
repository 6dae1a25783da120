"""What a Safe's module collected by its own events, beside what the ledger has of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from agents.models import Deployment
from maxxit.core.money import ZERO, plain
from trading.chain.models import ChainTransaction
from trading.models import Fill, LedgerEntry, Order
from trading.venues.base import VenueFill
from trading.wiring import venue


@dataclass(frozen=True, slots=True)
class Collected:
    """Fees and profit shares of the same fills, by the chain and by the ledger, in USDC."""

    source: str
    """`receipts`: the stored receipts of our transactions; `chain`: the module's events, read from the nodes now."""
    fees: Decimal
    shares: Decimal
    ledger_fees: Decimal
    ledger_shares: Decimal
    differences: tuple[str, ...]
    """Fills for which both differ, as sentences; empty where they agree to the base unit."""

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings."""
        return {
            "source": self.source,
            "fees": plain(self.fees),
            "shares": plain(self.shares),
            "ledger_fees": plain(self.ledger_fees),
            "ledger_shares": plain(self.ledger_shares),
            "differences": list(self.differences),
        }


Amounts = tuple[Decimal, Decimal]
"""(platform fee, profit share), USDC."""


def collected(deployment: Deployment, lines: Sequence[LedgerEntry], *, live: bool = False) -> Collected:
    """Compare the ledger's `lines` of collected fees and shares with the events of the same transactions.

    Args:
        lines: the deployment's own lines (negative) of journals of the kind `taken`.
        live: read the events from the nodes instead of the stored receipts. Raises Retryable or Unknown where they do
            not answer.
    """
    booked: dict[str, Amounts] = {}
    fills = {f"taken:{fill.pk}": fill for fill in Fill.objects.filter(pk__in=_fill_ids(lines))}
    for line in lines:
        fill = fills.get(line.journal)
        name = fill.venue_fill_id if fill else line.journal
        fee, share = booked.get(name, (ZERO, ZERO))
        amount = -line.amount
        booked[name] = (fee + amount, share) if line.kind == "platform_fee" else (fee, share + amount)
    orders = Order.objects.filter(pk__in={line.order_id for line in lines})
    transactions = list(
        ChainTransaction.objects.filter(idempotency_key__in=orders.values("client_order_id")).order_by("pk")
    )
    found = _by_fill(transactions, _module_logs(deployment, transactions) if live else None)
    differences = [
        f"fill {name}: the chain has {_amounts(found.get(name, NONE))}, the ledger {_amounts(booked.get(name, NONE))}"
        for name in sorted({*found, *booked})
        if found.get(name, NONE) != booked.get(name, NONE)
    ]
    return Collected(
        "chain" if live else "receipts",
        sum((fee for fee, _ in found.values()), ZERO),
        sum((share for _, share in found.values()), ZERO),
        sum((fee for fee, _ in booked.values()), ZERO),
        sum((share for _, share in booked.values()), ZERO),
        tuple(differences),
    )


NONE: Amounts = (ZERO, ZERO)


def _amounts(of: Amounts) -> str:
    return f"a fee of {plain(of[0])} and a share of {plain(of[1])} USDC"


def _fill_ids(lines: Sequence[LedgerEntry]) -> set[int]:
    references = (line.journal.partition(":")[2] for line in lines)
    return {int(reference) for reference in references if reference.isdigit()}


def _by_fill(
    transactions: Sequence[ChainTransaction], logs: dict[str, list[Any]] | None
) -> dict[str, Amounts]:
    """Return fill id -> what the module collected, from stored receipts, or from `logs` by transaction hash."""
    from trading.venues.safe.trades import fills_of  # loads the chain libraries

    found: dict[str, Amounts] = {}
    for tx in transactions:
        if logs is not None:
            tx.logs = logs.get(tx.mined_hash, [])
        fills: tuple[VenueFill, ...] = fills_of(tx)
        for fill in fills:
            if fill.platform_fee or fill.profit_share:
                found[fill.fill_id] = (fill.platform_fee or ZERO, fill.profit_share or ZERO)
    return found


def _module_logs(deployment: Deployment, transactions: Sequence[ChainTransaction]) -> dict[str, list[Any]]:
    """Return transaction hash -> the module's logs in its block, as in JSON-RPC, agreed by the nodes."""
    at = venue(deployment.agent.venue).safe_access()
    logs: dict[str, list[Any]] = {}
    blocks = sorted({(tx.block_number, tx.to) for tx in transactions if tx.block_number is not None})
    if at is None:
        return logs
    for block, module in blocks:
        for entry in at.chain.logs(block, block, [{"address": module}]):
            logs.setdefault(entry.transaction_hash, []).append(entry.as_json())
    return logs
