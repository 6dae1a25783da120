"""Between those who hear ticks and those who write them down: two bounded stores, safe between threads."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Event, Lock

from maxxit.market.candles import Span
from maxxit.market.feeds.base import Tick


@dataclass
class _Slot:
    """What one source said of one symbol since the last time somebody looked."""

    last: Tick
    open: Decimal
    high: Decimal
    low: Decimal


@dataclass
class Batch:
    """What came together in one look."""

    ticks: list[Tick] = field(default_factory=list)
    """The newest of each symbol and source."""
    spans: dict[tuple[str, str], Span] = field(default_factory=dict)
    """(symbol, source) -> where the price went meanwhile."""
    odd: list[Tick] = field(default_factory=list)
    """Prices that are none, or far from the one before: they count as the last word of nobody."""


class Buffer:
    """Keeps the newest tick per symbol and source and the range in between: memory follows symbols, not ticks."""

    def __init__(self, max_jump_pct: Decimal) -> None:
        self.factor = 1 + max_jump_pct / 100
        self.arrived = Event()
        self.received = self.merged = self.late = self.repeated = 0
        self._lock = Lock()
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._odd: dict[tuple[str, str], Tick] = {}
        self._newest: dict[tuple[str, str], Tick] = {}

    def put(self, tick: Tick) -> bool:
        """Take one tick; whether it is news: neither nonsense, nor the same as or older than its source's last."""
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
        """Everything since the last call."""
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
        """It could not be written: it counts again, unless newer came meanwhile."""
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
    """Ticks on their way to the bus, oldest first; when it is full the oldest is dropped and counted."""

    def __init__(self, most: int) -> None:
        self.dropped = self.sent = 0
        self.arrived = Event()
        self._lock = Lock()
        self._ticks: deque[Tick] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._ticks)

    def put(self, tick: Tick) -> None:
        """Take one tick."""
        with self._lock:
            self.dropped += len(self._ticks) == self._ticks.maxlen
            self._ticks.append(tick)
        self.arrived.set()

    def take(self, most: int) -> list[Tick]:
        """Up to `most` of the oldest; they are gone from here."""
        with self._lock:
            taken = [self._ticks.popleft() for _ in range(min(most, len(self._ticks)))]
            if not self._ticks:
                self.arrived.clear()
        return taken

    def give_back(self, ticks: Iterable[Tick]) -> None:
        """They could not be sent: they go first again, as far as there is room."""
        with self._lock:
            for tick in reversed(list(ticks)):
                if len(self._ticks) == self._ticks.maxlen:
                    self.dropped += 1
                else:
                    self._ticks.appendleft(tick)
        self.arrived.set()
