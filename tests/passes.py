"""Whole stages in one process, for tests: what several workers of the product do side by side, one after the other."""

from typing import TYPE_CHECKING

from maxxit.core.terms import Purpose

if TYPE_CHECKING:
    from maxxit.pipeline.runs import Counts


def execute_pass() -> "Counts":
    """Place and settle closing orders, then run the product's `entry_pass`; count what moved."""
    from maxxit.pipeline.runs import Counts
    from trading import execute, settle, tasks
    from trading.models import Order
    from trading.risk.policy import policy

    closing = execute.place_due_orders(Order.objects.filter(purpose=Purpose.CLOSE), policy())
    settled = settle.settle_due("close")
    entries = tasks.entry_pass()
    return Counts(entries.into + closing.due + settled, entries.out + closing.sent + settled)


def monitor_pass() -> "Counts":
    """Run the product's `book_pass`, then claim every exit that is due."""
    from maxxit.pipeline.runs import Counts
    from positions.exits import sweep
    from positions.tasks import book_pass

    moved = book_pass().out + sweep.sweep()
    return Counts(moved, moved)
