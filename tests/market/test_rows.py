"""One row that cannot be read, or one id that was retired, silences no other: for every feed."""

from typing import Any

import pytest

from maxxit.core.errors import Rejected, Retryable
from maxxit.market.feeds import wire
from maxxit.market.feeds.coinbase import Coinbase
from maxxit.market.feeds.coingecko import CoinGecko
from maxxit.market.feeds.pyth import Pyth
from tests.builders import T0, RecordedClock

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
    ["down", [1], {"usd": 1}, {"usd": 1, "last_updated_at": "soon"}, {"usd": 1, "last_updated_at": 10**30}],
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
    "bad", [{"trades": [{}]}, {"trades": [{"price": "1", "time": "never"}], "best_bid": "", "best_ask": ""}]
)
def test_a_malformed_row_of_coinbase(monkeypatch: pytest.MonkeyPatch, time: RecordedClock, bad: Any) -> None:
    feed = Coinbase(name="coinbase", base_url="http://127.0.0.1:1", ids={"BTC": "BTC-USD", "LTC": "LTC-USD"})
    good = {"trades": [{"price": "9700", "time": T0.isoformat()}], "best_bid": "9699", "best_ask": "9701"}
    answering(monkeypatch, bad, good)
    found = feed.quotes(["LTC", "BTC"])
    assert found["BTC"].price == 9700
    assert "LTC" not in found


def test_an_answer_without_rows_is_the_providers_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, {"parsed": None})
    with pytest.raises(Retryable):
        pyth().quotes(["BTC"])
