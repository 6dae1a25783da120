"""The fast backtest beside a plain numpy floor: `python -m tests.bench.backtest [--tape FILE]` (a minute).

W3: ten symbols of 50,000 random five-minute candles, an average-crossover signal on each candle, exits with stop,
target, trailing stop and time exit by the kernel of `maxxit.backtest.exits`. Floor: the same signals and one pass over
the prices in numpy, without exits. With `--tape` also 1,000 settings of a real tape, as `backtest sweep` tries them.
Prints JSON; exit code 1 below the targets.
"""

import argparse
import json
import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SYMBOLS, CANDLES, BAR, START = 10, 50_000, 300, 1_500_000_000
FAST, SLOW = 20, 50
TARGET_CANDLES, TARGET_MB, TARGET_SECONDS, SETTINGS = 1_000_000, 250, 30, 1_000


def walks(seed: int) -> list[NDArray[np.int64]]:
    """Prices in cents, one random walk a symbol."""
    chance = np.random.default_rng(seed)
    return [
        np.maximum(100_00 * np.exp(np.cumsum(chance.normal(0, 0.002, CANDLES))), 100).astype(np.int64)
        for _ in range(SYMBOLS)
    ]


def signals(prices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the fast average crosses above the slow one."""
    total = np.append(0, np.cumsum(prices))
    fast = (total[SLOW:] - total[SLOW - FAST : -FAST]) / FAST
    slow = (total[SLOW:] - total[:-SLOW]) / SLOW
    above = fast > slow
    return np.flatnonzero(above[1:] & ~above[:-1]) + SLOW


def floor(prices: NDArray[np.int64]) -> int:
    """Signals, and one pass over the prices."""
    return len(signals(prices)) + int((prices * 99 <= np.maximum.accumulate(prices) * 100).argmax())


def ours(prices: NDArray[np.int64]) -> int:
    """Signals, and a trade at a time by the kernel; returns how many trades."""
    from maxxit.backtest.exits import PriceTrack, find_exit
    from positions.exits.levels import levels
    from trading.risk.policy import Exits

    rules = Exits(
        hard_stop_pct=Decimal(10),
        trailing_activation_pct=Decimal(3),
        trailing_pct=Decimal(1),
        max_holding_minutes=2880,
    )
    places = np.arange(len(prices))
    track = PriceTrack("ETH", 2, places, START + BAR * places, prices)
    trades, free = 0, 0
    for place in signals(prices).tolist():
        if place < free:
            continue
        made = levels(
            rules,
            side="long",
            entry=Decimal(int(prices[place])) / 100,
            opened_at=datetime.fromtimestamp(START + BAR * place, UTC) + timedelta(0),
            stop_loss_pct=Decimal(2),
            take_profit_pct=Decimal(5),
        )
        found = find_exit(track, "long", place, made.columns(lambda price: round(price, 2)))
        trades += 1
        if found is None:
            break
        free = found.place + 1
    return trades


def measured(function: object, data: list[NDArray[np.int64]], rounds: int) -> tuple[float, int]:
    """Median processor seconds of a round, and what the function counted."""
    seconds, counted = [], 0
    for _ in range(rounds):
        begun = time.process_time()
        counted = sum(function(prices) for prices in data)  # type: ignore[operator]
        seconds.append(time.process_time() - begun)
    return sorted(seconds)[len(seconds) // 2], counted


def of_tape(path: Path) -> dict[str, float]:
    """Try settings of one tape by a sweep in two processes; also how long one setting takes a processor."""
    from maxxit.backtest.run import Backtest
    from maxxit.backtest.sweep import grid, sweep
    from maxxit.replay.tape import read

    backtest = Backtest(read(path))
    backtest.run()
    settings = grid(
        {
            "exits.signal.trailing_pct": [f"{n / 10:g}" for n in range(5, 30)],
            "generate.spot.stop_loss_pct": [str(n) for n in range(3, 8)],
            "sizing.moderate.high_pct": [str(n) for n in range(2, 10)],
        },
        SETTINGS,
        1,
    )
    begun, used = time.perf_counter(), _processor_seconds()
    done = sweep(backtest, settings, processes=2)
    seconds, used = time.perf_counter() - begun, _processor_seconds() - used
    return {
        "settings": len(done.tried),
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        "processor_ms_a_setting": round(1000 * used / len(done.tried), 1),
        "deflated_sharpe": round(done.deflated or 0.0, 3),
    }


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tape", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    os.environ["MAXXIT_PROFILE"] = "replay"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    import django

    django.setup()
    data = walks(1)
    candles = SYMBOLS * CANDLES
    least, _ = measured(floor, data, given.rounds)
    seconds, trades = measured(ours, data, given.rounds)
    result: dict[str, object] = {
        "candles": candles,
        "trades": trades,
        "candles_per_second": round(candles / seconds),
        "floor_candles_per_second": round(candles / least),
        "times_the_floor": round(seconds / least, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    missed = [
        what
        for what, met in (
            ("candles_per_second", candles / seconds >= TARGET_CANDLES),
            ("peak_mb", int(str(result["peak_mb"])) <= TARGET_MB),
        )
        if not met
    ]
    if given.tape:
        result["sweep"] = swept = of_tape(given.tape)
        if swept["seconds"] > TARGET_SECONDS:
            missed.append("sweep")
    print(json.dumps(result | {"missed": missed}, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
