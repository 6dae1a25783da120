"""The stream process: wait for the lease, open the sources, store their ticks, and release the lease on stop."""

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
import structlog
from django.db import Error as DatabaseError
from django.db import connection

from maxxit.core import clock
from maxxit.core.errors import Misconfigured
from maxxit.market import intake, quotes
from maxxit.market.feeds.base import PriceFeed, Tick
from maxxit.market.feeds.coinbase import Coinbase
from maxxit.market.feeds.wire import checked_url
from maxxit.market.instruments import all_instruments
from maxxit.market.stream.backoff import delay
from maxxit.market.stream.buffer import Buffer, Outbox
from maxxit.market.stream.bus import Publisher
from maxxit.market.stream.coinbase import CoinbaseSocket
from maxxit.market.stream.lease import Lease
from maxxit.market.stream.poller import Poller
from maxxit.market.stream.status import STATUS, STATUS_SECONDS

log = structlog.get_logger(__name__)

JOIN_SECONDS = 1.0


class Stream:
    """One stream process. `run` returns after `stop` is set; a hanging source does not delay it."""

    def __init__(self, bus: redis.Redis, feeds: Sequence[PriceFeed]) -> None:
        policy = quotes.policy()
        self.policy, self.bus, self.feeds = policy.stream, bus, feeds
        self.stop = threading.Event()
        self.lease = Lease(bus)
        self.buffer = Buffer(policy.max_jump_pct)
        self.outbox = Outbox(self.policy.keep_ticks)  # Redis keeps no more ticks than this
        self.leading = False
        self.quotes = self.flushes = self.failures = 0
        self._told = 0.0
        self._sources: list[Poller | CoinbaseSocket] = []

    def put(self, tick: Tick) -> None:
        """Take a tick of a source; invalid and repeated ticks are not published."""
        if self.buffer.put(tick):
            self.outbox.put(tick)

    def run(self) -> None:
        """Lead while holding the lease, until `stop` is set."""
        waited = 0
        while not self.stop.is_set():
            try:
                mine = self.lease.acquire()
            except redis.RedisError as error:
                log.warning("lease_unknown", error=str(error))
                self.stop.wait(delay(waited, most=5))
                waited += 1
                continue
            waited = 0
            if mine:
                self._lead()
            else:
                self.stop.wait(1)

    def sources(self) -> list[Poller | CoinbaseSocket]:
        """Return the threads: a poller per feed, and a socket for a feed with a WebSocket. Raises `Misconfigured`."""
        symbols, found = list(all_instruments()), list[Poller | CoinbaseSocket]()
        for feed in self.feeds:
            poller = Poller(feed, symbols, self.policy.poll_seconds, self.put)
            stanza = self.policy.websockets.get(feed.name)
            if stanza:
                if not isinstance(feed, Coinbase):
                    raise Misconfigured(
                        f"config/feeds.yaml: stream.websockets.{feed.name}: only coinbase has one"
                    )
                url = checked_url(feed.name, stanza["url"])
                socket = CoinbaseSocket(
                    feed.name,
                    url,
                    feed.ids,
                    self.put,
                    heal=poller.ask_now,
                    silence=self.policy.silence_seconds,
                )
                poller.covered = lambda socket=socket: socket.live  # type: ignore[misc]
                found.append(socket)
            found.append(poller)
        return found

    def _lead(self) -> None:
        log.info("stream_leads", owner=self.lease.owner, feeds=[feed.name for feed in self.feeds])
        self._sources, self.leading = self.sources(), True
        publisher = Publisher(self.bus, self.lease, self.outbox, keep=self.policy.keep_ticks)
        for thread in (publisher, *self._sources):
            thread.start()
        try:
            self._work()
        finally:
            self._release(publisher)

    def _work(self) -> None:
        pause = self.policy.flush_milliseconds / 1000
        while not self.stop.is_set():
            self.buffer.arrived.wait(pause)
            began = time.monotonic()
            if not self._may_write():
                return
            if not self.flush():
                self.stop.wait(delay(self.failures, base=0.2, most=5))
            self.stop.wait(max(0.0, pause - (time.monotonic() - began)))

    def _may_write(self) -> bool:
        """Return whether this process may write: it leads, or Redis is unavailable (writes are idempotent)."""
        try:
            if not self.lease.still_mine():
                log.warning("lease_lost", owner=self.lease.owner)
                return False
            if time.monotonic() - self._told > 1:
                self._told = time.monotonic()
                self.bus.set(STATUS, json.dumps(self.describe()), ex=STATUS_SECONDS)
        except redis.RedisError as error:
            log.warning("lease_unknown", error=str(error))
        return True

    def flush(self) -> bool:
        """Store the ticks since the last flush; return False when the database failed (the batch is kept)."""
        batch = self.buffer.take()
        if not batch.ticks and not batch.odd:
            return True
        try:
            moved = intake.take(batch.ticks, batch.spans)
            if batch.odd:
                moved = [*moved, *intake.take(batch.odd)]
        except DatabaseError as error:
            self.failures += 1
            log.warning("quotes_not_written", error=str(error), failures=self.failures)
            connection.close()
            self.buffer.give_back(batch)
            return False
        self.quotes, self.flushes, self.failures = self.quotes + len(moved), self.flushes + 1, 0
        return True

    def _release(self, publisher: Publisher) -> None:
        """Stop the sources, store the rest and release the lease, within three seconds."""
        for source in self._sources:
            source.end()
        end = time.monotonic() + JOIN_SECONDS
        for source in self._sources:
            source.join(max(0.0, end - time.monotonic()))
        self.flush()
        publisher.stop.set()
        publisher.join(JOIN_SECONDS)
        self.leading = False
        try:
            self.lease.release()
            self.bus.delete(STATUS)
        except redis.RedisError as error:
            log.warning("lease_not_released", error=str(error))
        log.info("stream_stopped", **self.describe())

    def describe(self) -> dict[str, Any]:
        """Return counters since the start, and each source's health."""
        sources = []
        for one in self._sources:
            if isinstance(one, Poller):
                said = {"asked": one.asked, "failures": one.failures}
            else:
                said = {
                    "live": one.live,
                    "connects": one.connects,
                    "gaps": one.gaps,
                    "malformed": one.malformed,
                }
            sources.append({"name": one.name, "error": one.error, **said})
        return {
            "at": clock.now().isoformat(),
            "owner": self.lease.owner,
            "ticks": self.buffer.received,
            "merged": self.buffer.merged,
            "late": self.buffer.late,
            "repeated": self.buffer.repeated,
            "quotes": self.quotes,
            "published": self.outbox.sent,
            "dropped": self.outbox.dropped,
            "waiting": len(self.outbox),
            "sources": sources,
        }
