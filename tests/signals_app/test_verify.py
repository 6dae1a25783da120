"""Verification of a model's readings against the text, and the prefilter."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.market.instruments import stablecoins, words_by_token
from signals_app import prefilter
from signals_app.prefilter import mentions
from signals_app.reading.schema import Reading
from signals_app.verify import verify

WORDS = words_by_token()
ALL_WORDS = [word for words in WORDS.values() for word in words]
junk = st.one_of(
    st.text(max_size=30), st.sampled_from(["BTC", "$eth", "#OP", "USDC", "USDC.E", "stop", "iota"])
)
sentiments = st.sampled_from(["bullish", "bearish", "neutral"])
some_readings = st.builds(
    Reading,
    post_id=st.just("1"),
    candidate=st.booleans(),
    tokens=st.lists(junk, max_size=8).map(tuple),
    sentiment=sentiments,
    confidence=st.decimals(min_value=0, max_value=1, places=3),
    reasoning=st.text(max_size=50),
    sides=st.dictionaries(junk, sentiments, max_size=4),
)
some_texts = st.lists(st.one_of(junk, st.text(max_size=20)), max_size=6).map(" ".join)


def reading(*tokens: str, **fields: Any) -> Reading:
    values = {"candidate": True, "sentiment": "bullish", "confidence": Decimal("0.9"), "reasoning": ""}
    return Reading(post_id="1", tokens=tokens, **values | fields)


def verified(text: str, *tokens: str, **fields: Any) -> dict[str, str]:
    return verify(reading(*tokens, **fields), text, WORDS, stablecoins()).sides


@given(some_readings, some_texts)
def test_a_model_only_selects_from_the_text_and_the_allow_list(said: Reading, text: str) -> None:
    found = verify(said, text, WORDS, stablecoins())

    assert set(found.tokens) == set(found.sides)
    for token in found.tokens:
        assert token in WORDS
        assert token not in stablecoins()
        assert any(word in text.lower() for word in WORDS[token])
        assert found.sides[token] in {"long", "short"}
    assert found.candidate == bool(found.tokens) == (found.outcome == "candidate")
    assert found.outcome in {
        "candidate",
        "not_candidate",
        "no_listed_token",
        "side_contradicted",
        "too_many_tokens",
    }


@given(some_readings, some_texts)
def test_a_reading_without_a_call_never_becomes_a_candidate(said: Reading, text: str) -> None:
    refused = said.model_copy(update={"candidate": False})

    assert verify(refused, text, WORDS, stablecoins()).outcome == "not_candidate"


@given(some_texts)
def test_a_bearish_reading_never_makes_a_long(text: str) -> None:
    said = reading(*WORDS, sentiment="bearish")

    assert "long" not in verify(said, text, WORDS, stablecoins()).sides.values()


@given(some_texts)
def test_a_stablecoin_is_never_a_signal(text: str) -> None:
    words = WORDS | {name: [name.lower()] for name in stablecoins()}
    said = reading(*stablecoins())

    assert not verify(said, f"{text} {' '.join(stablecoins())}", words, stablecoins()).candidate


@pytest.mark.parametrize(
    "text",
    ["a stop is a stop", "stopped out of BTC", "top of the shop", "opportunity", "co_op", "laptop OPs"],
)
def test_op_is_not_in_stop(text: str) -> None:
    assert verified(text, "OP") == {}
    assert not mentions(text, ["op"])


@pytest.mark.parametrize(
    "text", ["OP", "long $OP now", "#op!", "buy OP, sell ETH", "(op)", "OP's chart", "op/usd"]
)
def test_op_as_a_whole_word_counts(text: str) -> None:
    assert verified(text, "OP") == {"OP": "long"}


@pytest.mark.parametrize(
    ("text", "token"),
    [("IOT looks good", "IOTA"), ("bitcoin up", "BTC"), ("ripple up", "XRP"), ("XBT up", "BTC")],
)
def test_an_alias_stands_for_its_token(text: str, token: str) -> None:
    assert verified(text, token) == {token: "long"}


def test_a_token_that_is_not_in_the_text_does_not_count() -> None:
    said = verify(reading("BTC"), "ETH is going up", WORDS, stablecoins())

    assert (said.candidate, said.outcome) == (False, "no_listed_token")


@pytest.mark.parametrize("written", ["ETH", "$ETH", "#eth", "eth"])
def test_a_tokens_own_side_counts_in_any_spelling_of_the_token(written: str) -> None:
    assert verified("long BTC short ETH", "BTC", written, sides={written: "bearish"}) == {
        "BTC": "long",
        "ETH": "short",
    }


def test_a_neutral_side_is_no_side() -> None:
    assert verified("long BTC, ETH who knows", "BTC", "ETH", sides={"ETH": "neutral"}) == {"BTC": "long"}


def test_a_neutral_reading_is_no_candidate() -> None:
    assert verify(reading("BTC", sentiment="neutral"), "BTC", WORDS, stablecoins()).outcome == "not_candidate"


def test_no_confidence_is_no_candidate() -> None:
    assert (
        verify(reading("BTC", confidence=Decimal(0)), "BTC", WORDS, stablecoins()).outcome == "not_candidate"
    )


@given(st.text(max_size=200))
def test_the_prefilter_gives_one_of_four_reasons_for_any_text(text: str) -> None:
    assert prefilter.reason(text, ALL_WORDS) in {"", "empty", "chatter", "too_short"}


@given(some_texts.filter(lambda text: mentions(text, ALL_WORDS)))
def test_a_text_with_a_token_is_never_too_short(text: str) -> None:
    assert prefilter.reason(text, ALL_WORDS) in {"", "empty", "chatter"}


@pytest.mark.parametrize(
    "text",
    [
        "gm",
        "GM everyone!",
        "gn frens",
        "Good morning CT",
        "thank you",
        "lol",
        "Nice!!!",
        "thanks @bob",
        "wow @a @b",
    ],
)
def test_chatter_is_set_aside(text: str) -> None:
    assert prefilter.reason(text, ALL_WORDS) == "chatter"


@pytest.mark.parametrize("text", ["", "   ", "@someone", "https://t.co/abc", "@a @b https://t.co/x !!"])
def test_a_text_without_words_is_empty(text: str) -> None:
    assert prefilter.reason(text, ALL_WORDS) == "empty"


@pytest.mark.parametrize("text", ["chart looks good", "what a day it was so far"])
def test_a_short_text_without_a_token_is_too_short(text: str) -> None:
    assert prefilter.reason(text, ALL_WORDS) == "too_short"


@pytest.mark.parametrize("text", ["$BTC up", "long eth", "gm, buying bitcoin", "x" * 30])
def test_a_text_with_a_token_or_of_thirty_characters_passes(text: str) -> None:
    assert prefilter.reason(text, ALL_WORDS) == ""


def test_who_calls_many_tokens_calls_none() -> None:
    text = "long $BTC $ETH $LTC $XRP and USDC"
    three = verify(reading("BTC", "ETH", "LTC", "USDC"), text, WORDS, stablecoins())
    four = verify(reading("BTC", "ETH", "LTC", "XRP"), text, WORDS, stablecoins())
    assert (three.candidate, three.tokens) == (True, ("BTC", "ETH", "LTC"))
    assert (four.candidate, four.tokens, four.outcome) == (False, (), "too_many_tokens")


@pytest.mark.parametrize(
    "text",
    [
        "adding to my $BTC short",
        "closed my $BTC long",
        "stopped out of my BTC short",
        "scaling into BTC shorts",
    ],
)
def test_a_model_that_contradicts_the_author_is_not_followed(text: str) -> None:
    found = verify(reading("BTC"), text, WORDS, stablecoins())
    assert (found.sides, found.outcome) == ({}, "side_contradicted")


def test_a_side_that_the_author_states_stays() -> None:
    assert verified("closed my $BTC short, going long $BTC now", "BTC") == {"BTC": "long"}
    assert verified("adding to my $BTC short", "BTC", sentiment="bearish") == {"BTC": "short"}
    assert verified("closed my $BTC short. $ETH looks great", "BTC", "ETH") == {"ETH": "long"}
