"""Time of a live forecast from the bars in memory, one symbol at a time: `python -m tests.bench.forecasts` (seconds).

Features of 193 hours and the forecast of `har`, as `maxxit.learning.live` makes them each hour. Prints JSON; exit code
1 above the target.
"""

import json
import os
import statistics
import sys
import time

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

    series = worlds.world(1, 30)
    parameters = Har().fit(evaluate.gather(series, 24).rows)
    row = TrainedModel(kind="har", horizon_hours=24, parameters=parameters)
    known = [hours.last(live.READ_HOURS) for hours in series]
    times = []
    for number in range(ROUNDS):
        begun = time.process_time()
        found = live.forecast(row, known[number % len(known)])
        times.append((time.process_time() - begun) * 1000)
        if not found.usable:
            raise AssertionError("the forecast is not usable")
    median = statistics.median(times)
    result = {
        "rounds": ROUNDS,
        "cpu_ms_median": round(median, 3),
        "cpu_ms_p95": round(statistics.quantiles(times, n=20)[-1], 3),
        "target_ms": TARGET_MS,
    }
    print(json.dumps(result))
    return int(median > TARGET_MS)


if __name__ == "__main__":
    sys.exit(main())
