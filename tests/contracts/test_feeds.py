"""What every price feed must do, each against a real server that speaks its provider's wire format."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.market import quotes
from maxxit.market.feeds import FEEDS, evm, wire
from maxxit.market.feeds.base import PriceFeed
from maxxit.market.feeds.chainlink import ROUND
from maxxit.market.feeds.file import BAR, HEADER, FileFeed
from maxxit.market.models import RefusedQuote
from tests.builders import T0, RecordedClock
from tests.market.conftest import closed_clients as closed_clients
from tests.market.provider import OPTIONS, Provider, address, provider

ONLINE = sorted(OPTIONS)
TIMEOUT = 10.0  # seconds: this machine is shared
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def source() -> Iterator[Provider]:
    with provider() as one:
        yield one


@pytest.fixture(params=ONLINE)
def feed(request: pytest.FixtureRequest, source: Provider, time: RecordedClock) -> PriceFeed:
    options = OPTIONS[request.param](source, ["BTC", "ETH"])
    return FEEDS.open(request.param, name=request.param, timeout=TIMEOUT, **options)


def test_every_adapter_is_enrolled() -> None:
    assert {*ONLINE, "file"} == set(FEEDS)


@pytest.mark.parametrize("name", ["chainlink", "dex"])
@pytest.mark.parametrize(
    ("block_time", "word"), [(2**255, 1), (2**255, 2**255), (1, 2**255)], ids=["time", "both", "number"]
)
def test_a_node_that_answers_beyond_all_bounds_is_the_nodes_failure(
    source: Provider, monkeypatch: pytest.MonkeyPatch, name: str, block_time: int, word: int
) -> None:
    def aggregate(_: object, calls: Sequence[object], **__: object) -> tuple[int, list[bytes]]:
        return block_time, [encode(["uint256"] * 5, [word] * 5)] * len(calls)

    monkeypatch.setattr(evm, "aggregate", aggregate)
    feed = FEEDS.open(name, name=name, timeout=TIMEOUT, **OPTIONS[name](source, ["BTC"]))
    with suppress(Retryable):
        assert all(tick.price > 0 for tick in feed.quotes(["BTC"]).values())


def test_price_time_and_source_arrive_exactly(feed: PriceFeed, source: Provider) -> None:
    source.says("BTC", "67187.33589879", T0)
    source.says("ETH", "3500.5", T0)

    found = feed.quotes(["BTC", "ETH"])

    tick = found["BTC"]
    rounded = (
        Decimal("0.0001") if feed.name == "dex" else Decimal("0.00000001")
    )  # what 6 digits of USDC allow
    assert abs(tick.price - Decimal("67187.33589879")) < rounded
    assert isinstance(tick.price, Decimal)
    assert (tick.at, tick.source, tick.symbol) == (T0, feed.name, "BTC")
    assert found["ETH"].price == Decimal("3500.5")
    assert tick.confidence is None or 0 < tick.confidence < 1000


def test_what_it_does_not_know_is_left_out(feed: PriceFeed, source: Provider) -> None:
    source.says("BTC", "60000", T0)

    assert feed.quotes(["SOL"]) == {}
    assert source.requests == []
    assert set(feed.quotes(["BTC", "SOL"])) == {"BTC"}


def test_too_many_requests_say_when_to_come_back(feed: PriceFeed, source: Provider) -> None:
    source.says("BTC", "60000", T0)
    source.misbehaves("too_many")

    with pytest.raises(Retryable) as later:
        feed.quotes(["BTC"])
    assert later.value.after == 7


@pytest.mark.parametrize(
    "fault", ["broken", "truncated", "cut_off", "disconnects", "slow", "other_shape", "html"]
)
def test_an_answer_that_fails_is_retryable_and_the_next_one_counts(
    feed: PriceFeed, source: Provider, fault: str
) -> None:
    source.says("BTC", "60000", T0)
    source.misbehaves(fault, times=1)
    http = feed.http  # type: ignore[attr-defined]  # each of these has one
    http.timeout = 0.3 if fault == "slow" else TIMEOUT

    with pytest.raises(Retryable):
        feed.quotes(["BTC"])
    http.timeout = TIMEOUT
    assert feed.quotes(["BTC"])["BTC"].price == 60000


@pytest.mark.django_db
@pytest.mark.parametrize("absurd", ["0", "-1", "NaN"])
def test_an_absurd_price_is_handed_on_refused_and_written_down(
    feed: PriceFeed, source: Provider, absurd: str
) -> None:
    if absurd == "NaN" and feed.name in {"chainlink", "dex"}:
        absurd = "0"  # a chain has no word for it
    if absurd == "-1" and feed.name == "dex":
        absurd = "0"
    source.says("BTC", absurd, T0)

    assert quotes.accept(feed.quotes(["BTC"]).values()) == []
    refused = RefusedQuote.objects.get()
    assert (refused.symbol, refused.source, refused.reason) == ("BTC", feed.name, "not_positive")
    assert quotes.latest(["BTC"], closing=True) == {}


@pytest.mark.django_db
@pytest.mark.parametrize(("off", "reason"), [(HOUR, "from_the_future"), (-HOUR, "stale")])
def test_a_clock_that_is_wrong_is_refused(
    feed: PriceFeed, source: Provider, off: timedelta, reason: str
) -> None:
    source.says("BTC", "60000", T0 + off)

    assert quotes.accept(feed.quotes(["BTC"]).values()) == []
    assert RefusedQuote.objects.get().reason == reason


@pytest.mark.django_db
def test_duplicates_and_old_ticks_move_nothing_and_an_outlier_is_refused(
    feed: PriceFeed, source: Provider, time: RecordedClock
) -> None:
    source.says("BTC", "60000", T0)
    assert quotes.accept(feed.quotes(["BTC"]).values()) == ["BTC"]
    assert quotes.accept(feed.quotes(["BTC"]).values()) == []
    source.says("BTC", "59000", T0 - SECOND)
    assert quotes.accept(feed.quotes(["BTC"]).values()) == []
    time.move(seconds=2)
    source.says("BTC", "600000", T0 + SECOND)
    assert quotes.accept(feed.quotes(["BTC"]).values()) == []

    assert RefusedQuote.objects.get().reason == "jump"
    assert quotes.latest(["BTC"]) == {}  # nothing is opened on it until the source makes sense again
    assert quotes.latest(["BTC"], closing=True)["BTC"].price == 60000
    source.says("BTC", "60010", T0 + 2 * SECOND)
    assert quotes.accept(feed.quotes(["BTC"]).values()) == ["BTC"]
    assert quotes.latest(["BTC"])["BTC"].price == 60010


@pytest.mark.django_db
def test_a_dead_feed_does_not_fill_the_table(feed: PriceFeed, source: Provider) -> None:
    source.says("BTC", "0", T0)
    for _ in range(5):
        quotes.accept(feed.quotes(["BTC"]).values())

    assert RefusedQuote.objects.get().times == 5


@pytest.mark.parametrize("name", ONLINE)
def test_prices_come_by_https_only(name: str, source: Provider) -> None:
    options = OPTIONS[name](source, ["BTC"]) | {"base_url": "http://prices.example"}

    with pytest.raises(Misconfigured, match="https"):
        FEEDS.open(name, name=name, **options)


@pytest.mark.parametrize("name", ["coinbase", "coingecko", "pyth"])
def test_production_takes_no_prices_from_this_machine(
    name: str, source: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", "production")

    with pytest.raises(Misconfigured, match="https"):
        FEEDS.open(name, name=name, **OPTIONS[name](source, ["BTC"]))


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTH_API_KEY", raising=False)

    with pytest.raises(Misconfigured, match="PYTH_API_KEY"):
        FEEDS.open(
            "pyth", name="pyth", base_url="https://hermes.pyth.network", ids={}, key_env="PYTH_API_KEY"
        )


# -- what only some have


@pytest.mark.parametrize("name", ["coinbase", "coingecko", "pyth"])
def test_one_malformed_row_silences_no_other(
    source: Provider, time: RecordedClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The row of BTC has a time that is none."""
    feed = FEEDS.open(name, name=name, timeout=TIMEOUT, **OPTIONS[name](source, ["BTC", "ETH"]))
    source.says("BTC", "60000", T0)
    source.says("ETH", "2000", T0)
    moment = wire.moment
    broken = iter([True])

    def first_is_broken(value: object) -> datetime:
        if next(broken, False):
            raise TypeError("no time")
        return moment(value)

    monkeypatch.setattr(wire, "moment", first_is_broken)
    assert list(feed.quotes(["BTC", "ETH"])) == ["ETH"]


