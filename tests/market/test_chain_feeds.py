"""Chainlink and Uniswap feeds against a development chain: aggregators, sequencer feed and pools."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.evm.codec import encode_call, revert_reason
from maxxit.market import quotes
from maxxit.market.feeds import FEEDS
from maxxit.market.feeds.base import PriceFeed
from maxxit.market.models import RefusedQuote
from maxxit.ops.devchain.anvil import RpcError, revert_to, start_anvil
from maxxit.ops.devchain.world import World, build_world
from trading.venues.safe.contract import module

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
    revert_to(built.rpc, before)


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


def test_an_answer_older_than_its_heartbeat_keeps_its_own_time(world: World) -> None:
    written = block_time(world)
    world.rpc("evm_increaseTime", hex(3_700))
    world.rpc("evm_mine")
    world.set_feed("WETH", Decimal(2_600))

    found = chainlink(world).quotes(["ETH", "BTC"])

    assert found["BTC"].at <= written < found["ETH"].at


def test_a_dead_aggregator_is_left_out_and_the_others_stay(world: World) -> None:
    world.send("deployer", world.token("WBTC").feed, encode_call("kill()"))

    assert set(chainlink(world).quotes(["ETH", "BTC"])) == {"ETH"}


def test_no_prices_while_the_sequencer_is_down(world: World) -> None:
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


PRICE = 2_500 * 10**8
SHORT = "0x60206000f3"
"""Code of a contract that answers everything with 32 zero bytes."""
Round = tuple[int, int | None]
"""An answer, and its age in seconds at the block that is read; None for a time of zero."""
ROUNDS: dict[str, tuple[str, Round | str, str]] = {
    "good": ("price", (PRICE, 0), ""),
    "at its heartbeat": ("price", (PRICE, 3_600), ""),
    "past its heartbeat": ("price", (PRICE, 3_601), "FEED_STALE"),
    "from the future": ("price", (PRICE, -1), "FEED_STALE"),
    "incomplete": ("price", (PRICE, None), "FEED_STALE"),
    "zero": ("price", (0, 0), "FEED_BAD"),
    "negative": ("price", (-PRICE, 0), "FEED_BAD"),
    "zero and past its heartbeat": ("price", (0, 3_601), "FEED_BAD"),
    "reverts": ("price", "kill", "FEED_BAD"),
    "too few bytes": ("price", "cut off", "FEED_BAD"),
    "sequencer down": ("sequencer", (1, 0), "SEQUENCER_DOWN"),
    "sequencer down for a day": ("sequencer", (1, 90_000), "SEQUENCER_DOWN"),
    "sequencer just back": ("sequencer", (0, 0), "SEQUENCER_DOWN"),
    "sequencer within the grace": ("sequencer", (0, 3_599), "SEQUENCER_DOWN"),
    "sequencer after the grace": ("sequencer", (0, 3_600), ""),
    "sequencer from the future": ("sequencer", (0, -60), "SEQUENCER_DOWN"),
    "sequencer without a round": ("sequencer", (0, None), "SEQUENCER_DOWN"),
    "sequencer reverts": ("sequencer", "kill", "SEQUENCER_DOWN"),
    "sequencer with too few bytes": ("sequencer", "cut off", "SEQUENCER_DOWN"),
}
"""What -> which feed, its round, the reason for which nothing may be opened."""


@pytest.mark.parametrize("what", ROUNDS)
def test_feed_and_contract_judge_a_round_alike(world: World, what: str) -> None:
    which, said, verdict = ROUNDS[what]
    contract = world.token("WETH").feed if which == "price" else world.sequencer_feed
    at = world.now() + 60
    world.rpc("evm_setNextBlockTimestamp", hex(at))
    if isinstance(said, tuple):
        answer, age = said
        time = 0 if age is None else at - age
        world.send("deployer", contract, encode_call("set_round(int256,uint256,uint256)", answer, time, time))
    elif said == "kill":
        world.send("deployer", contract, encode_call("kill()"))
    else:
        world.rpc("anvil_setCode", contract, SHORT)
        world.rpc("evm_mine")

    assert world.now() == at
    assert (by_feed(world, at), by_contract(world, at)) == (verdict, verdict)


def by_feed(world: World, at: int) -> str:
    """Why nothing may be opened at the feed's price at `at`, in the contract's words; empty where it may."""
    try:
        found = chainlink(world).quotes(["ETH"])
    except Retryable as error:
        return (
            "SEQUENCER_DOWN"
            if "sequencer" in str(error)
            else "FEED_STALE"
            if "future" in str(error)
            else "FEED_BAD"
        )
    if "ETH" not in found:
        return "FEED_BAD"
    unusable = quotes.unusable(found["ETH"].price, found["ETH"].at, datetime.fromtimestamp(at, UTC))
    return {"": "", "stale": "FEED_STALE", "not_positive": "FEED_BAD"}[unusable]


def by_contract(world: World, at: int) -> str:
    """Why the module opens nothing at `at`; empty where it does."""
    data = module.open_data(world.safe, bytes(32), world.token("WETH").address, 100 * 10**6, 0, at + 600)
    call = {"from": world.accounts["executor"], "to": world.module, "data": "0x" + data.hex()}
    try:
        world.rpc("eth_call", call, "latest")
    except RpcError as error:
        return revert_reason(error.data)
    return ""


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
    with ExitStack() as now:

        def refresh() -> None:
            """Read the feeds a second after the newest block, however long the machine took to make it."""
            world.refresh_feeds()
            now.close()
            now.enter_context(clock.frozen(block_time(world) + timedelta(seconds=1)))
            quotes.accept([tick for feed in feeds for tick in feed.quotes(["ETH"]).values()])

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
