"""What changes an account's cash besides our orders: funding, its owner's transfers, liquidations.

Outgoing transfers alert staff and the owner: an agent key cannot make them, so the main wallet did.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

import structlog
from django.db import transaction

from agents.models import Deployment
from maxxit.core.money import USDC, ZERO, plain
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading import ledger
from trading.models import JournalKind
from trading.perps.funding import Funding
from trading.perps.liquidations import Liquidation
from trading.venues.hyperliquid.accounts import Agent
from trading.venues.hyperliquid.orders import Row, fill_of, moment

log = structlog.get_logger(__name__)

TO_AND_FROM = frozenset({"internalTransfer", "subAccountTransfer"})
NO_CASH = frozenset({"liquidation", "spotTransfer", "rewardsClaim"})
"""Kinds of updates that move no cash of perps: a liquidation's cash is that of its fills."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer of the owner, USDC; positive: in."""

    kind: str
    amount: Decimal
    reference: str
    at: datetime


def funding_of(rows: Iterable[Row]) -> list[Funding]:
    """Return the payments of userFunding."""
    return [
        Funding(
            symbol=str(row["delta"]["coin"]),
            amount=Decimal(row["delta"]["usdc"]),
            reference=f"{row['delta']['coin']}:{row['time']}",
            at=moment(row["time"]),
        )
        for row in rows
    ]


def transfers_of(rows: Iterable[Row], address: str) -> list[Transfer]:
    """Return the transfers of userNonFundingLedgerUpdates that move cash of perps."""
    transfers = []
    for row in rows:
        delta = row["delta"]
        amount = amount_of(delta, address)
        if amount is None:
            log.error("ledger_update_unknown", venue="hyperliquid", kind=delta.get("type"), at=row["time"])
        elif amount:
            kind = str(delta["type"])
            reference = f"hyperliquid:{row['hash'][-16:]}:{row['time']}:{kind}"
            transfers.append(Transfer(kind, amount, reference, moment(row["time"])))
    return transfers


def amount_of(delta: Mapping[str, Any], address: str) -> Decimal | None:
    """Return what an update changes in the cash of perps, USDC; None for one that we do not know."""
    kind = delta.get("type")
    fee = Decimal(delta.get("fee") or 0)
    if kind == "deposit":
        return Decimal(delta["usdc"])
    if kind == "withdraw":
        return -Decimal(delta["usdc"]) - fee
    if kind == "accountClassTransfer":
        return Decimal(delta["usdc"]) if delta["toPerp"] else -Decimal(delta["usdc"])
    if kind in TO_AND_FROM:
        comes = str(delta["destination"]).lower() == address
        return Decimal(delta["usdc"]) if comes else -Decimal(delta["usdc"]) - fee
    return ZERO if kind in NO_CASH else None


def tell_of_agents(venue: str, account: str, agents: Iterable[Agent]) -> None:
    """Alert staff and the owner once of each agent of an account that is not ours."""
    deployment = ledger.booking_deployment(account, venue)
    if deployment is None:
        return
    for agent in agents:
        told = Event.objects.filter(
            name="account.unknown_agent", subject=subject(deployment), data__address=agent.address
        )
        if not told.exists():
            record(
                "account.unknown_agent", deployment, owner_id=deployment.owner_id, address=agent.address,
                agent=agent.name, valid_until=agent.valid_until.isoformat(),
            )  # fmt: skip


@transaction.atomic
def book_transfers(deployment: Deployment, transfers: Sequence[Transfer]) -> Decimal:
    """Book the transfers that are not booked yet; return the sum of those that were booked now."""
    booked = ZERO
    for one in transfers:
        move = ledger.external_move(ledger.account_of(deployment.pk), USDC, one.amount)
        if not ledger.post(JournalKind.EXTERNAL, one.reference, [move]):
            continue
        booked += one.amount
        if one.amount < 0:
            record(
                "account.money_left", deployment, owner_id=deployment.owner_id, kind=one.kind,
                amount=plain(-one.amount), asset=USDC, at=one.at.isoformat(),
            )  # fmt: skip
    return booked


def liquidations_of(account: str, address: str, fills: Iterable[Row]) -> list[Liquidation]:
    """Return the liquidations among an account's fills: those in which it was the one liquidated."""
    of_order: defaultdict[int, list[Row]] = defaultdict(list)
    for row in fills:
        liquidation = row.get("liquidation")
        if liquidation and str(liquidation.get("liquidatedUser", "")).lower() == address:
            of_order[row["oid"]].append(row)
    return [_liquidation(account, oid, rows) for oid, rows in of_order.items()]


def _liquidation(account: str, oid: int, rows: Sequence[Row]) -> Liquidation:
    executions = [fill_of(row, takes_fee=False) for row in rows]
    cash = sum((one.cash for one in executions), ZERO)
    sells = rows[0]["side"] == "A"
    return Liquidation(
        ref=str(LiquidationRef(account, oid, rows[0]["time"])),
        number=str(oid),
        symbol=str(rows[0]["coin"]),
        quantity=sum((one.quantity for one in executions), ZERO),
        sells=sells,
        cash=(cash if sells else -cash) - sum((one.fee for one in executions), ZERO),
        at=executions[0].at,
    )


@dataclass(frozen=True, slots=True)
class LiquidationRef:
    """A reference to a liquidation: whose, its order's number, and when (milliseconds since 1970)."""

    account: str
    oid: int
    milliseconds: int

    MARK: ClassVar = "liquidation"

    def __str__(self) -> str:
        return f"{self.account}/{self.MARK}-{self.oid}/{self.milliseconds}"

    @classmethod
    def parse(cls, text: str) -> "LiquidationRef | None":
        """Parse what `str` gives; None for the reference of an order of ours."""
        account, middle, last = text.rsplit("/", 2) if text.count("/") >= 2 else ("", "", "")
        mark, _, oid = middle.partition("-")
        return cls(account, int(oid), int(last)) if mark == cls.MARK and oid.isdecimal() else None
