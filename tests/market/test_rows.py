"""A malformed row or a retired id does not fail the other rows, for every feed."""

from datetime import timedelta
from typing import Any

import pytest
from eth_abi.abi import encode
from structlog.testing import capture_logs

from maxxit.core.errors import Rejected, Retryable
from maxxit.market.feeds import evm, wire
from maxxit.market.feeds.chainlink import Chainlink
from maxxit.market.feeds.coinbase import Coinbase
from maxxit.market.feeds.coingecko import CoinGecko
from maxxit.market.feeds.dex import Dex
from maxxit.market.feeds.pyth import Pyth
from tests.builders import T0, RecordedClock

MINUTE = timedelta(minutes=1)
ALIVE, RETIRED = "aa" * 32, "bb" * 32
GOOD = {"price": "9700012345678", "conf": "2500000000", "expo": -8, "publish_time": int(T0.timestamp())}


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[dict[str, Any]]:
    """`wire.ask` gives these one after the other; what was asked is returned."""
    asked: list[dict[str, Any]] = []
    script = list(answers)

    def ask(http: object, method: str, path: str, **request: Any) -> Any:
        asked.append(request.get("params", {}))
        answer = script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(wire, "ask", ask)
    return asked


def pyth() -> Pyth:
    return Pyth(name="pyth", base_url="http://127.0.0.1:1", ids={"BTC": ALIVE, "LTC": "0x" + RETIRED})


def test_a_retired_price_id_is_left_out(monkeypatch: pytest.MonkeyPatch, time: RecordedClock) -> None:
    asked = answering(monkeypatch, {"parsed": [{"id": ALIVE, "price": GOOD}]})
    assert set(pyth().quotes(["BTC", "LTC"])) == {"BTC"}
    assert asked[0]["ignore_invalid_price_ids"] == "true"


def test_a_refusal_that_names_no_id_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, Rejected("hermes answered 401: no key", code="http_401"))
    with pytest.raises(Rejected):
        pyth().quotes(["BTC", "LTC"])


@pytest.mark.parametrize("code", ["http_400", "http_403", "http_404"])
def test_a_request_that_is_refused_for_one_of_its_ids_is_asked_again_without_it(
    monkeypatch: pytest.MonkeyPatch, time: RecordedClock, code: str
) -> None:
    no = Rejected("hermes refused the ids", code=code)
    asked = answering(monkeypatch, no, {"parsed": [{"id": ALIVE, "price": GOOD}]}, no)
    assert set(pyth().quotes(["BTC", "LTC"])) == {"BTC"}
    assert [request["ids[]"] for request in asked] == [[ALIVE, RETIRED], [ALIVE], [RETIRED]]


def test_a_request_that_is_refused_for_each_of_its_ids_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[Rejected("hermes answered 400", code="http_400")] * 3)
    with pytest.raises(Rejected):
        pyth().quotes(["BTC", "LTC"])


def test_symbols_without_an_answer_are_named(monkeypatch: pytest.MonkeyPatch, time: RecordedClock) -> None:
    answering(monkeypatch, {"parsed": [{"id": ALIVE, "price": GOOD}]})
    with capture_logs() as logged:
        pyth().quotes(["BTC", "LTC"])
    assert [one["symbols"] for one in logged if one["event"] == "symbols_unanswered"] == [["LTC"]]


BAD_ROWS: list[Any] = [
    None,
    {},
    {"price": 5},
    {"price": {"price": "x", "conf": "1", "expo": "y", "publish_time": 1}},
]


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_malformed_row_of_pyth(monkeypatch: pytest.MonkeyPatch, time: RecordedClock, bad: Any) -> None:
    row = {"id": RETIRED, **bad} if isinstance(bad, dict) else bad
    answering(monkeypatch, {"parsed": [row, {"id": ALIVE, "price": GOOD}]})
    found = pyth().quotes(["BTC", "LTC"])
    assert found["BTC"].price.is_finite()
    assert "LTC" not in found


@pytest.mark.parametrize(
    "bad",
    [
        "down",
        [1],
        {"usd": 1},
        *({"usd": 1, "last_updated_at": at} for at in ("soon", 10**30, 177_245_284_528_452_800)),
    ],
)
def test_a_malformed_row_of_coingecko(monkeypatch: pytest.MonkeyPatch, time: RecordedClock, bad: Any) -> None:
    feed = CoinGecko(
        name="coingecko", base_url="http://127.0.0.1:1", ids={"BTC": "bitcoin", "LTC": "litecoin"}
    )
    at = int(T0.timestamp())
    answering(monkeypatch, {"bitcoin": {"usd": 9700, "last_updated_at": at}, "litecoin": bad})
    found = feed.quotes(["BTC", "LTC"])
    assert found["BTC"].price == 9700
    assert "LTC" not in found


