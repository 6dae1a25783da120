"""The clock: the only module that reads the system time, so that a replay can substitute a recorded one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, time, timedelta

_recorded: ContextVar[datetime | None] = ContextVar("recorded_clock", default=None)


def now() -> datetime:
    """Return the current time in UTC: the system clock's, or the recorded one inside `frozen`."""
    return _recorded.get() or datetime.now(UTC)


@contextmanager
def frozen(moment: datetime) -> Iterator[None]:
    """Make `now()` return `moment` (timezone-aware) inside this block."""
    if moment.tzinfo is None:
        raise ValueError("a recorded clock needs a time zone")
    token = _recorded.set(moment)
    try:
        yield
    finally:
        _recorded.reset(token)


def bucket(moment: datetime, width: timedelta) -> datetime:
    """Return the start of the UTC bucket of `width` that contains `moment` (6-hour buckets: 00, 06, 12, 18)."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // width * width


def utc(moment: datetime) -> datetime:
    """Convert `moment` to UTC; a naive one is taken as UTC. Raises ValueError outside the years 1 to 9999."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is outside the years 1 to 9999 in UTC") from None


def iso_utc(moment: datetime) -> str:
    """Format `moment` as UTC ISO 8601 with milliseconds: 2026-01-31T09:30:00.125Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration_text(seconds: float) -> str:
    """Format a duration: "90 s" below two minutes, else "h:mm:ss"."""
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=int(seconds)))


def day(text: str, *, after: bool = False) -> datetime:
    """Parse a UTC date or ISO time; `after` gives the end of a whole day. Raises ValueError."""
    moment = utc(datetime.fromisoformat(text))
    whole_day = moment.time() == time(0) and len(text) == 10
    return moment + timedelta(days=1) if after and whole_day else moment
