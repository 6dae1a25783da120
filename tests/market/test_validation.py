"""Price validation: one source, two that disagree, a majority, and all sources wrong at once."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.events.models import Event
from maxxit.market import quotes
from maxxit.market.feeds.base import Tick
from maxxit.market.models import Quote, RefusedQuote, SourceQuote
from maxxit.market.reasons import QuoteReason
from maxxit.market.validation import Held, judge
from tests.builders import T0, RecordedClock

ALL, DISAGREE = QuoteReason.ALL_SOURCES_REFUSED, QuoteReason.SOURCES_DISAGREE
SECOND = timedelta(seconds=1)
LIMITS = quotes.policy()


def ticks(prices: Mapping[str, str], at: Mapping[str, int] | None = None) -> list[Tick]:
    """source -> price; `at`: source -> seconds ago."""
    return [Tick("BTC", Decimal(p), T0 - (at or {}).get(s, 0) * SECOND, s) for s, p in prices.items()]


def verdict(prices: Mapping[str, str], **changes: object) -> tuple[str, str, dict[str, str]]:
    """(chosen source or nothing, doubt, source -> reason) with limits changed."""
    found = judge("BTC", ticks(prices), None, LIMITS.model_copy(update=changes), T0)
    return (
        found.chosen.source if found.chosen else "",
        found.doubt,
        {no.source: no.reason for no in found.refused},
    )


@pytest.mark.parametrize(
    ("prices", "chosen", "doubt", "refused"),
    [
        ({"a": "100"}, "a", "", {}),
        ({"a": "100", "b": "101.5"}, "a", "", {}),
        ({"a": "100", "b": "101.6"}, "a", DISAGREE, {"a": "deviates", "b": "deviates"}),
        ({"a": "150", "b": "100", "c": "100.5"}, "b", "", {"a": "deviates"}),
        ({"a": "90", "b": "100", "c": "110"}, "b", DISAGREE, {"a": "deviates", "c": "deviates"}),
        ({"a": "100", "b": "100", "c": "110", "d": "110"}, "a", DISAGREE, dict.fromkeys("abcd", "deviates")),
        ({"a": "NaN", "b": "100"}, "b", "", {"a": "not_positive"}),
        ({"a": "0", "b": "-1", "c": "Infinity"}, "", ALL, dict.fromkeys("abc", "not_positive")),
        ({"a": "1E+30", "b": "1E-30"}, "", ALL, dict.fromkeys("ab", "out_of_range")),
        ({}, "", "", {}),
    ],
)  # fmt: skip
def test_the_majority_is_believed(
    prices: dict[str, str], chosen: str, doubt: str, refused: dict[str, str]
) -> None:
    got = verdict(prices)
    if doubt == DISAGREE and len(prices) == 3:  # a majority of one is none
        got = (got[0], got[1], {source: why for source, why in got[2].items() if source in refused})

    assert got == (chosen, doubt, refused)


def test_the_operator_may_stop_closing_too_while_sources_disagree() -> None:
    assert verdict({"a": "100", "b": "105"}, closing_uses_last_good=True)[:2] == (
        "",
        DISAGREE,
    )


def test_so_many_must_agree() -> None:
    assert verdict({"a": "100"}, min_sources=2)[:2] == ("a", QuoteReason.TOO_FEW_SOURCES)
    assert verdict({"a": "100", "b": "100"}, min_sources=2)[:2] == ("a", "")


def test_a_source_that_lags_behind_has_no_vote() -> None:
    found = judge("BTC", ticks({"a": "100", "b": "110"}, {"a": 31}), None, LIMITS, T0)

    assert (found.chosen and found.chosen.source, found.doubt, found.refused) == ("b", "", ())


@pytest.mark.parametrize(
    ("price", "jumps"), [("150", False), ("150.1", True), ("66.7", False), ("66.6", True)]
)
def test_a_jump_is_refused_until_it_has_lasted(price: str, jumps: bool) -> None:
    early, late = (Held(Decimal(100), T0 - timedelta(seconds=ago)) for ago in (299, 300))

    assert bool(judge("BTC", ticks({"a": price}), early, LIMITS, T0).refused) is jumps
    assert not judge("BTC", ticks({"a": price}), late, LIMITS, T0).refused


PRICE = st.decimals("0.01", "1000", places=2)


@given(st.lists(PRICE, min_size=1, max_size=6), st.permutations(list(range(6))))
def test_a_trusted_price_is_within_the_limit_of_most_sources(prices: list[Decimal], order: list[int]) -> None:
    offered = [Tick("BTC", price, T0, str(place)) for place, price in enumerate(prices)]
    found = judge("BTC", offered, None, LIMITS, T0)
    shuffled = judge("BTC", [offered[i] for i in order if i < len(offered)], None, LIMITS, T0)

    assert found.doubt == shuffled.doubt  # the order of preference decides the price, never the trust
    assert found.chosen is not None
    if not found.doubt:
        width = 2 * Decimal(LIMITS.max_deviation_bps) / 10_000
        near = [
            p for p in prices if abs(p - found.chosen.price) <= found.chosen.price * width * Decimal("1.05")
        ]
        assert len(near) * 2 > len(prices)


# -- with the database


def offer(prices: Mapping[str, str], at: Mapping[str, int] | None = None) -> list[str]:
    return quotes.accept(ticks(prices, at))


@pytest.mark.django_db
def test_disagreement_blocks_opening_and_not_closing_and_heals_by_itself(time: RecordedClock) -> None:
    offer({"coinbase": "60000", "coingecko": "60010"})
    assert quotes.latest(["BTC"])["BTC"].source == "coinbase"

    time.move(seconds=1)
    quotes.accept(
        [
            Tick("BTC", Decimal(60_100), time.now, "coinbase"),
            Tick("BTC", Decimal(65_000), time.now, "coingecko"),
        ]
    )
    assert quotes.latest(["BTC"]) == {}
    closing = quotes.latest(["BTC"], closing=True)["BTC"]
    assert (closing.price, closing.trusted) == (60_100, False)
    assert set(RefusedQuote.objects.values_list("source", "reason")) == {
        ("coinbase", "deviates"),
        ("coingecko", "deviates"),
    }

    time.move(seconds=1)
    quotes.accept([Tick("BTC", Decimal(60_120), time.now, "coingecko")])
    assert quotes.latest(["BTC"])["BTC"].price == 60_100
    told = list(Event.objects.order_by("id").values_list("name", "subject"))
    assert told == [("quote.doubted", "market.quote/BTC"), ("quote.trusted", "market.quote/BTC")]
    assert "coingecko: deviates" in str(Event.objects.get(name="quote.doubted").data)


@pytest.mark.django_db
@pytest.mark.parametrize("lie", ["0", "NaN", "600000", "6000"])
def test_with_all_feeds_lying_nothing_can_be_opened_and_recovery_needs_no_hand(
    time: RecordedClock, lie: str
) -> None:
    sources = ("coinbase", "coingecko", "pyth")
    offer(dict.fromkeys(sources, "60000"))
    for _ in range(100):
        time.move(seconds=1)
        moved = quotes.accept([Tick("BTC", Decimal(lie), time.now, source) for source in sources])
        assert (moved, quotes.latest(["BTC"])) == ([], {})
    assert quotes.latest(["BTC"], closing=True) == {}  # by now the last truth is too old to close on, too
    assert RefusedQuote.objects.count() == 3

    quotes.accept([Tick("BTC", Decimal(60_500), time.now + SECOND, source) for source in sources])
    assert quotes.latest(["BTC"])["BTC"].price == 60_500


@pytest.mark.django_db
def test_a_preferred_source_that_falls_silent_is_replaced_by_the_next(time: RecordedClock) -> None:
    offer({"coinbase": "60000", "coingecko": "60010"})
    time.move(seconds=31)
    quotes.accept([Tick("BTC", Decimal(60_200), time.now, "coingecko")])

    assert quotes.latest(["BTC"])["BTC"].source == "coingecko"
    assert SourceQuote.objects.get(source="coinbase").price == 60_000


@pytest.mark.django_db
def test_a_symbol_without_a_quote_needs_no_history(time: RecordedClock) -> None:
    assert offer({"coinbase": "60000"}) == ["BTC"]
    assert Quote.objects.get().doubt == ""
    assert not Event.objects.exists()
