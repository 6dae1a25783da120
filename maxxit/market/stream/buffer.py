"""Bounded, thread-safe buffers between the sources of ticks and the writers of quotes and the Redis stream."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Event, Lock

from maxxit.market.candles import Span
from maxxit.market.feeds.base import Tick


@dataclass
class _Slot:
    """The ticks of one symbol and source since the last `take`, merged."""

    last: Tick
    open: Decimal
    high: Decimal
    low: Decimal


@dataclass
class Batch:
    """The result of one `take`."""

    ticks: list[Tick] = field(default_factory=list)
    """The newest of each symbol and source."""
    spans: dict[tuple[str, str], Span] = field(default_factory=dict)
    """(symbol, source) -> price range since the last `take`."""
    odd: list[Tick] = field(default_factory=list)
    """Invalid prices and jumps: they are validated separately and do not replace the source's last price."""


class Buffer:
    """Merges ticks to the newest one and the price range per symbol and source, so that memory is bounded."""

    def __init__(self, max_jump_pct: Decimal) -> None:
        self.factor = 1 + max_jump_pct / 100
        self.arrived = Event()
        self.received = self.merged = self.late = self.repeated = 0
        self._lock = Lock()
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._odd: dict[tuple[str, str], Tick] = {}
        self._newest: dict[tuple[str, str], Tick] = {}

    def put(self, tick: Tick) -> bool:
        """Add a tick; return whether it is valid and newer than the source's last one."""
        key, price, news = (tick.symbol, tick.source), tick.price, False
        with self._lock:
            self.received += 1
            slot, newest = self._slots.get(key), self._newest.get(key)
            if not (price.is_finite() and price > 0):
                self._odd[key] = tick
            elif newest and (tick.at < newest.at or tick == newest):
                self.repeated += tick == newest
                self.late += tick.at < newest.at
                return False
            elif slot is None:
                self._slots[key] = _Slot(tick, price, price, price)
                self._newest[key] = tick
                news = True
            elif price > slot.last.price * self.factor or slot.last.price > price * self.factor:
                self._odd[key] = tick
            else:
                self.merged += 1
                slot.last = self._newest[key] = tick
                news = True
                slot.high, slot.low = max(slot.high, price), min(slot.low, price)
        self.arrived.set()
        return news

    def take(self) -> Batch:
        """Remove and return everything added since the last call."""
        with self._lock:
            slots, self._slots = self._slots, {}
            odd, self._odd = self._odd, {}
            self.arrived.clear()
        spans = {
            key: Span(slot.last.symbol, slot.last.at, slot.open, slot.high, slot.low, slot.last.price)
            for key, slot in slots.items()
        }
        return Batch([slot.last for slot in slots.values()], spans, list(odd.values()))

    def give_back(self, batch: Batch) -> None:
        """Put back a batch that could not be written; newer ticks take precedence."""
        with self._lock:
            for tick in batch.ticks:
                span = batch.spans[tick.symbol, tick.source]
                slot = self._slots.setdefault(
                    (tick.symbol, tick.source), _Slot(tick, span.open, span.high, span.low)
                )
                slot.open, slot.high, slot.low = span.open, max(slot.high, span.high), min(slot.low, span.low)
            for tick in batch.odd:
                self._odd.setdefault((tick.symbol, tick.source), tick)


class Outbox:
    """A bounded queue of ticks for the Redis stream, oldest first; when full it drops and counts the oldest."""

    def __init__(self, most: int) -> None:
        self.dropped = self.sent = 0
        self.arrived = Event()
        self._lock = Lock()
        self._ticks: deque[Tick] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._ticks)

    def put(self, tick: Tick) -> None:
        """Append a tick."""
        with self._lock:
            self.dropped += len(self._ticks) == self._ticks.maxlen
            self._ticks.append(tick)
        self.arrived.set()

    def take(self, most: int) -> list[Tick]:
        """Remove and return up to `most` of the oldest ticks."""
        with self._lock:
            taken = [self._ticks.popleft() for _ in range(min(most, len(self._ticks)))]
            if not self._ticks:
                self.arrived.clear()
        return taken

    def give_back(self, ticks: Iterable[Tick]) -> None:
        """Put unsent ticks back to the front, as far as there is room."""
        with self._lock:
            for tick in reversed(list(ticks)):
                if len(self._ticks) == self._ticks.maxlen:
                    self.dropped += 1
                else:
                    self._ticks.appendleft(tick)
        self.arrived.set()
