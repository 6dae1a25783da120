"""What the fakes are made to say, and what our own clients say to them, for `tests.conformance.serve`."""

import json
from base64 import b64encode
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from maxxit.core import clock, http
from maxxit.core.errors import MaxxitError
from maxxit.llm.exporters import EXPORTERS
from maxxit.llm.exporters.experiment import Experiment, Item
from maxxit.llm.models import LlmTrace
from maxxit.llm.policy import ExporterStanza
from maxxit.llm.providers import PROVIDERS
from maxxit.llm.providers.base import Request
from maxxit.market.feeds import FEEDS
from maxxit.ops.devchain.anvil import start_anvil
from signals_app.sources.base import Cursor
from signals_app.sources.telegram import TelegramSource
from signals_app.sources.x import XSource
from tests.chain.sending.kms import fake_kms
from tests.chain.sending.kms_scenes import KmsScenes
from tests.chain.sending.proxy import Proxy, proxied
from tests.chat.scenes import ChatScenes, mcp_over_http
from tests.fakes import fake_x
from tests.llm import server as model
from tests.market import exchange as coinbase
from tests.market.exchange import exchange
from tests.market.provider import OPTIONS, SEQUENCER, address, provider
from tests.notify.providers import providers
from tests.notify.scenes import ChannelScenes
from tests.signals_app.bot_api import CHANNEL, bot_api
from tests.signals_app.bot_api import TOKEN as BOT_TOKEN
from tests.trading.venues.alpaca.server import alpaca
from tests.trading.venues.alpaca.socket import trade_stream
from tests.trading.venues.alpaca.world import KnownKeys
from tests.trading.venues.coinbase.scenes import CoinbaseScenes
from tests.trading.venues.coinbase.server import coinbase as coinbase_trading
from tests.trading.venues.coinbase.socket import user_stream
from tests.trading.venues.hyperliquid.scenes import HyperliquidScenes
from tests.trading.venues.hyperliquid.server import hyperliquid
from trading.venues.base import Request as VenueRequest

ZOO = Path(__file__).resolve().parents[1] / "chain" / "zoo"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LONG = "I was wrong on $BTC, and here is why. " * 12
EXPERIMENT = Experiment(
    dataset="may",
    run="rules 2026-05-01T12:00:00Z",
    description="labelled posts",
    at=NOW,
    items=[
        Item(
            "1", "Long $BTC here", {"BTC": "long"}, {"sides": {"BTC": "long"}}, right=True, explanation="buys"
        ),
        Item("2", "good morning", {}, {"sides": {"ETH": "long"}}, right=False),
    ],
    score="correct",
    figures={"precision": 0.5, "recall": 1.0},
    metadata={"reader": "rules"},
)
REQUEST = Request(
    purpose="classify",
    system="You read posts.",
    user='{"posts": []}',
    data={"posts": []},
    schema={
        "type": "object",
        "properties": {"readings": {"type": "array", "items": {"type": "string"}}},
        "required": ["readings"],
        "additionalProperties": False,
    },
    schema_name="Answer",
    max_tokens=650,
)


