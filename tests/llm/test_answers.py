"""The answer in a model's text: found among other words, read strictly, normalised where it has one meaning."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Rejected
from maxxit.llm import answers
from maxxit.llm.schema import clean, read_answer, salvage
from signals_app.reading.proposal import Proposal
from signals_app.reading.schema import Reading, Readings
from tests.llm.questions import answer, reading

GOOD = json.dumps(answer(reading("1")))


def read(text: str) -> Readings:
    return read_answer(Readings, clean(text, Readings))


FRAMES = {
    "alone": "@",
    "byte order mark": "\ufeff@",
    "prose": "Here is the {JSON} you asked for:\n@\nAnything else [1]?",
    "fence": "```json\n@\n```",
    "fence and note": "```json\n@\n```\nLet me know [1].",
    "fence without a language": "```\n@\n```",
    "reasoning": "<think>\nHe is long: {\"readings\": []}\n</think>\n@",
    "reasoning after": "@\n<think>was that right? {\"readings\": []}</think>",
    "reasoning without its opening": "So {\"readings\": []} or not?</think>\n@",
    "other tags": "<THINKING>{}</THINKING><reasoning>{\"readings\": [}</reasoning>@",
    "draft and correction": "{\"readings\": []}\nNo:\n@",
    "another object after": "@\n{\"note\": \"done\"}",
    "list of one": "[@]",
}  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES.values(), ids=[*FRAMES])
def test_the_answer_is_found_among_other_words(frame: str) -> None:
    assert [one.post_id for one in read(frame.replace("@", GOOD)).readings] == ["1"]


def test_json_as_a_json_string() -> None:
    assert read(json.dumps(GOOD)).readings[0].post_id == "1"


def test_tags_and_brackets_inside_strings_are_text() -> None:
    quoted = json.dumps(answer(reading("1", reasoning='says "</think> {\\"readings\\": []} <think>" ] }')))
    assert read(f"Sure: {quoted} done").readings[0].post_id == "1"


BROKEN = {
    "trailing comma": GOOD.replace("}]}", "},]}"),
    "comment": GOOD.replace("}]}", "}]/* done */}"),
    "single quotes": GOOD.replace('"', "'"),
    "NaN": GOOD.replace("0.8", "NaN"),
    "Infinity": GOOD.replace("0.8", "-Infinity"),
    "too large for a number": GOOD.replace("0.8", "1e999"),
    "duplicate key": GOOD.replace('"sentiment": "bullish"', '"sentiment": "bearish", "sentiment": "bullish"'),
    "duplicate readings": GOOD.replace('{"readings"', '{"readings": [], "readings"'),
    "cut": GOOD[:-1],
    "reasoning without an end": f"<think>maybe {GOOD}",
    "two in a list": f"[{GOOD}, {GOOD}]",
    "empty": "",
    "only a citation": "[1]",
    "deep": "[" * 5000 + "]" * 5000,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=[*BROKEN])
def test_what_is_not_strict_json_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(Rejected, match=r"the answer is invalid: .{8,}") as failed:
        read(text)
    assert failed.value.code == "answer_invalid"
    assert salvage(Readings, clean(text, Readings)) is None


def test_the_reason_names_the_key_that_stands_twice() -> None:
    with pytest.raises(Rejected, match="'sentiment' appears twice"):
        read(BROKEN["duplicate key"])


@pytest.mark.parametrize(
    ("written", "meant"),
    [(0.7, "0.7"), ("0.7", "0.7"), ("70%", "0.7"), ("70 %", "0.7"), (70, "0.7"), ("70", "0.7"), (85.5, "0.855"),
     (1, "1"), ("7%", "0.07"), (0, "0"), (100, "1"), (1e-05, "0")],
)  # fmt: skip
def test_a_confidence_in_its_forms(written: Any, meant: str) -> None:
    assert read(json.dumps(answer(reading(confidence=written)))).readings[0].confidence == Decimal(meant)


@pytest.mark.parametrize(
    "written", [7, 10, "7", 1.5, 101, "150%", -1, "-5%", "0,7", "7/10", "high", True, "", None, "1e1", []]
)
def test_a_confidence_without_one_meaning_is_refused(written: Any) -> None:
    with pytest.raises(Rejected, match="confidence"):
        read(json.dumps(answer(reading(confidence=written))))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("Bullish", "bullish"), (" BEARISH ", "bearish"), ("Long", "bullish"), ("SHORT", "bearish")],
)
def test_a_sentiment_in_any_case(written: str, meant: str) -> None:
    got = read(json.dumps(answer(reading(sentiment=written, sides={"ETH": written})))).readings[0]
    assert (got.sentiment, got.sides) == (meant, {"ETH": meant})


@pytest.mark.parametrize("written", ["buy", "sell", "moon", "bull", "", None, 1])
def test_a_sentiment_with_two_meanings_is_refused(written: Any) -> None:
    with pytest.raises(Rejected, match="sentiment"):
        read(json.dumps(answer(reading(sentiment=written))))


def test_nulls_that_mean_nothing_there_and_ids_as_numbers() -> None:
    nulls = {"post_id": 1900000000000000001, "tokens": None, "reasoning": None, "sides": None}
    got = read(json.dumps(answer(reading() | nulls))).readings[0]
    assert (got.post_id, got.tokens, got.reasoning, got.sides) == ("1900000000000000001", (), "", {})
    assert read(json.dumps(answer(reading(tokens="BTC")))).readings[0].tokens == ("BTC",)


@pytest.mark.parametrize("name", ["post_id", "candidate", "sentiment", "confidence"])
def test_a_null_where_it_has_no_meaning_and_an_unknown_key_are_refused(name: str) -> None:
    with pytest.raises(Rejected, match=name):
        read(json.dumps(answer(reading() | {name: None})))
    with pytest.raises(Rejected, match="surprise"):
        read(json.dumps(answer(reading(surprise=1))))


def test_a_proposal_with_units() -> None:
    said = {
        "take": True,
        "confidence": "80%",
        "stop_loss_pct": "5%",
        "take_profit_pct": "12.5",
        "leverage": "3x",
    }
    got = read_answer(Proposal, clean(json.dumps(said | {"reasoning": "r"}), Proposal))
    assert (got.confidence, got.stop_loss_pct, got.take_profit_pct, got.leverage) == (
        Decimal("0.8"), Decimal(5), Decimal("12.5"), Decimal(3),
    )  # fmt: skip


# --- properties ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PROSE = st.text(alphabet=st.characters(exclude_characters='{}[]<>"', exclude_categories=["Cs"]), max_size=60)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), PROSE, PROSE)
def test_any_object_is_found_in_any_prose(made: dict[str, Any], before: str, after: str) -> None:
    assert answers.find(f"{before}\n{json.dumps(made)}\n{after}") == made


@given(st.text(max_size=300) | st.text(alphabet='{}[]<>/think"\\:,1aN \n', max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        found = answers.find(text)
    except ValueError:
        return
    json.dumps(found, allow_nan=False)


PIECES = ["NaN", ",", "</think>", "<think>", "```", "{", "}", '"', "null", "1e999"]


@given(st.data())
def test_a_mutated_answer_is_read_right_or_refused(data: st.DataObject) -> None:
    """One edit anywhere in a right answer: whatever is still accepted fits the schema, and no other error escapes."""
    at = data.draw(st.integers(0, len(GOOD)))
    cut = data.draw(st.integers(0, 12))
    put = data.draw(
        st.text(max_size=6) | st.sampled_from(["NaN", ",", "</think>", "```", "{", "}", '"', "null", "1e999"])
    )
    text = clean(GOOD[:at] + put + GOOD[at + cut :], Readings)
    text.encode()
    try:
        got = read_answer(Readings, text)
    except Rejected:
        got = salvage(Readings, text) or Readings(readings=())
    for one in got.readings:
        assert 0 <= one.confidence <= 1
        assert Reading.model_validate(one.model_dump()) == one


@given(JSON, st.sampled_from(sorted(Reading.model_fields)))
def test_any_value_in_any_field_is_normalised_or_refused(value: Any, name: str) -> None:
    text = clean(json.dumps(answer(reading() | {name: value})), Readings)
    try:
        got = read_answer(Readings, text).readings[0]
    except Rejected:
        return
    assert got.sentiment in {"bullish", "bearish", "neutral"}
    assert got.confidence.is_finite()
