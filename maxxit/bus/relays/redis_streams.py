"""Relay to Redis Streams: one stream for each topic, of bounded length, for consumer groups.

A batch and the id of its last event are written in one step. So a batch whose answer was lost is not written twice,
and a Redis that lost its memory is noticed: the newest `keep` events are written again, with the same event ids.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgpack
import redis

from maxxit.bus.messages import TOPICS, Message
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.market.stream.status import open_bus

WRITE = """
local last = redis.call('get', KEYS[1]) or '-1'
if string.match(last, '^%-?%d+') ~= ARGV[1] then return last end
local entries = cmsgpack.unpack(ARGV[4])
for i = 1, #entries, 4 do
    redis.call('xadd', KEYS[entries[i]], 'MAXLEN', '~', ARGV[3], '*',
               'event_id', entries[i + 1], 'name', entries[i + 2], 'message', entries[i + 3])
end
redis.call('set', KEYS[1], ARGV[2])
return ARGV[2]
"""
"""Write a batch if the newest event there is the expected one; return id and mark of the newest, -1 for none."""


class RedisStreams:
    """Streams `<prefix>:events`, `<prefix>:updates` and `<prefix>:ticker`; fields event_id, name and message (JSON)."""

    def __init__(
        self, *, prefix: str = "maxxit:bus", keep: int = 100_000, groups: Sequence[str] = (), url: str = ""
    ) -> None:
        """Args: keep: entries of each stream, about. groups: consumer groups that are made at the start."""
        if keep < 1:
            raise Misconfigured(f"config/bus.yaml: redis.options.keep is {keep}: give at least 1")
        self._keep, self._groups = keep, tuple(groups)
        self.streams = {topic: f"{prefix}:{topic}" for topic in TOPICS}
        self._newest = f"{prefix}:newest"
        self._bus = open_bus(url or os.environ.get("BUS_REDIS_URL", ""))
        self._write = self._bus.register_script(WRITE)
        self._without_groups = bool(groups)
        self._mark = ""

    def begin(self, position: int) -> None:
        """Note that the newest event there is `position`."""
        with _retryable():
            self._bus.set(self._newest, position)

    def send(self, messages: Sequence[Message], after: int, upto: int) -> int:
        """See `Relay.send`."""
        places = {topic: number for number, topic in enumerate(TOPICS, start=2)}
        fields: list[str | int] = []
        for one in messages:
            fields += (places[one.topic], one.event_id, one.name, one.as_json())
        with _retryable():
            self._make_groups()
            keys = [self._newest, *self.streams.values()]
            packed = msgpack.packb(fields)  # one argument: redis-py takes a while for each
            mark = next((one.mark for one in reversed(messages) if one.topic == "events"), "")
            answer = self._write(keys=keys, args=[after, f"{upto} {mark}", self._keep, packed])
            found, _, self._mark = answer.decode().partition(" ")
            if int(found) >= 0:
                return int(found)
            self._without_groups = bool(self._groups)
            again = max(0, after - self._keep)
            self._bus.set(self._newest, again)
            return again

    def newest(self) -> str:
        """See `Relay.newest`."""
        return self._mark

    def publish(self, messages: Sequence[Message]) -> None:
        """See `Relay.publish`."""
        with _retryable(), self._bus.pipeline(transaction=False) as pipe:
            for one in messages:
                entry = {"event_id": one.event_id, "name": one.name, "message": one.as_json()}
                pipe.xadd(self.streams[one.topic], entry, maxlen=self._keep)  # type: ignore[arg-type]
            pipe.execute()

    def close(self) -> None:
        """Close the connections."""
        self._bus.close()

    def _make_groups(self) -> None:
        """Make the configured consumer groups, which then miss nothing from here on."""
        if not self._without_groups:
            return
        for stream in self.streams.values():
            for group in self._groups:
                try:
                    self._bus.xgroup_create(stream, group, id="$", mkstream=True)
                except redis.ResponseError as error:
                    if "BUSYGROUP" not in str(error):
                        raise
        self._without_groups = False


@contextmanager
def _retryable() -> Iterator[None]:
    try:
        yield
    except redis.AuthenticationError as error:
        raise Misconfigured(f"BUS_REDIS_URL: Redis refuses the login: {error}") from error
    except redis.RedisError as error:
        raise Retryable(f"Redis: {error}") from error