class Fakes(ChannelScenes, ChatScenes, CoinbaseScenes, HyperliquidScenes, KmsScenes):
    """One of each, and what can be asked of them."""

    def __init__(self, stack: ExitStack) -> None:
        self.x = stack.enter_context(fake_x())
        self.models = stack.enter_context(model.running())
        self.market = stack.enter_context(provider())
        self.exchange = stack.enter_context(exchange())
        self.node = stack.enter_context(start_anvil())
        self.alpaca = stack.enter_context(alpaca())
        self.alpaca_socket = stack.enter_context(trade_stream(self.alpaca.broker))
        self.hyperliquid = stack.enter_context(hyperliquid())
        self.coinbase = stack.enter_context(coinbase_trading())
        self.coinbase_socket = stack.enter_context(user_stream(self.coinbase.exchange))
        self.channels = stack.enter_context(providers())
        self.bot_api = stack.enter_context(bot_api())
        self.kms = stack.enter_context(fake_kms())
        self.mcp_url: str = stack.enter_context(mcp_over_http())
        self.proxy: Proxy
        self.proxy, self.proxy_url = stack.enter_context(proxied(self.node.url))

    def urls(self) -> dict[str, str]:
        """Where each listens."""
        return {
            "x": self.x.url,
            "models": self.models.url,
            "market": self.market.url,
            "exchange": self.exchange.url,
            "node": self.node.url,
            "channels": self.channels.url,
            "bot_api": self.bot_api.url,
            "mcp": self.mcp_url,
            "proxy": self.proxy_url,
            "alpaca": self.alpaca.url,
            "alpaca_stream": self.alpaca_socket.url,
            "hyperliquid": self.hyperliquid.url,
            "coinbase": self.coinbase.url,
            "kms": self.kms.url,
            "coinbase_stream": self.coinbase_socket.url,
        }

    # -- X

    def x_says(self, posts: int) -> None:
        """`author` has so many posts; the newest is a long one."""
        for held in (self.x.users, self.x.posts, self.x.requests, self.x.answers, self.x.headers):
            held.clear()
        items = [_post(1_900_000_000_000_000_000 + number) for number in range(posts, 0, -1)]
        if items:
            items[0] |= {"text": LONG[:277] + "…", "note_tweet": {"text": LONG}}
        self.x.says("author", *items)

    def x_answers(self, status: int, headers: dict[str, str], body: Any) -> None:
        """What goes before the next sensible answer."""
        self.x.answers.append((status, headers, json.dumps(body).encode()))

    def x_asked(self) -> list[dict[str, Any]]:
        """Every request since `x_says`."""
        return [asdict(one) for one in self.x.requests]

    def x_ours(self, since_id: str) -> list[dict[str, str]]:
        """Our own source reads `author`; raises what it raises."""
        source = XSource(base_url=self.x.url, key_env="MAXXIT_CONFORMANCE_KEY")
        return [
            {"id": post.post_id, "text": post.text, "at": post.posted_at.isoformat()}
            for post in source.fetch("author", Cursor(since_id))
        ]

    def x_found(self, wanted: str) -> list[dict[str, Any]]:
        """What our own source finds first by a query."""
        source = XSource(base_url=self.x.url, key_env="MAXXIT_CONFORMANCE_KEY", queries={"found": wanted})
        return [
            {"id": post.post_id, "likes": post.engagement.likes} for post in source.fetch("found", Cursor())
        ]

    # -- a channel of Telegram

    def telegram_says(self, posts: int) -> list[int]:
        """The channel has so many new posts, the last one edited; returns the ids of all updates."""
        self.bot_api.updates.clear()
        self.bot_api.asked.clear()
        for number in range(1, posts + 1):
            self.bot_api.says(number, NOW, f"buying $BTC {number}")
        self.bot_api.says(posts, NOW, "buying $BTC after all", kind="edited_channel_post")
        return [one["update_id"] for one in self.bot_api.updates]

    def telegram_left(self) -> int:
        """How many updates wait."""
        return len(self.bot_api.updates)

    def telegram_ours(self) -> list[dict[str, Any]]:
        """The parameters of our own requests, which keep what they get in memory."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TELEGRAM_SOURCE_TOKEN", BOT_TOKEN)
            patch.setattr("signals_app.inbound.keep", lambda source, items: [item.ident for item in items])
            patch.setattr("signals_app.inbound.waiting", lambda source, username: [])
            source = TelegramSource(name="telegram", channels={"alpha": CHANNEL}, base_url=self.bot_api.url)
            list(source.fetch("alpha", Cursor()))
        return self.bot_api.asked

    # -- models

    def model_says(self, shape: str, kind: str, then: str = "") -> None:
        """The next answer of the model server, or the next two, in the shape `openai` or `anthropic`."""
        self.models.asked.clear()
        self.models.headers.clear()
        self.models.replies.clear()
        self.models.replies.extend(ANSWERS[shape][one] for one in (kind, then) if one)

    def model_asked(self) -> dict[str, Any]:
        """The newest request."""
        return {"body": self.models.asked[-1], "headers": self.models.headers[-1]}

    def model_ours(self, shape: str, model: str = "m-1") -> dict[str, Any]:
        """Our own adapter asks: its answer, or the class and code of its error."""
        adapter = PROVIDERS.open(
            shape,
            name=shape,
            model=model,
            base_url=self.models.url,
            key="sk-test",
            temperature=0.3,
            timeout=5.0,
        )
        try:
            return asdict(adapter.complete(REQUEST))
        except MaxxitError as error:
            return {"error": type(error).__name__, "code": getattr(error, "code", "")}

    # -- traces

    def traces_ours(self, name: str) -> dict[str, Any]:
        """Our own exporter sends two calls, one of which failed: what it counted, and what arrived."""
        self.collect({"partialSuccess": {}})
        stanza = ExporterStanza(
            adapter=name,
            base_url=self.models.url,
            public_key_env="MAXXIT_CONFORMANCE_KEY",
            secret_key_env="MAXXIT_CONFORMANCE_KEY",
        )
        taken = EXPORTERS.open(name, stanza=stanza).send(
            [_trace(1), _trace(2, status="error", error_message="no")]
        )
        return {"taken": taken, **self.collected()}

    def experiment_ours(self, name: str) -> list[dict[str, str]]:
        """Our own exporter sends an evaluation of two posts: what arrived, in order."""
        self.as_langfuse()
        stanza = ExporterStanza(
            adapter=name,
            base_url=self.models.url,
            public_key_env="MAXXIT_CONFORMANCE_KEY",
            secret_key_env="MAXXIT_CONFORMANCE_KEY",
        )
        EXPORTERS.open(name, stanza=stanza).send_experiment(EXPERIMENT)
        return self.arrived()

    def as_langfuse(self) -> None:
        """The model server is Langfuse now."""
        self.collect({})
        self.models.otherwise = model.langfuse

    def arrived(self) -> list[dict[str, str]]:
        """Path, encoding and body (base64) of each request to the collector."""
        return [
            {"path": path, "encoding": headers.get("content-encoding", ""), "body": b64encode(body).decode()}
            for path, headers, body in zip(
                self.models.paths, self.models.headers, self.models.received, strict=True
            )
        ]

    def collect(self, answer: dict[str, Any]) -> None:
        """The model server is a collector now, which answers so."""
        self.models.received.clear()
        self.models.headers.clear()
        self.models.paths.clear()
        self.models.replies.clear()
        self.models.otherwise = model.raw(json.dumps(answer).encode())

    def collected(self) -> dict[str, Any]:
        """The newest request to the collector; its body in base64."""
        return {
            "requests": len(self.models.received),
            "headers": self.models.headers[-1],
            "body": b64encode(self.models.received[-1]).decode(),
        }

    # -- prices

    def market_says(self, price: str, candles: int = 0) -> None:
        """ETH costs `price`; its last bars and points."""
        market = self.market
        market.fault, market.times = "", 0
        market.requests.clear()
        market.says("ETH", price, NOW)
        start = int(NOW.timestamp()) - 300 * candles
        market.candles = {start + 300 * n: ["1", "3", "2", "2.5", "10"] for n in range(candles)}
        market.points = [(start + 300 * n, "2.5") for n in range(candles)]

    def market_fault(self, fault: str, times: int) -> None:
        """The next `times` requests fail so."""
        self.market.misbehaves(fault, times)

    def market_asked(self) -> list[str]:
        """Paths and queries."""
        return list(self.market.requests)

    def market_ours(self, feed: str, bars: int = 0) -> dict[str, Any]:
        """Our own feed reads ETH: the tick, the bars of the last `bars` × 5 minutes, and what it asked."""
        self.market.requests.clear()
        adapter: Any = FEEDS.open(feed, name=feed, **OPTIONS[feed](self.market, ["ETH"]))
        tick = adapter.quotes(["ETH"])["ETH"]
        quote_requests = list(self.market.requests)
        self.market.requests.clear()
        start = datetime.fromtimestamp(NOW.timestamp() - 300 * bars, UTC)
        pages = [page for _, page in adapter.candles("ETH", start, NOW)] if bars else []
        return {
            "price": str(tick.price),
            "at": tick.at.isoformat(),
            "quote": quote_requests,
            "bars": sum(len(page) for page in pages),
            "candles": list(self.market.requests),
        }

    def chainlink(self) -> dict[str, Any]:
        """Where the fake aggregators stand, and the moment of the fake block."""
        return {"feed": address("ETH"), "sequencer": SEQUENCER, "block_time": self.market.block_time}

    def exchange_sends(self, price: str) -> list[dict[str, Any]]:
        """A heartbeat and a ticker to whoever is connected; what was subscribed to before."""
        self.exchange.send(coinbase.heartbeat(0, NOW))
        self.exchange.send(coinbase.ticker(1, "ETH-USD", price, NOW))
        return self.exchange.subscribed

    # -- Alpaca

    def alpaca_opens(self, key: str, secret: str) -> None:
        """Open the account of a key in a fresh world where the exchange is open; AAPL costs 200 USD, ETH 2,000."""
        self.alpaca.faults.clear()
        self.alpaca.used.clear()
        self.alpaca.broker.reset()
        self.alpaca.broker.updates.append(self.alpaca_socket.update)
        self.alpaca.broker.account(key, secret)
        self.alpaca_price("AAPL", "200")
        self.alpaca_price("ETH/USD", "2000")

    def alpaca_price(self, symbol: str, usd: str) -> None:
        """Set a price; what waits for it executes."""
        self.alpaca.broker.price(symbol, usd)

    def alpaca_sets(self, fills: bool) -> None:
        """Let orders fill by themselves, or only by `alpaca_fills`."""
        self.alpaca.broker.fills = fills

    def alpaca_fills(self, key: str, order: str, quantity: str) -> None:
        """Execute some of an order, named by its client order id."""
        broker = self.alpaca.broker
        broker.fill(broker.accounts[key], order, quantity)

    def alpaca_transfers(self, key: str, amount: str) -> None:
        """Move the owner's cash, USD."""
        self.alpaca.broker.transfer(self.alpaca.broker.accounts[key], amount)

    def alpaca_fault(self, name: str, method: str, path: str) -> None:
        """Let the next request of this kind go wrong."""
        self.alpaca.misbehaves(name, method, path)

    def alpaca_answer(self, path: str, key: str) -> dict[str, Any]:
        """Read an answer as it goes over the wire; this request is not recorded."""
        secret = self.alpaca.broker.accounts[key].secret
        headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
        with http.client(self.alpaca.url, headers=headers, trust_env=False) as asking:
            answer: dict[str, Any] = http.fetch(asking, "GET", path).json()
        self.alpaca.requests.pop()
        return answer

    def alpaca_bracket(self, key: str, stop: str, target: str) -> list[dict[str, Any]]:
        """Send a bracket (OTO with one level) by our adapter, read its legs and cancel them; return the requests."""
        ours = KnownKeys(self.alpaca, stocks=("AAPL",), take_profit_pct=0, stop_loss_pct=0)
        entry = ours.prepare(
            VenueRequest(
                "mx-ours-0", key, "AAPL", "buy", "open", Decimal(2), Decimal(200), clock.now() + timedelta(minutes=5),
                stop=Decimal(stop) if stop else None, target=Decimal(target) if target else None,
            )
        )  # fmt: skip
        before = len(self.alpaca.requests)
        ours.send(entry)
        ours.exits([entry.ref])
        ours.release([entry.ref])
        asked = [asdict(one) for one in self.alpaca.requests[before:]]
        del self.alpaca.requests[before:]
        return asked

    def alpaca_ours(self, key: str, symbol: str, quantity: str, side: str) -> list[dict[str, Any]]:
        """Send an order by our adapter, ask for it alone and among many, cancel it; return the requests."""
        ours = KnownKeys(self.alpaca, stocks=("AAPL",))
        deadline = clock.now() + timedelta(minutes=5)
        orders = [
            ours.prepare(
                VenueRequest(
                    f"mx-ours-{n}", key, symbol, side, "open", Decimal(quantity), Decimal(1), deadline
                )
            )
            for n in range(3)
        ]
        before = len(self.alpaca.requests)
        ours.send(orders[0])
        ours.find(orders[0].ref)
        ours.find_many([order.ref for order in orders])
        ours.cancel(orders[0].ref)
        asked = [asdict(one) for one in self.alpaca.requests[before:]]
        del self.alpaca.requests[before:]
        return asked

    def alpaca_asked(self) -> list[dict[str, Any]]:
        """Return every request since the last `alpaca_lines`."""
        return [asdict(one) for one in self.alpaca.requests]

    def alpaca_lines(self) -> list[str]:
        """Return method and path of every request since the last call."""
        lines = self.alpaca.lines()
        self.alpaca.requests.clear()
        return lines

    # -- nodes

    def node_says(self, **changes: Any) -> None:
        """Set the proxy before the node."""
        self.proxy.script, self.proxy.answers = {}, {}
        self.proxy.tell(changes)

    def receipts(self) -> list[dict[str, Any]]:
        """The receipts of other clients that tests/chain/test_zoo.py reads."""
        read: list[dict[str, Any]] = json.loads((ZOO / "receipts.json").read_text())["entries"]
        return read


