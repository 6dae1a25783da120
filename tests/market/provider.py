"""A fake price provider on loopback with the wire format of each real one, and configurable faults.

Formats: Coinbase Advanced `GetMarketTradesResponse` and candles, CoinGecko `/simple/price` and
`/coins/{id}/market_chart/range`, Pyth Hermes `/v2/updates/price/latest`, Ethereum JSON-RPC with Multicall3.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from eth_abi.abi import decode, encode

from maxxit.market.feeds import chainlink, dex, evm

IDS = {"coinbase": "{}-USD", "coingecko": "coin-{}", "pyth": "{:0>64}"}
SPREAD = Decimal("0.0002")
SEQUENCER, QUOTER, USD = ("0x" + digit * 40 for digit in "abc")


def provider_id(provider: str, symbol: str) -> str:
    """What the provider calls a symbol."""
    name = symbol.encode().hex() if provider == "pyth" else symbol
    return IDS[provider].format(name)


def address(symbol: str) -> str:
    """Where the symbol's contract stands on the fake chain."""
    return "0x" + symbol.encode().hex().rjust(40, "0")


@dataclass
class Provider:
    """What it says, and how it misbehaves: `fault` is the name of a method of `Handler`, for `times` requests."""

    port: int = 0
    prices: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    candles: dict[int, list[str]] = field(default_factory=dict)
    points: list[tuple[int, str]] = field(default_factory=list)
    sequencer: tuple[int, int] = (0, 1)
    """Whether it is down, and since when it is not (0: there was no round yet)."""
    heartbeat_ago: int = 0
    block_time: int = 0
    fault: str = ""
    times: int = 0
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def says(self, symbol: str, price: str, at: datetime) -> None:
        """From now on. Unpriced symbols do not exist."""
        self.prices[symbol] = (price, at)
        self.block_time = int(at.timestamp())

    def misbehaves(self, fault: str, times: int = 10**6) -> None:
        self.fault, self.times = fault, times

    # -- what the real ones answer

    def coinbase_ticker(self, product: str) -> str | None:
        for symbol, (price, at) in self.prices.items():
            if provider_id("coinbase", symbol) == product:
                bid, ask = self.sides(price)
                trade = {
                    "trade_id": "34b080bf",
                    "product_id": product,
                    "price": price,
                    "size": "4",
                    "side": "BUY",
                }
                trade["time"] = at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                return json.dumps({"trades": [trade], "best_bid": bid, "best_ask": ask})
        return None

    def coinbase_candles(self, start: int, end: int) -> str:
        names = ("low", "high", "open", "close", "volume")
        found = [
            {"start": str(at), **dict(zip(names, row, strict=True))}
            for at, row in sorted(self.candles.items(), reverse=True)  # newest first, as documented
            if start <= at <= end
        ]
        return json.dumps({"candles": found})

    def coingecko_price(self, ids: list[str]) -> str:
        said = [
            f'"{provider_id("coingecko", symbol)}": {{"usd": {price}, "last_updated_at": {int(at.timestamp())}}}'
            for symbol, (price, at) in self.prices.items()
            if provider_id("coingecko", symbol) in ids
        ]
        return "{" + ", ".join(said) + "}"

    def coingecko_range(self, start: int, end: int) -> str:
        points = ", ".join(f"[{at * 1000}, {price}]" for at, price in self.points if start <= at <= end)
        return f'{{"prices": [{points}], "market_caps": [{points}], "total_volumes": [{points}]}}'

    def hermes(self, ids: list[str], *, ignore_invalid: bool) -> str | None:
        """None where it knows one of the ids not: then all of the request fails, unless it may ignore those."""
        known = {provider_id("pyth", symbol) for symbol in self.prices}
        if not ignore_invalid and not known.issuperset(ids):
            return None
        parsed = []
        for symbol, (price, at) in self.prices.items():
            if (one := provider_id("pyth", symbol)) in ids:
                sure = Decimal(price).is_finite()
                digits, conf = (
                    (int(Decimal(price).scaleb(8)), int(abs(Decimal(price)).scaleb(5)))
                    if sure
                    else (price, 1)
                )
                said = {
                    "price": str(digits),
                    "conf": str(conf),
                    "expo": -8,
                    "publish_time": int(at.timestamp()),
                }
                parsed.append({"id": one, "price": said, "ema_price": said, "metadata": {"slot": 1}})
        return json.dumps({"binary": {"encoding": "hex", "data": []}, "parsed": parsed})

    def rpc(self, body: dict[str, Any]) -> str:
        answer = {"jsonrpc": "2.0", "id": body["id"]}
        if body["method"] == "eth_chainId":
            return json.dumps(answer | {"result": "0x1"})
        if body["method"] != "eth_call":
            error = {
                "code": -32601,
                "message": f"the method {body['method']} does not exist/is not available",
            }
            return json.dumps(answer | {"error": error})
        data = bytes.fromhex(body["params"][0]["data"][2:])
        assert data[:4] == evm.AGGREGATE3
        (calls,) = decode(["(address,bool,bytes)[]"], data[4:])
        results = [self.call(to, asked) for to, _, asked in calls]
        packed = encode(["(bool,bytes)[]"], [[(said is not None, said or b"") for said in results]])
        return json.dumps(answer | {"result": "0x" + packed.hex()})

    def call(self, to: str, asked: bytes) -> bytes | None:
        """One call within the multicall; None reverts."""
        if asked == evm.BLOCK_TIME:
            return self.block_time.to_bytes(32, "big")
        if to == SEQUENCER:
            down, since = self.sequencer
            return encode(chainlink.ROUND_TYPES, [1, down, since, since, 1])
        if to == QUOTER:
            first, second, amount, _, _ = decode(dex.TERMS, asked[4:])[0]
            token = second if first == USD else first
            traded = next(p for s, (p, _) in self.prices.items() if address(s) == token)
            side = self.sides(traded)[1 if first == USD else 0]
            return encode(["uint256"] * 4, [int(Decimal(side) * amount / 10**18 * 10**6), 0, 0, 0])
        if asked == chainlink.DECIMALS:
            return (8).to_bytes(32, "big")
        price = next((p for s, (p, _) in self.prices.items() if address(s) == to), None)
        if price is None:
            return None
        updated = self.block_time - self.heartbeat_ago
        return encode(chainlink.ROUND_TYPES, [7, int(Decimal(price).scaleb(8)), updated, updated, 7])

    @staticmethod
    def sides(price: str) -> tuple[str, str]:
        middle = Decimal(price)
        if not middle.is_finite():
            return price, price
        return str(middle * (1 - SPREAD / 2)), str(middle * (1 + SPREAD / 2))


