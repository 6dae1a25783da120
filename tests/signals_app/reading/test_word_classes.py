"""Classes of words: one weight for the words of several languages, negations, and tags around a sentence."""

# ruff: noqa: RUF001 (words of other languages)
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals_app.reading.rules.read import Reader
from signals_app.reading.rules.text import MASK
from signals_app.reading.trained.features import by_token, without_tags
from signals_app.reading.trained.word_classes import CLASSES, INSIDE, classes

READER = Reader.of({"BTC": ["btc", "bitcoin"], "ETH": ["eth"]})


def named(text: str) -> set[str]:
    return {name for _, name in classes(text)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bought more §", "BOUGHT"),
        ("§ aldım", "BOUGHT"),
        ("compré §", "BOUGHT"),
        ("今天买了§", "BOUGHT"),
        ("шорт §", "SHORT"),
        ("§ 🚀🚀", "UPSIGN"),
        ("took some profits on §", "CLOSE"),
        ("saylor's § bag", "THEY"),
    ],
)
def test_words_of_any_language_have_the_class_of_what_they_mean(text: str, name: str) -> None:
    assert name in named(text)


def test_a_negation_reaches_the_next_words_of_its_clause() -> None:
    assert "not BULL" in named("i'm not very bullish on §")
    assert "BULL" in named("no. bullish on §")


def test_tags_around_a_sentence_change_no_class() -> None:
    plain = by_token(READER, "bullish on #btc", {})["BTC"]
    tagged = by_token(READER, "bullish on #btc #bitcoin $BTC #crypto #trading", {})["BTC"]
    kinds = [{name for name in one if name.startswith("c ")} for one in (plain, tagged)]
    assert kinds[0] == kinds[1]
    assert without_tags(f"{MASK} {MASK} double top") == f"{MASK} double top"
    assert without_tags(f"§ is {MASK} and #fun") == f"§ is {MASK} and #fun"


def test_phrases_of_languages_without_spaces_belong_to_classes_of_words() -> None:
    assert {*INSIDE} <= {*CLASSES}
    assert all(words == words.lower() for words in (*CLASSES.values(), *INSIDE.values()))


@given(st.text(max_size=120))
def test_any_text_has_classes_in_the_order_of_the_text(text: str) -> None:
    places = [at for at, _ in classes(text.lower())]
    assert places == sorted(places)
    assert len(without_tags(text)) <= len(text) + 2
