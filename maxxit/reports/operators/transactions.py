"""The chain outbox for operators: each transaction with state, attempts, fees and age, newest first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Min, OuterRef, Subquery

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from trading.chain.chains import ChainStanza, all_chains
from trading.chain.models import ChainAttempt, ChainTransaction
from trading.chain.states import IN_FLIGHT, TxState

PAGE = 50
MOST = 200
GWEI = 9
"""Wei in powers of ten."""
UNDER_WAY = "under_way"
"""The filter for everything that has not ended."""
NOT_ENDED = frozenset({TxState.PLANNED, *IN_FLIGHT})


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """One intent, with its newest attempt."""

    id: int
    created_at: datetime
    age_seconds: float
    intent: str
    purpose: str
    """What it does in words: `open ETH`."""
    chain: str
    signer: str
    nonce: int | None
    state: str
    reason: str
    attempts: int
    max_fee_gwei: Decimal | None
    """Of the newest attempt."""
    tip_gwei: Decimal | None
    paid: Decimal | None
    """Whole coins; None until it is in a block."""
    coin: str
    deadline: datetime
    hash: str
    url: str
    """Of the explorer; empty where the chain has none."""
    correlation_id: str

    @property
    def under_way(self) -> bool:
        """Return whether it has not ended."""
        return self.state in NOT_ENDED

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON: amounts as text, times in UTC."""
        values = {name: getattr(self, name) for name in self.__slots__}
        for name in ("max_fee_gwei", "tip_gwei", "paid"):
            values[name] = None if values[name] is None else plain(values[name])
        return values | {"created_at": iso_utc(self.created_at), "deadline": iso_utc(self.deadline)}


@dataclass(frozen=True)
class Transactions:
    """A page. `counts`: state -> number, of those that have not ended."""

    rows: list[TransactionRow]
    next_before: int | None
    counts: dict[str, int]
    oldest: datetime | None
    """Creation of the oldest one that has not ended."""


def transactions(*, state: str = "", before: int | None = None, limit: int = PAGE) -> Transactions:
    """Return a page of transactions, in three statements. Raises Rejected for an unknown state."""
    if state and state != UNDER_WAY and state not in set(TxState):
        raise Rejected(
            f"no state {state[:20]!r}; known: {', '.join([UNDER_WAY, *TxState])}", code="unknown_state"
        )
    rows = ChainTransaction.objects.order_by("-pk").select_related("signer").defer("logs", "calldata")
    if state:
        rows = rows.filter(state__in=NOT_ENDED if state == UNDER_WAY else [state])
    if before is not None:
        rows = rows.filter(pk__lt=before)
    attempts = ChainAttempt.objects.filter(transaction=OuterRef("pk")).order_by()
    newest = ChainAttempt.objects.filter(transaction=OuterRef("pk")).order_by("-number")
    rows = rows.annotate(
        tries=Subquery(attempts.values("transaction").annotate(n=Count("pk")).values("n")),
        max_fee=Subquery(newest.values("max_fee")[:1]),
        tip=Subquery(newest.values("tip")[:1]),
    )
    size = min(limit, MOST)
    found = list(rows[: size + 1])
    counts, oldest = _under_way()
    now, names = clock.now(), {stanza.chain_id: (name, stanza) for name, stanza in all_chains().items()}
    return Transactions(
        [_row(row, now, names) for row in found[:size]],
        found[size - 1].pk if len(found) > size else None,
        counts,
        oldest,
    )


def _under_way() -> tuple[dict[str, int], datetime | None]:
    groups = ChainTransaction.objects.filter(state__in=NOT_ENDED).order_by().values_list("state")
    counted = list(groups.annotate(Count("pk"), Min("created_at")))
    oldest = min((at for _, _, at in counted), default=None)
    return {state: number for state, number, _ in counted}, oldest


def _row(row: Any, now: datetime, chains: Mapping[int, tuple[str, ChainStanza]]) -> TransactionRow:
    name, stanza = chains.get(row.chain_id, (f"chain {row.chain_id}", None))
    paid = None
    if row.gas_used is not None and row.gas_price is not None:
        paid = (row.gas_used * row.gas_price).scaleb(-2 * GWEI)
    url = (
        f"{stanza.explorer.rstrip('/')}/tx/{row.mined_hash}"
        if stanza and stanza.explorer and row.mined_hash
        else ""
    )
    words = f"{row.terms.get('purpose', '')} {row.terms.get('symbol', '')}".strip()
    return TransactionRow(
        id=row.pk,
        created_at=row.created_at,
        age_seconds=round((now - row.created_at).total_seconds(), 1),
        intent=row.idempotency_key,
        purpose=words or row.idempotency_key,
        chain=name,
        signer=row.signer.address if row.signer else "",
        nonce=row.nonce,
        state=row.state,
        reason=row.reason,
        attempts=row.tries or 0,
        max_fee_gwei=None if row.max_fee is None else row.max_fee.scaleb(-GWEI),
        tip_gwei=None if row.tip is None else row.tip.scaleb(-GWEI),
        paid=paid,
        coin=stanza.coin if stanza else "",
        deadline=row.deadline,
        hash=row.mined_hash,
        url=url,
        correlation_id=str(row.correlation_id or ""),
    )
