"""The rules reader, rule by rule, and by properties."""

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals_app.reading.rules.read import LexicalReading, Reader
from signals_app.reading.rules.text import _SENTENCE, _SPACE, sentences
from signals_app.reading.schema import Reading

TOKENS = {
    "BTC": ["btc", "bitcoin", "bitcoins"],
    "ETH": ["eth", "ethereum", "ether"],
    "LTC": ["ltc", "litecoin"],
    "XRP": ["xrp", "ripple"],
    "IOTA": ["iota", "iot"],
    "OP": ["op", "optimism"],
    "USDC": ["usdc"],
}
READER = Reader.of(TOKENS)
PRICES = {"BTC": Decimal(14_000), "ETH": Decimal(700), "LTC": Decimal(250), "XRP": Decimal(1)}
"""USD when the posts were written: targets are compared with them."""


def sides(found: LexicalReading) -> dict[str, str]:
    return {token: found.sides.get(token, found.sentiment) for token in found.tokens}


def read(text: str) -> dict[str, str]:
    """Token -> side, as the rules read it."""
    return sides(READER.read(text, PRICES))


UP, DOWN = "bullish", "bearish"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what the author does
        ("Just bought more $BTC at 14k", {"BTC": UP}),
        ("I'm long $ETH from here", {"ETH": UP}),
        ("I just shorted $BTC", {"BTC": DOWN}),
        ("Selling $XRP here", {"XRP": DOWN}),
        ("I'm riding $ETH $LTC into the weekend", {"ETH": UP, "LTC": UP}),
        ("i've been holding $XRP and will keep it", {"XRP": UP}),
        # several tokens with different sides
        ("I'm long $BTC and I'm short $ETH", {"BTC": UP, "ETH": DOWN}),
        ("Buy #litecoin.\nSell $XRP now.", {"LTC": UP, "XRP": DOWN}),
        # what others should do
        ("Keep buying up Bitcoins - $25,000 target, here we come!", {"BTC": UP}),
        ("BTFD. #bitcoin", {"BTC": UP}),
        ("never short $BTC", {"BTC": UP}),
        # targets and horizons
        ("$BTC target 20k", {"BTC": UP}),
        ("$ETH will hit $1500 next year", {"ETH": UP}),
        ("$BTC is going to 20k this week", {"BTC": UP}),
        # charts
        ("$BTC confirming the breakout", {"BTC": UP}),
        ("4h $BTC fell below support", {"BTC": DOWN}),
        ("$BTC rejected by the resistance line", {"BTC": DOWN}),
        # negation turns a direction round
        ("Relax. $BTC is not going down", {"BTC": UP}),
        # value
        ("XRP is way over valued", {"XRP": DOWN}),
        ("#Bitcoin is undervalued", {"BTC": UP}),
        # signs
        ("$LTC 🚀🚀🚀", {"LTC": UP}),
        # a condition is no doubt, and no claim
        ("If $BTC holds 15k, it will go to 20k", {"BTC": UP}),
        ("If bitcoin goes down, buy the dip", {"BTC": UP}),
        # what another sentence doubts, doubts this one not
        ("Might be late for dinner. Just bought more $ETH", {"ETH": UP}),
        # a price goes the way of what is said beside it
        ("I'm shorting $BTC here, target 10k", {"BTC": DOWN}),
        # replies, and a dot that makes a reply public
        ("@someone Buy some bitcoin so you can join us", {"BTC": UP}),
        (".$LTC is going to explode", {"LTC": UP}),
        # words of any kind in the slots
        ("Re-entered $BTC at 12.8k", {"BTC": UP}),
        ("Bitcoin is due for a 40% correction", {"BTC": DOWN}),
        ("Don't panic, just hodl your bitcoin", {"BTC": UP}),
        # HTML escapes and typographic signs
        ("I’m long $BTC &amp; happy", {"BTC": UP}),
    ],
)
def test_calls(text: str, expected: dict[str, str]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "RT @someone: I'm long $BTC, target 20k",  # a repost
        'He told me "I just bought more bitcoin today" yesterday',  # somebody else's words
        "Should I buy $BTC now?",  # a question
        "Is $BTC going to 20k this week?",
        "lol buy $BTC they said 😂",  # a joke
        "In 2013 I bought bitcoin",  # history
        "Bitcoin was at $1,000 a year ago",
        "JPMorgan analysts say Bitcoin will rise next year",  # news
        "Bitcoin hits new record high of $11,850",
        "Bitcoin will reach $1 million some day, in the long run",  # too far
        "What if $BTC dropped to 1k",  # supposes
        "not buying $BTC here",  # negated deed
        "I would never buy bitcoin",
        "I sold all my $XRP today",  # closing a long opens nothing
        "Sold half of my ETH today",
        "Don't stop, the price of op is fine: stop loss at top",  # OP is not in stop, nor a word like op
        "I'm long $USDC",  # a stablecoin
        "I'm long $DOGE",  # not listed
        "Just bought bitcoin cash",  # another coin
        "IOT is going to change every factory",  # the Internet of Things
        "Buying bitcoins took literally seconds",  # the subject of a sentence
        "If bitcoin goes down 90% you own a tenth of your stash",  # a condition and no more
        "The $LTC crowd sleeps.\n$DOGE\n159 times undervalued",  # said of the coin named last
        "Still 1 ZEC will hit 3000 BTC",  # the unit of a price
        "Adding bitcoin support to our app",  # the kind of something else
        "The bitcoin mempool is going up again",
        "You can now buy, hold and exchange #bitcoin with us",  # an advertisement
        "I've never recommended that blog as a place to buy BTC",  # negated far away
        "good morning everyone",
        "",
        "$BTC",
        "$BTC $ETH $LTC $XRP $IOTA $OP all going to the moon",  # a list is no call
    ],
)
def test_no_calls(text: str) -> None:
    found = READER.read(text)
    assert not found.candidate
    assert (found.tokens, found.sentiment) == ((), "neutral")
    assert found.reasoning.startswith("No call: ")


