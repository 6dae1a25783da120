"""Benchmarks one sweep over N open positions against a floor and against a loop in Python.

`positions.exits.sweep.sweep` runs in a scratch database with fsync on. Interleaved with it run `floor`, one UPDATE of
the ids known to be hit, and `loop`, which reads every open position as a Django object, compares it with its price in
Python, and saves those that are hit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median
from time import perf_counter
from typing import Any

from django.db import connection

from agents.models import Agent, Deployment
from maxxit.core import clock
from maxxit.core.errors import Rejected
from positions.exits import sweep as watch
from positions.models import Position
from trading import gate

ENTRY, NEAREST, DEEPEST = Decimal(100), Decimal(99), Decimal(50)
"""USD: the entry price, and the range over which the stops of the longs are spread evenly."""

ORDERS = """
INSERT INTO orders (id, deployment_id, idempotency_key, purpose, symbol, venue, account, position_side, side, quantity,
                    state, filled_quantity, booked_quantity, average_price, correlation_id, created_at, updated_at)
SELECT i, %(deployment)s, 'bench:' || i, 'open', 'S' || i %% %(symbols)s, 'paper', 'bench', s.side, s.buys, 1,
       'filled', 1, 1, 100, gen_random_uuid(), %(now)s, %(now)s
FROM generate_series(1, %(count)s) AS i
CROSS JOIN LATERAL (
    SELECT * FROM (VALUES (0, 'long', 'buy'), (1, 'short', 'sell')) AS v(odd, side, buys)
    WHERE odd = i / %(symbols)s %% 2
) AS s
"""
POSITIONS = """
INSERT INTO positions (id, deployment_id, entry_order_id, symbol, side, quantity, entry_price, stop_loss, take_profit,
                       trailing_activation, trailing_pct, time_exit_at, opened_at, correlation_id)
SELECT o.id, o.deployment_id, o.id, o.symbol, o.position_side, 1, 100,
       100 + d.sign * (1 + 49 * p.part), 100 - d.sign * 60,
       CASE WHEN o.id %% 4 = 0 THEN 100 - d.sign * 30 END, CASE WHEN o.id %% 4 = 0 THEN 1 END,
       o.created_at + interval '7 days', o.created_at, o.correlation_id
FROM orders o
CROSS JOIN LATERAL (SELECT CASE o.position_side WHEN 'long' THEN -1 ELSE 1 END AS sign) AS d
CROSS JOIN LATERAL (SELECT (o.id / %(symbols)s)::numeric / (%(count)s / %(symbols)s + 1) AS part) AS p
"""
QUOTES = """
INSERT INTO quotes (symbol, price, at, source, trusted_for_entries, doubt)
SELECT 'S' || (place - 1), price, %(now)s, 'bench', true, ''
FROM unnest(%(prices)s::numeric[]) WITH ORDINALITY AS given(price, place)
ON CONFLICT (symbol) DO UPDATE SET price = excluded.price, at = excluded.at
"""
FLOOR = "UPDATE positions SET state = 'closing' WHERE id = ANY(%s)"
RESTORE = (
    "UPDATE positions SET state = 'open', exit_order_id = NULL, exits = 0, exit_reason = '' WHERE state <> 'open'",
    "DELETE FROM orders WHERE purpose = 'close'",
    "VACUUM positions",
    "VACUUM orders",
    "CHECKPOINT",
)


@dataclass(frozen=True, slots=True)
class World:
    """`count` open positions over the symbols S0, S1, …; half are long, a quarter have a trailing stop."""

    count: int
    symbols: int

    def check(self, prices: Sequence[Decimal] | None = None, hits: int = 0) -> None:
        """Raise Rejected for numbers that cannot be measured, before a database is made for them."""
        if not 0 < self.symbols <= self.count:
            raise Rejected(
                f"{self.count} positions over {self.symbols} symbols: give positive numbers, and no more symbols than "
                "positions",
                code="bad_numbers",
            )
        if prices is not None and len(prices) != self.symbols:
            raise Rejected(
                f"{len(prices)} prices for {self.symbols} symbols: give one each, S0 first", code="bad_prices"
            )
        for number in range(self.symbols):
            if (due := self.hits_of(number, hits)) > (longs := self.longs(number)):
                raise Rejected(
                    f"{hits} hits over {self.symbols} symbols need {due} longs of S{number}; there are {longs}:"
                    " raise --positions or lower --hits",
                    code="too_many_hits",
                )

    def hits_of(self, number: int, hits: int) -> int:
        """Return how many of `hits` stops are hit on symbol `number`; they are spread evenly."""
        return hits // self.symbols + (number < hits % self.symbols)

    def longs(self, number: int) -> int:
        """Return how many long positions symbol `number` has (`ORDERS`)."""
        return sum(i // self.symbols % 2 == 0 for i in range(number, self.count + 1, self.symbols) if i)


@dataclass
class Figures:
    """Milliseconds of each round, in order."""

    hits: int
    sweep: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Medians in milliseconds; `loop_ms` is None without the loop."""
        return {
            "hits": self.hits,
            "sweep_ms": round(median(self.sweep), 3),
            "floor_ms": round(median(self.floor), 3),
            "loop_ms": round(median(self.loop), 3) if self.loop else None,
        }


