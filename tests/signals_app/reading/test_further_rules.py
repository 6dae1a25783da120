"""What rules-4 adds, by kinds, and that rules-3 stays as recorded runs know it."""

# ruff: noqa: RUF001 (words of other languages)
import pytest

from maxxit.core.errors import Misconfigured
from signals_app.prefilter import mentions
from signals_app.reading.rules.read import Reader

TOKENS = {"BTC": ["btc", "bitcoin"], "ETH": ["eth", "ethereum"]}
READER, BEFORE = Reader.of(TOKENS), Reader.of(TOKENS, "rules-3")


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("...#BTC goes to the moon", "bullish"),
        ("aped into $ETH this morning", "bullish"),
        ("#BTC warming up 🚀🚀", "bullish"),
        ("signs of support for #BTC here", "bullish"),
        ("My top call on #BTC stands", "bearish"),
        ("Signal: SHORT #BTC", "bearish"),
        ("BTCUSDT long setup here", "bullish"),
        ("longs from here on $ETH", "bullish"),
        ("sell the rip on $BTC", "bearish"),
        ("#Bitcoin wont hold $30k this time", "bearish"),
        ("#BTC 要涨了", "bullish"),
        ("BTC看跌", "bearish"),
        ("BTC yükseliş başladı", "bullish"),
        ("#BTC va a caer esta semana", "bearish"),
        ("#Bitcoin alcista", "bullish"),
    ],
)
def test_kinds_that_are_calls(text: str, side: str) -> None:
    found = READER.read(text)
    assert (found.candidate, found.sentiment) == (True, side), found.reasoning


@pytest.mark.parametrize(
    "text",
    [
        "I'm not bullish on $BTC",
        "El Salvador bought more #BTC",
        "Whale alert: 5,000 #BTC transferred from unknown wallet 🚀🚀",
        "#BTC target 2 reached ✅ 🚀🚀",
        "Step 2: buy some #BTC with a credit card",
        "Yeah sure, I am buying $BTC",
        "Out of all my $BTC longs",
        "$BTC heading to 0.9",
        "¿#BTC va a subir?",
        "BTC会涨还是会跌?",
    ],
)
def test_kinds_that_are_no_calls(text: str) -> None:
    found = READER.read(text)
    assert not found.candidate, found.reasoning


def test_an_older_version_reads_as_before() -> None:
    assert not BEFORE.read("aped into $ETH this morning").candidate
    assert not BEFORE.read("...#BTC goes to the moon").candidate
    assert BEFORE.read("Just bought more $BTC at 14k").candidate


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    with pytest.raises(Misconfigured, match="rules-3, rules-4"):
        Reader.of(TOKENS, "rules-9")


def test_letters_of_languages_without_spaces_end_a_token() -> None:
    assert mentions("我买了BTC今天", ["btc"])
    assert mentions("long BTCUSDT here", ["btc"])
    assert not mentions("stop", ["op"])
