"""What time is it? The only place that asks, so that replay can answer from its record."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, time, timedelta

_recorded: ContextVar[datetime | None] = ContextVar("recorded_clock", default=None)


def now() -> datetime:
    """The present moment in UTC: the machine's, or the recorded one inside `frozen`."""
    return _recorded.get() or datetime.now(UTC)


@contextmanager
def frozen(moment: datetime) -> Iterator[None]:
    """Inside this block `now()` is `moment` (timezone-aware)."""
    if moment.tzinfo is None:
        raise ValueError("a recorded clock needs a time zone")
    token = _recorded.set(moment)
    try:
        yield
    finally:
        _recorded.reset(token)


def bucket(moment: datetime, width: timedelta) -> datetime:
    """The start of the UTC bucket of `width` that holds `moment` (6-hour buckets start at 00, 06, 12, 18)."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // width * width


def utc(moment: datetime) -> datetime:
    """`moment` in UTC; without a zone it is UTC already. Raises ValueError where UTC's calendar has no such moment."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} lies outside the calendar") from None


def iso_utc(moment: datetime) -> str:
    """`moment` as UTC ISO 8601 with milliseconds: 2026-01-31T09:30:00.125Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration_text(seconds: float) -> str:
    """Seconds, or h:mm:ss from two minutes on."""
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=int(seconds)))


def day(text: str, *, after: bool = False) -> datetime:
    """A UTC date (or ISO time) as people write them; `after` gives the end of that day. Raises ValueError."""
    moment = utc(datetime.fromisoformat(text))
    whole_day = moment.time() == time(0) and len(text) == 10
    return moment + timedelta(days=1) if after and whole_day else moment
