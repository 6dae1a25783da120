"""What must hold when all is quiet: the database compared with the venues' own books, and with itself."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core.money import USDC, ZERO
from maxxit.reports.invariants import RULES as HELD
from positions.performance.identity import read_identity
from tests.chaos.killed import SOUND
from tests.chaos.simulation_venue import SimulatedVenue
from trading.states import IN_FLIGHT, ORDER, OrderState

OVER = tuple(str(state) for state, moves in ORDER.items() if not moves)
BUSY = {
    "orders": f"SELECT count(*) FROM orders WHERE state NOT IN {OVER}",
    "signals": "SELECT count(*) FROM signals WHERE state = 'pending'",
    "positions": "SELECT count(*) FROM positions WHERE state <> 'closed'",
    "unbooked": "SELECT count(*) FROM orders WHERE purpose = 'open' AND filled_quantity > booked_quantity",
}
UNPLANNED = "lost: a signal has no order for a deployment"
MOMENTS = {
    "I21: a step failed of what the venue did not garble": """
        SELECT id, right(last_error, 300) FROM orders
        WHERE attempts > 0 AND last_error NOT LIKE '%KeyError: ''state''%'""",
    "I9: a signal is over while an order of it waits": """
        SELECT o.id, s.state FROM orders o JOIN signals s ON s.id = o.signal_id
        WHERE o.purpose = 'open' AND o.state = 'planned' AND s.state <> 'pending'""",
}
"""Rules that what comes later hides: whoever runs the workers looks often."""
RULES = (
    {what: sql for what, sql in SOUND.items() if what != UNPLANNED}
    | MOMENTS
    | {
        "I9: a signal that nobody was told of": """
        SELECT s.id, d.id FROM signals s JOIN agent_deployments d USING (agent_id)
        WHERE s.state <> 'expired'
          AND NOT EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id AND o.deployment_id = d.id)""",
        "I9: a signal that did not trade has no reason": """
        SELECT id, state FROM signals WHERE state IN ('skipped', 'expired') AND reason = ''""",
        "I9: a signal says otherwise than its orders": """
        SELECT s.id, s.state, bool_or(o.filled_quantity > 0) FROM signals s JOIN orders o ON o.signal_id = s.id
        WHERE o.purpose = 'open' GROUP BY s.id
        HAVING bool_or(o.filled_quantity > 0) AND s.state <> 'executed'""",
        "I9: a signal was executed by no order": """
        SELECT s.id FROM signals s LEFT JOIN orders o ON o.signal_id = s.id AND o.purpose = 'open'
        WHERE s.state = 'executed' GROUP BY s.id HAVING count(o.client_order_id) = 0""",
        "I2: a closing order closes another entry than its position's": """
        SELECT o.id FROM orders o LEFT JOIN orders e ON e.id = o.closes_id AND e.purpose = 'open'
            AND e.deployment_id = o.deployment_id AND e.signal_id = o.signal_id
        WHERE o.purpose = 'close' AND e.id IS NULL
        UNION
        SELECT o.id FROM positions p JOIN orders o ON o.id = p.exit_order_id WHERE o.closes_id <> p.entry_order_id""",
        "I2: two closing orders of a position filled more than it held": HELD["closed at most what was held"],
        "I2: an exit at the venue and one of ours filled for one position": """
        SELECT id FROM events WHERE name = 'position.exit_after_close'""",
        "I4: nothing is known of exits that a venue keeps": """
        SELECT id FROM orders WHERE exits_at_venue = 'resting' AND state NOT IN ('planned', 'blocked')""",
        "I5: the balances are not the sums of the ledger": HELD["balances are the sums of the ledger"],
        "I5: a fee of a trade that was none": HELD["no fee without a trade"],
        "I21: an order was tried more than three times": "SELECT id FROM orders WHERE attempts > 3",
        "an order that was never sent has an end at the venue": """
        SELECT id, state FROM orders WHERE client_order_id IS NULL AND state NOT IN ('blocked', 'expired')""",
    }
)
"""Rule -> rows that break it."""


def rows(sql: str, *given: Any) -> list[tuple[Any, ...]]:
    """What the database says."""
    with connection.cursor() as cursor:
        cursor.execute(sql, given or None)
        return list(cursor.fetchall())


def busy(venues: Mapping[str, SimulatedVenue]) -> str:
    """What is still on its way, in words; empty when nothing is."""
    waiting = {what: int(rows(sql)[0][0]) for what, sql in BUSY.items()}
    waiting["messages"] = sum(len(venue.late) for venue in venues.values())
    return ", ".join(f"{count} {what}" for what, count in waiting.items() if count)


def audit(venues: Mapping[str, SimulatedVenue], *, limits: Mapping[str, Any]) -> list[str]:
    """Every rule that is broken, and by what."""
    broken = [f"{what}: {found[:5]}" for what, sql in RULES.items() if (found := rows(sql))]
    for check in (_orders(venues), _fills(venues), _balances(venues), _steps(), _caps(limits), _books()):
        broken += [f"{what}: {len(found)}, {found[:5]}" for what, found in check.items() if found]
    return broken


def moments() -> list[str]:
    """The rules that what comes later hides, where they are broken now."""
    return [f"{what}: {found[:5]}" for what, sql in MOMENTS.items() if (found := rows(sql))]


ALWAYS = (
    *MOMENTS,
    "double: an intent has more than one order",
    "I2: two closing orders of a position filled more than it held",
    "I5: the balances are not the sums of the ledger",
    "I5: a fee of a trade that was none",
    "I21: an order was tried more than three times",
    "drift: the ledger does not sum to zero",
)
"""Rules that hold at every moment, and not only when all is quiet."""


def at_once(venues: Mapping[str, SimulatedVenue], *, limits: Mapping[str, Any]) -> list[str]:
    """What is broken at this moment already."""
    broken = [f"{what}: {found[:5]}" for what in ALWAYS if (found := rows(RULES[what]))]
    now = _orders(venues) | _fills(venues) | _steps() | _caps(limits) | _books()
    quiet = ("I3", "I4")
    return broken + [
        f"{what}: {found[:5]}" for what, found in now.items() if found and not what.startswith(quiet)
    ]


def different_books() -> list[tuple[int | None, Any, Any]]:
    """Return deployment, difference of PnL and difference of fees where positions and ledger do not agree."""
    return [(row.deployment, row.difference, row.fee_difference) for row in read_identity().wrong]


def _books() -> dict[str, list[Any]]:
    """Positions and ledger tell the same PnL and fees, also while orders are under way."""
    return {"I5: positions and ledger differ": different_books()}


def _orders(venues: Mapping[str, SimulatedVenue]) -> dict[str, list[Any]]:
    """One order there for each that left here, and the same end."""
    ours = {ref: (state, filled) for ref, state, filled in rows(ORDERS)}
    there = {ref: taken for venue in venues.values() for ref, taken in venue.book.items()}
    return {
        "I1: an intent became more than one order": [
            (ref, times) for venue in venues.values() for ref, times in venue.effects.items() if times > 1
        ],
        "I1: the venue holds an order that we do not know": sorted(set(there) - set(ours)),
        "I4: the venue still works on an order that is over here": [
            (ref, ours.get(ref), taken.state)
            for ref, taken in there.items()
            if taken.state in IN_FLIGHT and ours.get(ref, ("", 0))[0] in OVER
        ],
        "I3: what the venue executed is not what we hold as filled": [
            (ref, ours[ref], taken.filled)
            for ref, taken in there.items()
            if ref in ours and ours[ref][1] != taken.filled
        ],
        "I4: an order ended otherwise there": [
            (ref, ours[ref][0], taken.state)
            for ref, taken in there.items()
            if ref in ours and ours[ref][0] != taken.state
        ],
    }


ORDERS = "SELECT venue_ref, state, filled_quantity FROM orders WHERE client_order_id IS NOT NULL"


def _fills(venues: Mapping[str, SimulatedVenue]) -> dict[str, list[Any]]:
    """Every execution is booked once, as it was."""
    there = {
        fill.fill_id: (fill.quantity, fill.cash, fill.fee)
        for venue in venues.values()
        for taken in venue.book.values()
        for fill in taken.fills
    }
    ours = {fill: tuple(figures) for fill, *figures in rows(FILLS)}
    return {
        "I3: an execution was never booked": sorted(set(there) - set(ours)),
        "I1: an execution was booked that never was": sorted(set(ours) - set(there)),
        "I5: an execution was booked otherwise": [f for f in there if f in ours and there[f] != ours[f]],
    }


FILLS = "SELECT venue_fill_id, quantity, cash, fee FROM fills"


CARRIED = """
SELECT account, symbol, sum(quantity) FROM (
    SELECT d.account, b.asset AS symbol, b.amount AS quantity
    FROM ledger_balances b JOIN agent_deployments d ON b.account = 'deployment:' || d.id
    WHERE b.asset <> 'USDC'
    UNION ALL
    SELECT o.account, o.symbol, CASE o.side WHEN 'buy' THEN 1 ELSE -1 END * (o.quantity - coalesce(
        (SELECT sum(f.quantity) FROM fills f WHERE f.order_id = o.id), 0))
    FROM orders o
    WHERE o.purpose = 'open' AND o.state IN ('sending', 'unknown', 'accepted', 'partially_filled')
) AS held
GROUP BY 1, 2 HAVING sum(quantity) <> 0
"""
"""(account, symbol, signed tokens) held or on their way."""


def _balances(venues: Mapping[str, SimulatedVenue]) -> dict[str, list[Any]]:
    """Ledger and venue agree to the unit, and nobody is short of what was sold."""
    there = {key: Decimal(held) for venue in venues.values() for key, held in venue.cash.items()}
    ours = {(account, asset): amount for account, asset, amount in rows(BALANCES)}
    held = [(key, amount) for key, amount in there.items() if key[1] != USDC and amount]
    return {
        "I5: ledger and venue differ": [
            (key, there.get(key, ZERO), ours.get(key, ZERO))
            for key in sorted(set(there) | set(ours))
            if there.get(key, ZERO) != ours.get(key, ZERO)
        ],
        "I2: all is closed and something is held": held,
    }


BALANCES = """
SELECT d.account, l.asset, l.amount FROM ledger_balances l
JOIN agent_deployments d ON l.account = 'deployment:' || d.id
"""


def _steps() -> dict[str, list[Any]]:
    """Each order went from state to state as its table allows, and its events tell every step."""
    paths: dict[str, str] = {}
    wrong = []
    for subject, old, name in rows(STEPS):
        if name == "order.adopted":  # an exit that the venue keeps was at the venue already
            paths[subject] = "accepted"
            continue
        new = {"execution.blocked": "blocked", "execution.completed": "filled"}.get(name) or name[
            len("order.") :
        ]
        if paths.get(subject, "planned") != old or new not in ORDER[OrderState(old)]:
            wrong.append((subject, paths.get(subject, "planned"), old, new))
        paths[subject] = new
    ends = {f"trading.order/{pk}": state for pk, state in rows("SELECT id, state FROM orders")}
    return {
        "an order took a step that is none": wrong,
        "an order stands where its events do not lead": [
            (subject, state, paths.get(subject, "planned"))
            for subject, state in ends.items()
            if paths.get(subject, "planned") != state
        ],
    }


STEPS = """
SELECT subject, data->>'old', name FROM events
WHERE subject LIKE 'trading.order/%' AND (data ? 'old' OR name = 'order.adopted') ORDER BY id
"""


def _caps(limits: Mapping[str, Any]) -> dict[str, list[Any]]:
    """I8: no minute, day or moment held more entries than the limits allow."""
    mine, all_ = limits["account"], limits["platform"]
    entries = rows(ENTRIES)
    found: dict[str, list[Any]] = {"I8: orders a minute": [], "I8: cooldown": [], "I8: orders a day": []}
    found |= {"I8: orders a minute on the platform": []}
    days: dict[tuple[Any, ...], int] = {}
    for number, (account, symbol, at) in enumerate(entries):
        before = [one for one in entries[:number] if 0 <= (at - one[2]).total_seconds() < 60]
        same = [one for one in before if one[0] == account]
        if len(same) >= mine["max_orders_per_minute"]:
            found["I8: orders a minute"].append((account, at))
        if len(before) >= all_["max_orders_per_minute"]:
            found["I8: orders a minute on the platform"].append(at)
        cooldown = mine["cooldown_seconds_per_symbol"]
        last = [one[2] for one in entries[:number] if one[:2] == (account, symbol)]
        if any(0 <= int((at - one).total_seconds()) < cooldown for one in last):
            found["I8: cooldown"].append((account, symbol, at))
        day = (account, symbol, at.date())
        days[day] = days.get(day, 0) + 1
        if days[day] > mine["max_orders_per_symbol_per_day"]:
            found["I8: orders a day"].append(day)
    return found


ENTRIES = """
SELECT account, symbol, reserved_at FROM orders WHERE purpose = 'open' AND reserved_at IS NOT NULL ORDER BY id
"""
