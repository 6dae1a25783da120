"""A small transformer that gives a trained reader two more features: log odds of a call and of a long.

Three layers of sentence-transformers/all-MiniLM-L6-v2 (Wang et al. 2020; Apache 2.0), fitted to the labelled posts by
`tests/signals_app/reading/train_encoder.py`, stored as 4-bit numbers and read by numpy alone.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from maxxit.core.errors import Misconfigured
from signals_app.reading.rules.read import MAX_TEXT
from signals_app.reading.rules.text import Sentence, Words, fold, sentences

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).parent
SHIPPED = ("encoder-1",)
"""Files of weights beside this module."""
CALL, LONG = "encoder call", "encoder long"
"""Names of the features: log odds, a tenth of them."""
SCALE = 10.0
TARGET, OTHER = "bitcoin", "ethereum"
"""Words that stand for the token in question and for other listed ones, so that no token is known by its name."""
LONGEST = 600
"""Characters of a view."""
MOST_PIECES = 96
LONGEST_WORD = 100
_NUMBER = re.compile(r"\d[\d.,]*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_LESS = re.compile(r"\b(?:sign|symbol|with|face|black|white|heavy|variation selector.*|emoji modifier.*)\b")
_SPACE = re.compile(r"\s+")


def features(call: float, long: float) -> dict[str, float]:
    """Return the features of two log odds."""
    return {CALL: call / SCALE, LONG: long / SCALE}


def views(text: str, words: Words) -> dict[str, str]:
    """Return for each listed token the text that the encoder reads: folded, lower case, the token as one fixed word."""
    parts = sentences(fold(text[:MAX_TEXT]), words)
    symbols = dict.fromkeys(mention.symbol for part in parts for mention in part.mentions)
    return {symbol: _view(parts, symbol) for symbol in symbols}


def _view(parts: Sequence[Sentence], symbol: str) -> str:
    made = []
    for part in parts:
        pieces, last = [], 0
        for mention in part.mentions:
            name = TARGET if mention.symbol == symbol else OTHER
            pieces += [part.text[last : mention.at], f" {name} "]
            last = mention.at + 1
        plain = "".join(map(_named, "".join([*pieces, part.text[last:]])))
        plain = _SPACE.sub(" ", _NUMBER.sub(_shape, plain)).strip()
        if plain:
            made.append(plain if plain[-1] in ".!?…:" else f"{plain} |")
    return " ".join(made)[:LONGEST]


def _shape(found: re.Match[str]) -> str:
    """Replace a number by 9, or 0 where it is zero; years stay."""
    core = found[0].rstrip(".,")
    if _YEAR.fullmatch(core):
        return found[0]
    return ("9" if any(sign in "123456789" for sign in core) else "0") + found[0][len(core) :]


def _named(sign: str) -> str:
    """Replace an emoji by its name in Unicode."""
    if ord(sign) < 0x2190:
        return sign
    if sign in "\ufe0f\u200d":
        return ""
    if unicodedata.category(sign) in ("So", "Sk") or 0x1F000 <= ord(sign) <= 0x1FAFF:
        return f" {_LESS.sub(' ', unicodedata.name(sign, '').lower())} "
    return sign


def _words(text: str) -> Iterator[str]:
    """Split as BERT's uncased tokenizer does: at spaces, around punctuation and Chinese signs, without accents."""
    plain = "".join(
        sign for sign in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(sign) != "Mn"
    )
    word = ""
    for sign in plain:
        if sign.isspace() or _alone(sign):
            if word:
                yield word
            word = ""
            if not sign.isspace():
                yield sign
        elif unicodedata.category(sign) not in ("Cc", "Cf"):
            word += sign
    if word:
        yield word


def _alone(sign: str) -> bool:
    at = ord(sign)
    if 33 <= at <= 47 or 58 <= at <= 64 or 91 <= at <= 96 or 123 <= at <= 126:
        return True
    if 0x4E00 <= at <= 0x9FFF or 0x3400 <= at <= 0x4DBF or 0x20000 <= at <= 0x2CEAF or 0xF900 <= at <= 0xFAFF:
        return True
    return unicodedata.category(sign).startswith("P")