def test_reasoning_names_the_rules() -> None:
    found = READER.read("$BTC target 20k but maybe not")
    assert "BTC: target" in found.reasoning
    assert "is unsure" in found.reasoning


def test_confidence_grows_with_the_weight() -> None:
    plain, sure = (
        READER.read("$BTC target 20k", PRICES),
        READER.read("I'm long $BTC, target 20k, breakout confirmed 🚀", PRICES),
    )
    assert 0.5 < plain.confidence < sure.confidence <= 0.9


@given(st.text(max_size=300))
def test_any_text_gives_a_valid_reading(text: str) -> None:
    found = READER.read(text)
    made = Reading.model_validate(found.as_json("1"))
    assert made.candidate == bool(made.tokens)
    assert set(made.tokens) <= set(TOKENS) - {"USDC"}
    assert Decimal(0) < made.confidence < 1


@given(
    st.lists(
        st.sampled_from(
            ["$BTC", "bitcoin", "buy", "sell", "target", "20k", "?", "not", "long", "short", "\n", '"', "🚀"]
        )
    )
)
def test_reading_is_deterministic(words: list[str]) -> None:
    text = " ".join(words)
    assert READER.read(text) == Reader.of(dict(reversed(TOKENS.items()))).read(text)


@given(st.text(alphabet="abcdefghij $#", max_size=30), st.text(alphabet="abcdefghij", min_size=1, max_size=5))
def test_a_token_inside_a_word_is_no_token(before: str, glued: str) -> None:
    assert READER.read(f"{before} {glued}btc{glued} target 20k").tokens == ()


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "buy " * 25_000,
        "$BTC " * 20_000,
        "(" * 50_000,
        '"' * 50_000,
        "§" * 50_000,
        "… " * 50_000,
        "BTC " + "1," * 50_000,
        "BTC " + "1.1" * 50_000,
        "BTC " + "so just " * 20_000,
        "BTC " + "next year by the end of " * 5_000,
    ],
)
def test_long_texts_take_no_time(text: str) -> None:
    started = time.perf_counter()
    READER.read(text)
    assert time.perf_counter() - started < 1.0


@given(
    st.lists(
        st.sampled_from([" ", "\n", "\t" * 9, "\n" * 9, " \n" * 5, "->", "—", ".", '"', "a", "b"]),
        max_size=12,
    )
)
def test_long_spaces_are_shortened_without_another_sentence(pieces: list[str]) -> None:
    """Sentences are those of the text as it is, however long its spaces are."""
    text = "".join(pieces)
    bare = (_SPACE.sub(" ", part).strip().lstrip("@. ") for part in _SENTENCE.split(text))
    assert [one.text for one in sentences(text, READER.words)] == [part for part in bare if part]


@pytest.mark.limit(20)
@pytest.mark.parametrize("space", [" ", "\n", " \n", "\t\n \n"])
def test_a_text_of_spaces_is_read_in_linear_time(space: str) -> None:
    text = f"I bought $BTC.{space * (400_000 // len(space))}I bought $ETH"
    assert len(sentences(text, READER.words)) == 2
