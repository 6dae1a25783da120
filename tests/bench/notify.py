"""10,000 subscribers hear of one event: how fast, in how much memory, and what a slow channel costs the others.

    python -m tests.bench.notify [--subscribers 10000] [--json]

One user for each address, over five channels; all providers answer after 20 ms, and in the second run those of Discord
after five seconds. Telegram is limited by `per_second` of config/notify.yaml, as its provider demands. One worker
process. Prints messages a second for each channel, the worker's memory and processor time, and targets; asserts that
every message came once, and no time.
"""

import argparse
import json
import time
from statistics import quantiles
from typing import Any

import psutil

from tests.notify.crowd import HTTP, Sink, Workers, announce, installation, sink, subscribe

LATENCY = 0.02
"""Seconds of a provider's answer."""
SLOW = 5.0
SHARES = {"telegram": 5, "slack": 30, "discord": 2, "webhook": 33, "push": 30}
"""Percent of the subscribers. Telegram's 25 a second, and a slow Discord, would decide the time otherwise."""
TARGETS = {"messages_a_second": 150, "memory_growth_mib": 50}
PATIENCE = 1200.0


def channels_of(count: int) -> list[str]:
    """The channel of each subscriber, mixed."""
    pattern = [name for name in HTTP for _ in range(SHARES[name])]
    return [pattern[(number * 37) % 100] for number in range(count)]


def run(count: int, *, slow: bool) -> dict[str, Any]:
    """One event to all; return the figures."""
    seconds = dict.fromkeys(HTTP, LATENCY) | ({"discord": SLOW} if slow else {})
    with sink(seconds=seconds) as one, installation():
        wanted = channels_of(count)
        subscribe(wanted, one.port)
        announce("event-0")
        workers = Workers(one.port)
        process = psutil.Process(workers.start())
        try:
            _wait(one, count)
            one.came.clear()
            before, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
            began = time.monotonic()
            announce("event-1")
            highest = _wait(one, count, process)
            cpu = sum(process.cpu_times()[:2]) - cpu
        finally:
            workers.stop()
        return _figures(one, wanted, began) | {
            "memory_mib": round(before / 2**20),
            "memory_growth_mib": round((highest - before) / 2**20),
            "cpu_ms_a_message": round(cpu * 1000 / count, 2),
        }


def _wait(one: Sink, count: int, process: psutil.Process | None = None) -> int:
    ends, highest = time.monotonic() + PATIENCE, 0
    while len(one.came) < count:
        if time.monotonic() > ends:
            raise SystemExit(f"only {len(one.came)} of {count} messages came within {PATIENCE:.0f} s")
        if process is not None:
            highest = max(highest, process.memory_info().rss)
        time.sleep(0.2)
    return highest


def _figures(one: Sink, wanted: list[str], began: float) -> dict[str, Any]:
    twice = [name for name, arrivals in one.came.items() if len(arrivals) > 1]
    if twice:
        raise SystemExit(f"{len(twice)} messages came more than once: {twice[:3]}")
    by_channel: dict[str, Any] = {}
    for channel in HTTP:
        times = sorted(
            arrivals[0].at - began for name, arrivals in one.came.items() if name.startswith(f"{channel}/")
        )
        if times:
            by_channel[channel] = {
                "messages": len(times),
                "seconds": round(times[-1], 1),
                "a_second": round(len(times) / times[-1], 1),
                "p50_s": round(quantiles(times, n=2)[0], 1) if len(times) > 1 else round(times[0], 1),
            }
    unlimited = [found for name, found in by_channel.items() if name not in ("telegram", "discord")]
    return {
        "channels": by_channel,
        "messages_a_second": round(
            sum(found["messages"] for found in unlimited) / max(found["seconds"] for found in unlimited), 1
        ),
    }


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {name: _child(options.subscribers, slow=name == "slow") for name in ("even", "slow")}
    if options.json:
        print(json.dumps(found | {"targets": TARGETS}))
        return
    for name, figures in found.items():
        print(f"{name}: {figures['messages_a_second']} a second over slack, webhook and push "
              f"(target {TARGETS['messages_a_second']}); memory {figures['memory_mib']} MiB + "
              f"{figures['memory_growth_mib']} (target {TARGETS['memory_growth_mib']}); "
              f"{figures['cpu_ms_a_message']} ms of processor a message")  # fmt: skip
        for channel, one in figures["channels"].items():
            print(
                f"  {channel:9} {one['messages']:6} in {one['seconds']:6.1f} s, {one['a_second']:6.1f} a second"
            )


def _child(count: int, *, slow: bool) -> dict[str, Any]:
    """Run in a process of its own: Django's settings are read once."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (count,), {"slow": slow})


if __name__ == "__main__":
    main()
