"""Time of a live forecast from the bars in memory, one symbol at a time: `python -m tests.bench.forecasts` (seconds).

Features of 193 hours and the forecast of `har`, and of `tft` and `dqn` with untrained weights, as
`maxxit.learning.live` makes them each hour. Prints JSON; exit code 1 where `har` takes longer than the target.
"""

import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxxit.learning.hours import Hours
    from maxxit.learning.models import TrainedModel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import django

TARGET_MS, ROUNDS = 2.0, 400


def main() -> int:
    """Measure; return the exit code."""
    django.setup()
    from maxxit.learning import evaluate, live, worlds
    from maxxit.learning.forecasters import Har
    from maxxit.learning.models import TrainedModel
    from tests.learning.rl.agents import parameters as agent
    from tests.learning.test_tft import parameters as untrained

    series = worlds.world(1, 30)
    parameters = Har().fit(evaluate.gather(series, 24).rows)
    rows = [
        TrainedModel(kind="har", horizon_hours=24, parameters=parameters),
        TrainedModel(kind="tft", horizon_hours=24, parameters=untrained()),
        TrainedModel(kind="dqn", horizon_hours=24, parameters=agent(inputs=[["return_24h", 0.0, 1.0]])),
    ]
    known = [hours.last(live.READ_HOURS) for hours in series]
    medians = [measured(row, known) for row in rows]
    return int(medians[0] > TARGET_MS)


def measured(row: "TrainedModel", known: "list[Hours]") -> float:
    """Print the time of a model's forecasts; return their median in milliseconds."""
    from maxxit.learning import live

    times = []
    for number in range(ROUNDS):
        begun = time.process_time()
        found = live.forecast(row, known[number % len(known)])
        times.append((time.process_time() - begun) * 1000)
        if not found.usable:
            raise AssertionError("the forecast is not usable")
    median = statistics.median(times)
    result = {
        "kind": row.kind,
        "rounds": ROUNDS,
        "cpu_ms_median": round(median, 3),
        "cpu_ms_p95": round(statistics.quantiles(times, n=20)[-1], 3),
        "target_ms": TARGET_MS,
    }
    print(json.dumps(result))
    return median


if __name__ == "__main__":
    sys.exit(main())
