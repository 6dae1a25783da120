"""T3: everything that `make up` starts, shot at while it trades.

    python -m tests.chaos.shots --kills 100 --seed 1

SIGKILL of any of its processes (workers of every queue, their pool children, beat, web, Redis, Postgres), sometimes
of two at once, and FLUSHALL, at random moments. What was killed must come back and the passes must go on; at the end
nothing may be in flight, doubled, lost, or off by a unit.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import redis
from celery import Celery

from maxxit.embedded.processes import wait_until
from maxxit.embedded.servers import Redis
from tests.chaos.stack import PATTERNS, Stack
from tests.chaos.world import Dice, Tally, widen

SOUND = {
    "an intent has one order": """
        SELECT count(*) FROM (SELECT FROM orders WHERE purpose = 'open'
                              GROUP BY deployment_id, signal_id HAVING count(*) > 1) AS doubles""",
    "the venue holds no order that we do not": """
        SELECT count(*) FROM paper_orders p LEFT JOIN orders o USING (client_order_id) WHERE o.id IS NULL""",
    "every execution of the venue is booked once": """
        SELECT count(*) FROM paper_fills p FULL JOIN (
            SELECT f.* FROM fills f JOIN orders o ON o.id = f.order_id AND o.venue = 'paper'
        ) AS f ON f.venue_fill_id = p.id::text
        WHERE p.id IS NULL OR f.id IS NULL OR p.quantity <> f.quantity OR p.cash <> f.cash""",
    "a closed position is closed whole": """
        SELECT count(*) FROM positions WHERE state = 'closed' AND closed_quantity <> quantity""",
    "a position is closed by its own fills only": """
        SELECT count(*) FROM positions p WHERE closed_quantity <> coalesce((
            SELECT sum(f.quantity) FROM fills f JOIN orders o ON o.id = f.order_id
            WHERE o.closes_id = p.entry_order_id AND p.state = 'closed'), closed_quantity)""",
    "every signal was decided": """
        SELECT count(*) FROM signals s WHERE state = 'pending' AND NOT EXISTS (
            SELECT FROM orders o WHERE o.signal_id = s.id AND o.reason = 'awaiting_confirmation')""",
    "no order was set aside": "SELECT count(*) FROM orders WHERE attempts >= 3",
    "every filled entry has its position": """
        SELECT count(*) FROM orders WHERE purpose = 'open' AND filled_quantity <> booked_quantity""",
    "the ledger sums to zero": """
        SELECT count(*) FROM (SELECT FROM ledger_entries GROUP BY asset HAVING sum(amount) <> 0) AS drifts""",
    "the ledger equals the venue to the unit": """
        SELECT count(*) FROM (
            SELECT d.* FROM agent_deployments d JOIN agents a ON a.id = d.agent_id AND a.venue = 'paper'
        ) AS d
        JOIN ledger_balances l ON l.account = 'deployment:' || d.id
        FULL JOIN paper_balances p ON p.account = d.account AND p.asset = l.asset
        WHERE coalesce(l.amount, 0) <> coalesce(p.amount, 0)""",
    "every post was read": """
        SELECT count(*) FROM ct_posts WHERE state = 'new' AND ingested_at < now() - '60 s'::interval""",
    "every fee was booked once": """
        SELECT count(*) FROM orders o WHERE purpose = 'open' AND filled_quantity > 0 AND (
            SELECT count(*) FROM ledger_entries
            WHERE order_id = o.id AND kind = 'platform_fee' AND amount > 0) <> 1""",
}
"""What must be true -> the number of rows that break it."""

BUSY = """
SELECT count(*) FROM orders WHERE state IN ('planned', 'sending', 'unknown', 'accepted', 'partially_filled')
AND reason <> 'awaiting_confirmation'"""
"""What waits for a person's yes does not move."""
PASSES = "SELECT coalesce(max(id), 0) FROM stage_runs"
CLOSED = "SELECT count(*) FROM positions WHERE state = 'closed'"

NEW_SIGNALS = """
INSERT INTO signals (agent_id, token, venue, side, bucket, state, reason, confidence, entry_price, stop_loss_pct,
                     take_profit_pct, leverage, size_model, risk_model, market, correlation_id, created_at, expires_at)
SELECT a.id, q.symbol, a.venue, 'long', now() + random() * '1000 days'::interval, 'pending', '', 0.7, q.price, 6,
       18, 1, '{"posts": 1}', '{}', '{"volatility_pct": 1.0, "ewma_pct": 1.0, "atr_pct": 1.0}', gen_random_uuid(),
       now(), now() + '6 hours'::interval
FROM agents a JOIN quotes q ON q.symbol IN ('BTC', 'ETH', 'SOL')
WHERE a.state = 'active' AND a.venue = 'paper' AND random() < 0.25"""
"""Besides the demo's own posts, so that every kill finds something on its way."""
TIME_PASSES = "UPDATE positions SET time_exit_at = now() WHERE state = 'open' AND random() < 0.3"
EXECUTE = "trading.tasks.execute"
POOLS = ("worker-exits", "worker-execute", "worker-monitor")
TARGETS = (*PATTERNS, *(f"pool of {name}" for name in POOLS), "FLUSHALL", "FLUSHALL again")
END_SECONDS = 60.0
"""Without a step of any order, after the last fault: what has not ended then is lost (I3)."""
BACK_SECONDS = 90.0


