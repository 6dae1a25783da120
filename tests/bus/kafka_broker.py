"""librdkafka's mock cluster in a process of its own, so that tests may stop it (`python -m tests.bus.kafka_broker`)."""

import os
import signal
import subprocess
import sys
import time

from confluent_kafka import Producer

from maxxit.embedded.processes import bound_to_parent


class Broker:
    """The running broker; `servers` is its address."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bus.kafka_broker"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=bound_to_parent(signal.SIGKILL),
        )
        assert self._process.stdout
        self.servers = self._process.stdout.readline().decode().strip()
        assert self.servers, "the broker did not start"

    def freeze(self) -> None:
        """Let it answer nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


if __name__ == "__main__":
    broker = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1})
    print(
        *(f"{one.host}:{one.port}" for one in broker.list_topics(timeout=20).brokers.values()),
        sep=",",
        flush=True,
    )
    while True:
        time.sleep(3600)
