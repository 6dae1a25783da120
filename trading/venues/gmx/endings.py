"""Read from the kept transactions what became of orders at GMX: ended, resting as an exit, or made by GMX itself."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.core.money import ZERO
from trading.chain.models import ChainTransaction
from trading.chain.states import TxState
from trading.models import Fill
from trading.perps.liquidations import Liquidation
from trading.venues.base import Leg, Report
from trading.venues.gmx import books, orders, scan
from trading.venues.gmx.access import GmxAccess
from trading.venues.gmx.models import GmxTransaction
from trading.venues.gmx.orders import LEG_KEYS, hex_key
from trading.venues.safe.units import whole

FORCED = "forced/"
"""How the reference of a liquidation begins: GMX's key of its order follows."""
LIQUIDATIONS_FOR = timedelta(days=2)
"""How far back liquidations are looked for."""


def ending_of(at: GmxAccess, tx: ChainTransaction, key: str, fee: Decimal = ZERO) -> orders.Ended | None:
    """Return how an order of a transaction ended; None while GMX stores it.

    Args:
        fee: the platform fee in USDC that was paid with it.
    """
    safe = tx.terms["safe"]
    rows = scan.transactions_of(tx.chain_id, safe, key)
    return orders.ending_of(
        key, rows, at.money_of(safe), at.gmx.event_emitter, at.module, tx.terms["decimals"], fee
    )


def legs_of(at: GmxAccess, ref: str, tx: ChainTransaction | None) -> tuple[Leg, ...] | Exception:
    """Return the stop and the target of an entry at GMX, or why they are not known."""
    if tx is None:
        return Retryable(f"there is no stored intent {ref}")
    if tx.state in (TxState.DROPPED, TxState.REVERTED, TxState.EXPIRED, TxState.CANCELED):
        return ()
    if tx.state != TxState.FINAL:
        return Retryable(f"the transaction of {ref} is not in a final block yet")
    args, found = orders.requested(tx), []
    for reason, name in LEG_KEYS.items():
        if key := hex_key(args.get(name, b"")):
            ended = ending_of(at, tx, key)
            filled = sum((fill.quantity for fill in ended.fills), ZERO) if ended else ZERO
            found.append(
                Leg(f"{ref}/{reason}", reason, Decimal(tx.terms["quantity"]), filled, ended is not None)
            )
    return tuple(found)


def executions_in(at: GmxAccess, row: GmxTransaction) -> list[books.Execution]:
    """Return the changes of positions in listed markets that a kept transaction made."""
    decoded = scan.decode_logs(row.logs, at.gmx.event_emitter)
    executed = books.executions(decoded, at.money_of(row.safe))
    listed = {market.market for market in at.gmx.markets.values()}
    return [one for one in executed if one.tokens and one.market in listed]


def liquidations_of(at: GmxAccess, safe: str) -> list[Liquidation]:
    """Return the liquidations and deleveragings of a Safe's positions, oldest first."""
    rows = GmxTransaction.objects.filter(
        chain_id=at.stanza.chain_id, safe=safe, forced=True, at__gt=clock.now() - LIQUIDATIONS_FOR
    )
    return [one for row in rows for one in _liquidations_in(at, row)]


def _liquidations_in(at: GmxAccess, row: GmxTransaction) -> Iterator[Liquidation]:
    for one in executions_in(at, row):
        if one.cause == books.Cause.ORDER:
            continue
        symbol = at.symbol_of(one.market)
        yield Liquidation(
            ref=f"{FORCED}{one.order_key}",
            number=one.order_key[2:22],
            symbol=symbol,
            quantity=whole(one.tokens, at.gmx.markets[symbol].decimals),
            sells=one.is_long,
            cash=(one.cash if one.is_long else -one.cash) - one.fee,
            at=row.at,
        )


def forced_report(at: GmxAccess, key: str) -> Report | None:
    """Return the report of an order that GMX made itself; None where no kept transaction has it."""
    rows = GmxTransaction.objects.filter(chain_id=at.stanza.chain_id, forced=True, keys__contains=[key])
    for row in rows:
        for one in executions_in(at, row):
            if one.order_key == key:
                share, receiver = scan.share_of(row, at.module)
                decimals = at.gmx.markets[at.symbol_of(one.market)].decimals
                fill = orders.fill_of(one, row, decimals, share=share, receiver=receiver)
                return Report("filled", (fill,))
    return None


def unbooked_fills(at: GmxAccess, safe: str, after: int) -> Iterator[str]:
    """Yield the changes of a Safe's positions since block `after` that are ours or GMX's and no fill in the ledger."""
    recent = GmxTransaction.objects.filter(chain_id=at.stanza.chain_id, safe=safe, block_number__gt=after)
    missing = {
        f"{row.hash}:{one.index}": one
        for row in recent
        for one in executions_in(at, row)
        if not Fill.objects.filter(venue_fill_id=f"{row.hash}:{one.index}").exists()
    }
    if not missing:
        return
    ours = ChainTransaction.objects.filter(
        chain_id=at.stanza.chain_id,
        terms__safe=safe,
        terms__venue=at.name,
        state=TxState.FINAL,
        terms__has_key="trade_id",
    )
    known = {key for tx in ours for key in orders.keys_of(tx)}
    for fill, one in missing.items():
        if one.order_key in known or one.cause != books.Cause.ORDER:
            yield fill
