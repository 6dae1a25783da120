"""The five steps of the end of a day (checklist C58): of a UTC day, or of a market; repeating them changes nothing.

`manage.py pnl eod` runs them by hand for a UTC day; `day_ends` runs them for the stock exchange's session and for the
UTC day of crypto.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from django.db.models import Count, QuerySet

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.money import plain, usdc
from maxxit.events import wake
from maxxit.market.venues import venues
from maxxit.pipeline import release
from maxxit.pipeline.runs import run_stage
from positions.book import book_pass
from positions.performance import identity, points, summary
from trading.models import Order
from trading.passes import ends_the_pass
from trading.reconciliation import checks, cycle, holdings
from trading.states import IN_FLIGHT

SHOWN = 5
"""Differences named in one line."""


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    """What to do; empty when the step succeeded."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Result = tuple[bool, str, str]
"""Whether a step succeeded, what it did, and what to do if it failed."""


def end_of_day(day: date) -> Iterator[Step]:
    """Settle, book, reconcile, compute and save, and yield the result of each step.

    A step that fails does not stop the later ones: the summary is what was booked by then, and saving it again after
    the fix replaces it.

    Raises:
        Rejected: `day` has not ended in UTC, or another release of the code is declared.
    """
    if day >= clock.now().date():
        raise Rejected(
            f"{day} ends at 24:00 UTC: until then `manage.py pnl save` saves its figures so far",
            code="not_ended",
        )
    release.check_declared()
    yield from run(steps(sorted(venues()), lambda: save(day)))


Steps = dict[str, Callable[[], Result]]


def steps(names: Sequence[str], save: Callable[[], Result]) -> Steps:
    """Return the five steps for these venues; `save` stores the PnL of the day."""
    return {
        "settle orders in flight": lambda: _settle(names),
        "book fills and positions": _book,
        "reconcile accounts with their venues": lambda: _reconcile(names),
        "compute the figures": _compute,
        "save the summary": save,
    }


def run(todo: Steps) -> Iterator[Step]:
    """Run steps one after the other and yield the result of each; one that raises is a failed step."""
    for name, step in todo.items():
        try:
            yield Step(name, *step())
        except Exception as error:  # shown as the failed step: the others are independent of it
            if ends_the_pass(error):
                raise
            detail = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            yield Step(name, False, detail, "`manage.py doctor` names what does not work")


def _settle(names: Sequence[str]) -> Result:
    """Ask the venues about every open order; those from Safes are settled by the worker with the signing key."""
    numbers = cycle.run_now(kinds=[checks.Kind.ORDERS], venues=names, closed_too=True)
    settled = numbers["updated"]
    in_flight = _in_flight().filter(venue__in=names).order_by()
    left = dict(in_flight.values_list("venue").annotate(Count("pk")))
    if not left:
        return True, f"{settled} settled, none left in flight", ""
    wake.wake_task("trading.tasks.settle")
    by_venue = ", ".join(f"{count} at {name}" for name, count in sorted(left.items()))
    fix = "repeat in a minute; `manage.py trades --status accepted` lists orders in flight"
    return False, f"{settled} settled, still in flight: {by_venue}", fix


def _book() -> Result:
    """Book fills into positions, as a pass of the monitor stage."""
    counts = run_stage("monitor", book_pass)
    if counts.get("skipped"):
        return True, "a worker is booking them right now", ""
    return True, f"{counts['opened']} positions opened, {counts['closed']} closed", ""


def _reconcile(names: Sequence[str]) -> Result:
    """Compare the ledger with the balances at the venues, and store what they hold."""
    comparison = holdings.look(checks.accounts(names))
    problems = [
        f"{account} at {name}: venue minus ledger is {plain(amount)} {asset}"
        for (name, account), amounts in comparison.differences.items()
        for asset, amount in amounts.items()
    ]
    problems += [f"{account} at {name} cannot be read" for name, account in sorted(comparison.unread)]
    if problems:
        more = f"; {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        return False, "; ".join(problems[:SHOWN]) + more, "`manage.py reconcile` lists each difference"
    compared = f"{sum(comparison.accounts.values())} accounts compared, no difference"
    return (
        True,
        compared + ("; what orders in flight may change is left out" if _in_flight().exists() else ""),
        "",
    )


def _in_flight() -> QuerySet[Order]:
    return Order.objects.filter(state__in=IN_FLIGHT)


def _compute() -> Result:
    """Store the newest equity points, and check that positions and ledger have the same PnL."""
    points.take_points()
    books = identity.read_identity()
    if books.wrong:
        rows = ", ".join(
            f"deployment {row.deployment} by {plain(row.difference)}" for row in books.wrong[:SHOWN]
        )
        fix = "`manage.py pnl explain DEPLOYMENT` shows its books"
        return False, f"positions and ledger differ: {rows} USDC", fix
    pnl = f"PnL of all time {plain(usdc(books.total.pnl))} USD"
    return True, f"{pnl}; positions and ledger agree in {len(books.deployments)} deployments", ""


def save(day: date) -> Result:
    """Save the summaries of the day, and record PNL_DAILY_SUMMARY once."""
    total = summary.end_day(day)
    if total is None:
        fix = "nothing to do for a day before the first deposit; else `manage.py status`, job points"
        return False, f"no deployment has an equity point up to the end of {day}", fix
    pnl = f"PnL of {day} {plain(usdc(total.day_pnl_usd))} USD, {total.num_trades} positions closed"
    return True, f"{pnl}; event {summary.SUMMARY_EVENT} is recorded", ""
