"""Three years of one-minute candles of 20 tokens, from files of Binance's form to a backtest: `tests.bench.data`.

1. Writes monthly zip files as Binance does, of random walks, for `--imported` tokens (20).
2. `manage.py candles import` brings them into a data folder: rows a second, and the memory of that process.
3. Makes a tape of the bars: every close as a quote, indicators of the live functions at each pass of the generate stage
   that has calls, random calls of `--accounts` accounts. A replay would write such a tape, and would take hours.
4. `Backtest(tape).run()` in a process of its own: seconds from the tape in memory to the figures, and its memory.

Tokens beyond the imported ones get the bars of those under names of their own. Prints JSON; exit code 1 where the
backtest takes more than 60 s. With all 20 tokens it takes a quarter of an hour and 3 GB of disk.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

TARGET_SECONDS = 60
KNOWN = ("BTC", "ETH", "LTC", "XRP", "NEO", "IOTA", "EOS", "SOL", "OP")
NEW = tuple(f"TK{number:02}" for number in range(1, 12))
SYMBOLS = KNOWN + NEW
START = datetime(2021, 1, 1, tzinfo=UTC)


def configured(folder: Path) -> None:
    """Copy the configuration with 20 instruments, and use it."""
    from maxxit.core.config import ROOT

    shutil.copytree(ROOT / "config", folder)
    path = folder / "markets.yaml"
    lines = "".join(
        f"  {symbol}: {{name: {symbol}, aliases: [], tick: 0.01, lot: 0.0001, venues: [paper]}}\n"
        for symbol in NEW
    )
    text = path.read_text()
    before, mark, after = text.partition("\n# Never a signal")
    path.write_text(f"{before}{lines}{mark}{after}")


def months(count: int) -> list[datetime]:
    """The first moment of each month, and of the one after."""
    return [datetime(2021 + number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in range(count + 1)]


def write(folder: Path, symbol: str, firsts: list[datetime], seed: int) -> int:
    """Write a token's monthly files; return the number of rows."""
    chance, price, rows = np.random.default_rng(seed), 100.0, 0
    for begins, ends in pairwise(firsts):
        count = int((ends - begins).total_seconds()) // 60
        closes = np.maximum(price * np.exp(np.cumsum(chance.normal(0, 0.0006, count))), 1.0)
        opens = np.append(price, closes[:-1])
        high, low = np.maximum(opens, closes) * 1.0001, np.minimum(opens, closes) * 0.9999
        at, price, rows = int(begins.timestamp()), float(closes[-1]), rows + count
        text = "".join(
            f"{(at + 60 * n) * 1000},{o:.2f},{h:.2f},{lo:.2f},{c:.2f},1.25000000,{(at + 60 * n) * 1000 + 59999},"
            "125.00000000,12,0.50000000,50.00000000,0\n"
            for n, (o, h, lo, c) in enumerate(
                zip(
                    opens.tolist(),
                    (high + 0.005).tolist(),
                    (low - 0.005).tolist(),
                    closes.tolist(),
                    strict=True,
                )
            )
        )
        name = f"{symbol}USDT-1m-{begins:%Y-%m}"
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.writestr(f"{name}.csv", text)
    return rows


