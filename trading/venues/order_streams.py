"""Listen to what venues say of orders as it happens, and wake their settlement: one listener for each account.

What is heard is only a hint. An order is settled by what `Venue.find` returns, and the sweeps find what was not heard.
"""

import queue
import threading
import time
from functools import partial

import redis
import structlog
from django.db import Error as DatabaseError
from django.db import close_old_connections

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.terms import Purpose
from maxxit.events import wake
from maxxit.market.stream.lease import Lease
from trading.models import Order
from trading.passes import ends_the_pass
from trading.venues.base import Listener
from trading.wiring import keeps_exits, venue

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 30
"""How often accounts are looked up: new ones are listened to, and those whose listener ended get another."""
MISSED = ""
"""Heard in place of an order: something may have been missed."""

Account = tuple[str, str]
"""(venue, account)"""


class OrderStreams:
    """All listeners of this process. `run` returns after `stop` is set."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.listeners: dict[Account, Listener] = {}
        self._heard: queue.Queue[tuple[str, str]] = queue.Queue()
        """Venue and client order id."""

    def run(self, lease: Lease) -> None:
        """Listen and wake while this process holds the lease, until `stop` is set."""
        while not self.stop.is_set():
            try:
                if lease.acquire():
                    self._lead(lease)
                    lease.release()
            except (redis.RedisError, DatabaseError) as error:
                log.warning("order_streams_lost", error=str(error))
            self.stop.wait(1)

    def _lead(self, lease: Lease) -> None:
        next_look = 0.0
        try:
            while not self.stop.is_set() and lease.still_mine():
                close_old_connections()
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + REFRESH_SECONDS
                    self.refresh()
                self.wake_heard(seconds=0.5)
        finally:
            for listener in self.listeners.values():
                listener.end()
            self.listeners.clear()

    def refresh(self) -> None:
        """Start a listener for each account that has none that lives, and end those of accounts that are gone."""
        rows = Deployment.objects.filter(state=DeploymentState.ACTIVE).order_by("pk")
        wanted = set(rows.values_list("agent__venue", "account"))
        for gone in self.listeners.keys() - wanted:
            self.listeners.pop(gone).end()
        for name, account in sorted(wanted):
            known = self.listeners.get((name, account))
            if known is not None and known.is_alive():
                continue
            try:
                listener = venue(name).order_listener(account, partial(self._hear, name))
            except Exception as error:  # the next look tries again; other accounts are listened to
                if ends_the_pass(error):
                    raise
                log.warning("order_stream_not_opened", venue=name, account=account, error=str(error))
                continue
            if listener is not None:
                self.listeners[name, account] = listener
                listener.start()

    def _hear(self, venue_name: str, client_order_id: str) -> None:
        self._heard.put((venue_name, client_order_id))

    def wake_heard(self, *, seconds: float) -> int:
        """Wait for something to be heard, and wake the settlement of all that was; return how many orders."""
        try:
            heard = {self._heard.get(timeout=seconds)}
        except queue.Empty:
            return 0
        while not self._heard.empty():
            heard.add(self._heard.get_nowait())
        ids = {client_order_id for _, client_order_id in heard}
        purposes = dict(
            Order.objects.filter(client_order_id__in=ids).values_list("client_order_id", "purpose")
        )
        events = {event for name, one in heard for event in _events(name, one, purposes.get(one, ""))}
        for event in sorted(events):
            wake.after_commit(event)
        return len(heard)


def _events(venue_name: str, client_order_id: str, purpose: str) -> set[str]:
    """Return the events of an order of this purpose; one that is none of ours may be an exit that the venue keeps."""
    if client_order_id == MISSED:
        events = {"entry.heard", "exit.heard", "leg.heard"}
    elif not purpose:
        events = {"leg.heard"}
    else:
        events = {"entry.heard" if purpose == Purpose.OPEN else "exit.heard"}
    return events if keeps_exits(venue_name) else events - {"leg.heard"}
