"""Reads posts by a linear model: its parameters are numbers in JSON, and every reading names its heaviest features.

The model gives, for each token that a post names, the probability that the post calls it and the probability that such
a call is long. What the grammar found is among its features, so that the two vote.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from maxxit.core import untrusted
from maxxit.core.errors import Misconfigured
from signals_app.reading.rules import marks
from signals_app.reading.rules.read import GRAMMARS, LexicalReading, Reader
from signals_app.reading.schema import Post
from signals_app.reading.trained import embeddings, encoder
from signals_app.reading.trained.features import MOST_TOKENS, by_token, is_of_grammar

HERE = Path(__file__).parent
SHIPPED = ("reader-1", "reader-2", "reader-3")
"""Files of parameters beside this module; docs/reading.md has their figures."""
NAMED = 6
"""Features that an explanation names."""
Number = Annotated[float, Field(allow_inf_nan=False)]


def _empty_or_whole(vector: list[float]) -> list[float]:
    if len(vector) not in (0, embeddings.DIMENSIONS):
        raise ValueError(f"has {len(vector)} numbers: none or {embeddings.DIMENSIONS}")
    return vector


Vector = Annotated[list[Number], AfterValidator(_empty_or_whole)]
"""Numbers of the dimensions of an embedding; empty where none is used."""


class Linear(BaseModel):
    """One linear model: bias, weight by feature, and weights of the embedding where it uses one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bias: Number
    weights: dict[str, Number]
    embedding: Vector = []

    def score(self, features: Mapping[str, float], vector: Sequence[float]) -> float:
        """Return the log odds. `vector` is the centred embedding; it is not read where the model uses none."""
        known = sum(self.weights[name] * value for name, value in features.items() if name in self.weights)
        if not self.embedding:
            return self.bias + known
        return self.bias + known + sum(a * b for a, b in zip(self.embedding, vector, strict=True))