class Handler(BaseHTTPRequestHandler):
    """Routes to the provider; faults are the methods named after them."""

    provider: Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        path = parts.path.strip("/").split("/")
        said: str | None
        if path[-1] == "ticker":
            said = self.provider.coinbase_ticker(path[-2])
        elif path[-1] == "candles":
            said = self.provider.coinbase_candles(int(asked["start"][0]), int(asked["end"][0]))
        elif path[-1] == "price":
            said = self.provider.coingecko_price(asked["ids"][0].split(","))
        elif path[-1] == "range":
            said = self.provider.coingecko_range(int(asked["from"][0]), int(asked["to"][0]))
        else:
            lenient = asked.get("ignore_invalid_price_ids") == ["true"]
            said = self.provider.hermes(asked["ids[]"], ignore_invalid=lenient)
        self.respond(said)

    def do_POST(self) -> None:
        self.respond(self.provider.rpc(json.loads(self.rfile.read(int(self.headers["content-length"])))))

    def respond(self, said: str | None) -> None:
        provider = self.provider
        provider.requests.append(self.path)
        if provider.fault and provider.times > 0:
            provider.times -= 1
            getattr(self, provider.fault)(said or "{}")
        elif said is None:
            self.send(404, '{"error": "NOT_FOUND"}')
        else:
            self.send(200, said)

    def send(self, code: int, body: str, **headers: str) -> None:
        self.send_response(code)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body.encode())

    # -- faults

    def too_many(self, said: str) -> None:
        self.send(429, "slow down", retry_after="7")

    def broken(self, said: str) -> None:
        self.send(503, "maintenance")

    def truncated(self, said: str) -> None:
        self.send(200, said[: len(said) // 2])

    def cut_off(self, said: str) -> None:
        """Promises more than it sends, then hangs up."""
        self.send_response(200)
        self.send_header("content-length", str(len(said) + 100))
        self.end_headers()
        self.wfile.write(said.encode())
        self.close_connection = True

    def disconnects(self, said: str) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def slow(self, said: str) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said[:1].encode())
        self.wfile.flush()
        time.sleep(0.6)

    def other_shape(self, said: str) -> None:
        self.send(200, '[{"moved": "https://elsewhere.example"}]')

    def html(self, said: str) -> None:
        self.send(200, "<html>Checking your browser</html>")

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def provider() -> Iterator[Provider]:
    """One provider for a test."""
    one = Provider()
    handler = type("Bound", (Handler,), {"provider": one})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that left are the point
    one.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield one
    server.shutdown()
    server.server_close()
    thread.join()


Make = Callable[[Provider, list[str]], dict[str, Any]]


def _api(name: str) -> Make:
    return lambda one, symbols: {"base_url": one.url, "ids": {s: provider_id(name, s) for s in symbols}}


def _chainlink(one: Provider, symbols: list[str]) -> dict[str, Any]:
    feeds = {s: {"address": address(s), "heartbeat_seconds": 3600, "deviation_bps": 50} for s in symbols}
    return {"base_url": one.url, "aggregators": feeds, "sequencer": SEQUENCER}


def _dex(one: Provider, symbols: list[str]) -> dict[str, Any]:
    pools = {s: {"token": address(s), "decimals": 18, "fee": 500, "size": "0.5"} for s in symbols}
    return {"base_url": one.url, "quoter": QUOTER, "usd": USD, "pools": pools}


OPTIONS: dict[str, Make] = {
    "coinbase": _api("coinbase"),
    "coingecko": _api("coingecko"),
    "pyth": _api("pyth"),
    "chainlink": _chainlink,
    "dex": _dex,
}
"""Adapter -> the options of its stanza: one line enrols it in the contract."""
