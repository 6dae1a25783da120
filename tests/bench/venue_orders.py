"""From an order to the venue's acknowledgement: what our adapters add to the exchange's own time.

    python -m tests.bench.venue_orders [--orders 500]

Each fake serves in a process of its own. In turn an order goes through the adapter (`prepare` and `send`: signature,
HTTP, checks of the answer) and the same bytes go over a bare kept-alive connection of the standard library, whose time
is the fake's own. Prints both and the difference; asserts only that every order was taken. What Hyperliquid's adapter
adds includes its nonces, in a durable scratch database; both ways ask whether the leverage is set.
"""

import argparse
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

import django
import structlog
from django.db import transaction

ACCOUNT = "bench:1"
WARM_UP = 30


@dataclass
class Route:
    """An adapter, and a bare connection to the same fake."""

    venue: Any
    connection: HTTPConnection
    path: str
    headers: Callable[[], dict[str, str]]
    body: Callable[[Any], str]
    """The body of a prepared order."""
    asked_first: tuple[tuple[str, str], ...] = ()
    """Path and body of what the adapter reads before each order."""

    def by_adapter(self, number: int) -> float:
        """Send order number n; return its seconds."""
        request = request_of(number)
        began = time.perf_counter()
        with transaction.atomic():  # as the workers prepare, beside the order's row
            prepared = self.venue.prepare(request)
        self.venue.send(prepared)
        return time.perf_counter() - began

    def bare(self, number: int) -> float:
        """Send the bytes of order number n, after the bytes of what the adapter asks first; return its seconds."""
        with transaction.atomic():
            prepared = self.venue.prepare(request_of(number))
        requests = [*self.asked_first, (self.path, self.body(prepared))]
        headers = {"content-type": "application/json", **self.headers()}
        began = time.perf_counter()
        for path, body in requests:
            self.connection.request("POST", path, body.encode(), headers)
            answer = self.connection.getresponse()
            json.loads(answer.read())
            assert answer.status == 200
        return time.perf_counter() - began


def alpaca_process(pipe: Connection) -> None:
    """Serve the fake broker until the pipe is closed."""
    from tests.trading.venues.alpaca.server import alpaca

    with alpaca() as fake:
        fake.limit = 10**9
        fake.broker.account(ACCOUNT, "secret", cash=Decimal(10**9))
        fake.broker.price("BTC/USD", "50000")
        pipe.send({"url": fake.url, "secret": "secret"})
        pipe.poll(None)


def coinbase_process(pipe: Connection, kind: str) -> None:
    """Serve the fake exchange until the pipe is closed; `kind` of its key as in `tokens.issue`."""
    from tests.trading.venues.coinbase.server import coinbase
    from tests.trading.venues.coinbase.tokens import issue

    with coinbase() as fake:
        issued = issue(kind)
        fake.exchange.portfolio(ACCOUNT, issued, held={"USD": Decimal(10**9)})
        fake.exchange.price("BTC", "50000")
        pipe.send({"url": fake.url, "secret": issued.secret})
        pipe.poll(None)


def hyperliquid_process(pipe: Connection) -> None:
    """Serve the fake exchange until the pipe is closed."""
    from tests.trading.venues.hyperliquid.server import hyperliquid
    from tests.trading.venues.hyperliquid.world import keys_of
    from trading.venues.hyperliquid.accounts import agent_address

    with hyperliquid() as fake:
        keys = keys_of(ACCOUNT)
        account = fake.exchange.account(keys.address, cash=Decimal(10**9))
        fake.exchange.approve(account, agent_address(keys.agent_key))
        fake.exchange.price("BTC", "50000")
        pipe.send({"url": fake.url})
        pipe.poll(None)


def request_of(number: int) -> Any:
    """One small order of bitcoin."""
    from maxxit.core import clock
    from trading.venues.base import Request

    deadline = clock.now() + timedelta(minutes=5)
    return Request(f"mx-{number}", ACCOUNT, "BTC", "buy", "open", Decimal("0.001"), Decimal(50_000), deadline)


def stored_body(prepared: Any) -> str:
    """The body that the adapter stored with the order."""
    return str(prepared.payload["body"])


def route_of(
    venue: Any,
    keys: Any,
    url: str,
    path: str,
    headers: Callable[[], dict[str, str]],
    body: Callable[[Any], str] = stored_body,
) -> Route:
    """Return the route to one fake; the account's keys are opened already, as in a worker that trades."""
    venue._keys = lambda account: keys
    return Route(venue, HTTPConnection(urlsplit(url).netloc), path, headers, body)


