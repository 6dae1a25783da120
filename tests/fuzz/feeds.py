"""Targets: prices and candles of every feed, as the provider answers them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from eth_abi.abi import encode

from maxxit.core import untrusted
from maxxit.market import ticks
from maxxit.market.feeds import chainlink, coinbase, coingecko, dex, pyth
from maxxit.market.feeds.base import CandleFeed, PriceFeed, Tick
from maxxit.market.stream.coinbase import Refused, read_frame
from tests.builders import T0
from tests.fuzz.door import DOOR, Outcome, Target
from tests.market.exchange import heartbeat, message, ticker
from tests.market.provider import Provider, address, provider_id

URL = "http://127.0.0.1:1"
SYMBOLS = ["BTC", "ETH", "SOL"]
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2069, 1, 1, tzinfo=UTC))
AGES = timedelta(days=40_000)
HALF_AN_HOUR = range(int(T0.timestamp()), int(T0.timestamp()) + 1800, 300)


def said_by(one: Provider) -> Provider:
    """A provider that knows three prices and six candles."""
    for symbol, price in zip(SYMBOLS, ("67187.33589879", "3500.5", "0.00001234"), strict=True):
        one.says(symbol, price, T0)
    one.candles = {at: ["99.5", "102", "100", "101", "7.5"] for at in HALF_AN_HOUR}
    one.points = [(at, "100.25") for at in HALF_AN_HOUR]
    one.sequencer = (0, one.block_time - 9_000)
    return one


WORLD = said_by(Provider())
IDS = {name: {s: provider_id(name, s) for s in SYMBOLS} for name in ("coinbase", "coingecko", "pyth")}
FEEDS: dict[str, Any] = {
    "coinbase": coinbase.Coinbase(name="coinbase", base_url=URL, ids=IDS["coinbase"]),
    "coingecko": coingecko.CoinGecko(name="coingecko", base_url=URL, ids=IDS["coingecko"]),
    "pyth": pyth.Pyth(name="pyth", base_url=URL, ids=IDS["pyth"]),
    "dex": dex.Dex(
        name="dex",
        base_url=URL,
        quoter="0x" + "b" * 40,
        usd="0x" + "c" * 40,
        pools={s: {"token": address(s), "decimals": 18, "fee": 500, "size": "0.5"} for s in SYMBOLS},
    ),
    "chainlink": chainlink.Chainlink(
        name="chainlink",
        base_url=URL,
        aggregators={
            s: {"address": address(s), "heartbeat_seconds": 60, "deviation_bps": 5} for s in SYMBOLS
        },
        sequencer="0x" + "a" * 40,
    ),
}


def json_of(data: bytes) -> Any:
    """As the provider meant it; None for what is no JSON."""
    try:
        return untrusted.loads(data, decimals=True)
    except ValueError:
        return None


def sound(found: dict[str, Tick], asked: list[str]) -> int:
    """The number of ticks, each of a symbol that was asked for and of a time with a zone."""
    assert set(found) <= set(asked)
    assert all(isinstance(tick.price, Decimal) and tick.at.tzinfo for tick in found.values())
    return len(found)


def quotes(name: str, present: Callable[[Any], int | None] = lambda _: None) -> Callable[[bytes], Outcome]:
    """The newest prices of `name`."""
    feed: PriceFeed = FEEDS[name]

    def read(data: bytes) -> Outcome:
        DOOR.says(data)
        found = feed.quotes(SYMBOLS)
        return Outcome(sound(found, SYMBOLS), DOOR.log.rows, present(json_of(data)))

    return read


def each_symbol(name: str) -> Callable[[bytes], Outcome]:
    """The newest prices of a feed that asks for each symbol by itself: read, refused, or named as unanswered."""
    feed: PriceFeed = FEEDS[name]

    def read(data: bytes) -> Outcome:
        DOOR.says(data)
        found = sound(feed.quotes(SYMBOLS), SYMBOLS)
        return Outcome(found, DOOR.log.rows + DOOR.log.unanswered, len(SYMBOLS))

    return read


def of_pyth(said: Any) -> int | None:
    """Rows, where each is of another symbol of ours."""
    ids = [row.get("id") if isinstance(row, dict) else None for row in said["parsed"]]
    plain = [str(one).lower().removeprefix("0x") for one in ids]
    return len(ids) if len(set(plain)) == len(plain) and set(plain) <= set(IDS["pyth"].values()) else None


def of_coingecko(said: Any) -> int:
    return sum(bool(said.get(coin)) for coin in IDS["coingecko"].values())


def last_trade(data: bytes) -> Outcome:
    """Coinbase answers for one product at a time."""
    DOOR.says(data)
    found = FEEDS["coinbase"].quotes(["BTC"])
    return Outcome(sound(found, ["BTC"]), DOOR.log.rows + DOOR.log.unanswered, 1)


def candles(name: str, rows: Callable[[Any], int | None]) -> Callable[[bytes], Outcome]:
    """One page without end of `name`."""
    feed: CandleFeed = FEEDS[name]
    module = {"coinbase": coinbase, "coingecko": coingecko}[name]

    def read(data: bytes) -> Outcome:
        DOOR.says(data)
        with patch.object(module, "PAGE", 10**7 if name == "coinbase" else AGES):
            _, bars = next(iter(feed.candles("BTC", *EVER)))
        assert all(bar.whole for bar in bars)
        in_time = all(EVER[0] <= bar.open_time < EVER[1] for bar in bars)
        return Outcome(len(bars), DOOR.log.rows, rows(json_of(data)) if in_time else None)

    return read


def of_coinbase(said: Any) -> int | None:
    """Candles, but for those of a time that nobody asked for."""
    times = [str(row.get("start")) for row in said["candles"] if isinstance(row, dict)]
    far = [one for one in times if not one.isdecimal() or not float(one) < 3_124_137_600]
    return None if far else len(said["candles"])


def frame(data: bytes) -> Outcome:
    """A message of Coinbase's WebSocket; unreadable ones are counted as malformed, and REST fills the gap."""
    DOOR.log.rows = 0
    products = {product: symbol for symbol, product in IDS["coinbase"].items()}
    try:
        found = read_frame(data, "coinbase", products)
    except (Refused, ValueError):
        return Outcome(0, 1, 1)
    said = json_of(data)
    if said.get("channel") not in {"ticker", "ticker_batch"}:
        return Outcome(len(found.ticks))
    rows = [one for part in said["events"] for one in part["tickers"]]
    known = [one.get("product_id") if isinstance(one, dict) else None for one in rows]
    ours = sum(not isinstance(one, str) or one in products for one in known)
    return Outcome(len(found.ticks), DOOR.log.rows, ours)