def broken(stack: Stack) -> list[str]:
    """What does not hold now; Postgres being away counts."""
    names = list(SOUND)
    counts = stack.query(
        " UNION ALL ".join(f"SELECT {place}, ({sql})" for place, sql in enumerate(SOUND.values()))
    )
    if not counts:
        return [f"Postgres does not answer: {stack.trouble}"]
    return [f"{names[place]}: {count}" for place, count in counts if count]


def at_rest(stack: Stack) -> bool:
    """Whether nothing is in flight and everything holds; asked once a second, for asking is load as well."""
    time.sleep(1)
    return stack.number(BUSY) == 0 and not broken(stack)


def come_to_rest(stack: Stack) -> bool:
    """Wait until all is at its end; False when nothing moved for `END_SECONDS`. A busy machine may take longer."""
    seen, since = -2, time.monotonic()
    while not at_rest(stack):
        events = stack.number("SELECT coalesce(max(id), 0) FROM events WHERE subject LIKE 'trading.order/%'")
        if events != seen:
            seen, since = events, time.monotonic()
        if time.monotonic() - since > END_SECONDS:
            return False
    return True


def shoot(stack: Stack, target: str) -> None:
    """One fault. Raises LookupError when the target is not there at the moment."""
    if target.startswith("FLUSHALL"):
        with redis.Redis.from_url(Redis(stack.home / "data").url) as client:
            client.flushall()
    elif target.startswith("pool of "):
        for child in stack.find(target.removeprefix("pool of ")).children():
            child.kill()
    else:
        stack.find(target).kill()


def try_to_shoot(stack: Stack, target: str, tally: Tally) -> None:
    """The same; what is down already is not shot."""
    try:
        shoot(stack, target)
    except (LookupError, psutil.Error, redis.RedisError):
        return
    tally.count(target.replace(" again", ""))


class Load(threading.Thread):
    """New signals and exits that come due, all the time, each with the wake that its stage would send."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self.stack, self.over, self.signals = stack, threading.Event(), 0

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(0.7):
            self.signals += self.stack.change(NEW_SIGNALS)
            self.stack.change(TIME_PASSES)
            with (
                contextlib.suppress(Exception),
                Celery("load", broker=Redis(self.stack.home / "data").url) as app,
            ):
                app.send_task(EXECUTE, queue="execute", retry=False)

    def stop(self) -> None:
        """No more of it."""
        self.over.set()
        self.join(30)


def moved_on(stack: Stack, before: int) -> bool:
    """Whether any stage ended a pass that had not begun then."""
    time.sleep(0.2)
    return stack.number(PASSES) > max(before, 0)


def complete(stack: Stack) -> bool:
    """Whether each of its processes is there."""
    try:
        return all(stack.find(name) for name in PATTERNS)
    except (LookupError, psutil.Error):
        return False


def campaign(kills: int, seed: int) -> Tally:
    """One `make up` in a folder of its own, from its first trade to the audit."""
    home = Path(tempfile.mkdtemp(prefix="maxxit-shots-"))
    home.chmod(0o711)
    tally, dice, slowest = Tally("T3 the whole stack", seed), Dice(seed), 0.0
    widen(home / "config", "demo")
    stack = Stack.start(home, MAXXIT_CONFIG_DIR=str(home / "config"))
    load = Load(stack)
    load.start()
    try:
        if not wait_until(lambda: stack.number(CLOSED) > 0, 400):
            raise RuntimeError(f"no position was closed within 400 s: {stack.said()[-2000:]}")
        deck: list[str] = []
        while tally.total < kills:
            deck = deck or dice.sample(
                TARGETS, len(TARGETS)
            )  # each about equally often, so that none backs off long
            before, began = stack.number(PASSES), time.monotonic()
            for _ in range(2 if dice.random() < 0.1 and len(deck) > 1 else 1):
                try_to_shoot(stack, deck.pop(), tally)
            if not wait_until(lambda: complete(stack), BACK_SECONDS):
                tally.violations.append(f"a process did not come back within {BACK_SECONDS:.0f} s")
            if not wait_until(partial(moved_on, stack, before), BACK_SECONDS):
                tally.violations.append(f"no pass ended within {BACK_SECONDS:.0f} s")
            slowest = max(slowest, time.monotonic() - began)
            if tally.violations:
                break
            time.sleep(3 * dice.random())
            if tally.total % 10 == 0:
                taken = time.monotonic() - tally.began
                print(f"{tally.total} kills after {taken:.0f} s", file=sys.stderr, flush=True)
        load.stop()
        shoot(stack, "FLUSHALL")
        left = stack.change(NEW_SIGNALS)  # their wakes are lost: the sweeps have to find them
        ended = time.monotonic()
        if not come_to_rest(stack):
            what = stack.query("SELECT purpose, state, count(*) FROM orders GROUP BY 1, 2")
            tally.violations.append(f"nothing moved for {END_SECONDS:.0f} s: {what}")
            tally.violations += broken(stack) or [f"{stack.number(BUSY)} orders in flight"]
        tally.figures = {
            "all at its end after the last fault": f"{time.monotonic() - ended:.1f} s",
            "processes back and a pass ended after a fault": f"{slowest:.1f} s at most",
            "signals beside the demo's own": f"{load.signals}, and {left} whose wakes were lost at the end",
            "orders": stack.number("SELECT count(*) FROM orders"),
            "positions closed": stack.number(CLOSED),
            "passes": stack.number(PASSES),
        }
    finally:
        load.stop()
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return campaign(given.kills, given.seed).tell()


if __name__ == "__main__":
    sys.exit(main())
