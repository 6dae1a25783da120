"""Of several stream processes one leads; the others wait. The lease is a key in Redis with a time to live."""

import os
import secrets
import socket
import time

import redis

KEY = "maxxit:stream:leader"
LEASE_SECONDS = 10.0
RENEW_SECONDS = 2.0
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Lease:
    """This process's claim. `owner` is its fencing token: what is published carries it."""

    def __init__(self, bus: redis.Redis, key: str = KEY, seconds: float = LEASE_SECONDS) -> None:
        self.bus, self.key, self.milliseconds = bus, key, int(seconds * 1000)
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._renewed = 0.0
        self._renew = bus.register_script(_RENEW)
        self._release = bus.register_script(_RELEASE)

    def acquire(self) -> bool:
        """Take it if nobody has it. Raises redis.RedisError when Redis does not answer."""
        if self.bus.set(self.key, self.owner, nx=True, px=self.milliseconds):
            self._renewed = time.monotonic()
            return True
        return False

    def still_mine(self) -> bool:
        """Renew it when that is due; False when another process has it now.

        After a pause of this process (or a restart of Redis) the answer comes from Redis, before anything is
        written. While Redis does not answer nobody else can take the lease either: redis.RedisError is raised and
        the caller may go on writing what is safe to write twice.
        """
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return True
        if self._renew(keys=[self.key], args=[self.owner, self.milliseconds]):
            self._renewed = time.monotonic()
            return True
        return self.acquire()

    def release(self) -> None:
        """Let the next one lead at once."""
        self._release(keys=[self.key], args=[self.owner])
