"""Any one process of `make up` may be killed under load: nothing is doubled and nothing is lost."""

from functools import partial
from pathlib import Path

import psutil

from maxxit.core.processes import wait_until
from tests.chaos.stack import PATTERNS, Stack

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
            WHERE o.idempotency_key LIKE 'close:' || p.id || ':%' AND p.state = 'closed'), closed_quantity)""",
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

BUSY = "SELECT count(*) FROM orders WHERE state IN ('planned', 'sending', 'unknown', 'accepted', 'partially_filled')"
PASSES = "SELECT coalesce(max(id), 0) FROM stage_runs"
CLOSED = "SELECT count(*) FROM positions WHERE state = 'closed'"


def _moved_on(stack: Stack, before: int) -> bool:
    return stack.number(PASSES) > max(before, 0)


def test_killing_each_process_of_make_up_doubles_and_loses_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o711)  # Postgres runs as `nobody` under root and must pass
    stack = Stack.start(tmp_path)
    try:
        assert wait_until(lambda: stack.number(CLOSED) > 0, 120), "no position was closed within two minutes"
        for name in PATTERNS:
            stack.kill(name)
            before = stack.number(PASSES)
            assert wait_until(partial(_moved_on, stack, before), 90), f"the river stands still without {name}"
        broken = lambda: [what for what, sql in SOUND.items() if stack.number(sql) != 0]  # noqa: E731
        quiet = wait_until(lambda: stack.number(BUSY) == 0 and not broken(), 90)
        assert quiet, f"broken: {broken()}; orders in flight: {stack.number(BUSY)}"
        assert stack.number(CLOSED) > 1
        family = stack.family()
    finally:
        seconds = stack.stop()
    assert seconds < 10, "Ctrl-C took too long"
    _, alive = psutil.wait_procs(family, timeout=1)
    assert not alive, f"left behind: {[' '.join(p.cmdline()) for p in alive]}"
