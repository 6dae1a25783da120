"""A night and a morning, killed by SIGKILL at ten random statements: `python -m tests.learning.killed SEED`.

The database of DATABASE_URL holds candles and a model that serves. Each child process runs the night trainer, the
morning deployer and the forecasts, and kills itself before one of its statements. After each, the model that serves is
printed; the first and the last line are those of runs that nothing killed.
"""

import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402 (after django.setup)

from maxxit.core import clock  # noqa: E402
from maxxit.learning import live, morning, night, registry  # noqa: E402
from maxxit.learning.models import Forecast, TrainedModel, TrainingRun  # noqa: E402
from tests.learning.stored import MIDNIGHT, PASSED  # noqa: E402

KILLS = 10


def night_and_morning(statement: int | None) -> int:
    """Run both, and die before a statement; return how many statements there were."""
    seen = 0

    def counting(execute: Callable[..., Any], *rest: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*rest)

    registry.verdict = lambda row, incumbent=None: (
        PASSED
    )  # so that candidates come to replace the one that serves
    with clock.frozen(MIDNIGHT.replace(hour=2)), connection.execute_wrapper(counting):
        night.run()
    with clock.frozen(MIDNIGHT.replace(hour=5, minute=4)), connection.execute_wrapper(counting):
        morning.deploy()
        live.record_forecasts()
    return seen


def forked(statement: int | None) -> tuple[int, int]:
    """Run it in a process of its own; return how that ended (−9: killed), and its number of statements."""
    connection.close()
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writes, str(night_and_morning(statement)).encode())
        connection.close()
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        count = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int(count or 0)


def start_again(incumbent: int) -> None:
    """Leave nothing but the model that served before the night."""
    for rows in (
        Forecast.objects.all(),
        TrainingRun.objects.all(),
        TrainedModel.objects.exclude(pk=incumbent),
    ):
        rows.delete()
    TrainedModel.objects.filter(pk=incumbent).update(state="serving")


def report(statement: int | None) -> int:
    ended, count = forked(statement)
    serves = registry.serving("volatility", 6)
    print(statement or 0, ended, serves.pk if serves else "none", TrainingRun.objects.count(), flush=True)
    return count


if __name__ == "__main__":
    serving = registry.serving("volatility", 6)
    if serving is None:
        sys.exit("no model serves: store one first")
    statements = report(None)
    for moment in sorted(random.Random(int(sys.argv[1])).sample(range(1, statements + 1), KILLS)):
        start_again(serving.pk)
        report(moment)
    report(None)  # the last killed night and morning are made up for