def our_tick(data: bytes) -> Outcome:
    """The tick as our own Redis stream carries it."""
    ticks.decode(data)
    return Outcome(1)


def rpc(answer: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": answer}).encode()


def multicall(*answers: bytes | None) -> bytes:
    """Multicall3's answer: the block's time, then each call's."""
    results = [(said is not None, said or b"") for said in (WORLD.block_time.to_bytes(32, "big"), *answers)]
    return rpc("0x" + encode(["(bool,bytes)[]"], [results]).hex())


def rounds() -> bytes:
    calls = [(address(symbol), kind) for kind in (chainlink.ROUND, chainlink.DECIMALS) for symbol in SYMBOLS]
    return multicall(
        *(WORLD.call(to, asked) for to, asked in calls), WORLD.call("0x" + "a" * 40, chainlink.ROUND)
    )


def chainlink_rounds(data: bytes) -> Outcome:
    """Of each aggregator. None is remembered from the input before."""
    FEEDS["chainlink"]._decimals.clear()
    return each_symbol("chainlink")(data)


def swaps() -> bytes:
    amount = encode(["uint256"] * 4, [1_750_000_000, 0, 0, 0])
    return multicall(*[amount] * (2 * len(SYMBOLS)))


def frames() -> list[bytes]:
    one = {"type": "ticker", "price": "67187.33", "best_bid": "67187", "best_ask": "67188"}
    tickers = [{**one, "product_id": product} for product in IDS["coinbase"].values()]
    shown = message("ticker", 7, T0, [{"type": "update", "tickers": tickers}])
    error = json.dumps({"type": "error", "message": "too many subscriptions"})
    return [
        text.encode() for text in (shown, shown, ticker(8, "ETH-USD", "3500.5", T0), heartbeat(9, T0), error)
    ]


HERMES = WORLD.hermes(list(IDS["pyth"].values()), ignore_invalid=True) or ""
TARGETS: dict[str, Target] = {
    "coinbase last trade": Target([str(WORLD.coinbase_ticker(IDS["coinbase"]["BTC"])).encode()], last_trade),
    "coinbase candles": Target([WORLD.coinbase_candles(0, 2**40).encode()], candles("coinbase", of_coinbase)),
    "coinbase frames": Target(frames(), frame),
    "coingecko prices": Target(
        [WORLD.coingecko_price(list(IDS["coingecko"].values())).encode()],
        quotes("coingecko", of_coingecko),
    ),
    "coingecko points": Target(
        [WORLD.coingecko_range(0, 2**40).encode()], candles("coingecko", lambda _: None)
    ),
    "pyth prices": Target([HERMES.encode()], quotes("pyth", of_pyth)),
    "chainlink rounds": Target([rounds()], chainlink_rounds),
    "uniswap quotes": Target([swaps()], each_symbol("dex")),
    "our ticks": Target(
        [ticks.encode(Tick("BTC", Decimal("1.5"), T0, "coinbase", Decimal("0.1"))).encode()],
        our_tick,
    ),
}