class Parameters(BaseModel):
    """The parameters of a trained reader. A file or row that lacks a field or has another is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["reader"]
    name: str
    grammar: str
    """Version of the lexical reader whose findings are features; empty: none."""
    call: Linear
    long: Linear
    slope: Number
    """With `offset`: calibrated log odds = slope * log odds + offset (Platt 1999), fitted to out-of-fold scores."""
    offset: Number
    threshold: Annotated[float, Field(gt=0, lt=1)]
    """Probability from which a post is a call."""
    mean: Annotated[Vector, Field(validate_default=True)] = []
    """Of the embeddings of the training posts; removed before use."""
    encoder: str = ""
    """Name of the encoder whose scores are features; empty: none."""

    @field_validator("encoder")
    @classmethod
    def _is_shipped(cls, name: str) -> str:
        if name not in ("", *encoder.SHIPPED):
            raise ValueError(f"no encoder {name!r}: empty, {', '.join(encoder.SHIPPED)}")
        return name

    @field_validator("grammar")
    @classmethod
    def _known(cls, grammar: str) -> str:
        if grammar not in ("", *GRAMMARS):
            raise ValueError(f"no version {grammar!r} of the grammar: empty, {', '.join(GRAMMARS)}")
        return grammar

    @field_validator("mean")
    @classmethod
    def _is_there_for_embeddings(cls, mean: list[float], info: ValidationInfo) -> list[float]:
        used = [name for name in ("call", "long") if name in info.data and info.data[name].embedding]
        if used and not mean:
            raise ValueError(f"is empty, but {used[0]}.embedding is not")
        return mean

    def stored(self) -> dict[str, Any]:
        """Return the parameters as JSON; readers without an encoder keep the fields that they always had."""
        return self.model_dump(mode="json", exclude=None if self.encoder else {"encoder"})

    @property
    def embeds(self) -> bool:
        """Whether the model needs embeddings."""
        return bool(self.call.embedding or self.long.embedding)


@dataclass(frozen=True)
class TrainedReader:
    """Reads texts about a fixed list of tokens with given parameters."""

    parameters: Parameters
    lexical: Reader

    @classmethod
    def of(cls, parameters: Parameters, tokens: Mapping[str, Sequence[str]]) -> "TrainedReader":
        """Return the reader for symbol -> words that mean it."""
        return cls(
            parameters, Reader.of(tokens, parameters.grammar) if parameters.grammar else Reader.of(tokens)
        )

    def read(self, posts: Sequence[Post]) -> list[LexicalReading]:
        """Read posts, in their order. Raises `Misconfigured` where embeddings are needed and not installed."""
        vectors: Sequence[Sequence[float]] = [()] * len(posts)
        if self.parameters.embeds:
            mean = self.parameters.mean
            vectors = [centred(vector, mean) for vector in embeddings.embed([post.text for post in posts])]
        return [
            self._read(post.text, post.prices, vector) for post, vector in zip(posts, vectors, strict=True)
        ]

    def _read(self, text: str, prices: Mapping[str, Decimal], vector: Sequence[float]) -> LexicalReading:
        if marks.REPOST.match(text):
            return LexicalReading(
                False, (), "neutral", 0.01, "No call: a repost is not the author's own word."
            )
        if marks.MACHINE.search(text):
            return LexicalReading(False, (), "neutral", 0.01, "No call: speaks to a machine.")
        chances: dict[str, tuple[float, str, str]] = {}
        encoded = self._encoded(text)
        for symbol, found in by_token(self.lexical, text, prices).items():
            found |= encoded.get(symbol, {})
            used = (
                found if self.parameters.grammar else {k: v for k, v in found.items() if not is_of_grammar(k)}
            )
            chance = self.chance(used, vector)
            side = "bullish" if self.parameters.long.score(used, vector) >= 0 else "bearish"
            chances[symbol] = chance, side, explain(self.parameters.call, used)
        if not chances:
            return LexicalReading(
                False, (), "neutral", 0.01, "No call: names no listed token in the author's own words."
            )
        called = [symbol for symbol, (chance, _, _) in chances.items() if chance >= self.parameters.threshold]
        best = max(chances, key=lambda symbol: chances[symbol][0])
        chance, main, why = chances[best]
        if not called:
            return LexicalReading(
                False,
                (),
                "neutral",
                round(chance, 4),
                f"No call: {chance:.0%} for {best}, below {self.parameters.threshold:.0%}. {why}",
            )
        return LexicalReading(
            True,
            tuple(called),
            main,
            round(chance, 4),
            f"Call: {chance:.0%} for {best}. {why}",
            {symbol: chances[symbol][1] for symbol in called if chances[symbol][1] != main},
        )

    def _encoded(self, text: str) -> dict[str, dict[str, float]]:
        """Return what the encoder says about each token, as features; none where the reader uses no encoder."""
        if not self.parameters.encoder:
            return {}
        used = encoder.shipped(self.parameters.encoder)
        views = islice(encoder.views(text, self.lexical.words).items(), MOST_TOKENS)
        return {symbol: encoder.features(*used.scores(view)) for symbol, view in views}

    def chance(self, features: Mapping[str, float], vector: Sequence[float]) -> float:
        """Return the calibrated probability of a call."""
        odds = self.parameters.slope * self.parameters.call.score(features, vector) + self.parameters.offset
        return 1 / (1 + math.exp(-max(min(odds, 30.0), -30.0)))


def centred(vector: Sequence[float], mean: Sequence[float]) -> list[float]:
    """Remove the mean of the training posts and scale to length one."""
    moved = [a - b for a, b in zip(vector, mean, strict=True)]
    length = math.hypot(*moved) or 1.0
    return [x / length for x in moved]


def explain(model: Linear, features: Mapping[str, float]) -> str:
    """Name the features that weigh most, with their weights in log odds."""
    weighed = {name: model.weights[name] * value for name, value in features.items() if name in model.weights}
    heaviest = sorted(weighed.items(), key=lambda one: (-abs(one[1]), one[0]))[:NAMED]
    return "Features: " + ", ".join(f"{name} ({weight:+.2f})" for name, weight in heaviest) + "."


def parse(value: Any, where: str) -> Parameters:
    """Return typed parameters. Raises `Misconfigured` naming the first wrong field."""
    try:
        return Parameters.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise Misconfigured(
            f"{where}: {field}: {first['msg']}: train the reader again (`manage.py readers train`)"
        ) from None


@cache
def shipped(name: str) -> Parameters:
    """Return the parameters that come with the code, or of a file. Raises `Misconfigured` where there are none."""
    path = HERE / f"{name}.json" if name in SHIPPED else Path(name)
    try:
        return parse(untrusted.loads(path.read_text(encoding="utf-8"))["parameters"], str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"{path} has no parameters of a reader ({type(error).__name__}): name one of {', '.join(SHIPPED)}, or a "
            "file that `manage.py readers train` wrote"
        ) from None
