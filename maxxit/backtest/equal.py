"""Compare the positions of a replay with those of the fast backtest, by moment, reason, PnL and profit share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from maxxit.backtest.market import moment_of
from maxxit.backtest.trades import Closed
from maxxit.core.money import plain
from maxxit.replay.tape import TapedPosition

Key = tuple[str, str, int]
"""(account, symbol, opened at): an account holds a token once at a time."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of a comparison."""

    replayed: int
    """Positions that the replay closed."""
    backtested: int
    equal: int
    difference: str
    """The first difference in order of time; empty where there is none."""


def compare(
    replayed: Sequence[TapedPosition],
    backtested: Sequence[Closed],
    names: tuple[str, str] = ("replay", "backtest"),
) -> Compared:
    """Compare both. Positions are matched by account, symbol and the moment of their entry.

    Args:
        names: of both sides, in the text of a difference.
    """
    ours = {
        (one.trade.account, one.trade.symbol, int(one.trade.opened_at.timestamp())): taped(one)
        for one in backtested
    }
    theirs = {(one.account, one.symbol, one.opened_at): one for one in replayed}
    equal = sum(1 for key, one in theirs.items() if _same(one, ours.get(key)))
    found = sorted(_differences(theirs, ours, names))
    return Compared(len(replayed), len(backtested), equal, found[0][1] if found else "")


def _same(one: TapedPosition, other: TapedPosition | None) -> bool:
    return other is not None and _compared(one) == _compared(other)


def _compared(one: TapedPosition) -> tuple[int, str, str, Decimal, Decimal]:
    return one.closed_at, one.reason, one.side, Decimal(one.pnl), Decimal(one.profit_share)


def _differences(
    theirs: dict[Key, TapedPosition], ours: dict[Key, TapedPosition], names: tuple[str, str]
) -> Iterator[tuple[int, str]]:
    """Yield (moment, what differs)."""
    for key in sorted(theirs.keys() | ours.keys()):
        replayed, backtested = theirs.get(key), ours.get(key)
        present = replayed or backtested
        if present is None or (replayed and _same(replayed, backtested)):
            continue
        opened = f"{present.account} {present.side} {present.symbol} opened {_at(present.opened_at)}"
        first = min(one.closed_at for one in (replayed, backtested) if one)
        yield first, f"{opened}: {names[0]} {_end(replayed)}, {names[1]} {_end(backtested)}"


def _end(one: TapedPosition | None) -> str:
    if one is None:
        return "closed no such position"
    return (
        f"closed {_at(one.closed_at)} by {one.reason} with {one.pnl} USDC, profit share {one.profit_share} USDC "
        f"({one.quantity} at {one.exit_price})"
    )


def _at(seconds: int) -> str:
    return f"{moment_of(seconds):%Y-%m-%d %H:%M}"


def taped(one: Closed) -> TapedPosition:
    """Return a closed position as a tape has it."""
    trade = one.trade
    return TapedPosition(
        trade.account, trade.symbol, trade.side, int(trade.opened_at.timestamp()), int(one.closed_at.timestamp()),
        one.reason, plain(one.pnl), plain(trade.entry.quantity), plain(trade.entry.price), plain(one.exit.price),
        plain(one.share),
    )  # fmt: skip
