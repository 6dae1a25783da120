"""Social metrics: the answer of LunarCrush as it is described, what is stored, and what a decision may use."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app.models import SocialMetric
from signals_app.social import SOCIAL, store
from signals_app.social.base import SocialReading
from tests.builders import T0, RecordedClock

AGE = timedelta(hours=6)


def coin(symbol: str, **changes: Any) -> dict[str, Any]:
    """A coin of the list, with the names that public descriptions of the API give."""
    return {
        "id": 1, "symbol": symbol, "name": symbol.title(), "price": 97123.4, "price_btc": 1, "volume_24h": 4.1e10,
        "volatility": 0.0121, "circulating_supply": 19803868, "max_supply": 21000000, "percent_change_1h": -0.3,
        "percent_change_24h": 1.52, "percent_change_7d": 4.4, "market_cap": 1.9e12, "market_cap_rank": 1,
        "interactions_24h": 101234567, "social_volume_24h": 241230, "social_dominance": 24.1, "market_dominance": 57.2,
        "galaxy_score": 66.5, "galaxy_score_previous": 64, "alt_rank": 77, "alt_rank_previous": 91, "sentiment": 81,
        "categories": "layer-1,bitcoin-ecosystem", "blockchains": [], "topic": f"{symbol.lower()} {symbol}",
    } | changes  # fmt: skip


class Provider:
    body: Any = None
    status = 200
    asked: list[tuple[str, str]]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Provider, str]]:
    state = Provider()
    state.asked = []
    monkeypatch.setenv("LUNARCRUSH_API_KEY", "a-key-of-lunarcrush")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.path, self.headers["authorization"]))
            body = state.body if isinstance(state.body, bytes) else json.dumps(state.body).encode()
            self.send_response(state.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}/api4"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_list_is_read_in_one_request(provider: tuple[Provider, str]) -> None:
    state, url = provider
    state.body = {
        "config": {"sort": "market_cap_rank", "limit": 1000, "total_rows": 3, "generated": 1777636800},
        "data": [coin("BTC"), coin("eth", alt_rank=9), coin("BTC", alt_rank=4000), coin("DOGE"), None, "x"],
    }
    found = SOCIAL.open("lunarcrush", base_url=url).readings({"BTC", "ETH"})

    assert found == [
        SocialReading("BTC", Decimal("66.5"), Decimal(81), 241230, Decimal("1.52"), 77),
        SocialReading("ETH", Decimal("66.5"), Decimal(81), 241230, Decimal("1.52"), 9),
    ]
    [(path, key)] = state.asked
    assert path.startswith("/api4/public/coins/list/v1?")
    assert key == "Bearer a-key-of-lunarcrush"


@pytest.mark.parametrize(
    "changes",
    [
        {"galaxy_score": 101},
        {"sentiment": None},
        {"alt_rank": 0},
        {"social_volume_24h": -1},
        {"galaxy_score": "NaN"},
    ],
)
def test_an_invalid_coin_is_left_out_and_hides_no_other(
    provider: tuple[Provider, str], changes: dict[str, Any]
) -> None:
    state, url = provider
    state.body = {"data": [coin("BTC", **changes), coin("ETH")]}

    assert [one.symbol for one in SOCIAL.open("lunarcrush", base_url=url).readings({"BTC", "ETH"})] == ["ETH"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(200, b"<html>", Retryable), (200, {"data": {}}, Retryable), (500, {}, Retryable), (401, {}, Rejected)],
)
def test_another_answer_is_an_error(
    provider: tuple[Provider, str], status: int, body: Any, error: type[Exception]
) -> None:
    state, url = provider
    state.status, state.body = status, body
    with pytest.raises(error):
        SOCIAL.open("lunarcrush", base_url=url).readings({"BTC"})


def test_without_a_key_the_source_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUNARCRUSH_API_KEY", raising=False)
    with pytest.raises(Misconfigured, match="LUNARCRUSH_API_KEY"):
        SOCIAL.open("lunarcrush")


def reading(volume: int, **changes: Any) -> SocialReading:
    known = {"symbol": "BTC", "galaxy_score": Decimal(60), "sentiment_pct": Decimal(70)}
    return SocialReading(
        **{**known, "social_volume": volume, "price_change_pct": Decimal(1), "alt_rank": 5, **changes}
    )


@pytest.mark.django_db
def test_a_change_is_measured_against_the_day_before_and_nothing_of_later_is_used(
    time: RecordedClock,
) -> None:
    store.keep([reading(1000)])
    time.move(hours=24)
    assert store.latest(["BTC"], T0, AGE) == {}  # no day before is known
    store.keep([reading(1500), reading(7, symbol="ETH")])
    figures = store.latest(["BTC", "ETH", "SOL"], T0 + timedelta(hours=24), AGE)

    assert {symbol: one.volume_change_pct for symbol, one in figures.items()} == {"BTC": Decimal(50)}
    assert store.latest(["BTC"], T0 + timedelta(hours=23), AGE) == {}
    assert store.latest(["BTC"], T0 + timedelta(hours=31), AGE) == {}
    assert store.prune(T0 + timedelta(hours=1)) == 1
    assert SocialMetric.objects.count() == 2
