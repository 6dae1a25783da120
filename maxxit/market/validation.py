"""Price validation across sources. Pure: the newest tick of each source in, one verdict per symbol out.

Each tick is checked alone: positive, neither stale nor from the future, confident enough, no jump. Then ticks of about
the same time are compared with their median (two ticks with each other). The prices of an agreeing strict majority are
accepted and the others rejected; without a majority the symbol is not traded for entries, while exits use the price
nearest the median.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Annotated

from pydantic import Field

from maxxit.core.config import BasisPoints, Policy, Seconds
from maxxit.core.money import plain
from maxxit.core.terms import BPS
from maxxit.market.feeds.base import Tick
from maxxit.market.reasons import QuoteReason

CLOCK_SKEW = timedelta(seconds=5)
"""How far a source's clock may run ahead of ours."""
LEAST, MOST = Decimal("1e-12"), Decimal("1e15")
"""USD: range of valid prices, within the range of the database columns."""


class Limits(Policy):
    """Limits of valid prices (`config/feeds.yaml`)."""

    max_age_seconds: Seconds
    max_confidence_bps: BasisPoints
    max_deviation_bps: BasisPoints
    max_jump_pct: Annotated[Decimal, Field(gt=0)]
    jump_seconds: Seconds
    compare_seconds: Seconds
    min_sources: Annotated[int, Field(ge=1, le=10)]
    closing_uses_last_good: bool


@dataclass(frozen=True, slots=True)
class Held:
    """The current quote of a symbol."""

    price: Decimal
    """USD."""
    at: datetime
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rejected price with the reason, the measured `value` and the `limit`, both formatted for display."""

    symbol: str
    source: str
    reason: str
    value: str
    limit: str
    price: str
    """USD, as received; may be NaN."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the validation for one symbol."""

    symbol: str
    chosen: Tick | None
    """The accepted price; None keeps the current quote."""
    doubt: str
    """The reason why it is not trusted for entries; empty when trusted."""
    refused: tuple[Refusal, ...]


def fault(price: Decimal, at: datetime, now: datetime, max_age: timedelta) -> str:
    """Return the reason why a price is invalid at `now`, or an empty string."""
    if not price.is_finite() or price <= 0:
        return QuoteReason.NOT_POSITIVE
    if not LEAST <= price <= MOST:
        return QuoteReason.OUT_OF_RANGE
    if at > now + CLOCK_SKEW:
        return QuoteReason.FROM_THE_FUTURE
    if now - at > max_age:
        return QuoteReason.STALE
    return ""


def judge(symbol: str, ticks: Sequence[Tick], held: Held | None, limits: Limits, now: datetime) -> Verdict:
    """Validate `ticks`, the newest of each source in order of preference; return the verdict."""
    refused: list[Refusal] = []
    sound: list[Tick] = []
    for tick in ticks:
        wrong = _alone(tick, held, limits, now)
        sound, refused = (sound, [*refused, wrong]) if wrong else ([*sound, tick], refused)
    if not sound:
        return Verdict(symbol, None, QuoteReason.ALL_SOURCES_REFUSED if refused else "", tuple(refused))
    newest = max(tick.at for tick in sound)
    voting = [tick for tick in sound if newest - tick.at <= timedelta(seconds=limits.compare_seconds)]
    off = _deviations(voting)
    agreeing = [tick for tick in voting if off[tick.source] <= limits.max_deviation_bps]
    refused += [
        _refusal(tick, QuoteReason.DEVIATES, f"{off[tick.source]:.0f} bps", f"{limits.max_deviation_bps} bps")
        for tick in voting
        if tick not in agreeing
    ]
    if len(agreeing) * 2 > len(voting):
        doubt = "" if len(agreeing) >= limits.min_sources else QuoteReason.TOO_FEW_SOURCES
        return Verdict(symbol, agreeing[0], doubt, tuple(refused))
    middle = None if limits.closing_uses_last_good else min(voting, key=lambda tick: off[tick.source])
    return Verdict(symbol, middle, QuoteReason.SOURCES_DISAGREE, tuple(refused))


def _alone(tick: Tick, held: Held | None, limits: Limits, now: datetime) -> Refusal | None:
    """Check a tick without comparing other sources; return the refusal, or None."""
    reason = fault(tick.price, tick.at, now, timedelta(seconds=limits.max_age_seconds))
    if reason in (QuoteReason.NOT_POSITIVE, QuoteReason.OUT_OF_RANGE):
        return _refusal(
            tick,
            reason,
            str(tick.price),
            "more than 0" if reason == QuoteReason.NOT_POSITIVE else f"{LEAST} to {MOST}",
        )
    if reason:
        age = (now - tick.at).total_seconds()
        allowed = limits.max_age_seconds if reason == QuoteReason.STALE else -CLOCK_SKEW.seconds
        return _refusal(tick, reason, f"{age:.0f} s old", f"{allowed} s")
    if tick.confidence is not None:
        unsure = tick.confidence / tick.price * BPS
        if not tick.confidence.is_finite() or not 0 <= unsure <= limits.max_confidence_bps:
            return _refusal(
                tick, QuoteReason.NOT_CONFIDENT, f"{unsure:.0f} bps", f"{limits.max_confidence_bps} bps"
            )
    if held and abs(tick.at - held.at) < timedelta(seconds=limits.jump_seconds):
        jump = (max(tick.price, held.price) / min(tick.price, held.price) - 1) * 100
        if jump > limits.max_jump_pct:
            limit = f"{plain(limits.max_jump_pct)} % in {limits.jump_seconds} s"
            return _refusal(tick, QuoteReason.JUMP, f"{jump:.0f} % from {plain(held.price)}", limit)
    return None


def _deviations(ticks: Sequence[Tick]) -> Mapping[str, Decimal]:
    """Return source -> deviation from the median of all, in basis points; of two ticks, from each other."""
    if len(ticks) == 2:  # with two ticks it is unknown which is wrong
        low, high = sorted(tick.price for tick in ticks)
        return {tick.source: (high - low) / low * BPS for tick in ticks}
    middle = median(tick.price for tick in ticks)
    return {tick.source: abs(tick.price - middle) / middle * BPS for tick in ticks}


def _refusal(tick: Tick, reason: str, value: str, limit: str) -> Refusal:
    return Refusal(tick.symbol, tick.source, reason, value, limit, str(tick.price))