def made_tape(data: Path, tokens: list[str], accounts: int) -> Any:
    """A tape of the folder's bars, with random calls."""
    from maxxit.backtest.bias import Series, last_bars
    from maxxit.core.money import plain
    from maxxit.market.bars import Snapshot
    from maxxit.market.feeds.file import candle_file, read_bars
    from maxxit.market.indicators import snapshot
    from maxxit.replay.tape import TapedCall, TapedPass
    from tests.backtest.tapes import agent, small_tape

    base = small_tape(days=1)
    files = [path for symbol in SYMBOLS if (path := candle_file(data, symbol))]
    held = [list(read_bars(path)) for path in files]
    moments = [int(bar.known_at.timestamp()) for bar in held[0]]
    series = [Series(path.name, bars) for path, bars in zip(files, held, strict=True)]
    closes = [
        [
            [place, plain(bar.close), at, True]
            for place, (bar, at) in enumerate(zip(bars, moments, strict=True))
        ]
        for bars in held
    ]
    chance, width = random.Random(1), timedelta(minutes=base.generate["bar_minutes"])
    passes: list[TapedPass] = []
    calls: list[TapedCall] = []
    figures: list[list[float]] = []
    for at in [moment for moment in moments if not moment % 21_600][20:]:
        markets: dict[str, int] = {}
        for _ in range(accounts // 12):
            place = chance.randrange(len(tokens))
            token, author = tokens[place], chance.randrange(accounts) + 1
            side = chance.choice(["long", "short"])
            calls.append(TapedCall(len(calls) + 1, author, at - 1800, at, at, {token: side}, "0.8", None))
            if token not in markets:
                found = snapshot(
                    last_bars(
                        series[place % len(series)],
                        datetime.fromtimestamp(at, UTC),
                        width,
                        base.generate["bars"],
                    ),
                    warm_up=base.generate["warm_up_bars"],
                )
                assert found
                markets[token] = len(figures)
                figures.append([getattr(found, name) for name in Snapshot.__slots__])
        impacts = {} if passes else {str(number): "0.5" for number in range(1, accounts + 1)}
        passes.append(TapedPass(at, markets, impacts))
    base.start, base.end, base.moments = moments[0], moments[-1], moments
    base.quotes = {  # rows of their own, as a tape that was read has them
        token: [[*row] for row in closes[place % len(closes)]] for place, token in enumerate(tokens)
    }
    base.passes, base.calls, base.figures = passes, calls, figures
    base.agents = [agent(tokens=tokens, follows=list(range(1, accounts + 1)))]
    return base


def backtested(data: Path, tokens: list[str], accounts: int) -> dict[str, Any]:
    """Run the tape as it was recorded, in this process."""
    from maxxit.backtest.figures import figures_of
    from maxxit.backtest.run import Backtest

    tape = made_tape(data, tokens, accounts)
    before = peak()
    begun, used = time.perf_counter(), time.process_time()
    backtest = Backtest(tape)
    figures = figures_of(backtest.run(), backtest.market)
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    again = time.process_time()
    backtest.run({"exits.signal.trailing_pct": "2"})
    return {
        "moments": len(tape.moments), "bars": len(tape.moments) * len(tokens), "calls": len(tape.calls),
        "signals": figures.signals, "closed": figures.closed, "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "processor_seconds_of_the_next_setting": round(time.process_time() - again, 1),
        "peak_mb_of_the_tape": before, "peak_mb": peak(),
    }  # fmt: skip


def peak(who: int = resource.RUSAGE_SELF) -> int:
    """The largest memory of this process, or of those that it waited for, MB."""
    return round(resource.getrusage(who).ru_maxrss / 1024)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--imported", type=int, default=20)
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--data", type=Path, help="(internal) run the backtest on this folder")
    given = parser.parse_args()
    os.environ["MAXXIT_PROFILE"] = "replay"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    tokens = list(SYMBOLS[: given.tokens])
    if given.data:
        import django

        django.setup()
        print(json.dumps(backtested(given.data, tokens, given.accounts)))
        return 0
    with tempfile.TemporaryDirectory(prefix="maxxit-bench-") as where:
        folder = Path(where)
        configured(folder / "config")
        os.environ["MAXXIT_CONFIG_DIR"] = str(folder / "config")
        (folder / "downloads").mkdir()
        rows = sum(
            write(folder / "downloads", symbol, months(given.months), seed)
            for seed, symbol in enumerate(SYMBOLS[: given.imported])
        )
        begun = time.perf_counter()
        words = ["candles", "import", str(folder / "downloads"), "--into", str(folder / "DATA"), "--json"]
        subprocess.run([sys.executable, "manage.py", *words], check=True, stdout=subprocess.DEVNULL)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = spent.ru_utime + spent.ru_stime
        imported = {
            "rows": rows, "seconds": round(time.perf_counter() - begun, 1), "processor_seconds": round(processor, 1),
            "microseconds_a_row": round(1e6 * processor / rows, 1), "peak_mb": peak(resource.RUSAGE_CHILDREN),
        }  # fmt: skip
        words = [
            "--data",
            str(folder / "DATA"),
            "--tokens",
            str(given.tokens),
            "--accounts",
            str(given.accounts),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.data", *words], check=True, stdout=subprocess.PIPE
        )
        backtest = json.loads(done.stdout)
    print(json.dumps({"import": imported, "backtest": backtest}, indent=1))
    return 1 if backtest["seconds"] > TARGET_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
