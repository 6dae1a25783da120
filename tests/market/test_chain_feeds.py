"""Chainlink and Uniswap read from a real chain: the local world's aggregators, sequencer feed and pools."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.market import quotes
from maxxit.market.feeds import FEEDS
from maxxit.market.feeds.base import PriceFeed
from maxxit.market.models import RefusedQuote
from trading.chain.anvil import start_anvil
from trading.chain.world import World, build_world
from trading.contracts.codec import encode_call

pytestmark = pytest.mark.chain
SYMBOLS = {"ETH": "WETH", "BTC": "WBTC"}


@pytest.fixture(scope="module")
def built() -> Iterator[World]:
    with start_anvil() as node:
        yield build_world(node.url)


@pytest.fixture
def world(built: World) -> Iterator[World]:
    before = built.rpc("evm_snapshot")
    yield built
    built.rpc("evm_revert", before)


def chainlink(world: World, **changes: object) -> PriceFeed:
    feeds = {
        symbol: {"address": world.token(token).feed, "heartbeat_seconds": 3600, "deviation_bps": 50}
        for symbol, token in SYMBOLS.items()
    }
    options: dict[str, object] = {
        "base_url": world.rpc_url,
        "sequencer": world.sequencer_feed,
        "aggregators": feeds,
    }
    return FEEDS.open("chainlink", name="chainlink", **options | changes)


def dex(world: World, size: str = "0.01", **changes: object) -> PriceFeed:
    pools = {
        symbol: {"token": t.address, "decimals": t.decimals, "fee": t.policy_fee, "size": size} | changes
        for symbol, t in ((symbol, world.token(token)) for symbol, token in SYMBOLS.items())
    }
    return FEEDS.open(
        "dex", name="dex", base_url=world.rpc_url, quoter=world.quoter, usd=world.usdc, pools=pools
    )


def block_time(world: World) -> datetime:
    return datetime.fromtimestamp(world.now(), UTC)


def test_aggregators_are_read_exactly_at_the_time_of_the_block(world: World) -> None:
    world.set_feed("WETH", Decimal("2513.12345678"))
    found = chainlink(world).quotes(["ETH", "BTC", "SOL"])

    assert set(found) == {"ETH", "BTC"}
    assert found["ETH"].price == Decimal("2513.12345678")
    assert found["BTC"].price == 60_000
    assert abs(found["ETH"].at - block_time(world)) <= timedelta(seconds=1)
    assert found["BTC"].confidence == 300


def test_an_answer_past_its_heartbeat_carries_its_own_time(world: World) -> None:
    written = block_time(world)
    world.rpc("evm_increaseTime", hex(3_700))
    world.rpc("evm_mine")
    world.set_feed("WETH", Decimal(2_600))

    found = chainlink(world).quotes(["ETH", "BTC"])

    assert found["BTC"].at <= written < found["ETH"].at


def test_a_dead_aggregator_is_left_out_and_the_others_stay(world: World) -> None:
    world.send("deployer", world.token("WBTC").feed, encode_call("kill()"))

    assert set(chainlink(world).quotes(["ETH", "BTC"])) == {"ETH"}


def test_a_sequencer_that_is_down_silences_all(world: World) -> None:
    now = world.now()
    down = encode_call("set_round(int256,uint256,uint256)", 1, now, now)
    world.send("deployer", world.sequencer_feed, down)

    with pytest.raises(Retryable, match="down since"):
        chainlink(world).quotes(["ETH"])
    back = encode_call("set_round(int256,uint256,uint256)", 0, now, now)
    world.send("deployer", world.sequencer_feed, back)
    with pytest.raises(Retryable, match="is back for"):
        chainlink(world).quotes(["ETH"])
    assert "ETH" in chainlink(world, sequencer="").quotes(["ETH"])


@pytest.mark.parametrize(("symbol", "price", "fee"), [("ETH", 2_500, "0.0005"), ("BTC", 60_000, "0.003")])
def test_a_pool_quotes_both_sides_of_its_price(world: World, symbol: str, price: int, fee: str) -> None:
    tick = dex(world).quotes(["ETH", "BTC", "SOL"])[symbol]

    assert abs(tick.price - price) / price < Decimal("0.0001")
    assert tick.confidence is not None
    assert abs(tick.confidence / tick.price - Decimal(fee)) < Decimal("0.00005")  # its fee is its spread


def test_a_large_trade_is_less_sure_and_a_missing_pool_is_left_out(world: World) -> None:
    small, large = (dex(world, size).quotes(["ETH"])["ETH"] for size in ("0.01", "50"))

    assert small.confidence is not None
    assert large.confidence is not None
    assert large.confidence > 5 * small.confidence
    assert dex(world, fee=100).quotes(["ETH"]) == {}


@pytest.mark.django_db
def test_a_pool_that_was_pushed_blocks_opening_and_not_closing(world: World) -> None:
    feeds = chainlink(world), dex(world)

    def refresh() -> None:
        world.refresh_feeds()
        quotes.accept([tick for feed in feeds for tick in feed.quotes(["ETH"]).values()])

    with clock.frozen(block_time(world) + timedelta(seconds=5)):
        refresh()
        assert quotes.latest(["ETH"])["ETH"].price == 2_500
        world.set_pool_price("WETH", Decimal(2_600))
        refresh()
        assert quotes.latest(["ETH"]) == {}
        assert quotes.latest(["ETH"], closing=True)["ETH"].price == 2_500
        assert {row.source for row in RefusedQuote.objects.all()} == {"chainlink", "dex"}
        world.set_pool_price("WETH", Decimal(2_500))
        refresh()
        assert quotes.latest(["ETH"])["ETH"].source == "chainlink"
