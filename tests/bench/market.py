"""What the market data path carries on this machine, each beside the bare thing it is built on.

    python -m tests.bench.market [--ticks 100000] [--symbols 200] [--only soak|latency|reads|indicators]

soak        a WebSocket exchange in another process -> stream -> quotes, bars, bus, exits; three disconnects and a
            restart of Redis on the way; one position per symbol that has to be closed; memory all along; beside a
            plain Redis stream that is written and read
latency     ticks at a steady sending: tick -> quote in Postgres, and tick -> closing order of a position
reads       Chainlink aggregators by Multicall3 against web3.py, one by one
indicators  snapshots of many symbols against bare TA-Lib

Prints figures and ratios; asserts that nothing was lost, never how long it took.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import talib
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from maxxit.embedded.servers import Postgres, Redis

START = datetime(2026, 3, 2, tzinfo=UTC)
FEED = "coinbase"


def price_of(number: int, symbols: int, count: int = 0) -> str:
    """The price of tick `number`: each symbol wanders a little and falls once in `count` ticks, for good."""
    fallen = 100 if count and number >= falls_at(number % symbols, symbols, count) else 0
    return f"{1000 - fallen + (number // symbols * 7 + number) % 41}.{number % 100:02d}"


def falls_at(symbol: int, symbols: int, count: int) -> int:
    """The number of the tick from which on a symbol is below its stop loss: spread over the run."""
    return (count * (symbol + 1) // (symbols + 2)) // symbols * symbols + symbol


def exchange_process(port: int, count: int, symbols: int, ready: Any, fell: Any) -> None:
    """The exchange: `count` ticks in order, hanging up three times on the way. `fell`: when each symbol fell."""
    sent = 0
    hang_ups = [count * part // 4 for part in (1, 2, 3)]

    def handle(socket: ServerConnection) -> None:
        nonlocal sent
        socket.recv()
        socket.recv()
        first = sent
        at = datetime.now(UTC)
        try:
            while sent < count:
                if hang_ups and sent >= hang_ups[0]:
                    hang_ups.pop(0)
                    return  # a closing handshake: what was sent arrives, and then the line is dead
                if sent % 500 == 0:
                    at = datetime.now(UTC)
                at += timedelta(microseconds=1)
                symbol = sent % symbols
                if sent == falls_at(symbol, symbols, count):
                    at = max(at, datetime.now(UTC))
                    fell[symbol] = at.timestamp()
                price = price_of(sent, symbols, count)
                one = {"type": "ticker", "product_id": f"T{symbol}", "price": price}
                one |= {"best_bid": one["price"], "best_ask": one["price"]}
                socket.send(
                    json.dumps(
                        {
                            "channel": "ticker",
                            "timestamp": at.isoformat().replace("+00:00", "Z"),
                            "sequence_num": sent - first,
                            "events": [{"type": "update", "tickers": [one]}],
                        }
                    )
                )
                sent += 1
            socket.recv()  # stay until the client leaves
        except ConnectionClosed:
            return

    with serve(handle, "127.0.0.1", port, ping_interval=None) as server:
        ready.set()
        server.serve_forever()


def plain_bus(url: str, count: int, symbols: int) -> float:
    """Ticks per second through a bare Redis stream: written in batches of 500, read and parsed."""
    from maxxit.market import ticks
    from maxxit.market.feeds.base import Tick
    from maxxit.market.stream.status import open_bus

    lines = [
        ticks.encode(Tick(f"T{number % symbols}", Decimal(price_of(number, symbols)), START, FEED))
        for number in range(500)
    ]

    def write() -> None:
        with open_bus(url) as bus:
            for _ in range(count // 500):
                with bus.pipeline(transaction=False) as pipe:
                    for line in lines:
                        pipe.xadd("plain", {"tick": line})
                    pipe.execute()

    began, read = time.perf_counter(), 0
    last: Any = "0"
    writer = threading.Thread(target=write)
    writer.start()
    with open_bus(url) as bus:
        while read < count // 500 * 500:
            answer: Any = bus.xread({"plain": last}, count=500, block=1000)
            for _, entries in answer or []:
                for entry, fields in entries:
                    ticks.decode(fields[b"tick"])
                    last, read = entry, read + 1
        writer.join()
        bus.delete("plain")
    return read / (time.perf_counter() - began)


def soak(redis: Redis, count: int, symbols: int) -> None:
    """Prints throughput; asserts that every price arrived where it should."""
    from django.db import connection

    from maxxit.embedded.servers import _free_port
    from maxxit.market import intake, ticks
    from maxxit.market.feeds.base import Tick
    from maxxit.market.models import Candle, Quote
    from maxxit.market.stream.buffer import Outbox
    from maxxit.market.stream.coinbase import CoinbaseSocket
    from maxxit.market.stream.run import Stream
    from maxxit.market.stream.status import open_bus
    from positions.exits.sweep import sweep
    from positions.models import Position

    bare = plain_bus(redis.url, count, symbols)
    waiting = _positions(symbols)
    Quote.objects.all().delete()
    Candle.objects.all().delete()
    port = _free_port(18765)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    fell = context.Array("d", symbols)
    other = context.Process(target=exchange_process, args=(port, count, symbols, ready, fell), daemon=True)
    other.start()
    ready.wait(20)
    bus = open_bus(redis.url)
    bus.delete(ticks.STREAM)
    stream = Stream(bus, [])
    stream.policy = stream.policy.model_copy(update={"keep_ticks": 2 * count})
    stream.outbox = Outbox(stream.policy.keep_ticks)
    healed: list[float] = []
    ids = {f"T{number}": f"T{number}" for number in range(symbols)}
    socket = CoinbaseSocket(
        FEED, f"ws://127.0.0.1:{port}", ids, stream.put, heal=lambda: healed.append(0), silence=120
    )
    stream.sources = lambda: [socket]  # type: ignore[method-assign]
    memory = [_memory()]
    sweeps = 0
    to_quote: list[float] = []
    to_order: list[float] = []
    real = intake.take

    def take(batch: Any, spans: Any = None) -> Sequence[Tick]:
        moved = real(batch, spans)
        now = datetime.now(UTC)
        to_quote.extend((now - tick.at).total_seconds() * 1000 for tick in moved)
        return moved

    intake.take = take  # type: ignore[assignment]

    def close() -> None:
        sweep()
        now = datetime.now(UTC).timestamp()
        out = Position.objects.filter(state="closing", pk__in=list(waiting)).values_list("pk", "symbol")
        for pk, symbol in out:
            del waiting[pk]
            to_order.append((now - fell[int(symbol[1:])]) * 1000)

    def watch() -> None:
        """What the worker does when quotes move, and the restart of Redis half way."""
        nonlocal sweeps
        restarted, seen = False, 0
        while stream.outbox.sent + stream.outbox.dropped < count:
            close()
            sweeps += 1
            if stream.buffer.received >= seen + count // 20:
                seen = stream.buffer.received
                memory.append(_memory())
            if not restarted and stream.buffer.received > count // 2:
                restarted = True
                redis.stop()
                redis.start()
            time.sleep(0.05)
        stream.stop.set()

    def run() -> None:
        stream.run()
        connection.close()

    runner = threading.Thread(target=run)
    began = time.perf_counter()
    runner.start()
    watch()  # in this thread: a server dies with the thread that started it
    runner.join()
    took = time.perf_counter() - began
    close()
    intake.take = real
    memory.append(_memory())
    other.terminate()
    assert not waiting, f"{len(waiting)} positions below their stop loss were not closed"
    last = {f"T{n % symbols}": Decimal(price_of(n, symbols, count)) for n in range(count - symbols, count)}
    held = dict(Quote.objects.values_list("symbol", "price"))
    assert held == last, "a quote is not the last price that the exchange sent"
    assert bus.xlen(ticks.STREAM) == stream.outbox.sent == stream.buffer.received == count
    highest, lowest = (
        max(map(Decimal, ends)) for ends in ([price_of(n, symbols, count) for n in range(count)], ["0"])
    )
    assert max(Candle.objects.values_list("high", flat=True)) == highest > lowest
    bus.close()
    print(
        f"soak: {count:,} ticks of {symbols} symbols, {socket.connects} connections, 1 restart of Redis, none lost\n"
        f"  stream {count / took:,.0f} ticks/s ({stream.quotes:,} quotes in {stream.flushes} writes, {sweeps} sweeps); "
        f"plain Redis stream {bare:,.0f} ticks/s; ratio {count / took / bare:.2f}\n"
        f"  {_points('tick -> quote', to_quote)}; {_points('tick -> closing order', to_order)}\n"
        f"  memory MB all along: {' '.join(f'{one:.0f}' for one in memory)}\n"
        f"  dropped {stream.outbox.dropped}, late {stream.buffer.late}, healed {len(healed)} times"
    )


def latency(redis: Redis, symbols: int, rate: int = 1000, seconds: int = 8) -> None:
    """Tick -> quote and tick -> closing order at a steady sending, in milliseconds."""
    from maxxit.core import clock
    from maxxit.market import intake, quotes
    from maxxit.market.feeds.base import Tick
    from maxxit.market.stream.run import Stream
    from maxxit.market.stream.status import open_bus
    from positions.exits.sweep import sweep
    from positions.models import Position

    to_quote: list[float] = []
    to_order: list[float] = []
    due = {symbol: pk for pk, symbol in _positions(symbols).items()}
    real = intake.take

    def take(batch: Any, spans: Any = None) -> Sequence[Tick]:
        moved = real(batch, spans)
        now = clock.now()
        to_quote.extend((now - tick.at).total_seconds() * 1000 for tick in moved)
        sweep()  # what the woken worker does first
        closing = Position.objects.filter(state="closing", pk__in=list(due.values()))
        out = set(closing.values_list("symbol", flat=True))
        now = clock.now()
        for tick in moved:
            if tick.symbol in out and tick.price < 940:
                del due[tick.symbol]
                to_order.append((now - tick.at).total_seconds() * 1000)
        return moved

    intake.take = take  # type: ignore[assignment]
    with open_bus(redis.url) as bus:
        stream = Stream(bus, [])
        stream.sources = lambda: []  # type: ignore[method-assign]

        def feed() -> None:
            step = symbols // max(1, seconds - 1)
            for second in range(seconds):
                for number in range(rate):
                    symbol = (second * rate + number) % symbols
                    price = "930" if symbol < second * step else "1000"
                    stream.put(Tick(f"T{symbol}", Decimal(price), datetime.now(UTC), FEED))
                    time.sleep(1 / rate)
            time.sleep(0.5)
            stream.stop.set()

        feeder = threading.Thread(target=feed)
        feeder.start()
        stream.run()
        feeder.join()
    intake.take = real
    assert quotes.latest(["T0"], closing=True)["T0"].price == 930
    print(f"latency at {rate:,} ticks/s, written every {stream.policy.flush_milliseconds} ms:")
    for name, found in (("tick -> quote", to_quote), ("tick -> closing order", to_order)):
        print(f"  {_points(name, found)}")


def _positions(symbols: int) -> dict[int, str]:
    """One open position per symbol, entered at 1000 with its stop loss at 940: id -> symbol."""
    from tests import builders

    builders.open_gate()
    agent = builders.agent()
    return {
        builders.position(builders.deployment(agent), entry="1000", symbol=f"T{number}").pk: f"T{number}"
        for number in range(symbols)
    }


def _points(name: str, found: Sequence[float]) -> str:
    points = quantiles(found, n=100)
    return f"{name}: p50 {points[49]:.0f} ms, p99 {points[98]:.0f} ms ({len(found):,} seen)"


def reads(counts: Sequence[int] = (1_000, 10_000)) -> None:
    """Seconds for so many reads of `latestRoundData`."""
    from web3 import HTTPProvider, Web3

    from maxxit.market.feeds import chainlink, evm
    from maxxit.market.feeds.wire import api_client
    from maxxit.ops.devchain.anvil import start_anvil
    from maxxit.ops.devchain.world import build_world

    abi = json.loads(
        '[{"name":"latestRoundData","type":"function","stateMutability":"view","inputs":[],"outputs":['
        '{"type":"uint80","name":"a"},{"type":"int256","name":"b"},{"type":"uint256","name":"c"},'
        '{"type":"uint256","name":"d"},{"type":"uint80","name":"e"}]}]'
    )
    with start_anvil() as node:
        world = build_world(node.url)
        address = world.token("WETH").feed
        http = api_client("bench", node.url, timeout=30, own_node=True)
        contract = Web3(HTTPProvider(node.url)).eth.contract(address=address, abi=abi)  # type: ignore[call-overload]
        for count in counts:
            ours = _timed(lambda n=count: evm.aggregate(http, [(address, chainlink.ROUND)] * n))  # type: ignore[misc]
            sample = min(count, 1_000)
            theirs = _timed(lambda n=sample: [contract.functions.latestRoundData().call() for _ in range(n)])  # type: ignore[misc]
            theirs *= count / sample
            print(
                f"reads: {count:,} by Multicall3 {ours:.3f} s; by web3.py one by one {theirs:.2f} s; "
                f"ratio {theirs / ours:.0f}"
            )
        http.close()


def indicators(symbols: int = 10_000, bars: int = 200) -> None:
    """Seconds for the snapshots of so many symbols, against the same TA-Lib calls bare."""
    from maxxit.market.candles import Bars
    from maxxit.market.indicators import snapshot

    dice = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(dice.normal(0, 0.01, (symbols, bars)), axis=1))
    volume = dice.lognormal(3, 1, (symbols, bars))
    every = [Bars(str(n), close[n] * 1.001, close[n] * 0.999, close[n], volume[n]) for n in range(symbols)]

    def bare() -> None:
        for one in every:
            talib.RSI(one.close, 14)
            talib.MACD(one.close, 12, 26, 9)
            talib.BBANDS(one.close, 20, 2.0, 2.0)
            talib.SMA(one.close, 20)
            talib.SMA(one.close, 50)
            talib.ROC(one.close, 10)
            talib.ATR(one.high, one.low, one.close, 14)
            talib.SMA(one.volume, 20)
            talib.STDDEV(one.volume, 20)
            talib.STDDEV(one.close, 20)

    found: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(5):  # in turn, in seconds of this process: neighbours on the machine do not count
        found["bare"].append(_timed(bare, time.process_time))
        found["ours"].append(_timed(lambda: [snapshot(one, warm_up=40) for one in every], time.process_time))
    theirs, ours = min(found["bare"]), min(found["ours"])
    print(
        f"indicators: {symbols:,} symbols of {bars} bars: {ours:.2f} s; bare TA-Lib {theirs:.2f} s; "
        f"ratio {ours / theirs:.2f}"
    )


def _timed(work: Callable[[], Any], watch: Callable[[], float] = time.perf_counter) -> float:
    began = watch()
    work()
    return watch() - began


def _memory() -> float:
    """Resident megabytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Start servers of our own, measure, stop them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ticks", type=int, default=100_000)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--only", default="", help="one of the names above")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="maxxit-bench-"))
    home.chmod(0o711)
    postgres, redis = Postgres(home, ephemeral=True), Redis(home)
    postgres.start()
    redis.start()
    try:
        os.environ |= {"MAXXIT_DATA_DIR": str(home), "MAXXIT_ENV_FILE": os.devnull, "MAXXIT_PROFILE": ""}
        os.environ |= {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "LOG_LEVEL": "ERROR"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "maxxit.settings"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        measures: dict[str, Callable[[], object]] = {
            "soak": lambda: soak(redis, asked.ticks, asked.symbols),
            "latency": lambda: latency(redis, asked.symbols),
            "reads": reads,
            "indicators": indicators,
        }
        for name, measure in measures.items():
            if asked.only in ("", name):
                measure()
    finally:
        redis.stop()
        postgres.stop()


if __name__ == "__main__":
    main()
