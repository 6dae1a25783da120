"""Run settings on a market: signals, then trades."""

from collections.abc import Mapping
from dataclasses import dataclass

from maxxit.backtest.decisions import Decided, Decider
from maxxit.backtest.market import Market
from maxxit.backtest.settings import Settings, TapeSettings
from maxxit.backtest.trades import Exchange, Traded
from maxxit.replay.tape import Tape


@dataclass(frozen=True)
class Outcome:
    """What settings gave on a tape."""

    settings: Settings
    decided: Decided
    traded: Traded


class Backtest:
    """Tries settings on one tape. Raises `Misconfigured` where the fast path does not represent it."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.market = Market(tape)
        self._settings = TapeSettings(tape)
        self._decider, self._exchange = Decider(self.market), Exchange(self.market)

    def run(self, changes: Mapping[str, str] | None = None) -> Outcome:
        """Return what the tape's settings with `changes` (key -> value) give."""
        settings = self._settings.of(changes)
        decided = self._decider.decide(settings)
        return Outcome(settings, decided, self._exchange.trade(settings, decided))
