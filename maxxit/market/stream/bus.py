"""Publish ticks from the outbox to the Redis stream in batches; the lease fences off a replaced leader."""

import threading
from collections.abc import Sequence

import redis
import structlog

from maxxit.market import ticks
from maxxit.market.feeds.base import Tick
from maxxit.market.stream.backoff import delay
from maxxit.market.stream.buffer import Outbox
from maxxit.market.stream.lease import Lease

log = structlog.get_logger(__name__)

MOST = 500
"""Ticks per request."""
_PUBLISH = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return -1 end
for i = 3, #ARGV do redis.call('xadd', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'tick', ARGV[i]) end
return #ARGV - 2
"""


class Publisher(threading.Thread):
    """Thread that publishes the outbox until `stop` is set, then the rest."""

    def __init__(
        self,
        bus: redis.Redis,
        lease: Lease,
        outbox: Outbox,
        *,
        keep: int,
        stream: str = ticks.STREAM,
    ) -> None:
        super().__init__(name="publisher", daemon=True)
        self.lease, self.outbox, self.keep, self.stream = lease, outbox, keep, stream
        self.stop = threading.Event()
        self.errors = 0
        self._publish = bus.register_script(_PUBLISH)

    def run(self) -> None:
        """Publish until `stop` is set."""
        failures = 0
        while not self.stop.is_set() or (len(self.outbox) and not failures):
            self.outbox.arrived.wait(0.2)
            batch = self.outbox.take(MOST)
            if not batch:
                continue
            try:
                self.publish(batch)
                failures = 0
            except redis.RedisError as error:
                self.outbox.give_back(batch)
                self.errors += 1
                log.warning("bus_silent", error=str(error), waiting=len(self.outbox))
                self.stop.wait(delay(failures, base=0.1, most=5))
                failures += 1

    def publish(self, batch: Sequence[Tick]) -> None:
        """Publish a batch in one request. If the lease is lost the ticks are dropped: the new leader has its own."""
        lines = [ticks.encode(tick) for tick in batch]
        done = self._publish(keys=[self.lease.key, self.stream], args=[self.lease.owner, self.keep, *lines])
        self.outbox.sent += max(0, int(done))
