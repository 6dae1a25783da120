"""Leader election of stream processes by a Redis key with a time to live."""

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
    """This process's claim to lead. `owner` is the fencing token that publishing checks."""

    def __init__(self, bus: redis.Redis, key: str = KEY, seconds: float = LEASE_SECONDS) -> None:
        self.bus, self.key, self.milliseconds = bus, key, int(seconds * 1000)
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._renewed = 0.0
        self._renew = bus.register_script(_RENEW)
        self._release = bus.register_script(_RELEASE)

    def acquire(self) -> bool:
        """Take the lease if it is free; return whether it was. Raises redis.RedisError when Redis does not answer."""
        if self.bus.set(self.key, self.owner, nx=True, px=self.milliseconds):
            self._renewed = time.monotonic()
            return True
        return False

    def still_mine(self) -> bool:
        """Renew the lease when due; return False when another process has it.

        After a pause of this process or a restart of Redis, ownership is checked in Redis before anything is written.
        While Redis does not answer, no other process can take the lease either: redis.RedisError is raised, and the
        caller may continue idempotent writes.
        """
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return True
        if self._renew(keys=[self.key], args=[self.owner, self.milliseconds]):
            self._renewed = time.monotonic()
            return True
        return self.acquire()

    def release(self) -> None:
        """Release the lease, so that another process leads at once."""
        self._release(keys=[self.key], args=[self.owner])
