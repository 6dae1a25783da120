"""The encoder of `reader-3`: its tokenizer and its layers give what the libraries give that it was fitted with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxxit.core.errors import Misconfigured
from signals_app.reading.rules.read import Reader
from signals_app.reading.rules.text import Words
from signals_app.reading.schema import Post
from signals_app.reading.trained import encoder, model

TOKENS = {"BTC": ["btc", "bitcoin"], "ETH": ["eth", "ethereum"]}
WORDS: Words = Reader.of(TOKENS).words
RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "encoder-recorded.json").read_text(encoding="utf-8")
)
"""What tokenizers 0.22 and transformers 5 (BertModel, torch) give for these texts with the stored weights."""


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["text"][:20])
def test_texts_are_split_and_scored_as_by_the_libraries(case: dict[str, Any]) -> None:
    used = encoder.shipped("encoder-1")
    names = list(used.vocabulary)
    assert [names[number] for number in used.pieces(case["text"])] == case["pieces"]
    assert used.scores(case["text"]) == pytest.approx(case["scores"], abs=2e-3)


def test_a_view_names_the_token_in_question_and_no_other() -> None:
    text = "Long $BTC 🚀 to 48,500 by 2022, sold all my ETH https://t.co/x @someone"
    assert encoder.views(text, WORDS) == {
        "BTC": "long bitcoin rocket to 9 by 2022, sold all my ethereum @ |",
        "ETH": "long ethereum rocket to 9 by 2022, sold all my bitcoin @ |",
    }
    assert encoder.views("nothing here", WORDS) == {}


@pytest.mark.parametrize("text", ["", "\u4e00" * 200, "a" * 300, "bitcoin " * 200, "\ud83d", "\x00"])
def test_any_text_is_scored(text: str) -> None:
    used = encoder.shipped("encoder-1")
    assert len(used.pieces(text)) <= encoder.MOST_PIECES
    assert np.isfinite(used.scores(text)).all()


def test_the_reader_weighs_what_the_encoder_says_of_each_token() -> None:
    reader = model.TrainedReader.of(model.shipped("reader-3"), TOKENS)
    [found] = reader.read([Post("1", "a", "Bought more $BTC, we go higher. I'm short $ETH, it goes lower")])
    sides = {token: found.sides.get(token, found.sentiment) for token in found.tokens}
    assert sides == {"BTC": "bullish", "ETH": "bearish"}
    assert f"{encoder.CALL} (" in found.reasoning


def test_an_unknown_or_damaged_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = json.loads((model.HERE / "reader-3.json").read_text())["parameters"]
    with pytest.raises(Misconfigured, match=r"encoder: .*'encoder-9': empty, encoder-1"):
        model.parse(parameters | {"encoder": "encoder-9"}, "test")
    with pytest.raises(Misconfigured, match="no encoder 'encoder-9' comes with the code: encoder-1"):
        encoder.shipped("encoder-9")
    (tmp_path / "encoder-1.npz").write_bytes(b"PK\x03\x04 cut off")
    monkeypatch.setattr(encoder, "HERE", tmp_path)
    with pytest.raises(Misconfigured, match=r"encoder-1\.npz: no encoder can be read"):
        encoder.shipped.__wrapped__("encoder-1")


def test_readers_without_an_encoder_keep_their_fields() -> None:
    assert "encoder" not in model.shipped("reader-2").stored()
    assert model.shipped("reader-3").stored()["encoder"] == "encoder-1"