@pytest.mark.parametrize(
    "bad",
    [
        None,
        {"trades": []},
        {"trades": [{}]},
        {"trades": [{"price": "1", "time": "never"}], "best_bid": "", "best_ask": ""},
    ],
)
def test_a_malformed_row_of_coinbase(monkeypatch: pytest.MonkeyPatch, time: RecordedClock, bad: Any) -> None:
    feed = Coinbase(name="coinbase", base_url="http://127.0.0.1:1", ids={"BTC": "BTC-USD", "LTC": "LTC-USD"})
    good = {"trades": [{"price": "9700", "time": T0.isoformat()}], "best_bid": "9699", "best_ask": "9701"}
    answering(monkeypatch, bad, good)
    found = feed.quotes(["LTC", "BTC"])
    assert found["BTC"].price == 9700
    assert "LTC" not in found


def test_a_malformed_candle_of_coinbase(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Coinbase(name="coinbase", base_url="http://127.0.0.1:1", ids={"BTC": "BTC-USD"})
    prices = {"open": "9", "high": "9", "low": "9", "close": "9", "volume": "1"}
    good = {"start": str(int(T0.timestamp())), **prices}
    for bad in (None, {}, good | {"low": "10"}, good | {"start": "177245284528452800"}):
        answering(monkeypatch, {"candles": [bad, good]})
        _, bars = next(iter(feed.candles("BTC", T0, T0 + 5 * MINUTE)))
        assert [bar.open_time for bar in bars] == [T0]


def test_a_malformed_point_of_coingecko(monkeypatch: pytest.MonkeyPatch, time: RecordedClock) -> None:
    feed = CoinGecko(name="coingecko", base_url="http://127.0.0.1:1", ids={"BTC": "bitcoin"})
    at = int(T0.timestamp()) * 1000
    for bad in (None, [], [at], [at, None], [at, 0], [10**30, 5], [at * 1000, 5]):
        answering(monkeypatch, {"prices": [bad, [at, 9]]})
        _, bars = next(iter(feed.candles("BTC", T0, T0 + 5 * MINUTE)))
        assert [bar.close for bar in bars] == [9]


SWAP = (1_750_000_000).to_bytes(32, "big") + bytes(96)


def test_a_malformed_answer_of_the_quoter(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = {s: {"token": "0x" + s.encode().hex().rjust(40, "0"), "decimals": 18, "fee": 500, "size": "0.5"}
             for s in ("BTC", "LTC")}  # fmt: skip
    feed = Dex(
        name="dex", base_url="http://127.0.0.1:1", quoter="0x" + "b" * 40, usd="0x" + "c" * 40, pools=pools
    )
    for other in ([SWAP, None], [SWAP, b"\x01"]):
        monkeypatch.setattr(
            evm, "aggregate", lambda *_, other=other, **__: (int(T0.timestamp()), [SWAP, SWAP, *other])
        )
        assert set(feed.quotes(["BTC", "LTC"])) == {"BTC"}


def aggregators(monkeypatch: pytest.MonkeyPatch, *answers: bytes | None) -> set[str]:
    """The symbols that have a price, where BTC and LTC answer with `answers`: two rounds, then two decimals."""
    monkeypatch.setattr(evm, "aggregate", lambda *_, **__: (int(T0.timestamp()), [*answers]))
    contracts = {
        s: {"address": "0x" + "a" * 40, "heartbeat_seconds": 60, "deviation_bps": 5} for s in ("BTC", "LTC")
    }
    feed = Chainlink(name="chainlink", base_url="http://127.0.0.1:1", aggregators=contracts)
    return set(feed.quotes(["BTC", "LTC"]))


def test_an_aggregator_whose_answer_is_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    eight, at = (8).to_bytes(32, "big"), int(T0.timestamp())
    good = encode(["uint256"] * 5, [1, 9_700, at, at, 1])
    assert aggregators(monkeypatch, good, good, eight, eight) == {"BTC", "LTC"}
    for bad in (b"\x01", good[:-1], encode(["uint256"] * 5, [1, 9_700, at, at + 1, 1])):
        assert aggregators(monkeypatch, good, bad, eight, eight) == {"BTC"}
    assert aggregators(monkeypatch, good, good, eight, b"\xff" * 32) == {"BTC"}


def test_an_answer_without_rows_is_the_providers_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, {"parsed": None})
    with pytest.raises(Retryable):
        pyth().quotes(["BTC"])
