"""Print what venues hold, for the commands `positions` and `portfolio`."""

from collections.abc import Sequence
from decimal import Decimal

from maxxit.core.commands import OpsCommand
from maxxit.core.money import brief, plain
from maxxit.reports.owners.holdings import Holding
from trading.perps.margin import MarginFacts

MARGIN_HEAD = ("leverage", "liquidation (USD)", "margin ratio", "funding (USDC)")


def margin_cells(margin: MarginFacts | None) -> tuple[str, ...]:
    """Return the cells of a position with margin under `MARGIN_HEAD`; empty ones without."""
    if margin is None:
        return ("",) * len(MARGIN_HEAD)
    level, ratio = margin.liquidation_price, margin.ratio
    near = " near" if margin.warned_at else ""
    return (
        f"{brief(margin.held.leverage if margin.held else margin.leverage)}x",
        "" if level is None else f"{brief(level)}{near}",
        "" if ratio is None else f"{ratio * 100:.1f} %",
        _signed(margin.funding),
    )


def print_holdings(command: OpsCommand, rows: Sequence[Holding]) -> None:
    """Print a table of holdings, and below it each one that differs from the ledger with what to do.

    With positions with margin it has the columns of `MARGIN_HEAD`.
    """
    margin = any(row.margins for row in rows)
    command.table(
        (
            "venue",
            "account",
            "asset",
            "at the venue",
            "booked",
            "value (USD)",
            "unrealised (USD)",
            "explained",
            *(MARGIN_HEAD if margin else ()),
        ),
        [
            (
                row.venue,
                row.account,
                row.asset,
                brief(row.quantity),
                brief(row.booked),
                _usd(row.value),
                _signed(row.unrealised),
                row.origin,
                *(_of_all(row) if margin else ()),
            )
            for row in rows
        ],
    )
    for row in rows:
        if row.fix:
            command.say(
                f"{row.account} at {row.venue}: {plain(row.unexplained)} {row.asset}: {row.means}", "WARNING"
            )
            command.say(f"    do: {row.fix}")


def _of_all(row: Holding) -> tuple[str, ...]:
    """Return the cells of all positions in a holding."""
    cells = [margin_cells(one) for one in row.margins] or [margin_cells(None)]
    return tuple(", ".join(column) for column in zip(*cells, strict=True))


def _usd(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:,.2f}"


def _signed(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:+,.2f}"
