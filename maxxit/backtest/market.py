"""A tape prepared for backtests: quotes and indicators by moment, price tracks, calls; nothing depends on settings."""

import bisect
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property

import numpy as np

from maxxit.backtest.exits import PriceTrack, decimals_of
from maxxit.core.errors import Misconfigured
from maxxit.market.bars import Snapshot
from maxxit.market.instruments import instrument
from maxxit.market.quotes import Quote
from maxxit.market.validation import fault
from maxxit.replay.tape import Tape, TapedCall
from maxxit.replay.taping import instruments


@dataclass(frozen=True)
class Pass:
    """One pass of the generate stage."""

    place: int
    """Of its moment on the tape."""
    at: datetime
    markets: Mapping[str, Snapshot]
    quotes: Mapping[str, Quote]
    """Fresh quotes, also those that entries do not use."""
    prices: Mapping[str, Decimal]
    """The prices of those quotes, USD."""
    impacts: Mapping[int, Decimal]
    """Account -> impact factor then."""


class Market:
    """A tape that settings are tried on.

    Raises `Misconfigured` where the instruments differ from those of the tape, or where the tape holds something that
    the fast backtest does not represent, naming it.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        if tape.unsupported:
            raise Misconfigured(
                f"the tape holds {', '.join(tape.unsupported)}: the fast backtest does not represent that; "
                "use `manage.py replay`"
            )
        present = instruments()
        if differing := sorted(s for s in tape.instruments if tape.instruments[s] != present.get(s)):
            raise Misconfigured(
                f"{', '.join(differing)} in config/markets.yaml differ from those of the tape: name the tape's profile "
                "with --profile, or write another tape with `manage.py replay --tape FILE`"
            )
        self.moments = [moment_of(seconds) for seconds in tape.moments]
        self.max_age = timedelta(seconds=tape.max_age_seconds)
        self.calls: dict[int, TapedCall] = {call.id: call for call in tape.calls}
        self._changes = {symbol: array("q", (row[0] for row in rows)) for symbol, rows in tape.quotes.items()}
        self._quotes: dict[tuple[str, int], Quote] = {}
        self.passes = self._passes()
        self._tracks: dict[str, PriceTrack] = {}

    def quote(self, symbol: str, place: int) -> Quote | None:
        """Return the last quote of `symbol` at a moment, whatever its age."""
        found = bisect.bisect_right(self._changes.get(symbol, ()), place) - 1
        return self._made(symbol, found) if found >= 0 else None

    def _made(self, symbol: str, number: int) -> Quote:
        """Return a quote of the tape, made when it is first asked for: years of them would take gigabytes."""
        key = (symbol, number)
        if key not in self._quotes:
            _, price, at, trusted = self.tape.quotes[symbol][number]
            self._quotes[key] = Quote(symbol, Decimal(price), moment_of(at), "tape", trusted)
        return self._quotes[key]

    def fresh(self, place: int) -> dict[str, Quote]:
        """Return the quotes that closing and valuation may use at a moment, as `maxxit.market.quotes.latest` does."""
        now = self.moments[place]
        found = ((symbol, self.quote(symbol, place)) for symbol in self._changes)
        return {
            symbol: quote
            for symbol, quote in found
            if quote is not None and not fault(quote.price, quote.at, now, self.max_age)
        }

    def track(self, symbol: str) -> PriceTrack:
        """Return the prices of `symbol` that the sweep could use: fresh ones, by moment."""
        if symbol not in self._tracks:
            self._tracks[symbol] = self._track(symbol)
        return self._tracks[symbol]

    @cached_property
    def days(self) -> list[tuple[int, datetime]]:
        """Return the place and moment of the last moment of each UTC day."""
        last: dict[object, tuple[int, datetime]] = {}
        for place, moment in enumerate(self.moments):
            last[(moment - timedelta(microseconds=1)).date()] = (place, moment)
        return list(last.values())

    def _track(self, symbol: str) -> PriceTrack:
        changed, rows = self._changes[symbol], self.tape.quotes[symbol]
        moments = np.array(self.tape.moments, dtype=np.int64)
        places = np.arange(len(moments))
        which = np.searchsorted(np.frombuffer(changed, dtype=np.int64), places, side="right") - 1
        known = which >= 0
        at = np.array([row[2] for row in rows], dtype=np.int64)
        fresh = known & (moments - at[which] < self.tape.max_age_seconds)
        prices = [Decimal(row[1]) for row in rows]
        decimals = max(decimals_of(instrument(symbol).tick), *map(decimals_of, prices))
        units = [int(price.scaleb(decimals)) for price in prices]
        return PriceTrack(
            symbol, decimals, places[fresh], moments[fresh], np.array(units, dtype=np.int64)[which[fresh]]
        )

    def _passes(self) -> list[Pass]:
        place_of = {seconds: place for place, seconds in enumerate(self.tape.moments)}
        figures = [Snapshot(*row) for row in self.tape.figures]
        impacts: dict[int, Decimal] = {}
        passes = []
        for one in self.tape.passes:
            impacts = impacts | {int(pk): Decimal(factor) for pk, factor in one.impacts.items()}
            place = place_of[one.at]
            markets = {token: figures[row] for token, row in one.markets.items()}
            fresh = self.fresh(place)
            prices = {symbol: quote.price for symbol, quote in fresh.items()}
            passes.append(Pass(place, moment_of(one.at), markets, fresh, prices, impacts))
        return passes


def moment_of(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
