"""Any one process of `make up` may be killed under load: nothing is doubled and nothing is lost."""

from functools import partial
from pathlib import Path

import psutil

from maxxit.embedded.processes import wait_until
from tests.chaos.shots import BUSY, CLOSED, PASSES, at_rest, broken
from tests.chaos.stack import PATTERNS, Stack


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
            assert wait_until(partial(_moved_on, stack, before), 90), (
                f"the pipeline stands still without {name}"
            )
        quiet = wait_until(lambda: at_rest(stack), 90)
        assert quiet, f"broken: {broken(stack)}; orders in flight: {stack.number(BUSY)}"
        assert stack.number(CLOSED) > 1
        family = stack.family()
    finally:
        seconds = stack.stop()
    assert seconds < 10, "Ctrl-C took too long"
    _, alive = psutil.wait_procs(family, timeout=1)
    assert not alive, f"left behind: {[' '.join(p.cmdline()) for p in alive]}"
