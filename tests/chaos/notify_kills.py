"""Workers killed while they send notifications: what becomes of each message.

    python -m tests.chaos.notify_kills --kills 100 --seed 1

Events reach 150 subscribers on five channels, one after the other; a worker is killed (SIGKILL) at a random moment
within two seconds of its first message, and the next one starts at once. One request in 40 is taken by the provider and
never answered. At the end each (event, subscriber) must have come: once, or again where no worker had read an answer
before: the provider had given none yet, or it lay unread in the socket of the worker that died. Nobody can know then
whether the message came. What was read and still came twice is counted apart, and must be next to nothing: the worker
died between two lines of code, the answer and its receipt.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.notify.crowd import (
    ANSWERS,
    HTTP,
    Arrival,
    Sink,
    Workers,
    announce,
    installation,
    noted_answers,
    sink,
    subscribe,
)

LATENCY = 0.03
"""Seconds of a provider's answer."""
RULES = {
    "pass_seconds": 2, "claim_seconds": 14, "first_wait_seconds": 1, "tries": 50, "per_minute": 10_000,
    "per_second": {}, "breaker_failures": 100, "most_wait_seconds": 5,
}  # fmt: skip
"""Of config/notify.yaml: what a dead worker held is due again after 14 s instead of 120."""
PATIENCE = 300.0
PENDING = "SELECT count(*) FROM alerts WHERE state = 'pending'"
UNSENT = "SELECT count(*) FROM alerts WHERE state <> 'sent'"


@dataclass
class Outcome:
    """What became of the messages."""

    kills: int = 0
    messages: int = 0
    once: int = 0
    again_unanswered: int = 0
    """Came more than once; each earlier time the provider had not answered when the worker died or hung up."""
    again_unread: int = 0
    """Came more than once; the provider had answered, and the worker died before it read that."""
    again_read: int = 0
    """Came again although a worker had read the answer before."""
    lost: int = 0
    not_sent: int = 0
    """Deliveries that the database does not call sent."""

    @property
    def ok(self) -> bool:
        """Return whether nothing was lost, and at most one message in twenty came again after its answer was read."""
        return not self.lost and not self.not_sent and self.again_read * 20 <= self.messages


def count(sql: str) -> int:
    """Return the number that a statement counts."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def campaign(kills: int, seed: int, subscribers: int = 150) -> Outcome:
    """Kill workers while they send; return what became of the messages."""
    dice = random.Random(seed)
    with sink(seconds=dict.fromkeys(HTTP, LATENCY), mute_every=40) as one, installation(**RULES) as home:
        subscribe([HTTP[number % len(HTTP)] for number in range(subscribers)], one.port)
        workers, events, killed = Workers(one.port), 0, list[float]()
        try:
            while len(killed) < kills:
                if count(PENDING) < subscribers:
                    events += 1
                    announce(f"event-{events}")
                pid, before = workers.start(), one.requests
                ends = time.monotonic() + 20
                while one.requests == before and time.monotonic() < ends:
                    time.sleep(0.002)
                time.sleep(dice.uniform(0, 2.0))
                os.kill(pid, signal.SIGKILL)
                killed.append(time.monotonic())
            workers.start()
            ends = time.monotonic() + PATIENCE
            while count(UNSENT) and time.monotonic() < ends:
                time.sleep(0.5)
            return judge(
                one, killed, events * subscribers, count(UNSENT), read_answers(home / "data" / ANSWERS)
            )
        finally:
            workers.stop()


def read_answers(file: Path) -> Counter[str]:
    """Return message, as the sink names it -> how often a worker read an answer to it."""
    from maxxit.notify.channels import push
    from maxxit.notify.models import Alert

    read = Counter(noted_answers(file))
    names: Counter[str] = Counter()
    for row in Alert.objects.exclude(channel="inbox").select_related("event"):
        ident = f"a_{row.pk}"
        topic = push.encode(hashlib.sha256(ident.encode()).digest())[:32]
        what = topic if row.channel == "push" else row.event.data["text"]
        names[f"{row.channel}/{row.user_id}/{what}"] = read[ident]
    return names


def judge(one: Sink, killed: list[float], messages: int, not_sent: int, read: Counter[str]) -> Outcome:
    """Compare what came with what was sent."""
    outcome = Outcome(len(killed), messages, lost=messages - len(one.came), not_sent=not_sent)
    for name, arrivals in one.came.items():
        if len(arrivals) == 1:
            outcome.once += 1
        elif read[name] > 1:
            outcome.again_read += 1
        elif all(_unanswered(arrival, killed) for arrival in arrivals[:-1]):
            outcome.again_unanswered += 1
        else:
            outcome.again_unread += 1
    return outcome


def _unanswered(arrival: Arrival, killed: list[float]) -> bool:
    """Return whether the provider had not answered when the worker died, or never did."""
    return arrival.answered is None or any(arrival.at <= at <= arrival.answered for at in killed)


def main() -> None:
    """Run the campaign; exit 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    outcome = campaign(options.kills, options.seed)
    print(f"{outcome} in {time.monotonic() - began:.0f} s, seed {options.seed}")
    sys.exit(0 if outcome.ok else 1)


if __name__ == "__main__":
    main()