def build(world: World) -> None:
    """Fill the empty database."""
    now = clock.now()
    gate.set_dry_run("paper", False, by="bench", reason="bench")
    gate.approve("*", by="bench", until=now.replace(year=now.year + 1), reason="bench")
    agent = Agent.objects.create(name="bench", venue="paper", state="active")
    owner = Deployment.objects.create(agent=agent, account="bench", state="active", starting_balance=0)
    values: dict[str, Any] = {
        "deployment": owner.pk,
        "count": world.count,
        "symbols": world.symbols,
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(ORDERS, values)
        cursor.execute("SELECT setval(pg_get_serial_sequence('orders', 'id'), %s)", [world.count])
        cursor.execute(POSITIONS, values)
        cursor.execute("VACUUM ANALYZE")


def prices_for(world: World, hits: int) -> list[Decimal]:
    """Return one price per symbol such that exactly `hits` stops are hit, spread evenly over the symbols."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT symbol, array_agg(stop_loss ORDER BY stop_loss DESC) FROM positions WHERE side = 'long' GROUP BY 1"
        )
        stops = dict(cursor.fetchall())
    found = []
    for number in range(world.symbols):
        due = world.hits_of(number, hits)
        wiggle = Decimal(number * 7 % 100) / 1000  # repriced: no two symbols alike
        found.append(stops[f"S{number}"][due - 1] if due else NEAREST + Decimal("0.5") + wiggle)
    return found


def measure(prices: Sequence[Decimal], *, rounds: int, loop: bool = True) -> Figures:
    """Time interleaved rounds of sweep, floor and loop, each after positions and quotes were reset."""
    _reprice(prices)
    watch.sweep()
    hit = _hit()
    found = Figures(len(hit))
    for number in range(rounds + 1):
        sweep = _timed(prices, watch.sweep)
        if sorted(_hit()) != sorted(hit):
            raise Rejected("two sweeps of one price vector hit different positions", code="not_deterministic")
        floor = _timed(prices, lambda: _run(FLOOR, hit))
        slow = _timed(prices, lambda: _loop(prices)) if loop else 0.0
        if number:  # the first round warms the caches of all three
            found.sweep.append(sweep)
            found.floor.append(floor)
            found.loop.extend([slow] if loop else [])
    _restore()
    return found


def _timed(prices: Sequence[Decimal], what: Callable[[], object]) -> float:
    _restore()
    _reprice(prices)
    begun = perf_counter()
    what()
    return (perf_counter() - begun) * 1000


def _restore() -> None:
    with connection.cursor() as cursor:
        for statement in RESTORE:
            cursor.execute(statement)


def _reprice(prices: Sequence[Decimal]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(QUOTES, {"prices": list(prices), "now": clock.now()})


def _run(sql: str, ids: list[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, [ids])


def _hit() -> list[int]:
    return list(Position.objects.filter(state="closing").values_list("pk", flat=True))


def _loop(prices: Sequence[Decimal]) -> None:
    """Check every open position in Python, and save those that are hit."""
    now, by_symbol = clock.now(), {f"S{number}": price for number, price in enumerate(prices)}
    for row in Position.objects.filter(state="open").order_by("pk").iterator(chunk_size=2000):
        price, sign = by_symbol[row.symbol], 1 if row.side == "long" else -1
        why = (
            "take_profit" if sign * (price - row.take_profit) >= 0
            else "stop_loss" if sign * (price - row.stop_loss) <= 0
            else "trailing_stop" if row.trailing_stop is not None and sign * (price - row.trailing_stop) <= 0
            else "time_exit" if row.time_exit_at is not None and row.time_exit_at <= now
            else ""
        )  # fmt: skip
        if why:
            row.state, row.exit_reason = "closing", why
            row.save(update_fields=["state", "exit_reason"])