def alpaca_route(served: dict[str, str]) -> Route:
    """Alpaca's adapter against its fake."""
    from trading.venues.alpaca.client import Keys
    from trading.venues.alpaca.venue import AlpacaVenue

    headers = {"APCA-API-KEY-ID": ACCOUNT, "APCA-API-SECRET-KEY": served["secret"]}
    venue = AlpacaVenue(base_url=served["url"])
    return route_of(venue, Keys(ACCOUNT, served["secret"]), served["url"], "/v2/orders", lambda: headers)


def coinbase_route(served: dict[str, str]) -> Route:
    """Coinbase's adapter against its fake; the bare way uses one token again and again."""
    from trading.venues.coinbase.token import Keys
    from trading.venues.coinbase.venue import CoinbaseVenue

    keys, path = Keys.parse(ACCOUNT, served["secret"]), "/api/v3/brokerage/orders"
    made: list[tuple[float, str]] = []

    def headers() -> dict[str, str]:
        if not made or time.monotonic() > made[-1][0] + 60:
            made.append((time.monotonic(), keys.token("POST", path)))
        return {"authorization": f"Bearer {made[-1][1]}"}

    return route_of(CoinbaseVenue(base_url=served["url"]), keys, served["url"], path, headers)


def hyperliquid_route(served: dict[str, str]) -> Route:
    """Hyperliquid's adapter against its fake; the bare way sends bodies that are signed beforehand."""
    from tests.trading.venues.hyperliquid.world import OPTIONS, keys_of
    from trading.venues.hyperliquid.signer import Signer, SigningFacts
    from trading.venues.hyperliquid.venue import HyperliquidVenue

    venue: Any = HyperliquidVenue(**OPTIONS | {"base_url": served["url"], "daily_notional_usd": 10**12})
    signer: Signer = venue.signer
    keys, facts = keys_of(ACCOUNT), SigningFacts({"BTC": Decimal(50_000)})
    venue._prices = lambda symbols: facts.prices  # the signer's quote, fresh for the whole bench
    venue.client._spend = lambda weight, most: None  # the bench sends more than an address may in a minute

    def body(prepared: Any) -> str:
        deadline = datetime.fromisoformat(prepared.payload["deadline"])
        action, nonce = prepared.payload["action"], prepared.payload["nonce"]
        return signer.body(keys, action, nonce, deadline, facts)

    route = route_of(venue, keys, served["url"], "/exchange", dict, body)
    asked = {"type": "activeAssetData", "user": keys.address, "coin": "BTC"}
    route.asked_first = (("/info", json.dumps(asked)),)
    return route


def measure(route: Route, orders: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each order, by the adapter and bare, in turn."""
    pairs = [(route.by_adapter(2 * number), route.bare(2 * number + 1)) for number in range(orders + WARM_UP)]
    return [ours for ours, _ in pairs[WARM_UP:]], [bare for _, bare in pairs[WARM_UP:]]


def main() -> None:
    """Print one line for each venue."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=500)
    orders = parser.parse_args().orders
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    django.setup()
    from maxxit.embedded.scratch import scratch_database

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    venues: list[tuple[str, Callable[..., None], tuple[str, ...], Callable[[dict[str, str]], Route]]] = [
        ("alpaca", alpaca_process, (), alpaca_route),
        ("coinbase, ECDSA", coinbase_process, ("ES256",), coinbase_route),
        ("coinbase, Ed25519", coinbase_process, ("EdDSA",), coinbase_route),
        ("hyperliquid", hyperliquid_process, (), hyperliquid_route),
    ]
    print(
        f"{'order → acknowledgement, ms':<28}{'ours p50':>10}{'p99':>8}{'bare p50':>10}{'p99':>8}{'added p50':>11}"
    )
    for name, serve, arguments, route in venues:
        with ExitStack() as stack:
            near, far = multiprocessing.Pipe()
            process = multiprocessing.get_context("fork").Process(
                target=serve, args=(far, *arguments), daemon=True
            )
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            stack.enter_context(scratch_database(durable=True))
            ours, bare = measure(route(near.recv()), orders)
        (ours_50, ours_99), (bare_50, bare_99) = (_milliseconds(one) for one in (ours, bare))
        print(
            f"{name:<28}{ours_50:>10.2f}{ours_99:>8.2f}{bare_50:>10.2f}{bare_99:>8.2f}{ours_50 - bare_50:>11.2f}"
        )


def _milliseconds(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    cuts = quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


if __name__ == "__main__":
    main()