@dataclass(frozen=True)
class Encoder:
    """Weights of a transformer (Vaswani et al. 2017, as BERT orders its layers) and its vocabulary."""

    vocabulary: dict[str, int]
    weights: dict[str, "NDArray[Any]"]
    layers: int
    heads: int

    def pieces(self, text: str) -> list[int]:
        """Return the numbers of the pieces of a text (WordPiece, longest match first), with [CLS] and [SEP]."""
        made = [self.vocabulary["[CLS]"]]
        for word in _words(text):
            made += self._of_word(word)
        return [*made[: MOST_PIECES - 1], self.vocabulary["[SEP]"]]

    def _of_word(self, word: str) -> list[int]:
        unknown = [self.vocabulary["[UNK]"]]
        if len(word) > LONGEST_WORD:
            return unknown
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else f"##{word[start:end]}"
                if piece in self.vocabulary:
                    found.append(self.vocabulary[piece])
                    start = end
                    break
            else:
                return unknown
        return found

    def scores(self, view: str) -> tuple[float, float]:
        """Return the log odds that the text calls the token, and that such a call is long."""
        import numpy as np

        pieces = self.pieces(view)
        w = self.weights
        state = _normal(
            w["words"][pieces] + w["places"][: len(pieces)], w["embeddings.norm"], w["embeddings.norm.bias"]
        )
        for layer in range(self.layers):
            state = self._layer(state, layer)
        target = self._of_word(TARGET)
        named = [
            at
            for start in range(len(pieces) - len(target) + 1)
            if pieces[start : start + len(target)] == target
            for at in range(start, start + len(target))
        ]
        about = state[named].mean(axis=0) if named else np.zeros_like(state[0])
        call, long = w["head"] @ np.concatenate([state[0], state.mean(axis=0), about]) + w["head.bias"]
        return float(call), float(long)

    def _layer(self, state: Any, layer: int) -> Any:
        import numpy as np

        w, at = self.weights, f"{layer}."
        length, width = state.shape
        query, key, value = (
            (state @ w[f"{at}{name}"].T + w[f"{at}{name}.bias"])
            .reshape(length, self.heads, width // self.heads)
            .transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        odds = query @ key.transpose(0, 2, 1) / math.sqrt(width // self.heads)
        share = np.exp(odds - odds.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        seen = (share @ value).transpose(1, 0, 2).reshape(length, width)
        state = _normal(
            state + seen @ w[f"{at}output"].T + w[f"{at}output.bias"],
            w[f"{at}output.norm"],
            w[f"{at}output.norm.bias"],
        )
        inner = _gelu(state @ w[f"{at}up"].T + w[f"{at}up.bias"])
        return _normal(
            state + inner @ w[f"{at}down"].T + w[f"{at}down.bias"],
            w[f"{at}down.norm"],
            w[f"{at}down.norm.bias"],
        )


def _normal(state: Any, scale: Any, offset: Any) -> Any:
    """Layer normalisation (Ba et al. 2016), with the epsilon of BERT."""
    centred = state - state.mean(axis=-1, keepdims=True)
    return centred / ((centred**2).mean(axis=-1, keepdims=True) + 1e-12) ** 0.5 * scale + offset


def _gelu(x: Any) -> Any:
    """x times the normal distribution function (Hendrycks and Gimpel 2016); erf by Abramowitz and Stegun 7.1.26."""
    import numpy as np

    size = np.abs(x) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * size)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return 0.5 * x * (1 + np.sign(x) * (1 - poly * np.exp(-size * size)))


def _unpacked(packed: Any, scale: Any) -> Any:
    """Return a matrix of which a byte holds two numbers of four bits; groups of a row have a scale each."""
    import numpy as np

    whole = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), scale.shape[1], -1)
    return ((whole.astype(np.float32) - 8) * scale.astype(np.float32)[:, :, None]).reshape(len(packed), -1)


@cache
def shipped(name: str) -> Encoder:
    """Return an encoder that comes with the code. Raises `Misconfigured` where its file is missing or damaged."""
    import numpy as np

    if name not in SHIPPED:
        raise Misconfigured(f"no encoder {name!r} comes with the code: {', '.join(SHIPPED)}")
    path = HERE / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            words = bytes(stored["vocabulary"]).decode().split("\n")
            layers, heads = (int(number) for number in stored["shape"])
            weights = {
                key: _unpacked(stored[key], stored[f"{key}.scale"])
                if f"{key}.scale" in stored
                else stored[key]
                for key in stored.files
                if key not in ("vocabulary", "shape") and not key.endswith(".scale")
            }
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise Misconfigured(
            f"{path}: no encoder can be read ({type(error).__name__}): check the file out again"
        ) from None
    return Encoder({word: number for number, word in enumerate(words)}, weights, layers, heads)
