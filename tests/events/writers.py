"""Transactions of other connections that write events."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection

INSERT = "INSERT INTO events (at, name, subject, correlation_id, data) VALUES (now(), %s, %s, NULL, '{}') RETURNING id"


@contextmanager
def another_connection() -> Iterator["psycopg.Connection[tuple[int]]"]:
    """A connection to the test's database that commits only when told to."""
    given = connection.get_connection_params()
    names = ("dbname", "user", "password", "host", "port")
    values = {name: given[name] for name in names if given.get(name)}
    with psycopg.connect(**values) as other:
        yield other
        other.rollback()


def insert(
    other: "psycopg.Connection[tuple[int]]", name: str = "test.written", subject: str = "test.row/1"
) -> int:
    """Insert one event without committing; return its id."""
    row = other.execute(INSERT, [name, subject]).fetchone()
    assert row
    return row[0]


class Writers:
    """Threads that write events in transactions of random length, of which some are rolled back."""

    def __init__(self, threads: int, transactions: int, seed: int) -> None:
        self.committed: list[int] = []
        self.started = 0
        self._threads = [
            threading.Thread(target=self._write, args=(transactions, random.Random(seed + number)))
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start them."""
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Whether any still writes."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join()

    def _write(self, transactions: int, chance: random.Random) -> None:
        with another_connection() as other:
            for _ in range(transactions):
                ids = []
                for _ in range(chance.randint(1, 4)):
                    ids.append(insert(other))
                    time.sleep(chance.random() * 0.004)
                if chance.random() < 0.2:
                    other.rollback()
                else:
                    other.commit()
                    self.committed += ids