def test_an_aggregator_that_answers_no_round_silences_no_other(
    source: Provider, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = FEEDS.open(
        "chainlink", name="chainlink", timeout=TIMEOUT, **OPTIONS["chainlink"](source, ["BTC", "ETH"])
    )
    source.says("BTC", "60000", T0)
    source.says("ETH", "2000", T0)
    call = source.call
    short = {address("BTC"): bytes(31)}
    monkeypatch.setattr(
        source, "call", lambda to, asked: short.get(to) if asked == ROUND and to in short else call(to, asked)
    )
    assert list(feed.quotes(["BTC", "ETH"])) == ["ETH"]


def test_an_id_that_pyth_retired_silences_no_other(source: Provider, time: RecordedClock) -> None:
    """Without being asked to ignore it, Hermes answers 404 for the whole request."""
    feed = FEEDS.open("pyth", name="pyth", timeout=TIMEOUT, **OPTIONS["pyth"](source, ["BTC", "GONE"]))
    source.says("BTC", "60000", T0)
    assert list(feed.quotes(["BTC", "GONE"])) == ["BTC"]


def test_coinbase_leaves_out_a_delisted_product_and_keeps_the_others(
    source: Provider, time: RecordedClock
) -> None:
    source.says("ETH", "3000", T0)
    feed = FEEDS.open("coinbase", name="coinbase", **OPTIONS["coinbase"](source, ["BTC", "ETH"]))

    assert set(feed.quotes(["BTC", "ETH"])) == {"ETH"}


@pytest.mark.django_db
def test_a_price_outside_its_confidence_is_refused(source: Provider, time: RecordedClock) -> None:
    options = OPTIONS["chainlink"](source, ["BTC"])
    options["aggregators"]["BTC"]["deviation_bps"] = 500
    source.says("BTC", "60000", T0)

    quotes.accept(FEEDS.open("chainlink", name="chainlink", **options).quotes(["BTC"]).values())

    refused = RefusedQuote.objects.get()
    assert (refused.reason, refused.value, refused.limit) == ("not_confident", "500 bps", "150 bps")


@pytest.mark.parametrize(("ago", "fresh"), [(3600, True), (3601, False)])
def test_an_aggregator_is_believed_for_its_heartbeat(
    source: Provider, time: RecordedClock, ago: int, fresh: bool
) -> None:
    source.says("BTC", "60000", T0)
    source.heartbeat_ago = ago
    feed = FEEDS.open("chainlink", name="chainlink", **OPTIONS["chainlink"](source, ["BTC"]))

    tick = feed.quotes(["BTC"])["BTC"]

    assert (tick.at == T0) is fresh
    assert (quotes.unusable(tick.price, tick.at, T0) == "") is fresh


@pytest.mark.parametrize(("down", "for_seconds"), [(1, 90_000), (0, 3_599)])
def test_a_sequencer_that_is_down_or_just_back_silences_the_chain(
    source: Provider, time: RecordedClock, down: int, for_seconds: int
) -> None:
    source.says("BTC", "60000", T0)
    source.sequencer = (down, int(T0.timestamp()) - for_seconds)
    feed = FEEDS.open("chainlink", name="chainlink", **OPTIONS["chainlink"](source, ["BTC"]))

    with pytest.raises(Retryable, match="sequencer"):
        feed.quotes(["BTC"])


def test_a_thousand_aggregators_are_three_requests(source: Provider, time: RecordedClock) -> None:
    symbols = [f"T{number}" for number in range(600)]
    for symbol in symbols:
        source.says(symbol, "2", T0)
    feed = FEEDS.open("chainlink", name="chainlink", **OPTIONS["chainlink"](source, symbols))

    assert len(feed.quotes(symbols)) == 600
    assert len(source.requests) == 3  # 600 answers, 600 decimals and the sequencer
    feed.quotes(symbols)
    assert len(source.requests) == 5


CALLS = st.lists(
    st.tuples(st.binary(min_size=20, max_size=20).map(lambda b: "0x" + b.hex()), st.binary(max_size=100))
)
ANSWERS = st.lists(st.tuples(st.booleans(), st.binary(max_size=100)))


@given(CALLS, ANSWERS)
def test_multicall_is_packed_and_unpacked_as_eth_abi_does(
    calls: list[tuple[str, bytes]], answers: list[tuple[bool, bytes]]
) -> None:
    packed = [(to, True, data) for to, data in calls]
    assert evm._pack(calls) == encode(["(address,bool,bytes)[]"], [packed])
    raw = encode(["(bool,bytes)[]"], [answers])
    assert evm._unpack(raw, len(answers)) == [data if ok else None for ok, data in answers]
    for wrong in (b"", raw[:40], b"\xff" * len(raw)):
        with pytest.raises(ValueError):  # noqa: PT011 (each has words of its own)
            evm._unpack(wrong, len(answers))


def test_a_node_that_refuses_is_rejected(
    source: Provider, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.says("BTC", "60000", T0)
    error = '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "out of gas"}}'
    monkeypatch.setattr(source, "rpc", lambda body: error)
    feed = FEEDS.open("dex", name="dex", **OPTIONS["dex"](source, ["BTC"]))

    with pytest.raises(Rejected, match="out of gas"):
        feed.quotes(["BTC"])


# -- the file speaks no protocol: its faults are in its lines


def candle_lines(folder: Path, *closes: str, order: Sequence[int] = (), end: str = "") -> FileFeed:
    """A folder with five-minute bars that close at T0, T0 + 5 min …; `end` cuts the last line off."""
    opened = [int((T0 - BAR).timestamp() * 1000) + n * 300_000 for n in (order or range(len(closes)))]
    rows = [f"{at},{close},{close},{close},{close},1" for at, close in zip(opened, closes, strict=True)]
    text = "\n".join([",".join(HEADER), *rows]) + end
    (folder / "candles-BTC-USD-5m.csv").write_text(text)
    return FileFeed(str(folder), name="file")


@pytest.mark.parametrize("absurd", ["0", "-1", "NaN", "", "x", "1e", "Infinity,"])
def test_a_file_with_an_absurd_bar_is_refused_and_names_the_line(
    tmp_path: Path, time: RecordedClock, absurd: str
) -> None:
    with pytest.raises(Misconfigured, match=r"candles-BTC-USD-5m\.csv:3: "):
        candle_lines(tmp_path, "100", absurd).quotes(["BTC"])


@pytest.mark.parametrize(("order", "end"), [((0, 0), ""), ((), f"\n{int(T0.timestamp() * 1000)},100")])
def test_a_file_with_two_bars_of_a_time_or_cut_off_is_refused(
    tmp_path: Path, time: RecordedClock, order: Sequence[int], end: str
) -> None:
    with pytest.raises(Misconfigured, match=r"\.csv:[34]: "):
        candle_lines(tmp_path, "100", "101", order=order, end=end).quotes(["BTC"])


@pytest.mark.django_db
def test_an_outlier_in_a_file_is_refused_as_from_any_source(tmp_path: Path, time: RecordedClock) -> None:
    feed = candle_lines(tmp_path, "100", "1000")
    assert quotes.accept(feed.quotes(["BTC"]).values()) == ["BTC"]
    time.move(minutes=5)
    time.move(seconds=-10)
    assert quotes.accept(feed.quotes(["BTC"]).values()) == []  # the next bar has not closed yet
    time.move(seconds=10)
    limits = quotes.policy().model_copy(update={"jump_seconds": 600})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotes, "policy", lambda: limits)
        assert quotes.accept(feed.quotes(["BTC"]).values()) == []
    assert {row.reason for row in RefusedQuote.objects.all()} == {"jump", "stale"}
    assert quotes.latest(["BTC"]) == {}


@pytest.mark.django_db
def test_a_file_of_the_past_is_stale_and_one_of_the_future_is_silent(
    tmp_path: Path, time: RecordedClock
) -> None:
    feed = candle_lines(tmp_path, "100")
    time.to(T0 + HOUR)
    assert quotes.accept(feed.quotes(["BTC"]).values()) == []
    assert RefusedQuote.objects.get().reason == "stale"
    time.to(T0 - HOUR)
    assert feed.quotes(["BTC"]) == {}
