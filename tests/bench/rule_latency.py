"""From a price that a rule waits for to the providers: how long until the message is there, by channel.

    python -m tests.bench.rule_latency [--rounds 20] [--users 10] [--json]

Each round adds a rule for every user, then accepts a price that all of them wait for, matches it as the task that the
price wakes does, and waits until each provider has its message. The users are spread over five channels; one worker
process sends, and looks for work each 50 ms; all providers answer after 20 ms. Celery and its broker are left out.
Prints percentiles and the target; asserts that every message came once, and no time.
"""

import argparse
import json
import time
from decimal import Decimal
from statistics import quantiles
from typing import Any

from tests.notify.crowd import HTTP, Sink, Workers, installation, sink, subscribe

LATENCY = 0.02
"""Seconds of a provider's answer."""
TARGET_P95 = 2.0
"""Seconds."""
PATIENCE = 120.0


def run(rounds: int, users: int) -> dict[str, Any]:
    """Fire the rules of every user, `rounds` times; return the figures."""
    wanted = [HTTP[number % len(HTTP)] for number in range(users)]
    times: dict[str, list[float]] = {channel: [] for channel in HTTP}
    with sink(seconds=dict.fromkeys(HTTP, LATENCY)) as one, installation():
        subscribe(wanted, one.port)
        workers = Workers(one.port, "rules")
        workers.start()
        try:
            for number in range(rounds):
                began = _fire(number, wanted)
                _wait(one, users)
                for name, arrivals in one.came.items():
                    if len(arrivals) > 1:
                        raise SystemExit(f"{name} came {len(arrivals)} times")
                    times[name.partition("/")[0]].append(arrivals[0].at - began)
                one.came.clear()
        finally:
            workers.stop()
    every = [seconds for found in times.values() for seconds in found]
    return {
        "all": _figures(every),
        "channels": {name: _figures(found) for name, found in times.items() if found},
        "target_p95_s": TARGET_P95,
    }


def _fire(number: int, wanted: list[str]) -> float:
    """Add a rule for each user and accept the price that it waits for; return when, in monotonic seconds."""
    from django.contrib.auth.models import User

    from maxxit.core import clock
    from maxxit.events import wake
    from maxxit.market import intake
    from maxxit.market.feeds.base import Tick
    from maxxit.notify import rules
    from maxxit.notify.models import PriceRule

    PriceRule.objects.update(active=False)  # those of the round before
    price = Decimal(60_000 + 10 * number)
    for user, channel in zip(User.objects.order_by("pk"), wanted, strict=True):
        rules.add(user, ["BTC"], "gt", threshold=price - 5, channel=channel)
    began = time.monotonic()
    with wake.collected():
        intake.take([Tick("BTC", price, clock.now(), "coinbase")])
        if rules.match() != len(wanted):
            raise SystemExit(f"round {number}: not every rule matched")
    return began


def _wait(one: Sink, count: int) -> None:
    ends = time.monotonic() + PATIENCE
    while len(one.came) < count:
        if time.monotonic() > ends:
            raise SystemExit(f"only {len(one.came)} of {count} messages came within {PATIENCE:.0f} s")
        time.sleep(0.01)


def _figures(seconds: list[float]) -> dict[str, Any]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {
        "messages": len(seconds),
        "p50_s": round(cuts[49], 3),
        "p95_s": round(cuts[94], 3),
        "longest_s": round(max(seconds), 3),
    }


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.rounds, options.users)
    if options.json:
        print(json.dumps(found))
        return
    for name, one in ({"all": found["all"]} | found["channels"]).items():
        print(f"{name:9} {one['messages']:5} messages: p50 {one['p50_s']:6.3f} s, p95 {one['p95_s']:6.3f} s, "
              f"longest {one['longest_s']:6.3f} s")  # fmt: skip
    print(f"target: p95 {TARGET_P95} s")


if __name__ == "__main__":
    main()