def _post(ident: int) -> dict[str, Any]:
    at = datetime.fromtimestamp(NOW.timestamp() - (2_000_000_000_000_000_000 - ident) % 10**6, UTC)
    return {
        "id": str(ident),
        "text": f"buying $BTC at {ident}",
        "created_at": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "public_metrics": {
            "retweet_count": 2, "reply_count": 3, "like_count": ident % 50, "quote_count": 1, "bookmark_count": 0,
            "impression_count": 900,
        },
    }  # fmt: skip


def _trace(number: int, **changes: Any) -> LlmTrace:
    """A row as `ask` writes it, not saved."""
    told: dict[str, Any] = {
        "ts": NOW,
        "correlation_id": UUID(int=number),
        "correlation_ids": [UUID(int=number)],
        "agent_name": "agent",
        "purpose": "classify",
        "provider": "first",
        "model": "fake-1",
        "parameters": {"temperature": 0.3},
        "latency_ms": 250,
        "status": "ok",
        "request": {"system": "You read posts.", "user": "Long $BTC here"},
        "response": {"readings": []},
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cost_usd": Decimal("0.0014"),
    }
    return LlmTrace(pk=number, **told | changes)


CALL = {"id": "call_1", "type": "function", "function": {"name": "Answer", "arguments": '{"readings": []}'}}
TOO_LONG = "This model's maximum context length is 8192 tokens."
ANSWERS: dict[str, dict[str, model.Reply]] = {
    "openai": {
        "json": model.says({"readings": []}),
        "tool": model.raw(json.dumps(model.choice({"tool_calls": [CALL]}, "tool_calls")).encode()),
        "refusal": model.raw(json.dumps(model.choice({"refusal": "I will not."})).encode()),
        "filter": model.raw(json.dumps(model.choice({"content": ""}, "content_filter")).encode()),
        "cut": model.raw(json.dumps(model.choice({"content": '{"readings": ['}, "length")).encode()),
        "parameter": model.failure(
            "",
            400,
            "invalid_request_error",
            "Unsupported value",
            param="temperature",
            code="unsupported_value",
        ),
        "too long": model.failure("", 400, "invalid_request_error", TOO_LONG, code="context_length_exceeded"),
        "key": model.failure("", 401, "invalid_request_error", "Incorrect API key", code="invalid_api_key"),
        "limited": model.failure("", 429, "requests", "Rate limit reached", code="rate_limit_exceeded"),
        "away": model.failure("", 503, "server_error", "Overloaded"),
    },
    "anthropic": {
        "json": model.says({"readings": []}),
        "text": model.says("no JSON at all"),
        "refusal": model.raw(json.dumps(model.message([], "refusal")).encode()),
        "cut": model.raw(json.dumps(model.message([{"type": "text", "text": "{"}], "max_tokens")).encode()),
        "parameter": model.failure(
            "/messages", 400, "invalid_request_error", "`temperature` is deprecated for this model."
        ),
        "too long": model.failure("/messages", 400, "invalid_request_error", "prompt is too long"),
        "key": model.failure("/messages", 401, "authentication_error", "invalid x-api-key"),
        "limited": model.failure("/messages", 429, "rate_limit_error", "Number of requests exceeded"),
        "away": model.failure("/messages", 529, "overloaded_error", "Overloaded"),
    },
}
