"""CoinGecko: its own client, with the answers checked against the models of its OpenAPI document."""

from urllib.parse import parse_qs, urlsplit

import coingecko_sdk
import pytest
from coingecko_sdk import Coingecko

from tests.conformance.conftest import Fakes


@pytest.fixture
def client(fakes: Fakes) -> Coingecko:
    return Coingecko(
        demo_api_key="k",
        environment="demo",
        base_url=fakes.urls["market"],
        max_retries=0,
        _strict_response_validation=True,
    )


def test_a_price_is_asked_for_and_read_as_we_do(fakes: Fakes, client: Coingecko) -> None:
    fakes.market_says(price="2000.5")
    said = client.simple.price.get(
        ids="coin-ETH", vs_currencies="usd", include_last_updated_at=True, precision="full"
    )
    assert said["coin-ETH"].usd == 2000.5
    assert not said["coin-ETH"].model_extra
    (theirs,) = fakes.market_asked()
    ours = fakes.market_ours(feed="coingecko")
    assert ours["price"] == "2000.5"
    assert _request(ours["quote"][0]) == _request(theirs)


def test_an_unknown_coin_is_left_out(fakes: Fakes, client: Coingecko) -> None:
    fakes.market_says(price="2000")
    assert client.simple.price.get(ids="coin-NOPE", vs_currencies="usd") == {}


def test_points_of_a_range(fakes: Fakes, client: Coingecko) -> None:
    fakes.market_says(price="2000", candles=12)
    ours = fakes.market_ours(feed="coingecko", bars=12)
    path, query = _request(ours["candles"][0])
    fakes.market_says(price="2000", candles=12)
    said = client.coins.market_chart.get_range(
        "coin-ETH", from_=query["from"][0], to=query["to"][0], vs_currency="usd"
    )
    assert [_request(one) for one in fakes.market_asked()] == [(path, query)]
    assert len(said.prices) == ours["bars"] == 12
    assert all(len(point) == 2 and point[0] > 10**12 for point in said.prices)
    assert len(said.market_caps) == len(said.total_volumes) == len(said.prices)


def test_limits_and_failures(fakes: Fakes, client: Coingecko) -> None:
    for fault, error in {
        "too_many": coingecko_sdk.RateLimitError,
        "broken": coingecko_sdk.InternalServerError,
        "html": ValueError,  # it trusts the content type
        "other_shape": coingecko_sdk.APIResponseValidationError,
    }.items():
        fakes.market_says(price="2000")
        fakes.market_fault(fault=fault, times=1)
        with pytest.raises(error):
            client.simple.price.get(ids="coin-ETH", vs_currencies="usd")


def _request(url: str) -> tuple[str, dict[str, list[str]]]:
    parts = urlsplit(url)
    return parts.path, parse_qs(parts.query)
