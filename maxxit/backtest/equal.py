"""Compare the positions of two runs, or of a replay and the fast backtest: moment, reason, PnL and profit share."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from maxxit.replay.tape import TapedPosition

Key = tuple[str, str, int]
"""(account, symbol, opened at): an account holds a token once at a time."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of a comparison."""

    replayed: int
    """Positions that the replay, or the first run, closed."""
    backtested: int
    equal: int
    difference: str
    """The first difference in order of time; empty where there is none."""
    only_first: list[TapedPosition]
    """Positions that only the first closed, in order of time."""
    only_second: list[TapedPosition]
    differing: list[tuple[TapedPosition, TapedPosition]]
    """Positions that both closed, but differently."""


def compare(
    replayed: Sequence[TapedPosition],
    backtested: Sequence[TapedPosition],
    names: tuple[str, str] = ("replay", "backtest"),
) -> Compared:
    """Compare both. Positions are matched by account, symbol and the moment of their entry.

    Args:
        names: of both sides, in the text of a difference.
    """
    theirs, ours = _by_key(replayed), _by_key(backtested)
    both = [(one, ours[key]) for key, one in theirs.items() if key in ours]
    found = sorted(_differences(theirs, ours, names))
    return Compared(
        replayed=len(replayed),
        backtested=len(backtested),
        equal=sum(_same(*pair) for pair in both),
        difference=found[0][1] if found else "",
        only_first=_in_time(one for key, one in theirs.items() if key not in ours),
        only_second=_in_time(one for key, one in ours.items() if key not in theirs),
        differing=sorted((pair for pair in both if not _same(*pair)), key=lambda pair: _order(pair[0])),
    )


def _by_key(rows: Sequence[TapedPosition]) -> dict[Key, TapedPosition]:
    return {(one.account, one.symbol, one.opened_at): one for one in rows}


def _in_time(rows: Iterable[TapedPosition]) -> list[TapedPosition]:
    return sorted(rows, key=_order)


def _order(one: TapedPosition) -> tuple[int, str, str]:
    return one.opened_at, one.account, one.symbol


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
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
