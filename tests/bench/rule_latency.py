"""From a price that a rule waits for to the providers: how long until the message is there, by channel.

    python -m tests.bench.rule_latency [--rounds 20] [--users 14] [--json]

Each round adds a rule for every user, then accepts a price that all of them wait for, as the price stream does: from
there on everything is done by a Celery worker (two processes, queues `market`, `notify` and `default`) that is woken.
The users are spread over seven channels, mail by SMTP among them; all providers answer after 20 ms. Prints percentiles
and the target; asserts that every message came once, and no time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from statistics import quantiles
from typing import Any

from maxxit.core.config import ROOT
from tests.notify.crowd import HTTP, Arrival, Sink, installation, sink, subscribe
from tests.notify.providers import MailServer, mail_server

CHANNELS = (*HTTP, "teams", "email")

LATENCY = 0.02
"""Seconds of a provider's answer."""
TARGET_P95 = 2.0
"""Seconds."""
PATIENCE = 120.0


def run(rounds: int, users: int) -> dict[str, Any]:
    """Fire the rules of every user, `rounds` times; return the figures."""
    wanted = [CHANNELS[number % len(CHANNELS)] for number in range(users)]
    times: dict[str, list[float]] = {channel: [] for channel in CHANNELS}
    offered = ["inbox", *CHANNELS]
    with (
        sink(seconds=dict.fromkeys(CHANNELS, LATENCY)) as one,
        mail_server() as mails,
        _mail_to(mails.port),
        installation(offered=offered) as home,
    ):
        subscribe(wanted, one.port)
        with _worker(one.port, home):
            for number in range(rounds + 1):  # the first warms the worker up
                began = _fire(number, wanted)
                _wait(one, mails, users)
                for name, arrivals in one.came.items() if number else ():
                    if len(arrivals) > 1:
                        raise SystemExit(f"{name} came {len(arrivals)} times")
                    times[name.partition("/")[0]].append(arrivals[0].at - began)
                one.came.clear()
    every = [seconds for found in times.values() for seconds in found]
    return {
        "all": _figures(every),
        "channels": {name: _figures(found) for name, found in times.items() if found},
        "target_p95_s": TARGET_P95,
    }


@contextmanager
def _mail_to(port: int) -> Iterator[None]:
    """Name the mail server before the settings are read."""
    os.environ["EMAIL_URL"] = f"smtp://127.0.0.1:{port}"
    yield


@contextmanager
def _worker(port: int, home: Path) -> Iterator[None]:
    """Run a Celery worker whose channels reach the providers on `port`, until it answers and then inside this block."""
    from maxxit.celery import app

    own = {"MAXXIT_TEST_PROVIDERS": str(port), "TELEGRAM_BASE_URL": f"http://127.0.0.1:{port}"}
    command = [
        sys.executable,
        "-m",
        "celery",
        "--quiet",
        "-A",
        "maxxit.celery",
        "worker",
        "-c",
        "2",
        "--without-mingle",
    ]
    with (home / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-Q", "market,notify,default", "-n", "bench@localhost", "--without-mingle",
             "-I", "tests.notify.loopback"],
            env=os.environ | own, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT,
        )  # fmt: skip
    try:
        ends = time.monotonic() + PATIENCE
        while not app.control.ping(["bench@localhost"], timeout=0.5):
            if time.monotonic() > ends or process.poll() is not None:
                raise SystemExit(f"the worker does not answer:\n{(home / 'worker.log').read_text()[-3000:]}")
        yield
    finally:
        process.terminate()
        process.wait(30)


def _fire(number: int, wanted: list[str]) -> float:
    """Add a rule for each user and accept the price that it waits for; return when, in monotonic seconds."""
    from django.contrib.auth.models import User

    from maxxit.core import clock
    from maxxit.market import intake
    from maxxit.market.feeds.base import Tick
    from maxxit.notify import rules
    from maxxit.notify.models import PriceRule

    PriceRule.objects.update(active=False)  # those of the round before
    price = Decimal(60_000 + 10 * number)
    for user, channel in zip(User.objects.order_by("pk"), wanted, strict=True):
        rules.add(user, ["BTC"], "gt", threshold=price - 5, channel=channel)
    began = time.monotonic()
    intake.take([Tick("BTC", price, clock.now(), "coinbase")])
    return began


def _wait(one: Sink, mails: MailServer, count: int) -> None:
    """Wait until every message is there; a mail is noted as the arrival that it is."""
    ends = time.monotonic() + PATIENCE
    while len(one.came) < count:
        while mails.mails:
            mail, now = mails.mails.pop(0), time.monotonic()
            one.came[f"email/{mail['To']}/{mail['Subject']}"].append(Arrival(now))
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
    parser.add_argument("--users", type=int, default=14)
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
